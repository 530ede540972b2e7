"""The first rows of each of many groups without sorting: histograms by group, then ties.

Each group takes so many of its rows, the first in the order of one or more keys, of which the last
is the position. A histogram of the leading bits of the first key tells in which bin the last of
these rows lies, the next histogram looks into that bin, until all of a bin is taken or one key is
left; among rows with that very key, the next key is searched in the same way. The cuts depend on
the rows alone, so they are the same for any blocks, workers or order. Pure.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import reduce
from operator import add

import numpy as np
import numpy.typing as npt

from noisydask.core.ranking import Ints, Keys
from noisydask.core.sparse_counts import SparseCounts

#: Bins of all groups together that a histogram has at most, about.
_MOST_BINS = 1 << 22
_MOST_BITS = 16
# Group and bits of a key share one integer.
_PAIR_BITS = 62
# Many rows are counted in a table first, if it tells at least so many bits of a key; few are sorted
# at once.
_TABLE, _LEAST_BITS, _FEW_ROWS = 1 << 20, 10, 1 << 18

Bools = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class GroupSearch:
    """The search for the last row that each group takes, by unsigned integers of ``bits`` bits.

    Attributes
    ----------
    left : ndarray of int64, (G,)
        How many rows of its bin each group still takes; 0 where nothing is to be found any more.
    firsts : ndarray of uint64, (G,)
        The first key of each group's bin.
    lasts : ndarray of uint64, (G,)
        The last key that each group takes, where that is known.
    takes : ndarray of bool, (G,)
        Groups that take a row.
    rows : ndarray of int64, (G,)
        Rows of each group that takes some.
    shift : int
        Bits that keys of a bin differ in.
    bits : int
        Bits of a key.
    searched : int
        Rows in the bins of all groups, at most.
    """

    left: Ints
    firsts: npt.NDArray[np.uint64]
    lasts: npt.NDArray[np.uint64]
    takes: Bools
    rows: Ints
    shift: int
    bits: int
    searched: int

    @classmethod
    def of(cls, takes: Ints, bits: int, num_rows: int) -> GroupSearch:
        """Begin a search among at most ``num_rows`` rows."""
        none = np.zeros(len(takes), np.uint64)
        nowhere = np.zeros(len(takes), bool)
        rows = np.zeros(len(takes), np.int64)
        return cls(np.maximum(takes, 0), none, none, nowhere, rows, bits, bits, num_rows)

    @property
    def done(self) -> bool:
        """Whether bins are single keys, or nothing is to be found."""
        return not self.shift or not self.left.any()

    @property
    def _next_shift(self) -> int:
        if self._by_table:
            digits = min(_MOST_BITS, self._table_bits)
        elif self.searched <= _MOST_BINS:  # there cannot be more bins than rows
            digits = _PAIR_BITS - len(self.left).bit_length()
        else:
            digits = (_MOST_BINS // max(1, len(self.left))).bit_length() - 1
        return max(0, self.shift - max(1, digits))

    @property
    def _table_bits(self) -> int:
        return (_TABLE // max(1, len(self.left))).bit_length() - 1

    @property
    def _by_table(self) -> bool:
        """Whether many rows are counted in a table of all pieces; few are sorted at once."""
        return self.searched > _FEW_ROWS and self._table_bits >= _LEAST_BITS

    def count(self, pieces: Iterable[tuple[Ints, Keys]]) -> SparseCounts:
        """Count rows, of which groups and keys come in pieces, by the piece of their group's bin in
        which they are; rows of group -1 are left out.
        """
        codes = (self._codes(groups, keys) for groups, keys in pieces)
        if not self._by_table:
            return reduce(add, (SparseCounts.of(each) for each in codes))
        stop = len(self.left) << (self.shift - self._next_shift)
        table = np.zeros(stop, np.int64)
        for some in _together(codes, stop):
            table += np.bincount(some, minlength=stop)
        return SparseCounts.of_dense(table)

    def _codes(self, groups: Ints, keys: Keys) -> Ints:
        searched = np.flatnonzero((groups >= 0) & (self.left[groups] > 0))
        group = groups[searched].astype(np.int64)
        wide = keys[searched].astype(np.uint64)
        if self.shift < self.bits:
            shift = np.uint64(self.shift)
            inside = (wide >> shift) == (self.firsts[group] >> shift)
            group = group[inside]
            wide = wide[inside]
        step = self.shift - self._next_shift
        digits = (wide >> np.uint64(self._next_shift)) & np.uint64((1 << step) - 1)
        return (group << step) | digits.astype(np.int64)

    def narrowed(self, counts: SparseCounts) -> GroupSearch:
        """Return the search within the pieces in which the last rows lie."""
        shift = self._next_shift
        step = self.shift - shift
        groups = counts.pairs >> step
        digits = counts.pairs & ((1 << step) - 1)
        before = np.cumsum(counts.counts) - counts.counts
        before -= before[np.searchsorted(groups, groups)]  # within its group
        # The piece in which the last row lies; of a group with fewer rows, its last piece.
        reached = np.flatnonzero(before < self.left[groups])
        ends = reached[np.append(np.diff(groups[reached]) > 0, True)] if len(reached) else reached
        ending = groups[ends]
        sizes = counts.counts[ends]
        wanted = self.left[ending] - before[ends]
        firsts = self.firsts.copy()
        firsts[ending] |= digits[ends].astype(np.uint64) << np.uint64(shift)
        whole = wanted >= sizes
        lasts = self.lasts.copy()
        lasts[ending] = firsts[ending] + np.where(whole, np.uint64((1 << shift) - 1), np.uint64(0))
        left = np.zeros_like(self.left)
        left[ending[~whole]] = wanted[~whole]
        takes = self.takes.copy()
        takes[ending] = True
        rows = self.rows
        if self.shift == self.bits:
            rows = np.zeros_like(self.rows)
            np.add.at(rows, groups, counts.counts)
        searched = int(sizes[~whole].sum())
        return GroupSearch(left, firsts, lasts, takes, rows, shift, self.bits, searched)

    def among_ties(self, bits: int) -> GroupSearch:
        """Begin the search by the next key, of so many bits, among rows with the last key."""
        return replace(GroupSearch.of(self.left, bits, self.searched), rows=self.rows)

    def tied(self, groups: Ints, keys: Keys) -> Ints:
        """Return the groups of rows that have their group's last key where this search ended before
        their order was known; -1 for other rows.
        """
        open_rows = (groups >= 0) & (self.left[groups] > 0)
        return np.where(open_rows & (keys == self.firsts[groups]), groups, -1)


def _together(pieces: Iterable[Ints], least: int) -> Iterator[Ints]:
    """Join pieces until they have so many elements: each table costs as much as it is large."""
    waiting: list[Ints] = []
    for piece in pieces:
        waiting.append(piece)
        if sum(map(len, waiting)) >= least:
            yield np.concatenate(waiting)
            waiting = []
    if waiting:
        yield np.concatenate(waiting)


@dataclass(frozen=True)
class GroupCuts:
    """Where each group ends, by one search for each key.

    Attributes
    ----------
    takes : ndarray of bool, (G,)
        Groups that take a row.
    lasts : tuple of ndarray of uint64, (G,)
        Of each key the last that a group takes.
    whole : tuple of ndarray of bool, (G,)
        Groups that take all rows with that last key; of the others the next key decides.
    """

    takes: Bools
    lasts: tuple[npt.NDArray[np.uint64], ...]
    whole: tuple[Bools, ...]

    @classmethod
    def of(cls, searches: Sequence[GroupSearch]) -> GroupCuts:
        """Take the ends of searches that are done."""
        lasts = tuple(search.lasts for search in searches)
        return cls(searches[0].takes, lasts, tuple(search.left == 0 for search in searches))

    @property
    def levels(self) -> int:
        """How many keys decide."""
        return len(self.lasts)

    def taken(self, groups: Ints, *keys: Keys) -> Bools:
        """Return which rows the groups take; rows of group -1 are in none.

        Examples
        --------
        >>> cuts = GroupCuts(np.array([True, False]), (np.array([5, 0]), np.array([9, 0])),
        ...                  (np.array([False, True]), np.array([True, True])))
        >>> groups, keys = np.array([0, 0, 0, 1, -1]), np.array([4, 5, 5, 0, 0], np.uint64)
        >>> cuts.taken(groups, keys, np.array([20, 8, 10, 0, 1])).tolist()
        [True, True, False, False, False]
        """
        undecided = (groups >= 0) & self.takes[groups]
        taken = np.zeros(len(groups), bool)
        for lasts, whole, key in zip(self.lasts, self.whole, keys, strict=False):
            last = lasts[groups]
            taken |= undecided & (key < last)
            undecided &= key == last
            taken |= undecided & whole[groups]
            undecided &= ~whole[groups]
        return taken
