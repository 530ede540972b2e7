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

from noisydask.core.auto_counts import AutoCounts, AutoLevels, Margins, typical_margin
from noisydask.core.confident import Columns
from noisydask.core.ranking import Ints
from noisydask.core.scores import logarithm
from noisydask.core.sparse_counts import SparseCounts

Bools = npt.NDArray[np.bool_]
Floats = npt.NDArray[np.float64]

# Of up to so many pairs of classes, counts are looked up in a table.
_TABLE = 1 << 20
_LEAST_TYPICAL, _LEAST_INFORMATION = 0.05, 0.1


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
        cls, counts: AutoCounts, levels: AutoLevels, predicted: Ints, median_key: int | None
    ) -> AutoRule:
        """Take the rule from the totals of all rows, how often each class is predicted, (K,), and
        the key of the typical margin, where any row is confident and differs.
        """
        num_classes = levels.num_classes
        rows = max(counts.rows, 1)
        differing = counts.differing / rows
        phi = _phi(counts, predicted, num_classes)
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
        margins = Margins.of(columns, self.levels)
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

    def _rank(self, margins: Margins, told: tuple[Floats, Floats], below: Floats) -> Floats:
        """Return by what examples are ordered, the most likely wrong one highest."""
        if self.weight == 0 or self.levels.num_classes < 2:
            return below
        first, second = margins.over(1.0)
        others = np.maximum(first - told[0], second - told[1]) - below
        return self.weight * others + below

    def _told(self, margins: Margins) -> tuple[Floats, Floats]:
        """Return what the noise matrix takes from the margins of both classes."""
        if self.levels.num_classes < 2 or self.kappa == 0:
            zeros = np.zeros(len(margins.given))
            return zeros, zeros
        known = self.joint, self.column_sums, self.noise
        every = np.arange(self.levels.num_classes)
        own = _log_rate(every, every, *known)[margins.given]
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
