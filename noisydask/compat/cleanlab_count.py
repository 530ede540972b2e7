"""The names of ``cleanlab.count`` (cleanlab 2.9), with its parameters and meanings.

Matrices are those of cleanlab's: NumPy arrays of K x K, for at most 5,000 classes.
"""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import numpy.typing as npt

from noisydask.compat.cleanlab_runs import counts_of, refuse_multi_label, run_job
from noisydask.core import noise
from noisydask.core.choices import NumberMethod
from noisydask.core.latent_agreement import agreeing
from noisydask.core.noise import LatentEstimates, PriorMethod, SparseMatrix, checked_joint
from noisydask.core.thresholds import NEVER
from noisydask.errors import InputError
from noisydask.issues.results import LabelIssues

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]


def get_confident_thresholds(labels: Any, pred_probs: Any, multi_label: bool = False) -> Floats:
    """Return the mean probability of each class over the examples given it; 2 for a class without
    any: ``cleanlab.count.get_confident_thresholds``.

    Examples
    --------
    >>> get_confident_thresholds([0, 1, 1], np.array([[0.75, 0.25], [0.5, 0.5], [0, 1]])).tolist()
    [0.75, 0.75]
    """
    refuse_multi_label(multi_label)
    thresholds = run_job(labels, pred_probs).confident_thresholds
    return np.where(np.isnan(thresholds), NEVER, thresholds)


def compute_confident_joint(
    labels: Any,
    pred_probs: Any,
    *,
    thresholds: npt.ArrayLike | None = None,
    calibrate: bool = True,
    multi_label: bool = False,
    return_indices_of_off_diagonals: bool = False,
) -> Any:
    """Count examples by (given class, likely class): ``cleanlab.count.compute_confident_joint``.

    Parameters
    ----------
    labels, pred_probs : array-like, (N,) and (N, K)
        Given labels and predicted probabilities.
    thresholds : array-like, (K,), optional
        Instead of the mean probabilities of the classes.
    calibrate : bool
        Scale rows to the examples given each class.
    multi_label : bool
        Must be False.
    return_indices_of_off_diagonals : bool
        Return also the positions of examples whose likely class is not the given one.

    Returns
    -------
    ndarray of int64, (K, K), or a tuple of it and ndarray of int64

    Examples
    --------
    >>> pred_probs = np.array([[0.9, 0.1], [0.2, 0.8], [0.8, 0.2], [0.1, 0.9], [0.95, 0.05]])
    >>> compute_confident_joint([0, 1, 0, 1, 1], pred_probs).tolist()
    [[2, 0], [1, 2]]
    """
    refuse_multi_label(multi_label)
    limits = None
    if thresholds is not None:
        limits = np.asarray(thresholds, np.float64)
    issues = run_job(
        labels,
        pred_probs,
        thresholds=limits,
        keep_agreeing=return_indices_of_off_diagonals,
        filter_by="confident_learning" if return_indices_of_off_diagonals else "batched",
    )
    joint = issues.calibrated_joint if calibrate else issues.confident_joint
    if return_indices_of_off_diagonals:
        return joint, np.sort(issues.indices)
    return joint


def calibrate_confident_joint(
    confident_joint: npt.ArrayLike, labels: Any, *, multi_label: bool = False
) -> Ints:
    """Scale a joint so that each row adds up to the examples given its class, in whole numbers:
    ``cleanlab.count.calibrate_confident_joint``.

    Examples
    --------
    >>> calibrate_confident_joint([[3, 1], [0, 2]], [0] * 8 + [1] * 4).tolist()
    [[6, 2], [0, 4]]
    """
    refuse_multi_label(multi_label)
    return _calibrated(confident_joint, labels)[0].dense()


def _calibrated(confident_joint: npt.ArrayLike, labels: Any) -> tuple[SparseMatrix, Ints]:
    joint = checked_joint(confident_joint, len(np.asarray(confident_joint)))
    counts = counts_of(labels, joint.num_classes)
    return noise.calibrated_joint(joint, counts), counts


def estimate_joint(
    labels: Any,
    pred_probs: Any = None,
    *,
    confident_joint: npt.ArrayLike | None = None,
    multi_label: bool = False,
) -> Floats:
    """Estimate the distribution of (given, true class): ``cleanlab.count.estimate_joint``.

    Parameters
    ----------
    labels, pred_probs : array-like, (N,) and (N, K)
        Given labels and predicted probabilities.
    confident_joint : array-like, (K, K), optional
        Counts of (given, true class) instead of the probabilities; calibrated.
    multi_label : bool
        Must be False.

    Returns
    -------
    ndarray of float64, (K, K)
    """
    refuse_multi_label(multi_label)
    return joint_of(labels, pred_probs, confident_joint).dense()


def joint_of(labels: Any, pred_probs: Any, confident_joint: npt.ArrayLike | None) -> SparseMatrix:
    """Estimate the distribution of (given, true class), as its entries."""
    if confident_joint is None:
        calibrated = run_job(labels, pred_probs).calibrated_joint_entries
    elif labels is None:  # as it is
        calibrated = checked_joint(confident_joint, len(np.asarray(confident_joint)))
    else:
        calibrated, _ = _calibrated(confident_joint, labels)
    return noise.estimate_joint(calibrated)


def estimate_latent(
    confident_joint: npt.ArrayLike,
    labels: Any,
    *,
    py_method: PriorMethod = "cnt",
    converge_latent_estimates: bool = False,
) -> tuple[Floats, Floats, Floats]:
    """Estimate the prior of the true classes, the noise matrix and its inverse from a joint:
    ``cleanlab.count.estimate_latent``.

    Returns
    -------
    prior, noise_matrix, inverse_noise_matrix : ndarray of float64, (K,), (K, K), (K, K)
    """
    joint = checked_joint(confident_joint, len(np.asarray(confident_joint)))
    counts = counts_of(labels, joint.num_classes)
    if py_method not in ("cnt", "eqn", "marginal", "marginal_ps"):
        raise InputError(
            f"py_method should be one of cnt, eqn, marginal, marginal_ps, not {py_method!r}"
        )
    found = noise.estimate_latent(joint, counts, py_method)
    if converge_latent_estimates:
        found = agreeing(found, counts)
    return _dense(found)


def _dense(found: LatentEstimates) -> tuple[Floats, Floats, Floats]:
    return found.prior, found.noise_matrix.dense(), found.inverse_noise_matrix.dense()


def estimate_py_and_noise_matrices_from_probabilities(
    labels: Any,
    pred_probs: Any,
    *,
    thresholds: npt.ArrayLike | None = None,
    converge_latent_estimates: bool = True,
    py_method: PriorMethod = "cnt",
    calibrate: bool = True,
) -> tuple[Floats, Floats, Floats, Ints]:
    """Estimate prior, noise matrix, inverse and confident joint from the data:
    ``cleanlab.count.estimate_py_and_noise_matrices_from_probabilities``.

    Returns
    -------
    prior, noise_matrix, inverse_noise_matrix, confident_joint : ndarray
        Of shapes (K,) and three times (K, K).
    """
    joint = compute_confident_joint(labels, pred_probs, thresholds=thresholds, calibrate=calibrate)
    estimates = estimate_latent(
        joint,
        labels,
        py_method=py_method,
        converge_latent_estimates=converge_latent_estimates,
    )
    return (*estimates, joint)


def num_label_issues(
    labels: Any,
    pred_probs: Any,
    *,
    confident_joint: npt.ArrayLike | None = None,
    estimation_method: NumberMethod = "off_diagonal",
    multi_label: bool = False,
) -> int:
    """Estimate the number of label issues: ``cleanlab.count.num_label_issues``.

    Parameters
    ----------
    labels, pred_probs : array-like, (N,) and (N, K)
        Given labels and predicted probabilities.
    confident_joint : array-like, (K, K), optional
        For "off_diagonal_custom", where it is needed.
    estimation_method : {"off_diagonal", "off_diagonal_calibrated", "off_diagonal_custom"}
        How: see :meth:`noisydask.LabelIssues.num_label_issues`.
    multi_label : bool
        Must be False.

    Examples
    --------
    >>> pred_probs = np.array([[0.9, 0.1], [0.2, 0.8], [0.8, 0.2], [0.1, 0.9], [0.95, 0.05]])
    >>> num_label_issues([0, 1, 0, 1, 1], pred_probs)
    1
    """
    refuse_multi_label(multi_label)
    if estimation_method == "off_diagonal_custom" and confident_joint is None:
        raise InputError("confident_joint is needed with estimation_method off_diagonal_custom")
    if estimation_method != "off_diagonal_custom" and confident_joint is not None:
        text = f"confident_joint has no effect with estimation_method {estimation_method!r}"
        warnings.warn(text, UserWarning, stacklevel=2)
    issues: LabelIssues = run_job(labels, pred_probs)
    return issues.num_label_issues(estimation_method, confident_joint)
