"""The quality scores: from the probability of the given label and one number beside it to a score.

A :class:`Score` is a value, so that a new one is declared here and nowhere else. The first three
are those of Northcutt, Jiang, Chuang, "Confident learning" (JAIR 70, 2021) as cleanlab 2.9 computes
them; the others are ours. All are low where a label is likely wrong. Pure.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from noisydask.core.thresholds import CLIPPING_LOWER_BOUND

Floats = npt.NDArray[np.floating]
Columns = Mapping[str, npt.NDArray[Any]]

_TOP2 = ("top2", "p_top2")
_COLUMNS = {None: (), "other": _TOP2, "entropy": ("entropy",), "thresholds": _TOP2}
#: Least probability of which a logarithm is taken, and the unit of logarithms: rounded to it they
#: are the same on every processor.
_LEAST, _LOG_UNIT = 1e-9, 2.0**-20


@dataclass(frozen=True)
class Score:
    """A label quality score of an example.

    Attributes
    ----------
    name : str
        Value of the option ``quality_score``.
    finish : callable
        Gives the score from the probability of the given label, and from the second number where
        the score needs one; with "thresholds", from the columns of evidence and the thresholds.
    second : {"other", "entropy", "thresholds"}, optional
        What the score needs beside: the largest probability of another class, the normalised
        entropy of the row, or the confident thresholds of the classes.
    adjustable : bool
        Whether the score is defined for adjusted probabilities.

    Examples
    --------
    >>> SCORES["normalized_margin"].finish(np.array([0.2]), np.array([0.7])).tolist()
    [0.25]
    """

    name: str
    finish: Callable[..., Floats]
    second: Literal["other", "entropy", "thresholds"] | None = None
    adjustable: bool = False

    @property
    def columns(self) -> tuple[str, ...]:
        """Columns of evidence beside those that every job keeps."""
        return _COLUMNS[self.second]

    def of_evidence(self, columns: Columns, thresholds: Floats) -> Floats:
        """Return the score of each row of evidence."""
        if self.second == "thresholds":
            return self.finish(columns, thresholds)
        own = columns["p_given"].copy()
        if self.second == "other":
            return self.finish(own, best_other(columns))
        return self.finish(own, *(columns[name] for name in self.columns))


def best_other(columns: Columns) -> Floats:
    """Return the largest probability of a class other than the given one."""
    return np.where(columns["given"] == columns["top1"], columns["p_top2"], columns["p_top1"])


def _self_confidence(own: Floats) -> Floats:
    return own


def _normalized_margin(own: Floats, other: Floats) -> Floats:
    return (own - other + 1) / 2


def _confidence_weighted_entropy(own: Floats, entropy: Floats) -> Floats:
    ratio = entropy / np.maximum(own.astype(np.float64), CLIPPING_LOWER_BOUND)
    with np.errstate(invalid="ignore"):
        return np.where(ratio > 0, np.log1p(ratio) / ratio, 1.0).astype(own.dtype)


def logarithm(values: Floats) -> Floats:
    """Return the logarithm to a multiple of a power of two, as float64."""
    logarithms = values.astype(np.float64)  # one array from here on: there are many rows
    np.maximum(logarithms, _LEAST, out=logarithms)
    np.log(logarithms, out=logarithms)
    logarithms /= _LOG_UNIT
    np.rint(logarithms, out=logarithms)
    logarithms *= _LOG_UNIT
    return logarithms


def _log_margin(own: Floats, other: Floats) -> Floats:
    return (logarithm(own) - logarithm(other)).astype(own.dtype)


def _threshold_margin(columns: Columns, thresholds: Floats) -> Floats:
    # Refused rows carry class K: any threshold does, their score is discarded.
    levels = logarithm(np.append(thresholds, 1.0))
    given = columns["given"]
    others = [
        np.where(columns[top] == given, -np.inf, logarithm(columns[p]) - levels[columns[top]])
        for top, p in (("top1", "p_top1"), ("top2", "p_top2"))
    ]
    own = logarithm(columns["p_given"]) - levels[given]
    other = np.maximum(*others)
    other[np.isneginf(other)] = logarithm(np.zeros(1))[0]  # there is one class only
    return (own - other).astype(columns["p_given"].dtype)


def _threshold_ratio(columns: Columns, thresholds: Floats) -> Floats:
    own = columns["p_given"]
    return (own / np.append(thresholds, 1.0)[columns["given"]]).astype(own.dtype)


_ALL = (
    Score("self_confidence", _self_confidence, adjustable=True),
    Score("normalized_margin", _normalized_margin, "other", adjustable=True),
    Score("confidence_weighted_entropy", _confidence_weighted_entropy, "entropy"),
    Score("log_margin", _log_margin, "other"),
    Score("threshold_margin", _threshold_margin, "thresholds"),
    Score("threshold_ratio", _threshold_ratio, "thresholds"),
)
#: All scores by name, with p the row, y the given label, t the thresholds and L the logarithm:
#: ``p[y]``; ``(p[y] - max of the others + 1) / 2``; ``log1p(x) / x`` of x = normalised entropy /
#: ``p[y]``; ``L(p[y]) - L(max of the others)``; ``L(p[y] / t[y]) - max of L(p[c] / t[c])`` over
#: those of the two most probable classes that are not y; ``p[y] / t[y]``.
SCORES = {score.name: score for score in _ALL}
