"""Evidence becomes label quality scores: low where a label is likely wrong.

The scores are those of :mod:`noisydask.core.scores`. A row whose score the evidence does not give
is named *unresolved*. Pure.
"""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

from noisydask.core.confident import bound_of_rest, slices
from noisydask.core.scores import SCORES, Columns, Floats, Score
from noisydask.core.shapes import check_columns, check_shape
from noisydask.core.thresholds import FLOATING_POINT_COMPARISON


def agrees(columns: Columns, dtype: npt.DTypeLike) -> npt.NDArray[np.bool_]:
    """Return rows whose given label is the prediction, or would be with 1e-6 more: never issues.

    ``dtype`` is that of the input, in which cleanlab makes the addition: 1e-6 vanishes beside a
    float16 of 0.5.
    """
    raised = columns["p_given"].astype(dtype) + np.asarray(FLOATING_POINT_COMPARISON, dtype)
    best = columns["p_top1"].astype(dtype)
    tie = (raised == best) & (columns["given"] < columns["top1"])
    same: npt.NDArray[np.bool_] = (columns["given"] == columns["top1"]) | (raised > best) | tie
    return same


def label_quality(
    columns: Columns,
    thresholds: Floats,
    quality_score: str = "self_confidence",
    adjust_pred_probs: bool = False,
    pred_probs: Floats | None = None,
) -> tuple[Floats, npt.NDArray[np.bool_]]:
    """Score of each example's label: low is likely wrong.

    Parameters
    ----------
    columns : mapping
        Evidence of n rows.
    thresholds : ndarray of float64, (K,)
        Confident thresholds, used with ``adjust_pred_probs`` and by some scores.
    quality_score : str
        One of :data:`noisydask.core.scores.SCORES`.
    adjust_pred_probs : bool
        Subtract each class's threshold first, shift and renormalise, as cleanlab's
        ``adjust_pred_probs`` does.
    pred_probs : ndarray, (n, K), optional
        The rows themselves, to resolve those that the evidence leaves open.

    Returns
    -------
    scores : ndarray, (n,)
        float64 if adjusted or of float64 evidence, else float32; NaN for refused rows.
    unresolved : ndarray of bool, (n,)
        Rows whose score the evidence alone does not give.

    Raises
    ------
    ValueError
        If the arrays do not fit each other.
    """
    rows = len(columns["given"])
    check_columns(columns, rows)
    if pred_probs is not None:
        check_shape("pred_probs", pred_probs, (rows, len(thresholds)))
    unresolved = np.zeros(rows, bool)
    score = SCORES[quality_score]
    if adjust_pred_probs:
        scores, unresolved = _adjusted(columns, thresholds, score, pred_probs)
    else:
        scores = score.of_evidence(columns, thresholds)
    scores[columns["given"] == len(thresholds)] = np.nan
    return scores, unresolved


def _adjusted(
    columns: Columns, thresholds: Floats, score: Score, pred_probs: Floats | None
) -> tuple[Floats, npt.NDArray[np.bool_]]:
    """Return scores of probabilities less their class's threshold, shifted by the largest threshold
    and renormalised.
    """
    shift = thresholds.max()
    num_classes = len(thresholds)
    given = columns["given"]
    # Refused rows carry class K: give them any threshold and total, their score is discarded.
    less = np.append(thresholds, 0.0)
    total = columns["p_sum"] + (num_classes * shift - math.fsum(thresholds))
    total[given == num_classes] = 1.0
    own = columns["p_given"] - less[given] + shift
    unresolved = np.zeros(len(own), bool)
    if score.second is None:
        return score.finish(own / total), unresolved
    nothing = -np.inf if num_classes > 1 else -shift
    named = [
        np.where(columns[top] == given, nothing, columns[p] - thresholds[columns[top]])
        for top, p in (("top1", "p_top1"), ("top2", "p_top2"))
    ]
    other = np.maximum(*named)
    if num_classes > 2:  # a class not named has at most p_rest, less the lowest threshold
        unresolved = (bound_of_rest(columns, num_classes) - thresholds.min() > other) & (
            given < num_classes
        )
    if pred_probs is not None:
        for rows in slices(unresolved):
            whole = pred_probs[rows] - thresholds
            whole[np.arange(len(rows)), given[rows]] = -np.inf
            other[rows] = whole.max(axis=1)
    return score.finish(own / total, (other + shift) / total), unresolved
