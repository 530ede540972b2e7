"""The pass that puts rows in place: a task owns whole chunks, and takes from the files the rows
that belong there.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import reduce
from operator import add
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from noisydask.predictions.top_draft import TopDraft
from noisydask.predictions.written_files import (
    Int64s,
    Name,
    Range,
    batches_between,
    names_between,
)
from noisydask.stores.array_draft import ArrayDraft
from noisydask.stores.locations import Location

Array = npt.NDArray[Any]
Bools = npt.NDArray[np.bool_]

#: Rows that are named in an error.
FIRST = 5


class Block(NamedTuple):
    """Rows of the arrays that a task puts in place.

    Attributes
    ----------
    start, stop : int
        The first row, and the row after the last.
    files : tuple of str
        Files of which rows may belong there.
    ranges : tuple of Range
        Ranges that hold the ids of the rows; none where rows have positions.
    offset : int
        Row of the first id of the ranges.
    """

    start: int
    stop: int
    files: tuple[str, ...]
    ranges: tuple[Range, ...] = ()
    offset: int = 0


@dataclass(frozen=True)
class Some:
    """Rows of a kind: how many there are, and the first of them by position or id."""

    count: int = 0
    first: tuple[Name, ...] = ()

    def __add__(self, other: Some) -> Some:
        first: list[Any] = [*self.first, *other.first]
        return Some(self.count + other.count, tuple(sorted(first)[:FIRST]))


@dataclass(frozen=True)
class Placed:
    """Rows that are not as they should be: those that nobody wrote, and those that were
    written several times with different probabilities, or labels.
    """

    missing: Some = Some()
    differing: Some = Some()
    relabeled: Some = Some()

    def __add__(self, other: Placed) -> Placed:
        return Placed(
            self.missing + other.missing,
            self.differing + other.differing,
            self.relabeled + other.relabeled,
        )


@dataclass(frozen=True)
class CountIds:
    """The pass that counts distinct ids of ranges, given with their number and their files."""

    folder: Location

    def run(
        self, ranges: Sequence[tuple[int, Range, tuple[str, ...]]]
    ) -> tuple[tuple[int, int], ...]:
        """Return the numbers of ranges, each with its count."""
        return tuple(
            (number, len(names_between(self.folder, files, ids))) for number, ids, files in ranges
        )


@dataclass(frozen=True)
class Placing:
    """The pass.

    Attributes
    ----------
    folder : Location
        Where the files lie.
    probs : ArrayDraft or TopDraft
        The probabilities.
    labels, ids : ArrayDraft, optional
        Labels and ids, where there are such.
    """

    folder: Location
    probs: ArrayDraft | TopDraft
    labels: ArrayDraft | None
    ids: ArrayDraft | None

    def run(self, blocks: Sequence[Block]) -> Placed:
        """Put the rows of blocks in place; of rows that were written several times the last."""
        return reduce(add, map(self._place, blocks))

    def _place(self, block: Block) -> Placed:
        rows = block.stop - block.start
        room = _Room.empty(rows, self.probs, self.labels)
        names = self._ids(block) if block.ranges else None
        for where, probs, labels in self._rows(block, names):
            room.take(where, probs, labels)
        step = self.probs.object_rows
        for low in range(0, rows, step):
            self.probs.write(block.start + low, room.probs[low : low + step])
        if self.labels is not None and room.labels is not None:
            self.labels.write(block.start, room.labels)
        if self.ids is not None and names is not None:
            ids = np.asarray(names.to_numpy(zero_copy_only=False), self.ids.dtype)
            self.ids.write(block.start, ids)
        kinds = (~room.filled, room.differing, room.relabeled)
        return Placed(*(_some(flags, block.start, names) for flags in kinds))

    def _ids(self, block: Block) -> pa.Array:
        """Return the ids of a block, ascending."""
        parts = [names_between(self.folder, block.files, ids) for ids in block.ranges]
        names = pa.concat_arrays(parts)
        return names.slice(block.start - block.offset, block.stop - block.start)

    def _rows(
        self, block: Block, names: pa.Array | None
    ) -> Iterator[tuple[Int64s, Array, Array | None]]:
        """Iterate over rows of the block, some at a time, in the order of the files: where they
        belong in it, ascending, with their probabilities and labels.
        """
        low, high = block.start, block.stop - 1
        if names is not None:
            low, high = names[0].as_py(), names[-1].as_py()
        for file in block.files:
            for batch in batches_between(self.folder, file, low, high):
                where = _where(batch.column("row"), block, names)
                inside = np.flatnonzero(where >= 0)
                if not inside.size:
                    continue
                # They lie side by side, as the rows of a file are in order; of ids, all are known.
                part = slice(int(inside[0]), int(inside[-1]) + 1)
                probs = batch.column("probs").flatten().to_numpy().reshape(batch.num_rows, -1)
                labels = None if self.labels is None else batch.column("label").to_numpy()[part]
                yield where[part], probs[part], labels


def _where(rows: pa.Array, block: Block, names: pa.Array | None) -> Int64s:
    """Return where rows belong in a block; -1 where they belong in another."""
    if names is None:
        where: Int64s = rows.to_numpy() - block.start
        return np.where(where < block.stop - block.start, where, -1)
    found = pc.fill_null(pc.index_in(rows, value_set=names), -1)
    return np.asarray(found.to_numpy(zero_copy_only=False), np.int64)


def _some(flags: Bools, start: int, names: pa.Array | None) -> Some:
    rows = np.flatnonzero(flags)
    first = rows[:FIRST]
    named = (first + start).tolist() if names is None else names.take(pa.array(first)).to_pylist()
    return Some(len(rows), tuple(named))


@dataclass
class _Room:
    """Room for the rows of a block: which of them are filled, and which were written several times
    with different probabilities or labels.
    """

    probs: Array
    labels: Array | None
    filled: Bools
    differing: Bools
    relabeled: Bools

    @classmethod
    def empty(cls, rows: int, probs: ArrayDraft | TopDraft, labels: ArrayDraft | None) -> _Room:
        flags = (np.zeros(rows, bool) for _ in range(3))
        shape = (rows, *probs.shape[1:])
        numbers = None if labels is None else np.zeros(rows, labels.dtype)
        return cls(np.zeros(shape, probs.dtype), numbers, *flags)

    def take(self, where: Int64s, probs: Array, labels: Array | None) -> None:
        """Take rows in place of what was there; a row may be among them several times."""
        there = np.flatnonzero(self.filled[where])
        before = None if self.labels is None else self.labels[where[there]]
        self._compare(where, there, probs, self.probs[where[there]], labels, before)
        again = np.flatnonzero(np.diff(where) == 0) + 1
        before = None if labels is None else labels[again - 1]
        self._compare(where, again, probs, probs[again - 1], labels, before)
        self.filled[where] = True
        self.probs[where] = probs
        if self.labels is not None:
            self.labels[where] = labels

    def _compare(
        self,
        where: Int64s,
        some: Int64s,
        probs: Array,
        probs_before: Array,
        labels: Array | None,
        labels_before: Array | None,
    ) -> None:
        """Compare some of the rows that are taken with what was there before, bit by bit."""
        differ = (_bits(probs[some]) != _bits(probs_before)).any(axis=1)
        self.differing[where[some[differ]]] = True
        if labels is not None and labels_before is not None:
            self.relabeled[where[some[labels[some] != labels_before]]] = True


def _bits(values: Array) -> Array:
    return values.view(f"u{values.itemsize}")
