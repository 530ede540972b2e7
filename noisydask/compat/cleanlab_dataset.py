"""The names of ``cleanlab.dataset`` (cleanlab 2.9), with its parameters, and the columns of its
tables.

The tables are those of cleanlab's, but that classes of the same quality come in the order of the
classes, and that pairs of classes that do not overlap are left out.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from noisydask.compat.cleanlab_count import joint_of, num_label_issues
from noisydask.compat.cleanlab_runs import refuse_multi_label
from noisydask.core.class_health import class_quality
from noisydask.core.class_health import overlapping_classes as ranked_pairs
from noisydask.core.noise import SparseMatrix, num_issues_of_joint
from noisydask.errors import InputError
from noisydask.stores.arrays import open_rows

Names = Sequence[str] | None
Matrix = npt.ArrayLike | None


def rank_classes_by_label_quality(
    labels: Any = None,
    pred_probs: Any = None,
    *,
    class_names: Names = None,
    num_examples: int | None = None,
    joint: Matrix = None,
    confident_joint: Matrix = None,
    multi_label: bool = False,
) -> pd.DataFrame:
    """Rank classes by the quality of their labels, the worst first:
    ``cleanlab.dataset.rank_classes_by_label_quality``.

    Parameters
    ----------
    labels, pred_probs : array-like, (N,) and (N, K)
        Given labels and predicted probabilities.
    class_names : sequence of str, optional
        K names.
    num_examples : int, optional
        Instead of the number of labels.
    joint : array-like, (K, K), optional
        The distribution of (given, true class), instead of labels and probabilities.
    confident_joint : array-like, (K, K), optional
        Counts of (given, true class), instead of probabilities.
    multi_label : bool
        Must be False.

    Returns
    -------
    DataFrame
        Columns "Class Index", "Label Issues", "Inverse Label Issues", "Label Noise", "Inverse Label
        Noise", "Label Quality Score"; "Class Name" where names are given.

    Examples
    --------
    >>> ranked = rank_classes_by_label_quality(joint=[[0.5, 0], [0.1, 0.4]], num_examples=10)
    >>> ranked[["Class Index", "Label Issues"]].to_numpy().tolist()
    [[1, 1], [0, 0]]
    """
    refuse_multi_label(multi_label)
    matrix = _joint(labels, pred_probs, joint, confident_joint)
    found = class_quality(matrix, _num_examples(labels, num_examples, None))
    frame = pd.DataFrame(
        {
            "Class Index": found.classes,
            "Label Issues": found.label_issues,
            "Inverse Label Issues": found.inverse_label_issues,
            "Label Noise": found.label_noise,
            "Inverse Label Noise": found.inverse_label_noise,
            "Label Quality Score": found.label_quality,
        }
    )
    if class_names is not None:
        frame.insert(0, "Class Name", np.array(class_names, object)[found.classes])
    return frame


def find_overlapping_classes(
    labels: Any = None,
    pred_probs: Any = None,
    *,
    asymmetric: bool = False,
    class_names: Names = None,
    num_examples: int | None = None,
    joint: Matrix = None,
    confident_joint: Matrix = None,
    multi_label: bool = False,
) -> pd.DataFrame:
    """Rank pairs of classes that are mistaken for each other, most first:
    ``cleanlab.dataset.find_overlapping_classes``.

    Parameters
    ----------
    asymmetric : bool
        Rank (given, true class), instead of both ways together.
    labels, pred_probs, class_names, num_examples, joint, confident_joint, multi_label
        As :func:`rank_classes_by_label_quality` takes them.

    Returns
    -------
    DataFrame
        Columns "Class Index A", "Class Index B", "Num Overlapping Examples", "Joint Probability";
        "Class Name A" and "Class Name B" where names are given.
    """
    refuse_multi_label(multi_label)
    matrix = _joint(labels, pred_probs, joint, confident_joint)
    rows = _num_examples(labels, num_examples, confident_joint)
    found = ranked_pairs(matrix, rows, asymmetric)
    frame = pd.DataFrame(
        {
            "Class Index A": found.first,
            "Class Index B": found.second,
            "Num Overlapping Examples": found.examples,
            "Joint Probability": found.probability,
        }
    )
    if class_names is not None:
        names = np.array(class_names, object)
        frame.insert(0, "Class Name A", names[found.first])
        frame.insert(1, "Class Name B", names[found.second])
    return frame


def overall_label_health_score(
    labels: Any = None,
    pred_probs: Any = None,
    *,
    num_examples: int | None = None,
    joint: Matrix = None,
    confident_joint: Matrix = None,
    multi_label: bool = False,
    verbose: bool = True,
) -> float:
    """Return the share of examples whose label is likely right:
    ``cleanlab.dataset.overall_label_health_score``.

    Parameters
    ----------
    verbose : bool
        Print a line.
    labels, pred_probs, num_examples, joint, confident_joint, multi_label
        As :func:`rank_classes_by_label_quality` takes them.
    """
    refuse_multi_label(multi_label)
    rows = _num_examples(labels, num_examples, confident_joint)
    if pred_probs is None or labels is None:
        matrix = _joint(labels, pred_probs, joint, confident_joint)
        issues = num_issues_of_joint(matrix, rows)
        score = float(matrix.diagonal().sum())
    else:
        issues = num_label_issues(labels, pred_probs)
        score = 1 - issues / rows
    if verbose:
        print(f"label health score {score:.2f}: {issues:,} of {rows:,} labels are likely wrong")
    return score


def health_summary(
    labels: Any = None,
    pred_probs: Any = None,
    *,
    asymmetric: bool = False,
    class_names: Names = None,
    num_examples: int | None = None,
    joint: Matrix = None,
    confident_joint: Matrix = None,
    multi_label: bool = False,
    verbose: bool = True,
) -> dict[str, Any]:
    """Return the health of a dataset class by class: ``cleanlab.dataset.health_summary``.

    Parameters
    ----------
    asymmetric, class_names, verbose
        As the other functions of this module take them; ``verbose`` prints the tables.
    labels, pred_probs, num_examples, joint, confident_joint, multi_label
        As :func:`rank_classes_by_label_quality` takes them.

    Returns
    -------
    dict
        "overall_label_health_score", "joint" (ndarray of float64, (K, K)),
        "classes_by_label_quality" and "overlapping_classes" (DataFrame).
    """
    refuse_multi_label(multi_label)
    matrix = _joint(labels, pred_probs, joint, confident_joint).dense()
    rows = _num_examples(labels, num_examples, confident_joint)
    known: dict[str, Any] = {"joint": matrix, "num_examples": rows, "class_names": class_names}
    classes = rank_classes_by_label_quality(**known)
    pairs = find_overlapping_classes(asymmetric=asymmetric, **known)
    if verbose:
        print(classes.to_string(), pairs.to_string(), sep="\n\n")
    score = overall_label_health_score(
        labels, pred_probs, num_examples=rows, joint=matrix, verbose=verbose
    )
    return {
        "overall_label_health_score": score,
        "joint": matrix,
        "classes_by_label_quality": classes,
        "overlapping_classes": pairs,
    }


def _joint(labels: Any, pred_probs: Any, joint: Matrix, confident_joint: Matrix) -> SparseMatrix:
    if joint is not None:
        return SparseMatrix.of_dense(np.asarray(joint, np.float64))
    if confident_joint is None and (labels is None or pred_probs is None):
        raise InputError("give labels and pred_probs, or joint, or confident_joint")
    return joint_of(labels, pred_probs, confident_joint)


def _num_examples(labels: Any, num_examples: int | None, confident_joint: Matrix) -> int:
    if num_examples is not None:
        return int(num_examples)
    if labels is not None:
        return int(open_rows(labels, "labels").shape[0])
    if confident_joint is not None:
        return int(np.asarray(confident_joint).sum())
    raise InputError("num_examples is needed where neither labels nor confident_joint are given")
