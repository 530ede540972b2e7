"""The names of cleanlab 2.9, with its parameters and meanings: its batched function, and those of
``cleanlab.filter``, ``cleanlab.count``, ``cleanlab.rank`` and ``cleanlab.dataset`` that concern
labels of one class an example.

Each returns cleanlab's NumPy objects and pandas tables, for data of any size that this library
reads. A matrix of K x K is made for at most 5,000 classes; of more, the results of
:func:`noisydask.find_label_issues` have its entries.
"""

from __future__ import annotations

from noisydask.compat.cleanlab_batched import LabelInspector, find_label_issues_batched
from noisydask.compat.cleanlab_count import (
    calibrate_confident_joint,
    compute_confident_joint,
    estimate_joint,
    estimate_latent,
    estimate_py_and_noise_matrices_from_probabilities,
    get_confident_thresholds,
    num_label_issues,
)
from noisydask.compat.cleanlab_dataset import (
    find_overlapping_classes,
    health_summary,
    overall_label_health_score,
    rank_classes_by_label_quality,
)
from noisydask.compat.cleanlab_filter import find_label_issues, find_predicted_neq_given
from noisydask.compat.cleanlab_rank import (
    get_confidence_weighted_entropy_for_each_label,
    get_label_quality_ensemble_scores,
    get_label_quality_scores,
    get_normalized_margin_for_each_label,
    get_self_confidence_for_each_label,
    order_label_issues,
)

__all__ = [
    "LabelInspector",
    "calibrate_confident_joint",
    "compute_confident_joint",
    "estimate_joint",
    "estimate_latent",
    "estimate_py_and_noise_matrices_from_probabilities",
    "find_label_issues",
    "find_label_issues_batched",
    "find_overlapping_classes",
    "find_predicted_neq_given",
    "get_confidence_weighted_entropy_for_each_label",
    "get_confident_thresholds",
    "get_label_quality_ensemble_scores",
    "get_label_quality_scores",
    "get_normalized_margin_for_each_label",
    "get_self_confidence_for_each_label",
    "health_summary",
    "num_label_issues",
    "order_label_issues",
    "overall_label_health_score",
    "rank_classes_by_label_quality",
]
