"""Datasets of Datumaro whose annotations hold recorded losses: its JSON files as a stream, or its objects in memory.

Every annotation is an example of its own, named by item, subset and annotation id. Its ``attributes`` hold ``iters`` and
``loss_dynamics``, or ``loss_dynamics_cls`` and its like for detection. Datumaro itself is not needed.
"""

from __future__ import annotations

import posixpath
from array import array
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import ijson
import numpy as np

from noisydask.errors import DatasetError, NoisydaskError
from noisydask.losses.examples import Examples, RowProblems
from noisydask.storage.locations import Location, explain

PURPOSE = "noisy_label_detection"
TASKS = ("OTX-Det", "OTX-MultiClassCls")
TRACKING_LOSS_TYPES = ("bbox", "bbox_refine", "centerness", "cls")
#: Losses that are brought into arrays at once.
BATCH_LOSSES = 1 << 22
#: Label of an annotation that has none.
NO_LABEL = -1

Batch = tuple[Examples, RowProblems]
#: Item, subset, annotation id, label.
AnnotationName = tuple[str, str, int, int]
Annotation = tuple[AnnotationName, Mapping[str, Any]]


@dataclass(frozen=True)
class Category:
    """A label of a dataset, as Datumaro has it, but with a hash."""

    name: str
    parent: str = ""
    attributes: frozenset[str] = frozenset()


class Dataset(Protocol):
    """What is asked of a dataset, in files or in memory."""

    def infos(self) -> Mapping[str, Any]:
        """What the dataset was made for."""
        ...

    def labels(self) -> list[Category]:
        """Its labels; a label's number is its position."""
        ...

    def batches(self, key: str) -> Iterator[Batch]:
        """Its annotations as examples, some at a time; ``key`` is the attribute that holds their losses."""
        ...


def loss_attribute(infos: Mapping[str, Any], tracking_loss_type: str | None) -> str:
    """Name of the attribute that holds the losses.

    Raises
    ------
    DatasetError
        If the dataset was made for another purpose or task, or does not say which losses to follow.

    Examples
    --------
    >>> loss_attribute({"purpose": "noisy_label_detection", "task": "OTX-Det"}, "bbox")
    'loss_dynamics_bbox'
    """
    purpose, task = infos.get("purpose"), infos.get("task")
    if purpose != PURPOSE:
        raise DatasetError(f"the dataset's infos must say purpose {PURPOSE!r}, not {purpose!r}")
    if task not in TASKS:
        raise DatasetError(f"the dataset's infos say task {task!r}; allowed are {', '.join(TASKS)}")
    allowed = ", ".join(TRACKING_LOSS_TYPES)
    if task == "OTX-Det" and tracking_loss_type is None:
        raise DatasetError(f"task 'OTX-Det' needs a tracking_loss_type; allowed are {allowed}")
    if tracking_loss_type is None:
        return "loss_dynamics"
    if tracking_loss_type not in TRACKING_LOSS_TYPES:
        raise DatasetError(f"tracking_loss_type is {tracking_loss_type!r}; allowed are {allowed}")
    return f"loss_dynamics_{tracking_loss_type}"


def open_dataset(source: Any, storage_options: Mapping[str, Any] | None = None) -> DatumaroFiles | DatumaroObject:
    """Open a dataset.

    Parameters
    ----------
    source : str, Path or dataset of Datumaro
        A folder that holds ``annotations/*.json``, by path or URL; or an object with ``infos()``, ``categories()`` and items.
    storage_options : mapping, optional
        Passed to fsspec.

    Raises
    ------
    DatasetError
        If it is none.
    """
    if isinstance(source, str | Path):
        return DatumaroFiles.open(Location.of(str(source), storage_options, "the Datumaro dataset"))
    if all(callable(getattr(source, name, None)) for name in ("infos", "categories", "__iter__")):
        return DatumaroObject(source)
    raise DatasetError(f"a Datumaro dataset, its folder or its URL is needed, not {type(source).__name__}")


@dataclass(frozen=True)
class DatumaroFiles:
    """A dataset in Datumaro's own format: a file a subset, named after it."""

    place: Location
    files: tuple[str, ...]

    @classmethod
    def open(cls, place: Location) -> DatumaroFiles:
        """Find the files."""
        with _reading(place):
            folder = place / "annotations"
            paths = place.fs.ls(folder.path, detail=False) if place.fs.isdir(folder.path) else []
        files = tuple(sorted(path for path in paths if path.endswith(".json")))
        if not files:
            raise DatasetError(f"there is no Datumaro dataset at {place.shown}: no annotations/*.json")
        return cls(place, files)

    def infos(self) -> Mapping[str, Any]:
        """What the dataset was made for; all files say the same of what counts."""
        found = [self._header(file).get("infos") or {} for file in self.files]
        for infos, file in zip(found, self.files, strict=True):
            for name in ("purpose", "task"):
                if infos.get(name) != found[0].get(name):
                    raise DatasetError(f"{name} is {found[0].get(name)!r} in {self.files[0]} and {infos.get(name)!r} in {file}")
        return found[0]

    def labels(self) -> list[Category]:
        """Labels of the dataset."""
        for file in self.files:
            labels = ((self._header(file).get("categories") or {}).get("label") or {}).get("labels")
            if labels:
                return [Category(x["name"], x.get("parent") or "", frozenset(x.get("attributes") or ())) for x in labels]
        return []

    def batches(self, key: str) -> Iterator[Batch]:
        """All annotations, file by file."""
        for number in range(len(self.files)):
            yield from self.batches_of(number, key)

    def batches_of(self, number: int, key: str) -> Iterator[Batch]:
        """Annotations of one file, which is read as a stream."""
        yield from _batches(self._annotations(self.files[number]), key)

    def describe(self) -> dict[str, Any]:
        """What a manifest says of this input; nothing secret."""
        return {"url": self.place.shown, "files": len(self.files)}

    def _annotations(self, file: str) -> Iterator[Annotation]:
        subset = posixpath.splitext(posixpath.basename(file))[0]
        with _reading(self.place), self.place.fs.open(file, "rb") as handle:
            for item in ijson.items(handle, "items.item", use_float=True):
                for found in item.get("annotations") or ():
                    label = found.get("label_id")
                    attributes = found.get("attributes") or {}
                    name = str(item["id"]), subset, int(found.get("id") or 0), NO_LABEL if label is None else label
                    yield name, attributes

    def _header(self, file: str) -> dict[str, Any]:
        """What a file says before its items, or after them."""
        found: dict[str, Any] = {}
        with _reading(self.place), self.place.fs.open(file, "rb") as handle:
            builder, name = ijson.ObjectBuilder(), None
            for prefix, event, value in ijson.parse(handle, use_float=True):
                if prefix == "" and event == "map_key":
                    if name is not None:
                        found[name] = builder.value
                    name = value if value in ("infos", "categories") else None
                    builder = ijson.ObjectBuilder()
                    if len(found) == 2:
                        break
                elif name is not None and prefix:
                    builder.event(event, value)
            if name is not None:
                found[name] = builder.value
        return found


@dataclass(frozen=True)
class DatumaroObject:
    """A dataset of Datumaro in memory."""

    dataset: Any = field(repr=False)

    def infos(self) -> Mapping[str, Any]:
        """What the dataset was made for."""
        found: Mapping[str, Any] = self.dataset.infos()
        return found

    def labels(self) -> list[Category]:
        """Labels of the dataset."""
        for kind, found in self.dataset.categories().items():
            if getattr(kind, "name", kind) == "label":
                return [Category(label.name, label.parent or "", frozenset(label.attributes or ())) for label in found.items]
        return []

    def batches(self, key: str) -> Iterator[Batch]:
        """All annotations, item by item."""
        yield from _batches(self._annotations(), key)

    def describe(self) -> dict[str, Any]:
        """What a manifest says of this input."""
        return {"memory": True, "format": "datumaro"}

    def _annotations(self) -> Iterator[Annotation]:
        for item in self.dataset:
            for found in item.annotations:
                label = getattr(found, "label", None)
                yield (item.id, item.subset, found.id, NO_LABEL if label is None else label), found.attributes


def _batches(annotations: Iterable[Annotation], key: str) -> Iterator[Batch]:
    """Bring annotations into columns, some at a time. Numbers go into arrays at once, while their list is in the cache."""
    told, counts, iterations, losses = [], [], array("q"), array("d")
    before, same = None, array("q")  # the iterations of most annotations are those of the one before
    for name, attributes in annotations:
        iters, values = attributes.get("iters"), attributes.get(key)
        try:
            if iters.__class__ is not list or iters != before:
                same = array("q")
                _append(same, iters)
                before = iters if iters.__class__ is list else None
            iterations.extend(same)
            _append(losses, values)
        except (TypeError, ValueError, OverflowError) as error:
            raise DatasetError(_say(name, iters, values, key)) from error
        if len(iterations) != len(losses):
            raise DatasetError(_say(name, iters, values, key))
        told.append(name)
        counts.append(len(same))
        if len(losses) >= BATCH_LOSSES:
            yield _as_examples(told, counts, iterations, losses)
            told, counts, iterations, losses = [], [], array("q"), array("d")
    if told:
        yield _as_examples(told, counts, iterations, losses)


def _append(column: array[Any], values: Any) -> None:
    """Append a list of numbers of a column's type; None among losses is one that is not recorded."""
    try:
        column.fromlist(values)
    except TypeError:
        if not isinstance(values, list | tuple | np.ndarray):
            raise
        whole = column.typecode == "q"
        numbers = np.asarray(values) if whole else np.asarray(values, np.float64)
        if numbers.ndim != 1 or (whole and numbers.dtype.kind not in "iu" and len(numbers)):
            raise
        column.frombytes(numbers.astype(column.typecode).tobytes())


def _say(name: AnnotationName, iters: Any, values: Any, key: str) -> str:
    """What is wrong with the attributes of an annotation."""
    where = f"annotation {name[2]} of item {name[0]!r} in subset {name[1]!r}"
    for attribute, found in (("iters", iters), (key, values)):
        if not isinstance(found, list | tuple | np.ndarray):
            return f"{where} has no list {attribute!r} among its attributes"
    if len(iters) != len(values):
        return f"{where} has {len(iters)} iters and {len(values)} values of {key}"
    return f"{where}: the attributes 'iters' and {key!r} must be lists of numbers; 'iters' must be a list of integers"


def _as_examples(told: list[AnnotationName], counts: list[int], iterations: array[int], losses: array[float]) -> Batch:
    items, subsets, ann_ids, labels = zip(*told, strict=True)
    keys = {
        "id": np.array(items, object),
        "subset": np.array(subsets, object),
        "ann_id": np.array(ann_ids, np.int64),
        "label": np.array(labels, np.int64),
    }
    return Examples.of_series(keys, np.array(counts, np.int64), np.frombuffer(iterations, np.int64), np.frombuffer(losses))


@contextmanager
def _reading(place: Location) -> Iterator[None]:
    """Turn what storage and JSON raise into one sentence."""
    try:
        yield
    except (NoisydaskError, GeneratorExit):
        raise
    except ijson.JSONError as error:
        raise DatasetError(f"the Datumaro dataset at {place.shown} holds invalid JSON: {error}") from error
    except Exception as error:
        raise DatasetError(explain(error, place, "the Datumaro dataset").partition("; is it a Zarr")[0]) from error
