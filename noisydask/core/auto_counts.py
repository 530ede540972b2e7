"""Counts of all rows that our own flagging rule, ``auto``, is made from: rows that agree with their
prediction, margins by which the others differ, and the typical margin.

All totals are integers, and logarithms are rounded, so that the same comes out for any blocks and
on any machine. Pure.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from noisydask.core.confident import Columns
from noisydask.core.ranking import Ints, Keys
from noisydask.core.scores import logarithm
from noisydask.core.sparse_counts import SparseCounts
from noisydask.core.thresholds import ClassTotals, confident_thresholds, means

Bools = npt.NDArray[np.bool_]
Floats = npt.NDArray[np.float64]

# Margins are halves of multiples of 2 ** -20: as integers, shifted to be positive.
_MARGIN_UNIT, _MARGIN_ZERO = 2.0**21, 1 << 40


def agreeing_totals(columns: Columns, num_classes: int) -> ClassTotals:
    """Return the class totals of the rows of evidence whose given label is the prediction."""
    given = columns["given"]
    rows = np.flatnonzero((given == columns["top1"]) & (given < num_classes))
    return ClassTotals.of_values(given[rows], columns["p_given"][rows], num_classes)


@dataclass(frozen=True)
class AutoLevels:
    """Levels of the classes by which probabilities are measured.

    Attributes
    ----------
    log_thresholds : ndarray of float64, (K,)
        Logarithm of the mean ``p_given`` of each class, at least 2e-6; 0 for one without rows.
    confident : ndarray of float64, (K,)
        Mean ``p_given`` of the rows of each class that are predicted to be of it; 0 if there are
        none.
    """

    log_thresholds: npt.NDArray[np.floating]
    confident: Floats

    @classmethod
    def of(cls, totals: ClassTotals, agreeing: ClassTotals) -> AutoLevels:
        """Take the levels from the totals of all rows, and of those that agree."""
        thresholds = confident_thresholds(totals, absent=1.0)
        return cls(logarithm(thresholds), means(agreeing, absent=0.0))

    @property
    def num_classes(self) -> int:
        """Number of classes."""
        return len(self.confident)


@dataclass(frozen=True)
class Margins:
    """Of valid rows and the two most probable classes: margins over the given label.

    ``own``, ``first`` and ``second`` are the logarithms of the probabilities of the given label and
    of both classes; those of classes that are the given label are minus infinity.
    """

    rows: npt.NDArray[np.intp]
    given: Ints
    top1: Ints
    top2: Ints
    own: Floats
    first: Floats
    second: Floats
    levels: AutoLevels

    @classmethod
    def of(cls, columns: Columns, levels: AutoLevels) -> Margins:
        """Take the logarithms."""
        rows = np.flatnonzero(columns["given"] < levels.num_classes)
        given, top1, top2 = (columns[name][rows].astype(np.int64) for name in _CLASSES)
        names = ("p_given", "p_top1", "p_top2")
        logs = [np.asarray(logarithm(columns[name][rows]), np.float64) for name in names]
        logs[1][top1 == given] = -np.inf
        logs[2][top2 == given] = -np.inf
        return cls(rows, given, top1, top2, logs[0], logs[1], logs[2], levels)

    def over(self, share: float) -> tuple[Floats, Floats]:
        """Return both margins, less ``share`` of the logarithms of the classes' thresholds."""
        levels = self.levels.log_thresholds * share
        own = self.own - levels[self.given]
        margins = self.first - levels[self.top1], self.second - levels[self.top2]
        for margin in margins:
            margin -= own
        return margins


_CLASSES = ("given", "top1", "top2")


@dataclass(frozen=True)
class AutoCounts:
    """Counts by which the kind of the noise is told.

    Attributes
    ----------
    joint : SparseCounts
        Rows by (given class, class that the margins speak for).
    disagreements : SparseCounts
        Confident rows whose prediction is not the given class, by (given class, prediction).
    confident : ndarray of int64, (K,)
        Confident rows by prediction.
    rows, differing : int
        Valid rows, and those whose prediction is not the given class.
    """

    joint: SparseCounts
    disagreements: SparseCounts
    confident: Ints
    rows: int
    differing: int

    def __add__(self, other: AutoCounts) -> AutoCounts:
        return AutoCounts(
            self.joint + other.joint,
            self.disagreements + other.disagreements,
            self.confident + other.confident,
            self.rows + other.rows,
            self.differing + other.differing,
        )


def count_margins(columns: Columns, levels: AutoLevels) -> AutoCounts:
    """Count some rows of evidence."""
    num_classes = levels.num_classes
    margins = Margins.of(columns, levels)
    first, second = margins.over(0.5)
    best = np.where(first >= second, margins.top1, margins.top2)
    best = np.where(np.maximum(first, second) <= 0, margins.given, best)
    confident = columns["p_top1"][margins.rows] >= levels.confident[margins.top1]
    differing = margins.top1 != margins.given
    doubts = confident & differing
    return AutoCounts(
        SparseCounts.of_codes(margins.given * num_classes + best, num_classes**2),
        SparseCounts.of(margins.given[doubts] * num_classes + margins.top1[doubts]),
        np.bincount(margins.top1[confident], minlength=num_classes),
        len(margins.rows),
        int(np.count_nonzero(differing)),
    )


def typical_keys(columns: Columns, levels: AutoLevels) -> tuple[Ints, Keys]:
    """Return the margins of confident rows whose prediction is not the given class, as unsigned
    integers of the same order: group 0, and -1 for all other rows.
    """
    top1 = columns["top1"]
    known = np.append(levels.confident, np.inf)
    doubts = np.flatnonzero(
        (columns["given"] < levels.num_classes)
        & (top1 != columns["given"])
        & (columns["p_top1"] >= known[top1])
    )
    some = {name: columns[name][doubts] for name in (*_CLASSES, "p_given", "p_top1", "p_top2")}
    first, _ = Margins.of(some, levels).over(0.5)
    groups = np.full(len(top1), -1)
    keys = np.zeros(len(groups), np.uint64)
    groups[doubts] = 0
    keys[doubts] = (np.rint(first * _MARGIN_UNIT) + _MARGIN_ZERO).astype(np.uint64)
    return groups, keys


def typical_margin(key: int) -> float:
    """Return the margin of a key.

    Examples
    --------
    >>> typical_margin((1 << 40) + (3 << 20))
    1.5
    """
    return (key - _MARGIN_ZERO) / _MARGIN_UNIT
