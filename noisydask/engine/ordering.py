"""The exact order of rows that no worker could sort alone: its end, its parts, and their files.

Keys of all blocks are counted; bins that hold too many are looked into again, until each part of
the order fits a worker (:mod:`noisydask.core.ranking`). Then every part's rows are brought
together, put in order and written by the job's own function: in one place where there is one part,
by Dask's shuffle where there are more. Where each of many groups takes so many of its rows, cuts
are found in the same way (:mod:`noisydask.core.group_cuts`).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial, reduce
from operator import add
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
import pandas as pd

from noisydask.core import ranking
from noisydask.core.group_cuts import GroupCuts, GroupSearch
from noisydask.core.ranking import Bin, Ints, Keys
from noisydask.core.sparse_counts import SparseCounts
from noisydask.engine import graph
from noisydask.engine.parts import Parts, TieCuts, TieSample
from noisydask.engine.shuffling import shuffle_frames
from noisydask.engine.tasks import run_over_all

Array = npt.NDArray[Any]
#: Puts the rows of a part in order, of which the first ``take`` belong to it, and writes them:
#: ``finish(rows, number=..., take=..., first_rank=...)``. None means that nothing was written.
Finish = Callable[..., Any]


class OrderedRows(Protocol):
    """Rows in blocks that are ordered by a key, and those of the same key by a last key.

    They go to every task. What only the task of a block needs to know of it is not theirs: a
    sequence of that is given beside them, of which each task gets its part.
    """

    @property
    def num_blocks(self) -> int:
        """Number of blocks."""

    @property
    def num_rows(self) -> int:
        """Number of rows, at most."""

    @property
    def itemsize(self) -> int:
        """Bytes of a key."""

    def keys(self, block: Any) -> Keys:
        """Return the keys of a block."""

    def last(self, block: Any) -> Array:
        """Return what comes last in the order of a block's rows: positions or ids."""


def count(rows: OrderedRows) -> Ints:
    """Return the histogram of all keys."""
    return _count(rows, range(rows.num_blocks), (ranking.whole_range(rows.itemsize),))


def _count(rows: OrderedRows, blocks: Sequence[Any], bins: Sequence[Bin]) -> Ints:
    counts: Ints = run_over_all("count", partial(_histogram, rows=rows, bins=bins), blocks)
    return counts


def find_parts(
    rows: OrderedRows, take: int, histogram: Ints, blocks: Sequence[Any] | None = None
) -> Parts:
    """Find the parts of the first ``take`` rows, from the histogram of all keys.

    ``blocks`` are what the rows know their blocks by, where that is not the numbers.
    """
    if blocks is None:
        blocks = range(rows.num_blocks)
    cut_off = ranking.CutOff(take, rows.itemsize, ranking.ROWS_PER_PART)
    cut_off.add([ranking.whole_range(rows.itemsize)], histogram)
    while bins := cut_off.too_large:
        cut_off.add(bins, _count(rows, blocks, bins))
    cuts = TieCuts()
    if ties := cut_off.tied:
        sample: TieSample = run_over_all("sample", partial(_sample, rows=rows, ties=ties), blocks)
        cuts = sample.cuts(ties)
        counts = run_over_all("tie", partial(_count_ties, rows=rows, cuts=cuts), blocks)
        cut_off.add_ties(ties, counts)
    return Parts(tuple(cut_off.parts()), cuts)


def _histogram(blocks: Sequence[Any], rows: OrderedRows, bins: Sequence[Bin]) -> Ints:
    return reduce(add, (ranking.histogram(rows.keys(block), bins) for block in blocks))


def _sample(blocks: Sequence[Any], rows: OrderedRows, ties: Sequence[int]) -> TieSample:
    samples = (
        TieSample.of(rows.keys(block), rows.last(block), ties, rows.num_rows) for block in blocks
    )
    return reduce(add, samples)


def _count_ties(blocks: Sequence[Any], rows: OrderedRows, cuts: TieCuts) -> Ints:
    counts = (
        cuts.counts(rows.keys(block), partial(rows.last, block), rows.num_rows) for block in blocks
    )
    return reduce(add, counts)


class GroupedRows(Protocol):
    """Rows in blocks that belong to groups, each of which is ordered by one or more keys, the last
    of which no two rows of a group share. They go to every task, as :class:`OrderedRows` do.
    """

    @property
    def num_rows(self) -> int:
        """Number of rows, at most."""

    @property
    def bits(self) -> tuple[int, ...]:
        """Bits of each key."""

    def grouped(self, block: Any, levels: int) -> tuple[Ints, tuple[Keys, ...]]:
        """Return group (-1 for none) and the first ``levels`` keys of each row of a block."""


def find_cuts(
    wanted: Sequence[tuple[GroupedRows, Ints]], blocks: Sequence[Any]
) -> list[tuple[GroupCuts, Ints]]:
    """Find where the first ``takes[g]`` rows of each group g end, for one or more (rows, takes) of
    the same blocks, in a few passes over keys; ``blocks`` are what the rows know these by.

    Returns
    -------
    list of (GroupCuts, ndarray of int64, (G,))
        Of each the cuts, and how many rows each group has that takes some.
    """
    searches = [_CutSearch.of(rows, takes) for rows, takes in wanted]
    while unfinished := [number for number, each in enumerate(searches) if not each.done]:
        some = [searches[number] for number in unfinished]
        counts = run_over_all("groups", partial(_count_grouped, some), blocks)
        for number, each in zip(unfinished, counts.each, strict=True):
            searches[number] = searches[number].narrowed(each)
    return [(GroupCuts.of(each.levels), each.levels[0].rows) for each in searches]


@dataclass(frozen=True)
class _CutSearch:
    """The searches by each key so far, of which the last may go on."""

    rows: GroupedRows
    levels: tuple[GroupSearch, ...]

    @classmethod
    def of(cls, rows: GroupedRows, takes: Ints) -> _CutSearch:
        """Begin with the first key."""
        return cls(rows, (GroupSearch.of(takes, rows.bits[0], rows.num_rows),))._next()

    @property
    def done(self) -> bool:
        """Whether all that is to be found is found."""
        return self.levels[-1].done

    def narrowed(self, counts: SparseCounts) -> _CutSearch:
        """Take in what was counted."""
        return replace(self, levels=(*self.levels[:-1], self.levels[-1].narrowed(counts)))._next()

    def _next(self) -> _CutSearch:
        """Go on with the next key, where rows share the last one that a group takes."""
        last = self.levels[-1]
        if not last.done or not last.left.any() or len(self.levels) == len(self.rows.bits):
            return self
        more = last.among_ties(self.rows.bits[len(self.levels)])
        return replace(self, levels=(*self.levels, more))._next()

    def count(self, blocks: Sequence[Any]) -> SparseCounts:
        """Count the rows of blocks for the last search."""
        before = self.levels[:-1]
        number = len(self.levels)
        grouped = (_tied(self.rows.grouped(block, number), before) for block in blocks)
        return self.levels[-1].count(grouped)


@dataclass(frozen=True)
class _Counts:
    """What was counted for several searches."""

    each: tuple[SparseCounts, ...]

    def __add__(self, other: _Counts) -> _Counts:
        return _Counts(tuple(map(add, self.each, other.each)))


def _count_grouped(searches: Sequence[_CutSearch], blocks: Sequence[Any]) -> _Counts:
    return _Counts(tuple(search.count(blocks) for search in searches))


def _tied(
    grouped: tuple[Ints, tuple[Keys, ...]], before: Sequence[GroupSearch]
) -> tuple[Ints, Keys]:
    """Return groups of the rows that share the last key of all searches before, and their next
    key.
    """
    groups, keys = grouped
    for earlier, key in zip(before, keys, strict=False):
        groups = earlier.tied(groups, key)
    return groups, keys[len(before)]


def write_parts(
    frames: graph.Frames,
    meta: Callable[[], pd.DataFrame],
    parts: Parts,
    finish: Finish,
    ranked: Sequence[int] | None = None,
) -> list[Any]:
    """Bring the rows of each part together, and have them put in order and written.

    Parameters
    ----------
    frames : array of DataFrame
        Rows of all blocks, with the number of their part in a column ``part``.
    meta : callable
        Makes a frame without rows, of the types of those with.
    finish : callable
        A :data:`Finish`.
    ranked : sequence of int, optional
        How many rows of each part get a rank; by default all that it takes.

    Returns
    -------
    list
        What ``finish`` returned of each part, in order.
    """
    takes = parts.takes
    firsts = 1 + np.cumsum([0, *(ranked or takes)[:-1]])
    finish_part = partial(_finish_part, finish=finish, takes=takes, firsts=firsts.tolist())
    if len(takes) == 1:
        return [graph.compute(graph.gather_frames("write", frames, partial(finish_part, number=0)))]
    return shuffle(frames, meta(), len(parts), finish_part)


def _finish_part(
    frame: pd.DataFrame, number: int, finish: Finish, takes: Sequence[int], firsts: Sequence[int]
) -> Any:
    return finish(frame, number=number, take=takes[number], first_rank=firsts[number])


def shuffle(
    frames: graph.Frames, meta: pd.DataFrame, num_parts: int, finish: Callable[..., Any]
) -> list[Any]:
    """Bring the rows of each part together by Dask's shuffle; return ``finish(rows, number)`` of
    the parts that have rows, in order.
    """
    table = shuffle_frames(frames, meta, num_parts, partial(_finish_shuffled, finish=finish))
    written = graph.compute(table)["written"]
    return [result for _, result in sorted(written, key=_number) if result is not None]


def _number(numbered: tuple[int, Any]) -> int:
    return numbered[0]


def _finish_shuffled(frame: pd.DataFrame, finish: Callable[..., Any]) -> pd.DataFrame:
    """Finish the part whose number is the frame's index; a table of one row, as a shuffle wants."""
    results: list[Any] = []
    if len(frame):
        number = int(frame.index[0])
        results.append((number, finish(frame.reset_index(drop=True), number)))
    return pd.DataFrame({"written": pd.Series(results, dtype=object)})
