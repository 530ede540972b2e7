"""How much each of several models counts: all the same, by how often it predicts the given label,
by its log loss, or as the user says.

Source: ``cleanlab.rank.get_label_quality_ensemble_scores`` of cleanlab 2.9. Sums over rows are
integers, so that any blocks give the same weights. Pure.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from noisydask.core.row_kernel import FIXED_POINT
from noisydask.core.thresholds import CLIPPING_LOWER_BOUND
from noisydask.errors import InputError
from noisydask.text import counted

Array = npt.NDArray[Any]
Floats = npt.NDArray[np.float64]

#: Exponents of the log losses that are tried.
TEMPERATURES = (1e-4, 1e-3, 1e-2, 1e-1, 1e0, 1e1, 1e2, 2e2)
_TILE = 1 << 14


def log_loss_total(pred_probs: Array, given: Array) -> int:
    """Return the sum of the log losses of some rows, of probabilities that are at least 1e-6 and
    then normalised, in units of ``1 / FIXED_POINT``.

    Parameters
    ----------
    pred_probs : ndarray, (n, K)
        Rows of a model.
    given : ndarray of integers, (n,)
        Given labels; rows whose label is K or more are left out.
    """
    total = 0
    for start in range(0, len(given), _TILE):
        some = slice(start, start + _TILE)
        rows = np.flatnonzero(given[some] < pred_probs.shape[1])
        probs = np.maximum(pred_probs[some][rows].astype(np.float64), CLIPPING_LOWER_BOUND)
        own = probs[np.arange(len(rows)), given[some][rows]]
        total += _fixed(-np.log(own / probs.sum(axis=1)))
    return total


def _fixed(values: Floats) -> int:
    return int(np.rint(values * FIXED_POINT).astype(np.int64).sum())


def mixture_totals(p_given: Floats, candidates: Floats) -> list[int]:
    """Return the sum of the log losses of some rows' weighted means for each of some weights, in
    units of ``1 / FIXED_POINT``.

    Parameters
    ----------
    p_given : ndarray of float64, (n, M)
        Each model's probability of the given label.
    candidates : ndarray of float64, (T, M)
        Weights.
    """
    eps = np.finfo(np.float64).eps
    totals = []
    for weights in candidates:
        mixture = np.clip(p_given @ weights, eps, 1 - eps)
        tiles = range(0, len(mixture), _TILE)
        totals.append(sum(_fixed(-np.log(mixture[start : start + _TILE])) for start in tiles))
    return totals


def temperature_weights(log_losses: Sequence[float]) -> Floats:
    """Return the weights that each of :data:`TEMPERATURES` gives models of these log losses, (T,
    M).
    """
    losses = np.array(log_losses, np.float64)
    raw = np.exp(-np.array(TEMPERATURES)[:, np.newaxis] * losses)
    sums = raw.sum(axis=1, keepdims=True)
    # All may vanish where losses are large: then only the best count.
    best = (losses == losses.min()).astype(np.float64)
    return np.where(sums > 0, raw / np.where(sums > 0, sums, 1), best / best.sum())


def accuracy_weights(agreeing: Sequence[int]) -> Floats:
    """Return weights by how many rows each model predicts the given label of.

    Examples
    --------
    >>> accuracy_weights([30, 10]).tolist()
    [0.75, 0.25]
    """
    if not any(agreeing):
        raise InputError(
            "weights by accuracy need a model that predicts a given label: none does; are labels "
            "and pred_probs of the same rows?"
        )
    return np.array(agreeing, np.float64) / sum(agreeing)


def custom_weights(weights: Sequence[float], num_models: int) -> Floats:
    """Check weights that a user gives, (M,); they need not add up to 1.

    Examples
    --------
    >>> custom_weights([0.5, 0.5], 3)
    Traceback (most recent call last):
    noisydask.errors.InputError: weights has 2 numbers for 3 models: it needs one for each
    """
    if len(weights) != num_models:
        raise InputError(
            f"weights has {counted(len(weights), 'number')} for {counted(num_models, 'model')}: it "
            "needs one for each"
        )
    values = np.array(weights, np.float64)
    if not np.isfinite(values).all() or (values < 0).any() or not values.any():
        raise InputError("weights must be finite numbers of at least 0, not all 0")
    return values


def shares(weights: Floats) -> Floats:
    """Return weights that add up to 1."""
    return weights / math.fsum(weights.tolist())
