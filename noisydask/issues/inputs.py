"""What the main job reads, opened and checked before anything is written."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from noisydask.errors import InputError, Setting
from noisydask.issues.aligned import model_name
from noisydask.issues.label_inputs import CodedLabels, coded_labels, refuse_unlike_ids
from noisydask.issues.table_choice import TableChoice
from noisydask.issues.top_classes import BOUNDED, TopClasses
from noisydask.runs.class_names import checked_names
from noisydask.stores.arrays import DaskRows, Rows, differing_indexes, open_rows
from noisydask.stores.converted_rows import PROBABILITIES, RowValues
from noisydask.stores.tables.class_columns import ClassColumns
from noisydask.stores.tables.table_column import TableColumn
from noisydask.stores.tables.table_matrix import TableMatrix
from noisydask.stores.top_rows import TopRows


@dataclass(frozen=True)
class IssueInputs:
    """The inputs of a job; ``more_models`` are the rows of other models of the same examples,
    ``coded`` the labels as they were before they became codes; with ``label_ids`` labels have an
    order and a number of their own.
    """

    labels: Rows | DaskRows
    pred_probs: Rows | DaskRows
    ids: Rows | DaskRows | None
    class_names: tuple[str, ...] | None
    warnings: tuple[str, ...] = ()
    more_models: tuple[Rows | DaskRows, ...] = ()
    coded: CodedLabels | None = None
    label_ids: Rows | DaskRows | None = None
    top: TopClasses | None = None

    def __post_init__(self) -> None:
        probs = self.pred_probs
        labels = self.labels
        if self.top is None and (len(probs.shape) != 2 or probs.shape[1] < 1):
            if len(labels.shape) == 2:
                swapped = "; are labels and pred_probs swapped?"
            elif isinstance(probs, TableColumn):
                swapped = "; name all class columns by a pattern, such as '#p_*', or none"
            else:
                swapped = ""
            raise InputError(
                "pred_probs must have two dimensions (examples, classes), not shape "
                f"{probs.shape}{swapped}"
            )
        if len(labels.shape) != 1:
            one_hot = "; of one-hot rows take labels.argmax(axis=1)"
            if isinstance(labels, TableMatrix):
                names = ", ".join(labels.files.names[:20])
                raise InputError(
                    f"labels at {labels.url}: name the column after a #, such as "
                    f"{labels.url}#label; it has: {names}"
                )
            raise InputError(
                f"labels must have one dimension, not shape {labels.shape}"
                f"{one_hot if labels.shape == probs.shape else ''}"
            )
        if labels.shape[0] == probs.shape[0] == 0:
            raise InputError("pred_probs and labels are empty: there is nothing to look at")
        if self.dtype not in (np.float16, np.float32, np.float64):
            raise InputError(_not_floats("pred_probs", probs.dtype), *_of_integers(probs.dtype))
        if labels.dtype.kind not in "iu" and labels.shape[0]:
            raise InputError(f"labels must be integers 0 to K-1, not {_as_integers(labels.dtype)}")
        if self.label_ids is not None:
            refuse_unlike_ids(self.ids, self.label_ids, labels.shape)
        elif labels.shape[0] != probs.shape[0]:
            transposed = "; is pred_probs transposed? It has a row for each example"
            raise InputError(
                f"labels has {labels.shape[0]:,} examples, pred_probs {probs.shape[0]:,}: they "
                f"must match{transposed if labels.shape[:1] == probs.shape[1:] else ''}"
            )
        self._refuse_other_models()
        if self.ids is not None and self.ids.dtype.kind not in "iuUO":
            raise InputError(f"ids must be integers or text, not {self.ids.dtype}")
        if self.ids is not None and self.ids.shape != probs.shape[:1]:
            raise InputError(
                f"ids has shape {self.ids.shape}, labels {probs.shape[:1]}: they must match"
            )
        if self.class_names is not None and len(self.class_names) != self.num_classes:
            more = len(self.class_names) > self.num_classes and self.top is None
            kept = "; if only the most probable are kept, say which (pred_classes)"
            raise InputError(
                f"{len(self.class_names)} class names for {self.num_classes} classes: they must "
                f"match{kept if more else ''}"
            )

    def _refuse_other_models(self) -> None:
        for number, other in enumerate(self.more_models, 1):
            if other.dtype not in (np.float16, np.float32, np.float64):
                name = f"pred_probs[{number}]"
                raise InputError(_not_floats(name, other.dtype), *_of_integers(other.dtype))
            if other.shape != self.pred_probs.shape:
                raise InputError(
                    f"pred_probs[{number}] has shape {other.shape}, pred_probs[0] "
                    f"{self.pred_probs.shape}: all models must be of the same examples and classes"
                )

    @property
    def num_classes(self) -> int:
        """Number of classes, K."""
        return self.pred_probs.shape[1] if self.top is None else self.top.num_classes

    @property
    def dtype(self) -> np.dtype[Any]:
        """Type of the probabilities of the first model."""
        return self.pred_probs.dtype if self.top is None else self.pred_probs.dtype["probs"].base

    @property
    def models(self) -> tuple[Rows | DaskRows, ...]:
        """Rows of all models."""
        return (self.pred_probs, *self.more_models)

    @property
    def named_models(self) -> dict[str, Rows | DaskRows]:
        """The same by name: ``pred_probs``, or ``pred_probs[0]`` and so on."""
        if not self.more_models:
            return {"pred_probs": self.pred_probs}
        return {model_name(number): rows for number, rows in enumerate(self.models)}

    @classmethod
    def open(
        cls,
        labels: Any,
        pred_probs: Any,
        ids: Any,
        class_names: Sequence[str] | None,
        storage_options: Mapping[str, Mapping[str, Any]],
        table: TableChoice | None = None,
        values: RowValues = PROBABILITIES,
        label_ids: Any = None,
        top: TopClasses | None = None,
    ) -> IssueInputs:
        """Open all inputs; those that are not given may be columns of a table, probabilities may be
        other values still, or those of the most probable classes alone.
        """
        called = None
        if class_names is not None:
            called = checked_names(class_names)
        sources = {"labels": labels, "pred_probs": pred_probs, "ids": ids}
        classes = ClassColumns(None, called)
        if table is not None:
            classes = table.classes(called, sources)
            sources = table.fill(sources, classes, storage_options)
        for name in ("labels", "pred_probs"):
            if sources[name] is None:
                raise InputError(f"{name} is missing: give an array, a path or a URL")
        first, *others = several_models(sources.pop("pred_probs"))
        names = ["pred_probs", *(model_name(number + 1) for number in range(len(others)))]
        if others:
            names[0] = model_name(0)
        sources |= dict(zip(names, (first, *others), strict=True))
        sources["label_ids"] = label_ids
        opened = {
            name: _open(source, name, storage_options, classes)
            for name, source in sources.items()
            if source is not None
        }
        rows = [opened[name] for name in names]
        own = class_names_of(rows)
        if top is None:
            rows = [values.of(each) for each in rows]
        else:
            own = own if own is not None and len(own) > rows[0].shape[-1] else None
            top = top.checked(called or own, len(rows), values)
            rows = [top.rows(rows[0], None if table is None else table.table, storage_options)]
        told = called if called is not None else own
        if told is None and isinstance(opened["labels"], TableColumn):
            told = opened["labels"].called
        num_classes = rows[0].shape[1:] if top is None else (top.num_classes,)
        shape = rows[0].shape[0], *num_classes
        named = own is not None and top is None
        given, coded = coded_labels(opened["labels"], told, named, shape)
        by_id = opened.get("label_ids")
        warnings = differing_indexes(sources) if by_id is None else ()
        if top is not None and top.bounded:
            warnings += (BOUNDED,)
        known = given, rows[0], opened.get("ids"), told, warnings, tuple(rows[1:])
        return cls(*known, coded, by_id, top)

    @property
    def opened(self) -> dict[str, Rows | DaskRows]:
        """Labels, probabilities, and ids where these are known, by name."""
        more = {"ids": self.ids, "label_ids": self.label_ids}
        inputs = {"labels": self.labels, **self.named_models, **more}
        return {name: rows for name, rows in inputs.items() if rows is not None}

    def urls(self) -> dict[str, str]:
        """Return where the inputs lie that lie in a store, by name."""
        urls = {name: rows.url for name, rows in self.opened.items() if isinstance(rows, Rows)}
        if isinstance(self.pred_probs, TopRows):
            urls |= {name: rows.url for name, rows in self.pred_probs.parts.items()}
        return urls


def several_models(pred_probs: Any) -> list[Any]:
    """Return the rows of each model: of a list or tuple whose members are paths or have two
    dimensions, its members.
    """
    if not isinstance(pred_probs, list | tuple) or not pred_probs:
        return [pred_probs]
    whole = [isinstance(each, str | Path) or _dimensions(each) == 2 for each in pred_probs]
    if all(whole):
        return list(pred_probs)
    return [pred_probs]


def _dimensions(source: Any) -> int:
    """Return how many dimensions an array or nested list has."""
    shape = getattr(source, "shape", None)
    if shape is not None:
        return len(shape)
    if isinstance(source, list | tuple):
        return 1 + max((_dimensions(each) for each in source[:1]), default=0)
    return 0


def _not_floats(name: str, dtype: np.dtype[Any]) -> str:
    """Return what is said of probabilities of a type that is none of floats."""
    hint = "; if they are quantised, say by what scale, if they are votes, normalize them"
    integers = hint if dtype.kind in "iu" else ""
    return f"{name} must be float16, float32 or float64, not {dtype}{integers}"


def _of_integers(dtype: np.dtype[Any]) -> tuple[Setting, ...]:
    """Return the options that take integers for probabilities."""
    if dtype.kind not in "iu":
        return ()
    scale = (Setting("scale", 1 / np.iinfo(dtype).max),) if dtype.itemsize < 4 else ()
    return (*scale, Setting("normalize", True))


def _as_integers(dtype: np.dtype[Any]) -> str:
    """Return the type of labels that are not integers, and how to make them some."""
    if dtype.kind == "f":
        return f"{dtype}; if each is a whole number, give labels.astype(int)"
    return str(dtype)


def _open(
    source: Any,
    name: str,
    storage_options: Mapping[str, Mapping[str, Any]],
    classes: ClassColumns,
) -> Rows | DaskRows:
    """Open an input, unless it is a column of a table that was opened."""
    if isinstance(source, Rows):
        return replace(source, name=name)
    options = storage_options.get(name, storage_options.get(name.partition("[")[0]))
    if name.startswith("pred_probs"):
        return open_rows(source, name, options, classes)
    return open_rows(source, name, options, may_lack=name == "labels")


def class_names_of(models: Sequence[Rows | DaskRows]) -> tuple[str, ...] | None:
    """Return what the columns of all models are called, if they have names.

    Raises
    ------
    InputError
        If they are not the same, in the same order.
    """
    first, *others = (rows.class_names for rows in models)
    for number, names in enumerate(others, 1):
        if first is not None and names is not None and names != first:
            raise InputError(
                f"the columns of pred_probs[{number}] are not called as those of pred_probs[0], in "
                "the same order: give class_names, by which columns are taken"
            )
    found: tuple[str, ...] | None = next((n for n in (first, *others) if n is not None), None)
    return found
