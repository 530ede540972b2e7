"""Given labels of any kind as codes, and what is said of those that are no class."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial, reduce
from operator import add
from typing import Any

import numpy as np

from noisydask.core.blocks import BlockGrid, plan_blocks
from noisydask.core.problems import FROM_ONE, NAMED_KINDS, ROW_KINDS, ProblemKinds, Problems
from noisydask.core.row_kernel import Problem
from noisydask.core.thresholds import ClassTotals
from noisydask.engine.inputs import plan_pass
from noisydask.engine.tasks import EVIDENCE_TASKS
from noisydask.errors import InputError
from noisydask.stores.arrays import DaskRows, Rows
from noisydask.stores.encoded_labels import EncodedLabels
from noisydask.stores.label_codes import LabelCodes, UnknownLabels, numbers_as_names
from noisydask.stores.rows import UnreadableError
from noisydask.stores.tables.table_column import TableColumn
from noisydask.text import counted

#: Bytes of a label in memory, about.
_LABEL_BYTES = 64
_NAMES_WANTED = (
    "labels are text: say what the columns of pred_probs are called, by class_names (in the order "
    "of the columns, such as model.classes_ of scikit-learn), or give pred_probs as a table or "
    "frame whose columns have the names of the classes"
)


def codes_of(
    labels: Rows | DaskRows, names: Sequence[str] | None, own_names: bool, num_classes: int
) -> LabelCodes | None:
    """Return how labels become codes; None where they are codes.

    Parameters
    ----------
    labels : Rows or DaskRows
        The labels, opened.
    names : sequence of str, optional
        Names of the classes.
    own_names : bool
        Whether these are names of columns: numbers among them are then labels.
    num_classes : int
        Number of classes.

    Raises
    ------
    InputError
        If labels are text, and classes have no names.
    """
    kind = labels.dtype.kind
    if kind in "OUT" and labels.shape[0]:
        if names is None:
            raise InputError(_NAMES_WANTED)
        _refuse_twice(names)
        return LabelCodes("text", tuple(names))
    if kind == "b":
        if num_classes != 2:
            raise InputError(
                f"labels are true or false, but pred_probs has {num_classes:,} classes, not 2"
            )
        return LabelCodes("bool", tuple(names or ()))
    if kind not in "iu":
        return None
    if own_names and numbers_as_names(names):
        return LabelCodes("number", tuple(names or ()))
    if isinstance(labels, TableColumn):  # of which cells may be empty
        return LabelCodes("code")
    return None


@dataclass(frozen=True)
class CodedLabels:
    """Labels as they were given, and how they became codes.

    Attributes
    ----------
    rows : Rows or DaskRows
        The labels.
    codes : LabelCodes
        How they become codes.
    own_names : bool
        Whether names of classes are those of columns.
    """

    rows: Rows | DaskRows
    codes: LabelCodes
    own_names: bool

    def unknown(self) -> UnknownLabels:
        """Count the labels that are no class, by a pass over all labels as they are."""
        grid = plan_blocks(self.rows.shape[0], _LABEL_BYTES, max(1, self.rows.chunk_rows))
        task = partial(_unknown, codes=self.codes, grid=grid)
        planned = plan_pass({"labels": self.rows}, grid, range(grid.num_blocks), EVIDENCE_TASKS)
        found: UnknownLabels = planned.run("labels", task)
        return found

    def told(self, unknown: UnknownLabels) -> str:
        """Say which labels are missing, or no class."""
        missing = f" {counted(unknown.missing, 'label')} missing." if unknown.missing else ""
        if not unknown.values:
            return missing
        pattern = unknown.prefix(self.codes.names) if self.own_names else None
        hint = f" Are the classes class_columns={pattern!r}?" if pattern else ""
        return f"{missing} No class is called {unknown.told(self.codes.names)}.{hint}"


def coded_labels(
    labels: Rows | DaskRows,
    names: Sequence[str] | None,
    own_names: bool,
    shape: tuple[int, ...],
) -> tuple[Rows | DaskRows, CodedLabels | None]:
    """Return labels as codes, and what they were before, where they were none.

    Parameters
    ----------
    labels, names, own_names
        As :func:`codes_of` takes them.
    shape : tuple of int
        Of the probabilities.
    """
    if len(labels.shape) != 1 or len(shape) != 2:  # refused elsewhere
        return labels, None
    codes = codes_of(labels, names, own_names, shape[1])
    if codes is None:
        return labels, None
    return _encoded(labels, codes), CodedLabels(labels, codes, own_names)


def refuse_unlike_ids(
    ids: Rows | DaskRows | None, label_ids: Rows | DaskRows, labels: tuple[int, ...]
) -> None:
    """Refuse ids by which labels and predictions cannot be joined."""
    if ids is None:
        raise InputError("label_ids are joined with ids, the names of the predictions: give both")
    if label_ids.shape != labels:
        raise InputError(f"label_ids has shape {label_ids.shape}, labels {labels}: they must match")
    kinds = ["integers" if each.dtype.kind in "iu" else "text" for each in (ids, label_ids)]
    if kinds[0] != kinds[1]:
        raise InputError(f"ids are {kinds[0]} and label_ids {kinds[1]}: give both in one way")


def _refuse_twice(names: Sequence[str]) -> None:
    twice = [name for name in dict.fromkeys(names) if list(names).count(name) > 1][:1]
    if twice:
        raise InputError(f"two classes have the name {twice[0]!r}, so that labels of it are both")


def _encoded(labels: Rows | DaskRows, codes: LabelCodes) -> Rows | DaskRows:
    if isinstance(labels, Rows):
        return EncodedLabels.of(labels, codes)
    if isinstance(labels.array, np.ndarray):
        return DaskRows(codes.encode(labels.array), labels.chunk_rows)
    return labels.map(codes.encode, np.dtype(np.int64))


def _unknown(
    blocks: Sequence[int], inputs: Any, codes: LabelCodes, grid: BlockGrid
) -> UnknownLabels:
    labels = inputs["labels"]
    found = UnknownLabels()
    for start, stop in map(grid.bounds, blocks):
        try:
            if isinstance(labels, TableColumn):
                parts = [*labels.values(start, stop)]
            else:
                parts = [labels.read(start, stop)]
        except UnreadableError:  # left out, as the scan did
            continue
        found = reduce(add, map(codes.unknown, parts), found)
    return found


def told_of_labels(
    coded: CodedLabels | None, problems: Problems, totals: ClassTotals
) -> tuple[ProblemKinds, str]:
    """Return how kinds of invalid rows are named, and what is said of labels among them."""
    hint = problems.labels_hint(totals.counts)
    if coded is None:
        return ROW_KINDS, hint
    wrong = bool(problems.counts[Problem.LABEL])
    told = coded.told(coded.unknown()) if wrong else ""
    if coded.codes.kind == "code":
        return ROW_KINDS, hint + told
    return NAMED_KINDS, told


def doubt_of_labels(coded: CodedLabels | None, problems: Problems, totals: ClassTotals) -> str:
    """Return what is to be warned of where rows are left out for their labels."""
    if coded is None or coded.codes.kind == "code":
        return FROM_ONE if problems.from_one(totals.counts) else ""
    if not problems.counts[Problem.LABEL]:
        return ""
    unknown = coded.unknown()
    return f"labels are left out.{coded.told(unknown)}" if unknown.values else ""
