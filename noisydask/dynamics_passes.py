"""The passes of the loss dynamics over dense losses, block by block: what a task does, and states that add up.

As in :mod:`noisydask.passes`, storage is handed in and Dask is not known here. A block is read whole where its chunks allow
it; where chunks split the iterations and whole rows would be too much, it is read piece by piece of its iterations.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import reduce
from itertools import pairwise
from typing import Any, cast

import numpy as np
import numpy.typing as npt

from noisydask.arrays import Rows
from noisydask.blocks import BlockGrid
from noisydask.chunks import ChunkedArray, StoredObject
from noisydask.dynamics import CurveSums, ExampleStates, advance, label_codes
from noisydask.errors import InputError
from noisydask.problems import Problems
from noisydask.ranking import Ints, histogram, sort_keys, whole_range
from noisydask.rows import ZarrRows
from noisydask.scanning import reads

Array = npt.NDArray[Any]
Floats = npt.NDArray[np.float64]

#: Labels times iterations at most: curves of the labels are kept in memory, 48 bytes for each.
MOST_LABEL_CELLS = 1 << 24


@dataclass(frozen=True)
class StateStore:
    """States of all examples: one array a column, one chunk a block."""

    arrays: Mapping[str, ChunkedArray] = field(repr=False)

    def write(self, block: int, states: ExampleStates) -> None:
        """Store a block's states; doing it twice leaves what doing it once does."""
        for name, column in states.columns().items():
            self.arrays[name].write(block, column)

    def read(self, block: int) -> ExampleStates:
        """Fetch a block's states."""
        columns: dict[str, Any] = {name: np.array(array.read(block)) for name, array in self.arrays.items()}
        return ExampleStates(**columns)


class Descending(ChunkedArray):
    """A stored array as scores of which the lowest come first: its values with the other sign."""

    def read(self, chunk: int) -> Array:
        """Read a chunk's rows, negated."""
        return -cast(Array, super().read(chunk))


@dataclass(frozen=True)
class LossData:
    """What the passes read and how.

    Attributes
    ----------
    width : int
        Iterations that are read at once.
    first : int
        The first iteration that is new: those before are in ``before``.
    keep : int
        Iterations after which states are kept for a later run, in ``kept``.
    top : int
        Candidates wanted where these are few; 0 where all are found by a histogram.
    """

    grid: BlockGrid
    shape: tuple[int, int]
    dtype: np.dtype[Any]
    alpha: float
    width: int
    metric: ChunkedArray = field(repr=False)
    top: int = 0
    first: int = 0
    keep: int = 0
    before: StateStore | None = None
    kept: StateStore | None = None
    final: StateStore | None = None
    losses: Rows | None = None
    labels: Rows | None = None
    ids: Rows | None = None
    labelled: bool = False
    notify: Callable[[int, int], None] | None = field(default=None, repr=False)

    @property
    def keeps_rows(self) -> bool:
        """Whether the new losses of candidates are kept on the way, so that none are read again."""
        return bool(self.top) and self.width >= self.shape[1] - self.first


@dataclass(frozen=True)
class Top:
    """Those examples of some that come first in the ranking, at most ``size``, with their losses where these are kept."""

    size: int
    index: Ints
    states: ExampleStates
    losses: Array

    @classmethod
    def none(cls, data: LossData) -> Top:
        """Of no examples."""
        width = data.shape[1] - data.first if data.keeps_rows else 0
        return cls(data.top, np.zeros(0, np.int64), ExampleStates.empty(0, data.dtype), np.zeros((0, width), data.dtype))

    def with_rows(self, start: int, states: ExampleStates, losses: Array) -> Top:
        """Take in consecutive examples from ``start`` on."""
        metric = states.metric
        least = self.states.ema[-1] if len(self.index) == self.size else 0.0
        if np.count_nonzero(metric >= least) > self.size:
            least = max(least, -np.partition(-metric[metric >= least], self.size - 1)[self.size - 1])
        above, tied = np.flatnonzero(metric > least), np.flatnonzero(metric == least)
        rows = np.sort(np.concatenate([above, tied[: self.size - len(above)]]))
        return self + Top(self.size, start + rows, states.part(rows), losses[rows])

    def __add__(self, other: Top) -> Top:
        index = np.concatenate([self.index, other.index])
        order = np.lexsort((index, -np.concatenate([self.states.ema, other.states.ema])))[: self.size]
        mine, theirs = self.states.columns(), other.states.columns()
        states = ExampleStates(**{name: np.concatenate([mine[name], theirs[name]])[order] for name in mine})
        return Top(self.size, index[order], states, np.concatenate([self.losses, other.losses])[order])


@dataclass(frozen=True)
class LossScan:
    """Of the scan: sums by label and iteration, refused rows, what the ranking begins with, objects, stored bytes read."""

    sums: CurveSums
    problems: Problems
    recorded: int
    histogram: Ints | None
    top: Top
    objects: tuple[StoredObject, ...]
    bytes_read: int

    def __add__(self, other: LossScan) -> LossScan:
        both = None if self.histogram is None or other.histogram is None else self.histogram + other.histogram
        return LossScan(
            self.sums + other.sums, self.problems + other.problems, self.recorded + other.recorded, both,
            self.top + other.top, self.objects + other.objects, self.bytes_read + other.bytes_read,
        )  # fmt: skip


def scan(blocks: Sequence[int], losses: Array | None, labels: Array | None, data: LossData) -> LossScan:
    """Read each block once, advance its examples; arrays are handed in only for a single block of a Dask graph."""
    total = _scan_block(blocks[0], losses, labels, data, Top.none(data))
    for block in blocks[1:]:
        more = _scan_block(block, losses, labels, data, total.top)
        total = replace(total, top=Top.none(data)) + more
    return total


def _scan_block(block: int, losses: Array | None, labels: Array | None, data: LossData, top: Top) -> LossScan:
    start, stop = data.grid.bounds(block)
    values, codes = _labels(start, stop, labels, data)
    states = data.before.read(block) if data.before else ExampleStates.empty(stop - start, data.dtype)
    kept = states if data.keep == data.shape[1] else ExampleStates.empty(stop - start, data.dtype)
    wanted = spans(data.first, data.shape[1], data.width)
    sums = {cut: CurveSums.zero(values, cut[1] - cut[0]) for span in wanted for cut in _cut(span, data.keep)}
    problems = np.zeros(stop - start, np.uint8)
    for low, high, span, tile in tiles(start, stop, losses, data, wanted):
        rows = slice(low - start, high - start)
        part = states.part(rows)
        for cut in _cut(span, data.keep):
            columns = tile[:, cut[0] - span[0] : cut[1] - span[0]]
            problems[rows] |= advance(part, columns, data.alpha, sums[cut], None if codes is None else codes[rows])
            if kept is not states and cut[1] == data.keep:
                for name, column in part.columns().items():
                    kept.columns()[name][rows] = column
        if data.keeps_rows:
            top = top.with_rows(low, part, tile)
    if data.top and not (data.keeps_rows and wanted):
        top = top.with_rows(start, states, np.zeros((stop - start, 0), data.dtype))
    if data.kept:
        data.kept.write(block, kept)
    if data.final:
        data.final.write(block, states)
    total = reduce(CurveSums.then, sums.values(), CurveSums.zero(values, 0))
    return _scanned(block, states, total, problems, top, data)


def _scanned(
    block: int, states: ExampleStates, sums: CurveSums, problems: npt.NDArray[np.uint8], top: Top, data: LossData
) -> LossScan:
    metric, (start, stop) = states.metric, data.grid.bounds(block)
    written = data.metric.write_recorded(block, metric)
    bytes_read = data.losses.take_bytes_read() if data.losses is not None else 0
    if data.notify:
        data.notify(stop - start, bytes_read or (stop - start) * data.shape[1] * data.dtype.itemsize)
    return LossScan(
        sums, Problems.of(problems, start), int(np.count_nonzero(states.count)),
        None if data.top else histogram(sort_keys(-metric), [whole_range(metric.itemsize)]), top, (written,), bytes_read,
    )  # fmt: skip


def _labels(start: int, stop: int, labels: Array | None, data: LossData) -> tuple[Ints, npt.NDArray[np.int32] | None]:
    """The block's distinct labels and which each row has; without labels all have one."""
    if labels is None and data.labels is not None:
        labels = data.labels.read(start, stop)
    if labels is None:
        return np.zeros(1, np.int64), None
    values, codes = label_codes(labels)
    if len(values) * data.shape[1] > MOST_LABEL_CELLS:
        raise InputError(
            f"there are {len(values):,} and more labels and {data.shape[1]:,} iterations: curves of that many labels are not"
            f" kept in memory (at most {MOST_LABEL_CELLS:,} numbers); are the labels names of examples?"
        )
    return values, codes


def spans(first: int, last: int, width: int) -> list[tuple[int, int]]:
    """Ranges of the iterations from ``first`` on that are read at once, in order."""
    return [(low, min(low + width, last)) for low in range(first, last, width)]


def _cut(span: tuple[int, int], at: int) -> list[tuple[int, int]]:
    """A range, in two where ``at`` lies inside."""
    return list(pairwise(sorted({*span, at}))) if span[0] < at < span[1] else [span]


def tiles(
    start: int, stop: int, losses: Array | None, data: LossData, wanted: Sequence[tuple[int, int]]
) -> Iterator[tuple[int, int, tuple[int, int], Array]]:
    """Losses of rows ``start`` to ``stop``: first row and the one after the last, iterations, values; each read once."""
    for span in wanted:
        if losses is not None:
            yield start, stop, span, losses[:, slice(*span)]
        else:
            rows = _window(data, *span)
            yield from ((low, high, span, rows.read(low, high)) for low, high in reads(rows, start, stop))


def _window(data: LossData, first: int, last: int) -> Rows:
    rows = cast(Rows, data.losses)
    return rows if (first, last) == (0, rows.shape[1]) else cast(ZarrRows, rows).columns(first, last)
