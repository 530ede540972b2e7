"""Options that take one of a few words: each is declared here, once, for Python, YAML and the
command line.
"""

from __future__ import annotations

from typing import Any, Literal, get_args

from noisydask.errors import InputError

#: How a label is scored.
QualityScore = Literal[
    "self_confidence",
    "normalized_margin",
    "confidence_weighted_entropy",
    "log_margin",
    "threshold_margin",
    "threshold_ratio",
]
#: Which examples are flagged as label issues.
FilterBy = Literal[
    "batched",
    "prune_by_noise_rate",
    "prune_by_class",
    "both",
    "confident_learning",
    "predicted_neq_given",
    "low_normalized_margin",
    "low_self_confidence",
    "auto",
]
#: By what issues are ordered: a score, or the rank of the filter ``auto``.
RankBy = Literal[QualityScore, "auto"]
#: How several models are weighed.
WeighBy = Literal["uniform", "accuracy", "log_loss"]
#: Columns of evidence that only some scores need.
KeptColumn = Literal["p_rest", "p_sum", "entropy"]
#: How the number of issues is estimated.
EstimationMethod = Literal["off_diagonal", "off_diagonal_calibrated"]
#: How the number of issues is estimated from a confident joint.
NumberMethod = Literal["off_diagonal", "off_diagonal_calibrated", "off_diagonal_custom"]
#: What becomes of rows or losses that are invalid or cannot be read.
RaiseOrSkip = Literal["raise", "skip"]
#: What becomes of losses of the same example and iteration.
OnDuplicate = Literal["raise", "first", "last", "mean"]
#: By what two rankings are joined.
JoinKey = Literal["id", "index"]
#: Which mean is drawn beside the curves of candidates.
PlotMode = Literal["mean", "label_mean"]
#: Which losses of a detection dataset are followed.
TrackingLossType = Literal["bbox", "bbox_refine", "centerness", "cls"]


def check_choice(name: str, value: object, choices: Any) -> None:
    """Refuse what is not one of the words of a type.

    Examples
    --------
    >>> check_choice("on_invalid", "ignore", RaiseOrSkip)
    Traceback (most recent call last):
    noisydask.errors.InputError: on_invalid must be one of raise, skip, not 'ignore'
    """
    allowed = get_args(choices)
    if value not in allowed:
        raise InputError(f"{name} must be one of {', '.join(allowed)}, not {value!r}")
