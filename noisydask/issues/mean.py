"""The evidence of the weighted mean of several models' rows, block by block, from what is kept of
each; rows that this leaves open, from what was kept of them, or from the models' rows.

What a task does; storage is handed in, Dask is not known here.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import reduce
from operator import add
from typing import Any, cast

import numpy as np
import numpy.typing as npt

from noisydask.checkpoint.receipts import Receipt
from noisydask.core.kept_rows import KeptRows
from noisydask.core.mean_rows import ModelRows, evidence_of_means, mean_evidence, mean_rows
from noisydask.core.model_weights import mixture_totals
from noisydask.core.problems import Problems
from noisydask.core.thresholds import ClassTotals
from noisydask.core.union import UNION, UnionRows
from noisydask.issues.aligned import model_name, together_of
from noisydask.issues.evidence import BlockPayload, StoredBlock, keep_rows, kept_rows
from noisydask.issues.model_evidence import UNION_ROWS, ModelBlock
from noisydask.issues.passes import IssueData, evidence_of
from noisydask.stores.fingerprints import digest
from noisydask.stores.rows import Ranges
from noisydask.stores.task_rows import TaskRows

Array = npt.NDArray[Any]
Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class MeanSource:
    """A block of the evidence of each model."""

    number: int
    models: tuple[ModelBlock, ...]


@dataclass(frozen=True)
class MeanData:
    """The evidence of the mean, and what it is made from.

    Attributes
    ----------
    mean : IssueData
        Where the evidence of the mean is kept.
    models : tuple of IssueData
        That of each model.
    weights : ndarray of float64, (M,)
        They add up to 1.
    """

    mean: IssueData
    models: tuple[IssueData, ...]
    weights: Floats = field(repr=False)


@dataclass(frozen=True)
class MeanBlock(StoredBlock):
    """A block of the evidence of the mean, and that of each model."""

    models: tuple[ModelBlock, ...] = ()


@dataclass(frozen=True)
class MeanState:
    """Of the mean: class totals, rows refused of any model, what is stored, blocks with rows that
    are open still, blocks whose evidence of a model is damaged, bytes read.
    """

    totals: ClassTotals
    refused: int
    stored: tuple[MeanBlock, ...] = ()
    unread: tuple[int, ...] = ()
    damaged: tuple[int, ...] = ()
    bytes_read: int = 0

    def __add__(self, other: MeanState) -> MeanState:
        return MeanState(
            self.totals + other.totals,
            self.refused + other.refused,
            self.stored + other.stored,
            self.unread + other.unread,
            self.damaged + other.damaged,
            self.bytes_read + other.bytes_read,
        )


def mean(blocks: Sequence[MeanSource], data: MeanData) -> MeanState:
    """Make the evidence of the mean, as far as this can be without the models' rows."""
    return reduce(add, (_mean_block(block, data, {}) for block in blocks))


def mean_of_rows(
    blocks: Sequence[MeanSource], inputs: Mapping[str, TaskRows], data: MeanData
) -> MeanState:
    """Make the evidence of the mean of blocks whose open rows are not kept; keep them."""
    return reduce(add, (_mean_block(block, data, inputs) for block in blocks))


def _mean_block(block: MeanSource, data: MeanData, inputs: Mapping[str, TaskRows]) -> MeanState:
    nothing = ClassTotals.zero(data.mean.num_classes)
    models = []
    for stored, model in zip(block.models, data.models, strict=True):
        kept = _kept_of(stored, model)
        if kept is None:
            return MeanState(nothing, 0, damaged=(block.number,))
        models.append(kept)
    columns, open_rows = mean_evidence(
        [each for each, _ in models], data.weights, data.mean.num_classes, _ceiling(block, models)
    )
    bytes_read = 0
    if open_rows.any():
        rows = [_open_rows(number, block, open_rows, data, inputs) for number in range(len(models))]
        if any(each is None for each in rows):
            return MeanState(nothing, 0, unread=(block.number,))
        whole = mean_rows([cast(Array, each) for each in rows], data.weights)
        for name, exact in evidence_of_means(whole).items():
            columns[name][open_rows] = exact
        bytes_read = sum(
            inputs[model_name(number)].take_bytes_read() for number in range(len(models)) if inputs
        )
    return replace(_kept_mean(block, columns, data), bytes_read=bytes_read)


def _kept_of(stored: ModelBlock, data: IssueData) -> tuple[ModelRows, Array] | None:
    """Read what is kept of a model's block, and the ceiling; None where it is damaged."""
    names = (*data.columns, *UNION)
    columns = data.evidence.read_checked(stored.number, names, stored.checksums)
    if columns is None:
        return None
    kept = UnionRows(columns["slots"], columns["p_slots"], columns["outside"])
    return ModelRows(columns, kept), columns["ceiling"]


def _ceiling(block: MeanSource, models: Sequence[tuple[ModelRows, Array]]) -> Floats | None:
    """Return the largest plain mean outside the union, where all models were read in one step."""
    together = together_of([stored.source for stored in block.models])
    if all(stored.together == together for stored in block.models):
        return models[0][1]
    return None


def _open_rows(
    number: int,
    block: MeanSource,
    wanted: npt.NDArray[np.bool_],
    data: MeanData,
    inputs: Mapping[str, TaskRows],
) -> Array | None:
    """Return a model's open rows: those that were kept, or as they are read now; None where they
    are to be read in another step.
    """
    model = data.models[number]
    stored = block.models[number]
    kept = kept_rows(model.evidence, UNION_ROWS, stored, model.row)
    positions = np.flatnonzero(wanted)
    if kept is not None and kept.cover(wanted):
        return kept[positions]
    if not inputs:
        return None
    rows = inputs[model_name(number)].read(*data.mean.grid.bounds(block.number))
    keep_rows(model.evidence, UNION_ROWS, stored, KeptRows.of(wanted, rows))
    return rows[positions]


def _kept_mean(block: MeanSource, columns: Mapping[str, Array], data: MeanData) -> MeanState:
    """Write the evidence of the mean and its receipt."""
    grid = data.mean.grid
    start, stop = grid.bounds(block.number)
    given = columns["given"]
    valid = given < data.mean.num_classes
    totals = ClassTotals.of_values(given[valid], columns["p_given"][valid], data.mean.num_classes)
    checksums = data.mean.evidence.write(block.number, columns)
    refused = int(np.count_nonzero(~valid))
    source = None
    sources = [stored.source for stored in block.models]
    if None not in sources:
        source = digest([*map(str, sources), data.weights.tobytes().hex()])
        none = Problems.of(np.zeros(0, np.uint8), 0)
        receipt = Receipt[BlockPayload](
            source=source,
            labels="",
            rows=stop - start,
            checksums=checksums,
            payload=BlockPayload.of(totals, none, (), ""),
        )
        data.mean.evidence.vouch(block.number, receipt)
    stored = MeanBlock(block.number, checksums, refused, source, block.models)
    return MeanState(totals, refused, (stored,))


def mixtures(
    blocks: Sequence[MeanSource], models: Sequence[IssueData], candidates: Floats
) -> Array:
    """Return the log losses of the means of some weights, (T,), as Python's integers."""
    totals = np.zeros(len(candidates), object)
    for block in blocks:
        given = []
        valid = np.array(True)
        for stored, data in zip(block.models, models, strict=True):
            columns: Any = evidence_of(stored, ("given", "p_given"), data)
            valid = valid & (columns["given"] < data.num_classes)
            given.append(columns["p_given"].astype(np.float64))
        totals += np.array(mixture_totals(np.stack(given, axis=1)[valid], candidates), object)
    return totals


@dataclass(frozen=True)
class MeanRows:
    """The weighted mean of several models' rows, read as those of one."""

    models: tuple[TaskRows, ...]
    weights: Floats = field(repr=False)

    @property
    def url(self) -> str:
        """Where the first model's rows are."""
        return self.models[0].url

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of each."""
        return self.models[0].shape

    @property
    def dtype(self) -> np.dtype[Any]:
        """The mean's type."""
        return np.dtype(np.float64)

    @property
    def chunk_rows(self) -> int:
        """Rows that are read together at no cost."""
        return max(model.chunk_rows for model in self.models)

    def read(self, start: int, stop: int) -> Array:
        """Read rows of all models."""
        return mean_rows([model.read(start, stop) for model in self.models], self.weights)

    def read_or_skip(self, start: int, stop: int, skip: bool) -> tuple[Array, Ranges]:
        """Read rows of all models; with ``skip`` also return ranges of those that cannot be
        decoded of any.
        """
        parts = [model.read_or_skip(start, stop, skip) for model in self.models]
        unread = tuple(sorted({part for _, ranges in parts for part in ranges}))
        return mean_rows([rows for rows, _ in parts], self.weights), unread

    def take_bytes_read(self) -> int:
        """Return the stored bytes fetched since the last call."""
        return sum(model.take_bytes_read() for model in self.models)
