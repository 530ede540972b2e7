"""The pass that puts rows in place: a task owns whole chunks, and takes from every file the rows
that belong there.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import reduce
from operator import add
from typing import Any

import numpy as np
import numpy.typing as npt

from noisydask.core.blocks import BlockGrid
from noisydask.predictions.written_files import Int64s, WrittenFile, read_range, read_rows
from noisydask.stores.array_draft import ArrayDraft
from noisydask.stores.locations import Location

Array = npt.NDArray[Any]

#: Rows that are named in an error.
FIRST = 5
#: Target of a row that is left out.
NOWHERE = -1


@dataclass(frozen=True)
class Targets:
    """Where the rows of each file belong.

    Attributes
    ----------
    files : sequence of WrittenFile
        The files.
    offsets : ndarray of int64, (F + 1,), optional
        Of files with ids: where the first row of each belongs; None where files have positions.
    dropped : mapping of int to ndarray of int64
        Rows of files that are left out, as they are there twice.
    """

    files: Sequence[WrittenFile]
    offsets: Int64s | None = None
    dropped: Mapping[int, Int64s] = field(default_factory=dict)

    def among(self, start: int, stop: int) -> Iterator[int]:
        """Iterate over files of which rows may belong into a range."""
        for number, file in enumerate(self.files):
            low, high = file.low, file.high
            if self.offsets is not None:
                low, high = int(self.offsets[number]), int(self.offsets[number + 1]) - 1
            if low < stop and high >= start:
                yield number

    def of(self, folder: Location, number: int) -> Int64s:
        """Return where each row of a file belongs, ascending; :data:`NOWHERE` where it is left
        out.
        """
        file = self.files[number]
        if self.offsets is None:
            return np.asarray(read_rows(folder, file.name), np.int64)
        kept = np.ones(file.rows, bool)
        kept[self.dropped.get(number, np.zeros(0, np.int64))] = False
        return np.where(kept, self.offsets[number] + np.cumsum(kept) - 1, NOWHERE)


@dataclass(frozen=True)
class Placed:
    """What was found while rows were put in place: how many rows are missing, how many are there
    twice and differ, and the first of both.
    """

    missing: int = 0
    first_missing: tuple[int, ...] = ()
    differing: int = 0
    first_differing: tuple[int, ...] = ()

    def __add__(self, other: Placed) -> Placed:
        return Placed(
            self.missing + other.missing,
            tuple(sorted(self.first_missing + other.first_missing)[:FIRST]),
            self.differing + other.differing,
            tuple(sorted(self.first_differing + other.first_differing)[:FIRST]),
        )


@dataclass(frozen=True)
class Placing:
    """The pass.

    Attributes
    ----------
    folder : Location
        Where the files lie.
    targets : Targets
        Where their rows belong.
    grid : BlockGrid
        The blocks of the arrays.
    probs : ArrayDraft
        The probabilities.
    labels, ids : ArrayDraft, optional
        Labels, and ids that are numbers, where there are such.
    take_last : bool
        Of rows that are there twice and differ, take the one that was written last.
    """

    folder: Location
    targets: Targets
    grid: BlockGrid
    probs: ArrayDraft
    labels: ArrayDraft | None
    ids: ArrayDraft | None
    take_last: bool

    def run(self, blocks: Sequence[int]) -> Placed:
        """Put the rows of blocks in place."""
        return reduce(add, map(self._block, blocks))

    def _block(self, block: int) -> Placed:
        start, stop = self.grid.bounds(block)
        room = _Room.empty(stop - start, self.probs, self.labels, self.ids)
        differing = []
        for number in self.targets.among(start, stop):
            targets = self.targets.of(self.folder, number)
            inside = np.flatnonzero((targets >= start) & (targets < stop))
            if not inside.size:
                continue
            rows = self._read(number, inside, targets[inside] - start)
            differing.append(room.take(rows, self.take_last) + start)
        self._write(start, room)
        missing = np.flatnonzero(~room.filled) + start
        twice = np.unique(np.concatenate([np.zeros(0, np.int64), *differing]))
        return Placed(
            len(missing), tuple(missing[:FIRST].tolist()), len(twice), tuple(twice[:FIRST].tolist())
        )

    def _read(self, number: int, inside: Int64s, where: Int64s) -> _Rows:
        file = self.targets.files[number]
        low, high = int(inside[0]), int(inside[-1]) + 1
        probs, labels = read_range(self.folder, file, low, high)
        ids = read_rows(self.folder, file.name)[inside] if self.ids is not None else None
        return _Rows(
            where, probs[inside - low], None if labels is None else labels[inside - low], ids
        )

    def _write(self, start: int, room: _Room) -> None:
        step = self.probs.object_rows
        for low in range(0, len(room.filled), step):
            self.probs.write(start + low, room.probs[low : low + step])
        for draft, values in ((self.labels, room.labels), (self.ids, room.ids)):
            if draft is not None and values is not None:
                draft.write(start, values)


@dataclass(frozen=True)
class _Rows:
    """Rows with where they belong, ascending; one may be there several times."""

    where: Int64s
    probs: Array
    labels: Array | None
    ids: Array | None

    def of(self, some: Array) -> _Rows:
        labels = None if self.labels is None else self.labels[some]
        ids = None if self.ids is None else self.ids[some]
        return _Rows(self.where[some], self.probs[some], labels, ids)


@dataclass
class _Room:
    """Room for the rows of a block, and which of them are filled."""

    filled: npt.NDArray[np.bool_]
    probs: Array
    labels: Array | None
    ids: Array | None

    @classmethod
    def empty(
        cls, rows: int, probs: ArrayDraft, labels: ArrayDraft | None, ids: ArrayDraft | None
    ) -> _Room:
        return cls(
            np.zeros(rows, bool),
            np.zeros((rows, *probs.shape[1:]), probs.dtype),
            None if labels is None else np.zeros(rows, labels.dtype),
            None if ids is None else np.zeros(rows, ids.dtype),
        )

    def take(self, rows: _Rows, take_last: bool) -> Int64s:
        """Take rows; return those that differ from what was there already, unless the last is
        taken.
        """
        again = np.concatenate([[False], np.diff(rows.where) == 0])
        if again.any():
            first = self.take(rows.of(~again), take_last)
            return np.concatenate([first, self.take(rows.of(again), take_last)])
        there = self.filled[rows.where]
        old, new = rows.of(there), rows.of(~there)
        self._put(new)
        if take_last:
            self._put(old)
            return np.zeros(0, np.int64)
        bits = np.dtype(f"u{self.probs.itemsize}")
        mine = np.ascontiguousarray(self.probs[old.where]).view(bits)
        differ = (mine != np.ascontiguousarray(old.probs).view(bits)).any(axis=1)
        if self.labels is not None and old.labels is not None:
            differ |= self.labels[old.where] != old.labels
        return old.where[differ]

    def _put(self, rows: _Rows) -> None:
        self.filled[rows.where] = True
        self.probs[rows.where] = rows.probs
        if self.labels is not None:
            self.labels[rows.where] = rows.labels
        if self.ids is not None:
            self.ids[rows.where] = rows.ids
