"""The first rows of each of many groups without sorting: histograms by group, then ties.

Each group takes so many of its rows, those of the lowest (key, position). A histogram of the
leading bits of its keys tells in which bin the last of these lies, the next histogram looks into
that bin, until one key is left; of rows with that very key, positions are looked for in the same
way. The cuts depend on the rows alone, so they are the same for any blocks, workers or order. Pure.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from noisydask.core.confident import SparseCounts
from noisydask.core.ranking import Ints, Keys

#: Bins of all groups together that a histogram has at most, about.
_MOST_BINS = 1 << 22
_MOST_BITS = 16
_EVERY_POSITION = np.iinfo(np.int64).max


@dataclass(frozen=True)
class GroupSearch:
    """The search for the last row that each group takes, by unsigned integers of ``bits`` bits.

    Attributes
    ----------
    left : ndarray of int64, (G,)
        How many rows each group still takes of its bin; 0 where nothing is to be found.
    firsts : ndarray of uint64, (G,)
        The first key of each group's bin.
    shift : int
        Bits that keys of a bin differ in.
    bits : int
        Bits of a key.
    tied : ndarray of int64, (G,)
        Rows in each group's bin.
    """

    left: Ints
    firsts: npt.NDArray[np.uint64]
    shift: int
    bits: int
    tied: Ints

    @classmethod
    def of(cls, takes: Ints, bits: int) -> GroupSearch:
        """Begin a search."""
        zeros = np.zeros(len(takes), np.int64)
        return cls(np.maximum(takes, 0), zeros.astype(np.uint64), bits, bits, zeros)

    @property
    def done(self) -> bool:
        """Whether bins are single keys, or nothing is to be found."""
        return not self.shift or not self.left.any()

    @property
    def _next_shift(self) -> int:
        groups = max(1, int(np.count_nonzero(self.left)))
        digits = max(1, min(_MOST_BITS, (_MOST_BINS // groups).bit_length() - 1))
        return max(0, self.shift - digits)

    def count(self, groups: Ints, keys: Keys) -> SparseCounts:
        """Count the rows of each group in the pieces of its bin; rows of group -1 are left out."""
        wide = keys.astype(np.uint64)
        inside = (groups >= 0) & (self.left[groups] > 0)
        if self.shift < self.bits:
            shift = np.uint64(self.shift)
            inside &= (wide >> shift) == (self.firsts[groups] >> shift)
        step = self.shift - self._next_shift
        digits = (wide[inside] >> np.uint64(self._next_shift)) & np.uint64((1 << step) - 1)
        return SparseCounts.of((groups[inside] << step) | digits.astype(np.int64))

    def narrowed(self, counts: SparseCounts) -> GroupSearch:
        """Return the search within the pieces in which the last rows lie."""
        step = self.shift - self._next_shift
        groups = counts.pairs >> step
        digits = counts.pairs & ((1 << step) - 1)
        before = np.cumsum(counts.counts) - counts.counts
        starts = np.searchsorted(groups, groups)
        before -= before[starts]  # within its group
        # The piece in which the last row lies; of a group with fewer rows, its last piece.
        reached = before < self.left[groups]
        groups, digits, before, sizes = (
            values[reached] for values in (groups, digits, before, counts.counts)
        )
        ends = np.searchsorted(groups, np.unique(groups), side="right") - 1
        left, firsts, tied = np.zeros_like(self.left), self.firsts.copy(), np.zeros_like(self.tied)
        ending = groups[ends]
        left[ending] = np.minimum(self.left[ending] - before[ends], sizes[ends])
        tied[ending] = sizes[ends]
        firsts[ending] |= digits[ends].astype(np.uint64) << np.uint64(self._next_shift)
        return replace(self, left=left, firsts=firsts, shift=self._next_shift, tied=tied)

    @property
    def among_ties(self) -> Ints:
        """How many of the rows with its last key each group takes, where that is not all."""
        return np.where(self.left < self.tied, self.left, 0)


@dataclass(frozen=True)
class GroupCuts:
    """Where each group ends.

    Attributes
    ----------
    keys : ndarray of uint64, (G,)
        The last key that a group takes.
    positions : ndarray of int64, (G,)
        The last position that it takes of rows with that key; -1 where it takes no rows.
    """

    keys: npt.NDArray[np.uint64]
    positions: Ints

    @classmethod
    def of(cls, search: GroupSearch, ties: GroupSearch) -> GroupCuts:
        """Take the ends of a search by keys and of one by positions among ties."""
        positions = np.where(ties.left > 0, ties.firsts.astype(np.int64), _EVERY_POSITION)
        return cls(search.firsts, np.where(search.left > 0, positions, -1))

    def taken(self, groups: Ints, keys: Keys, positions: Ints) -> npt.NDArray[np.bool_]:
        """Return which rows the groups take; rows of group -1 are in none.

        Examples
        --------
        >>> cuts = GroupCuts(np.array([5, 0], np.uint64), np.array([9, -1]))
        >>> groups, keys = np.array([0, 0, 0, 1, -1]), np.array([4, 5, 5, 0, 0], np.uint64)
        >>> cuts.taken(groups, keys, np.array([20, 8, 10, 0, 1])).tolist()
        [True, True, False, False, False]
        """
        last = self.keys[groups]
        wide = keys.astype(np.uint64)
        there = (groups >= 0) & (self.positions[groups] >= 0)
        tied = (wide == last) & (positions <= self.positions[groups])
        return there & ((wide < last) | tied)
