"""The names of ``cleanlab.filter`` (cleanlab 2.9), with its parameters and meanings.

They flag the same examples as cleanlab's, except ties at a cut-off, rows with equal remainders
where the joint is rounded, and examples within 1e-6 of a threshold. ``n_jobs`` changes nothing: the
Dask scheduler's threads do the work.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from noisydask.compat.cleanlab_options import positive
from noisydask.compat.cleanlab_runs import refuse_multi_label, run_job
from noisydask.core.choices import FilterBy, check_choice
from noisydask.core.filters import FILTERS
from noisydask.core.noise import checked_joint
from noisydask.errors import InputError
from noisydask.stores.arrays import open_rows

Bools = npt.NDArray[np.bool_]
Ints = npt.NDArray[np.int64]


def find_label_issues(
    labels: Any,
    pred_probs: Any,
    *,
    return_indices_ranked_by: str | None = None,
    rank_by_kwargs: Mapping[str, Any] | None = None,
    filter_by: FilterBy = "prune_by_noise_rate",
    frac_noise: float = 1.0,
    num_to_remove_per_class: int | Sequence[int] | None = None,
    min_examples_per_class: int = 1,
    confident_joint: npt.ArrayLike | None = None,
    n_jobs: int | None = None,
    verbose: bool = False,
    multi_label: bool = False,
) -> Bools | Ints:
    """Flag the examples whose label is likely wrong, as ``cleanlab.filter.find_label_issues`` does.

    Parameters
    ----------
    labels : array-like, (N,), any integer type
        Given labels 0 to K-1, as :func:`noisydask.find_label_issues` takes them.
    pred_probs : array-like, (N, K), float16, float32 or float64
        Out-of-sample predicted probabilities.
    return_indices_ranked_by : str, optional
        A quality score: return indices, worst label first, instead of a mask.
    rank_by_kwargs : mapping, optional
        ``adjust_pred_probs``: bool.
    filter_by : str
        One of cleanlab's seven filters, or "batched" or "auto".
    frac_noise : float
        Share of the issues that filters that prune flag.
    num_to_remove_per_class : int or sequence of int, optional
        How many examples filters that prune take.
    min_examples_per_class : int
        So many examples of each class are left by filters that prune.
    confident_joint : array-like, (K, K), optional
        By which filters that prune do so, taken as it is.
    n_jobs, verbose
        Accepted; ``verbose`` prints how many are flagged.
    multi_label : bool
        Must be False.

    Returns
    -------
    ndarray of bool, (N,), or ndarray of int64
        The mask, or the positions of the issues.

    Raises
    ------
    InputError
        A ``ValueError``: an input or option is malformed or invalid.

    Examples
    --------
    >>> pred_probs = np.array([[0.9, 0.1], [0.2, 0.8], [0.8, 0.2], [0.1, 0.9], [0.95, 0.05]])
    >>> find_label_issues([0, 1, 0, 1, 1], pred_probs, filter_by="confident_learning").tolist()
    [False, False, False, False, True]
    """
    refuse_multi_label(multi_label)
    positive("n_jobs", 1 if n_jobs is None else n_jobs)
    check_choice("filter_by", filter_by, FilterBy)
    num_classes = open_rows(pred_probs, "pred_probs").shape[-1]
    options: dict[str, Any] = {"filter_by": filter_by}
    if FILTERS[filter_by].prunes:
        numbers: Any = num_to_remove_per_class
        if isinstance(numbers, int | np.integer):
            numbers = [int(numbers)] * num_classes
        options["frac_noise"] = frac_noise
        options["min_examples_per_class"] = min_examples_per_class
        options["num_to_remove_per_class"] = numbers
    else:
        _refuse_pruning(filter_by, frac_noise, num_to_remove_per_class)
    rank_options = dict(rank_by_kwargs or {})
    if return_indices_ranked_by is not None:
        options["quality_score"] = return_indices_ranked_by
        options["adjust_pred_probs"] = bool(rank_options.pop("adjust_pred_probs", False))
        if rank_options:
            raise InputError(f"rank_by_kwargs has unknown keys: {', '.join(rank_options)}")
        if filter_by == "batched":
            options["rank_by"] = return_indices_ranked_by
            options["quality_score"] = "self_confidence"
        elif filter_by == "auto":
            options["rank_by"] = return_indices_ranked_by
    joint = None
    if confident_joint is not None:
        if not FILTERS[filter_by].prunes:
            warnings.warn(
                f"confident_joint has no effect with filter_by {filter_by!r}",
                UserWarning,
                stacklevel=2,
            )
        joint = checked_joint(confident_joint, num_classes)
    issues = run_job(labels, pred_probs, confident_joint=joint, **options)
    if verbose:
        print(f"Number of label issues found: {issues.num_issues}")
    if return_indices_ranked_by is None:
        return issues.mask
    return issues.indices


def _refuse_pruning(filter_by: str, frac_noise: float, numbers: Any) -> None:
    """Say that options of filters that prune are for those only, as cleanlab does."""
    prunes = [name for name, each in FILTERS.items() if each.prunes]
    if numbers is not None:
        raise InputError(
            f"num_to_remove_per_class is not supported with filter_by {filter_by!r}, only with "
            f"{', '.join(prunes)}"
        )
    if frac_noise != 1.0:
        text = f"frac_noise has no effect with filter_by {filter_by!r}: only with "
        warnings.warn(text + ", ".join(prunes), UserWarning, stacklevel=3)


def find_predicted_neq_given(labels: Any, pred_probs: Any, *, multi_label: bool = False) -> Bools:
    """Flag the examples whose prediction is not the given label:
    ``cleanlab.filter.find_predicted_neq_given``.

    Parameters
    ----------
    labels, pred_probs : array-like, (N,) and (N, K)
        Given labels and predicted probabilities.
    multi_label : bool
        Must be False.

    Returns
    -------
    ndarray of bool, (N,)
    """
    refuse_multi_label(multi_label)
    return run_job(labels, pred_probs, filter_by="predicted_neq_given", keep_agreeing=True).mask
