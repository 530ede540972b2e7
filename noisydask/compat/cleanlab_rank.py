"""The names of ``cleanlab.rank`` (cleanlab 2.9), with its parameters and meanings."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from typing import Any, cast

import numpy as np
import numpy.typing as npt

from noisydask.compat.cleanlab_runs import run_job
from noisydask.errors import InputError

Floats = npt.NDArray[np.floating]
Ints = npt.NDArray[np.int64]


def get_label_quality_scores(
    labels: Any,
    pred_probs: Any,
    *,
    method: str = "self_confidence",
    adjust_pred_probs: bool = False,
) -> Floats:
    """Score the label of each example, low is likely wrong:
    ``cleanlab.rank.get_label_quality_scores``.

    Parameters
    ----------
    labels, pred_probs : array-like, (N,) and (N, K)
        Given labels and predicted probabilities.
    method : str
        One of cleanlab's three scores, or of ours.
    adjust_pred_probs : bool
        Subtract class thresholds first.

    Returns
    -------
    ndarray of float, (N,)

    Examples
    --------
    >>> get_label_quality_scores([0, 1], np.array([[0.75, 0.25], [0.5, 0.5]])).tolist()
    [0.75, 0.5]
    """
    issues = run_job(
        labels, pred_probs, quality_score=method, adjust_pred_probs=bool(adjust_pred_probs)
    )
    return cast(Floats, issues.label_quality.compute())


def get_label_quality_ensemble_scores(
    labels: Any,
    pred_probs_list: Sequence[Any],
    *,
    method: str = "self_confidence",
    adjust_pred_probs: bool = False,
    weight_ensemble_members_by: str = "accuracy",
    custom_weights: npt.ArrayLike | None = None,
    verbose: bool = True,
) -> Floats:
    """Score the label of each example by several models:
    ``cleanlab.rank.get_label_quality_ensemble_scores``.

    Parameters
    ----------
    labels : array-like, (N,)
        Given labels.
    pred_probs_list : list of array-like, (N, K)
        Predicted probabilities of each model.
    method, adjust_pred_probs
        As :func:`get_label_quality_scores` takes them.
    weight_ensemble_members_by : {"uniform", "accuracy", "log_loss_search", "custom"}
        How models are weighed; by log loss, cleanlab's exponents are tried.
    custom_weights : array-like, (M,), optional
        For "custom".
    verbose : bool
        Print the weights.

    Returns
    -------
    ndarray of float64, (N,)
    """
    if not isinstance(pred_probs_list, list) or not pred_probs_list:
        raise InputError("pred_probs_list must be a list of arrays, one for each model")
    weights = _weights(weight_ensemble_members_by, custom_weights)
    if len(pred_probs_list) == 1:
        text = "pred_probs_list has one model only: get_label_quality_scores does the same"
        warnings.warn(text, UserWarning, stacklevel=2)
        return get_label_quality_scores(
            labels, pred_probs_list[0], method=method, adjust_pred_probs=adjust_pred_probs
        )
    adjust = bool(adjust_pred_probs)
    issues = run_job(
        labels, pred_probs_list, weights=weights, quality_score=method, adjust_pred_probs=adjust
    )
    if verbose:
        shown = ", ".join(f"{weight:.4g}" for weight in issues.manifest["model_weights"])
        print(f"weights of the models by {weight_ensemble_members_by}: {shown}")
    return cast(Floats, issues.label_quality.compute())


_WEIGHED_BY = {"uniform": "uniform", "accuracy": "accuracy", "log_loss_search": "log_loss"}


def _weights(by: str, custom_weights: npt.ArrayLike | None) -> Any:
    """Return cleanlab's options of weights as ours."""
    if by not in (*_WEIGHED_BY, "custom"):
        words = ", ".join((*_WEIGHED_BY, "custom"))
        raise InputError(f"weight_ensemble_members_by must be one of {words}, not {by!r}")
    if (by == "custom") != (custom_weights is not None):
        raise InputError("custom_weights and weight_ensemble_members_by='custom' go together")
    if custom_weights is not None:
        return np.asarray(custom_weights, np.float64).tolist()
    return _WEIGHED_BY[by]


def get_self_confidence_for_each_label(labels: Any, pred_probs: Any) -> Floats:
    """Return the probability of each given label."""
    return get_label_quality_scores(labels, pred_probs)


def get_normalized_margin_for_each_label(labels: Any, pred_probs: Any) -> Floats:
    """Return how far the given label is ahead of all others, from 0 to 1."""
    return get_label_quality_scores(labels, pred_probs, method="normalized_margin")


def get_confidence_weighted_entropy_for_each_label(labels: Any, pred_probs: Any) -> Floats:
    """Return the entropy of each row over the probability of its label, normalised to 0 to 1."""
    return get_label_quality_scores(labels, pred_probs, method="confidence_weighted_entropy")


def order_label_issues(
    label_issues_mask: npt.ArrayLike,
    labels: Any,
    pred_probs: Any,
    *,
    rank_by: str = "self_confidence",
    rank_by_kwargs: Mapping[str, Any] | None = None,
) -> Ints:
    """Return the positions of flagged examples, worst label first:
    ``cleanlab.rank.order_label_issues``. Examples of the same score keep their order.

    Parameters
    ----------
    label_issues_mask : array-like of bool, (N,)
        The examples.
    labels, pred_probs : array-like, (N,) and (N, K)
        Given labels and predicted probabilities.
    rank_by : str
        A quality score.
    rank_by_kwargs : mapping, optional
        ``adjust_pred_probs``: bool.
    """
    mask = np.asarray(label_issues_mask)
    scores = get_label_quality_scores(labels, pred_probs, method=rank_by, **(rank_by_kwargs or {}))
    if mask.shape != scores.shape or mask.dtype != bool:
        raise InputError(f"label_issues_mask must be bool of shape {scores.shape}")
    rows = np.flatnonzero(mask)
    return rows[np.argsort(scores[rows], kind="stable")]
