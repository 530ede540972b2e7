"""The quality scores: from the probability of the given label and one number beside it to a score.

A :class:`Score` is a value, so that a new one is declared here and nowhere else. The scores are
those of Northcutt, Jiang, Chuang, "Confident learning" (JAIR 70, 2021) as cleanlab 2.9 computes
them: low where a label is likely wrong. Pure.
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

_COLUMNS = {None: (), "other": ("top2", "p_top2"), "entropy": ("entropy",)}


@dataclass(frozen=True)
class Score:
    """A label quality score of an example.

    Attributes
    ----------
    name : str
        Value of the option ``quality_score``.
    finish : callable
        Gives the score from the probability of the given label, and from the second number where
        the score needs one.
    second : {"other", "entropy"}, optional
        The second number: the largest probability of another class, or the normalised entropy of
        the row. The entropy of adjusted probabilities is not defined.

    Examples
    --------
    >>> SCORES["normalized_margin"].finish(np.array([0.2]), np.array([0.7])).tolist()
    [0.25]
    """

    name: str
    finish: Callable[..., Floats]
    second: Literal["other", "entropy"] | None = None

    @property
    def columns(self) -> tuple[str, ...]:
        """Columns of evidence beside those that every job keeps."""
        return _COLUMNS[self.second]

    @property
    def adjustable(self) -> bool:
        """True if the score is defined for adjusted probabilities."""
        return self.second != "entropy"

    def of_evidence(self, columns: Columns) -> Floats:
        """Return the score of each row of evidence."""
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


_ALL = (
    Score("self_confidence", _self_confidence),
    Score("normalized_margin", _normalized_margin, "other"),
    Score("confidence_weighted_entropy", _confidence_weighted_entropy, "entropy"),
)
#: All scores by name: ``P[given]``; ``(P[given] - max of the others + 1) / 2``; ``log1p(x) / x`` of
#: x = normalised entropy / ``P[given]``.
SCORES = {score.name: score for score in _ALL}
