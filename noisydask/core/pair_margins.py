"""The margins by which ``prune_by_noise_rate`` takes examples: of each pair (given class, other
class) those with the largest ``p[other] - p[given]``.

The evidence names two classes of an example, and their margins; of all other classes it bounds
them. An example whose bound reaches the cut-off of a pair is *open*: its row is read. Pure.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property, reduce
from operator import add
from typing import Any

import numpy as np
import numpy.typing as npt

from noisydask.core.compiled import kernel
from noisydask.core.confident import Columns, Floats, bound_of_rest, slices
from noisydask.core.group_cuts import Bools, GroupCuts
from noisydask.core.kept_rows import MARGIN, KeptRows
from noisydask.core.noise import SparseMatrix
from noisydask.core.ranking import Ints, Keys, scores_of, sort_keys
from noisydask.core.row_kernel import PROBABILITY_TOLERANCE

# Of up to so many classes, pairs are looked up in a table.
_TABLE = 1000


@dataclass(frozen=True)
class PrunedPairs:
    """The pairs (given class, other class) of which examples are taken.

    Attributes
    ----------
    num_classes : int
        K.
    pairs : ndarray of int64, (P,)
        ``given * K + other``, ascending.
    takes : ndarray of int64, (P,)
        How many examples of each pair are taken, at least 1.
    """

    num_classes: int
    pairs: Ints
    takes: Ints

    @classmethod
    def of(cls, prune_counts: SparseMatrix, prunable: Bools) -> PrunedPairs:
        """Take the pairs of two classes of which the first is ``prunable``, (K,)."""
        rows, columns, values = prune_counts.rows, prune_counts.columns, prune_counts.values
        some = (rows != columns) & (values > 0) & prunable[rows]
        num_classes = prune_counts.num_classes
        return cls(num_classes, (rows * num_classes + columns)[some], values[some].astype(np.int64))

    @property
    def given(self) -> Ints:
        """The given class of each pair."""
        return self.pairs // self.num_classes

    def find(self, given: Ints, other: Ints) -> Ints:
        """Return which pair each (given, other) is, -1 for none.

        Examples
        --------
        >>> pairs = PrunedPairs(3, np.array([1, 5]), np.array([1, 1]))
        >>> pairs.find(np.array([0, 1, 2]), np.array([1, 2, 0])).tolist()
        [0, 1, -1]
        """
        wanted = given * self.num_classes + other
        if self.num_classes <= _TABLE:
            return self._table[wanted]
        if not len(self.pairs):
            return np.full(len(wanted), -1)
        where = np.minimum(np.searchsorted(self.pairs, wanted), len(self.pairs) - 1)
        return np.where(self.pairs[where] == wanted, where, -1)

    @cached_property
    def _table(self) -> Ints:
        table = np.full(self.num_classes**2, -1)
        table[self.pairs] = np.arange(len(self.pairs))
        return table


@dataclass(frozen=True)
class PairMargins:
    """Margins of examples of a block for pairs.

    Attributes
    ----------
    rows : ndarray of int64, (m,)
        Positions in the block.
    groups : ndarray of int64, (m,)
        Numbers of the pairs.
    margins : ndarray, (m,)
        ``p[other] - p[given]``, in the type of the evidence.
    """

    rows: Ints
    groups: Ints
    margins: Floats

    def __add__(self, other: PairMargins) -> PairMargins:
        return PairMargins(
            np.concatenate([self.rows, other.rows]),
            np.concatenate([self.groups, other.groups]),
            np.concatenate([self.margins, other.margins]),
        )

    @property
    def keys(self) -> Keys:
        """Unsigned integers by which the largest margin comes first."""
        return sort_keys(-self.margins)


def cut_offs(pairs: PrunedPairs, cuts: GroupCuts, known: Ints, dtype: npt.DTypeLike) -> Floats:
    """Return the last margin that each pair takes of those that are known, minus infinity where
    these are fewer than it takes: (P,).
    """
    short = known < pairs.takes
    margins = -scores_of(cuts.lasts[0], dtype)
    return np.where(short, np.array(-np.inf, margins.dtype), margins)


def bound_of_margins(columns: Columns, num_classes: int) -> Floats:
    """Return what the margin of each row is at most for a class that the evidence does not name;
    minus infinity for refused rows, and where there is no such class.
    """
    if num_classes <= 2:
        return np.full(len(columns["given"]), -np.inf, columns["p_given"].dtype)
    reached = bound_of_rest(columns, num_classes) - columns["p_given"]
    return np.where(columns["given"] < num_classes, reached, reached.dtype.type(-np.inf))


def known_margins(columns: Columns, pairs: PrunedPairs) -> PairMargins:
    """Return the margins that the evidence gives: those of the two most probable classes."""
    found = []
    for top, p_top in (("top1", "p_top1"), ("top2", "p_top2")):
        differing = (columns["given"] != columns[top]) & (columns["given"] < pairs.num_classes)
        rows = np.flatnonzero(differing)
        groups = pairs.find(
            columns["given"][rows].astype(np.int64), columns[top][rows].astype(np.int64)
        )
        rows = rows[groups >= 0]
        margins = columns[p_top][rows] - columns["p_given"][rows]
        found.append(PairMargins(rows, groups[groups >= 0], margins))
    return found[0] + found[1]


@dataclass(frozen=True)
class PairLimits:
    """The least margin by which an example of each class may be taken for any other.

    Attributes
    ----------
    least : ndarray of float, (K,)
        In the type of the evidence; infinity for a class of which none is taken.
    """

    least: Floats

    @classmethod
    def of(cls, pairs: PrunedPairs, cut_offs: Floats, p_given: Floats) -> PairLimits:
        """Bound the cut-offs of all examples from below.

        Parameters
        ----------
        pairs : PrunedPairs
            The pairs.
        cut_offs : ndarray, (P,)
            Their cut-offs among the margins that are known; minus infinity where these are too few.
        p_given : ndarray, (K,)
            For the pairs of each class whose cut-off is below 0, a probability of the given label
            that as many of the class's examples do not exceed as any of them takes: a margin is at
            least its negative.
        """
        dtype = p_given.dtype
        floor = -p_given - dtype.type(2 * PROBABILITY_TOLERANCE)
        margins = np.maximum(cut_offs, floor[pairs.given])
        margins = np.where(cut_offs < 0, margins, cut_offs)
        least = np.full(pairs.num_classes, np.inf, dtype)
        np.minimum.at(least, pairs.given, margins)
        return cls(least)

    @property
    def lower(self) -> PairLimits:
        """Limits that cut-offs keep to until each moves by more than a tenth."""
        with np.errstate(invalid="ignore"):
            less = self.least - np.abs(self.least) * self.least.dtype.type(MARGIN)
        return PairLimits(np.where(np.isinf(self.least), self.least, less))

    def only(self, classes: Bools) -> PairLimits:
        """Return limits that no row of other classes reaches."""
        return PairLimits(np.where(classes, self.least, self.least.dtype.type(np.inf)))

    def open_rows(self, columns: Columns) -> Bools:
        """Return rows that may be taken for a class that the evidence does not name."""
        limits = np.append(self.least, self.least.dtype.type(np.inf))
        return bound_of_margins(columns, len(self.least)) >= limits[columns["given"]]

    def margins_of(
        self, rows: Bools, columns: Columns, pairs: PrunedPairs, pred_probs: Floats | KeptRows
    ) -> PairMargins:
        """Return the margins of some rows, where they reach a limit, for classes that the evidence
        does not name, from the rows themselves.
        """
        none = np.zeros(0, np.int64)
        found = [PairMargins(none, none, np.zeros(0, self.least.dtype))]
        starts = np.searchsorted(pairs.given, np.arange(pairs.num_classes + 1))
        others = pairs.pairs % pairs.num_classes
        for some in slices(rows):
            given, top1, top2 = (
                columns[name][some].astype(np.int64) for name in ("given", "top1", "top2")
            )
            own = columns["p_given"][some]
            rows_of = pred_probs[some]
            if rows_of.dtype.names:
                found.append(self._margins_of_top(rows_of, some, (given, top1, top2), own, pairs))
                continue
            whole = np.ascontiguousarray(rows_of, own.dtype)
            room = int((starts[given + 1] - starts[given]).sum())
            places, groups = np.empty((2, room), np.int64)
            margins = np.empty(room, own.dtype)
            known = whole, given, top1, top2, own, starts, others, self.least
            count = _margins(*known, places, groups, margins)
            found.append(PairMargins(some[places[:count]], groups[:count], margins[:count]))
        return reduce(add, found)

    def _margins_of_top(
        self,
        rows: npt.NDArray[Any],
        places: Ints,
        classes: tuple[Ints, Ints, Ints],
        own: Floats,
        pairs: PrunedPairs,
    ) -> PairMargins:
        """Return margins of rows of which the most probable classes are known, for these."""
        given, top1, top2 = classes
        others = rows["classes"].astype(np.int64)
        margins = rows["probs"].astype(own.dtype) - own[:, None]
        new = (others != top1[:, None]) & (others != top2[:, None])
        some, column = np.nonzero(new & (margins >= self.least[given][:, None]))
        groups = pairs.find(given[some], others[some, column])
        there = groups >= 0
        some, column = some[there], column[there]
        return PairMargins(places[some], groups[there], margins[some, column])

    def undecided(self, rows: Bools, columns: Columns, pairs: PrunedPairs, top_rows: Any) -> Bools:
        """Return which of some rows, of which the most probable classes are known, may be taken for
        another class: each is at most as probable as the last that is known.
        """
        starts = np.searchsorted(pairs.given, np.arange(pairs.num_classes + 1))
        undecided = np.zeros_like(rows)
        for some in slices(rows):
            kept = top_rows[some]
            given = columns["given"][some].astype(np.int64)
            others = kept["classes"].astype(np.int64)
            every = np.broadcast_to(given[:, None], others.shape)
            known = (pairs.find(every.ravel(), others.ravel()) >= 0).reshape(others.shape)
            more = starts[given + 1] - starts[given] > known.sum(axis=1)
            least = kept["probs"].min(axis=1).astype(self.least.dtype)
            undecided[some] = more & (least - columns["p_given"][some] >= self.least[given])
        return undecided


@kernel()
def _margins(pred_probs, given, top1, top2, own, starts, others, least, rows, groups, margins):
    """Fill in the margins that reach the limit of their class; return how many there are."""
    count = 0
    for i in range(given.size):
        label = given[i]
        for group in range(starts[label], starts[label + 1]):
            other = others[group]
            margin = pred_probs[i, other] - own[i]
            if other != top1[i] and other != top2[i] and margin >= least[label]:
                rows[count], groups[count], margins[count] = i, group, margin
                count += 1
    return count
