"""Our own flagging rule, ``auto``: it suits noise of classes that are mistaken for each other as
well as noise that depends on the example.

The posterior of the true class by the inverse noise matrix is right where labels are wrong at
random within a class; the prediction is right where a strong model doubts what people find hard. A
number ``phi``, how much disagreement does not fade with confidence, tells which it is, and
``kappa`` slides between them. All totals are integers, and logarithms are rounded, so that the same
comes out for any blocks and on any machine. Pure.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from noisydask.core.confident import Columns, SparseCounts
from noisydask.core.ranking import Ints, Keys
from noisydask.core.scores import logarithm
from noisydask.core.thresholds import ClassTotals, confident_thresholds, means

Bools = npt.NDArray[np.bool_]
Floats = npt.NDArray[np.float64]

# Margins are halves of multiples of 2 ** -20: as integers, shifted to be positive.
_MARGIN_UNIT, _MARGIN_ZERO = 2.0**21, 1 << 40
# Of up to so many pairs of classes, counts are looked up in a table.
_TABLE = 1 << 20
_LEAST_TYPICAL, _LEAST_INFORMATION = 0.05, 0.1


@dataclass(frozen=True)
class Agreement:
    """Totals of rows whose given label is the prediction, and how often each class is predicted.

    Attributes
    ----------
    totals : ClassTotals
        Of their ``p_given``.
    predicted : ndarray of int64, (K,)
        Rows of which each class is the prediction, whatever their label.
    """

    totals: ClassTotals
    predicted: Ints

    def __add__(self, other: Agreement) -> Agreement:
        return Agreement(self.totals + other.totals, self.predicted + other.predicted)


def agreement(columns: Columns, num_classes: int) -> Agreement:
    """Return the agreement of some rows of evidence."""
    given = columns["given"]
    valid = given < num_classes
    agreeing = np.flatnonzero(given == columns["top1"])
    predicted = np.bincount(columns["top1"][valid], minlength=num_classes)
    totals = ClassTotals.of_values(given[agreeing], columns["p_given"][agreeing], num_classes)
    return Agreement(totals, predicted)


@dataclass(frozen=True)
class AutoLevels:
    """What probabilities are measured by.

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
    def of(cls, totals: ClassTotals, agreeing: Agreement) -> AutoLevels:
        """Take the levels from the totals of all rows."""
        thresholds = confident_thresholds(totals, absent=1.0)
        return cls(logarithm(thresholds), means(agreeing.totals, absent=0.0))

    @property
    def num_classes(self) -> int:
        """Number of classes."""
        return len(self.confident)


@dataclass(frozen=True)
class _Margins:
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
    def of(cls, columns: Columns, levels: AutoLevels) -> _Margins:
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
        return self.first - levels[self.top1] - own, self.second - levels[self.top2] - own


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
    margins = _Margins.of(columns, levels)
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
    first, _ = _Margins.of(some, levels).over(0.5)
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


@dataclass(frozen=True)
class AutoRule:
    """The rule, with all that it takes from the whole of the data.

    Attributes
    ----------
    levels : AutoLevels
        What probabilities are measured by.
    phi : float
        How much disagreement does not fade with confidence, 0 to 1.
    differing : float
        d, share of rows whose prediction is not the given class.
    typical : float
        r, lower median of the margins of confident rows whose prediction is not the given class.
    information : float
        h, what the noise matrix tells of those, on average.
    kappa, gamma, weight : float
        How much the noise matrix counts, how far below its threshold a label must be, how much the
        order counts the other class.
    cut : float
        A row is flagged if its score is above that, which is 0 where r is not known.
    joint : SparseCounts
        Rows by (given class, class that the margins speak for).
    column_sums : ndarray of float64, (K,)
        Its sums, each plus 1.
    noise : float
        u, share of the joint off its diagonal.
    """

    levels: AutoLevels
    phi: float
    differing: float
    typical: float
    information: float
    kappa: float
    gamma: float
    weight: float
    cut: float
    joint: SparseCounts
    column_sums: Floats
    noise: float

    @classmethod
    def of(
        cls, counts: AutoCounts, levels: AutoLevels, agreeing: Agreement, median_key: int | None
    ) -> AutoRule:
        """Take the rule from the totals of all rows, and from the key of the typical margin, where
        any row is confident and differs.
        """
        num_classes = levels.num_classes
        rows = max(counts.rows, 1)
        differing = counts.differing / rows
        phi = _phi(counts, agreeing.predicted, num_classes)
        margin = -math.inf if median_key is None else typical_margin(median_key)
        typical = max(margin, _LEAST_TYPICAL)
        cut = -0.4 * min(1.0, typical / 1.5) if margin >= _LEAST_TYPICAL else 0.0
        given, best = np.divmod(counts.joint.pairs, num_classes)
        noise = 1 - int(counts.joint.counts[given == best].sum()) / rows
        sums = np.ones(num_classes)
        np.add.at(sums, best, counts.joint.counts)
        information = _LEAST_INFORMATION
        pairs = counts.disagreements
        if len(pairs.counts):
            labels, predictions = np.divmod(pairs.pairs, num_classes)
            told = _information(labels, predictions, counts.joint, sums, noise)
            mean = math.fsum((told * pairs.counts).tolist()) / int(pairs.counts.sum())
            information = max(mean, _LEAST_INFORMATION)
        kappa = 0.7 * min(1.0, (1 - phi * differing) * phi * typical / information)
        gamma = 0.4 * min(max((0.6 - phi) / 0.2, 0.0), 1.0)
        weight = min(max((phi - 0.2) / 0.5, 0.0), 1.0)
        numbers = phi, differing, typical, information, kappa, gamma, weight, cut
        return cls(levels, *numbers, counts.joint, sums, noise)

    def decide(self, columns: Columns) -> tuple[Bools, Ints, Floats]:
        """Decide on some rows of evidence.

        Returns
        -------
        flagged : ndarray of bool, (n,)
            Rows whose label is likely wrong; never refused rows.
        suggested : ndarray of int64, (n,)
            The class that the rule suggests.
        scores : ndarray of float64, (n,)
            Low is likely wrong; NaN for refused rows.
        """
        rows = len(columns["given"])
        flagged = np.zeros(rows, bool)
        suggested = columns["top1"].astype(np.int64)
        scores = np.full(rows, np.nan)
        margins = _Margins.of(columns, self.levels)
        told = self._told(margins)
        first, second = margins.over(0.5)
        first -= told[0]
        second -= told[1]
        below = self.levels.log_thresholds[margins.given] - margins.own
        doubted = np.maximum(first, second) > self.cut
        if self.gamma > 0:
            doubted &= below >= self.gamma * self.typical
        flagged[margins.rows] = doubted
        suggested[margins.rows] = np.where(first >= second, margins.top1, margins.top2)
        scores[margins.rows] = -self._rank(margins, told, below)
        return flagged, suggested, scores

    def _rank(self, margins: _Margins, told: tuple[Floats, Floats], below: Floats) -> Floats:
        """Return by what examples are ordered, the most likely wrong one highest."""
        if self.weight == 0 or self.levels.num_classes < 2:
            return below
        first, second = margins.over(1.0)
        others = np.maximum(first - told[0], second - told[1]) - below
        return self.weight * others + below

    def _told(self, margins: _Margins) -> tuple[Floats, Floats]:
        """Return what the noise matrix takes from the margins of both classes."""
        if self.levels.num_classes < 2 or self.kappa == 0:
            zeros = np.zeros(len(margins.given))
            return zeros, zeros
        known = self.joint, self.column_sums, self.noise
        own = _log_rate(margins.given, margins.given, *known)
        told = [own - _log_rate(margins.given, top, *known) for top in (margins.top1, margins.top2)]
        return self.kappa * told[0], self.kappa * told[1]


def _phi(counts: AutoCounts, predicted: Ints, num_classes: int) -> float:
    """Return how many differing rows there would be, if all were as those that are confident, over
    how many there are.
    """
    if not counts.differing:
        return 0.0
    predictions = counts.disagreements.pairs % num_classes
    doubts = np.zeros(num_classes, np.int64)
    np.add.at(doubts, predictions, counts.disagreements.counts)
    shares = doubts / np.maximum(counts.confident, 1) * predicted
    return min(1.0, math.fsum(shares.tolist()) / counts.differing)


def _information(
    given: Ints, other: Ints, joint: SparseCounts, column_sums: Floats, noise: float
) -> Floats:
    """Return ``ln T[given, given] - ln T[given, other]`` of the smoothed noise matrix T."""
    own = _log_rate(given, given, joint, column_sums, noise)
    return own - _log_rate(given, other, joint, column_sums, noise)


def _log_rate(
    given: Ints, column: Ints, joint: SparseCounts, column_sums: Floats, noise: float
) -> Floats:
    """Return ``ln T[given, column]``."""
    num_classes = len(column_sums)
    apart = noise / max(num_classes - 1, 1)
    found = _counts_at(joint, given * num_classes + column, num_classes**2)
    added: Any = np.where(given == column, 1 - noise, apart)
    return np.asarray(logarithm((found + added) / column_sums[column]), np.float64)


def _counts_at(counts: SparseCounts, pairs: Ints, stop: int) -> Ints:
    if stop <= _TABLE:
        table = np.zeros(stop, np.int64)
        table[counts.pairs] = counts.counts
        return table[pairs]
    if not len(counts.pairs):
        return np.zeros(len(pairs), np.int64)
    where = np.minimum(np.searchsorted(counts.pairs, pairs), len(counts.pairs) - 1)
    return np.where(counts.pairs[where] == pairs, counts.counts[where], 0)
