"""How good the labels of each class are, and which classes overlap: from the joint of given and
true classes.

The definitions are those of ``cleanlab.dataset`` of cleanlab 2.9. Pure.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from noisydask.core.noise import SparseMatrix

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]

_LEAST_SHARE = 1e-6
#: A class with less than this share of an even part of the examples is rare.
RARE = 0.1


@dataclass(frozen=True)
class ClassQuality:
    """Quality of the labels of each class, the worst first; classes of the same quality by number.

    Attributes
    ----------
    classes : ndarray of int64, (K,)
        The classes.
    label_issues : ndarray of int64, (K,)
        Examples given the class that are of another.
    inverse_label_issues : ndarray of int64, (K,)
        Examples of the class that are given another.
    label_noise, inverse_label_noise : ndarray of float64, (K,)
        Their shares of what is given the class, and of what is of it.
    label_quality : ndarray of float64, (K,)
        1 less the label noise.
    """

    classes: Ints
    label_issues: Ints
    inverse_label_issues: Ints
    label_noise: Floats
    inverse_label_noise: Floats
    label_quality: Floats


def class_quality(joint: SparseMatrix, num_rows: int) -> ClassQuality:
    """Rank classes by label quality: ``cleanlab.dataset.rank_classes_by_label_quality``.

    Parameters
    ----------
    joint : SparseMatrix
        The distribution of (given, true class), which adds up to 1.
    num_rows : int
        Number of examples.

    Examples
    --------
    >>> found = class_quality(SparseMatrix.of_dense(np.array([[0.5, 0.0], [0.1, 0.4]])), 100)
    >>> found.classes.tolist(), found.label_issues.tolist(), found.label_quality.tolist()
    ([1, 0], [10, 0], [0.8, 1.0])
    """
    diagonal = joint.diagonal()
    given = joint.row_sums()
    true = joint.column_sums()
    noise = (given - diagonal) / np.maximum(given, _LEAST_SHARE)
    inverse = (true - diagonal) / np.maximum(true, _LEAST_SHARE)
    quality = 1 - noise
    order = np.argsort(quality, kind="stable")
    return ClassQuality(
        order,
        np.rint((given - diagonal) * num_rows).astype(np.int64)[order],
        np.rint((true - diagonal) * num_rows).astype(np.int64)[order],
        noise[order],
        inverse[order],
        quality[order],
    )


@dataclass(frozen=True)
class OverlappingClasses:
    """Pairs of classes that are mistaken for each other, most first; equal ones by class.

    Attributes
    ----------
    first, second : ndarray of int64, (m,)
        The classes.
    examples : ndarray of int64, (m,)
        Examples of one that are given the other.
    probability : ndarray of float64, (m,)
        Their share of all examples.
    """

    first: Ints
    second: Ints
    examples: Ints
    probability: Floats


def overlapping_classes(
    joint: SparseMatrix, num_rows: int, asymmetric: bool = False
) -> OverlappingClasses:
    """Rank pairs of classes by overlap: ``cleanlab.dataset.find_overlapping_classes``, without the
    pairs that do not overlap.

    Parameters
    ----------
    joint : SparseMatrix
        The distribution of (given, true class), which adds up to 1.
    num_rows : int
        Number of examples.
    asymmetric : bool
        Rank (given, true class) instead of the two together.

    Examples
    --------
    >>> joint = SparseMatrix.of_dense(np.array([[0.5, 0.05], [0.1, 0.35]]))
    >>> found = overlapping_classes(joint, 100)
    >>> found.first.tolist(), found.second.tolist(), found.examples.tolist()
    ([0], [1], [15])
    """
    off = (joint.rows != joint.columns) & (joint.values > 0)
    rows, columns, values = joint.rows[off], joint.columns[off], joint.values[off]
    if asymmetric:
        first, second, probability = rows, columns, values
    else:
        pairs = np.minimum(rows, columns) * joint.num_classes + np.maximum(rows, columns)
        unique, where = np.unique(pairs, return_inverse=True)
        probability = np.zeros(len(unique))
        np.add.at(probability, where, values)
        first, second = np.divmod(unique, joint.num_classes)
    order = np.lexsort((second, first, -probability))
    examples = np.rint(probability * num_rows).astype(np.int64)
    return OverlappingClasses(first[order], second[order], examples[order], probability[order])


def rare_classes(class_counts: Ints) -> Ints:
    """Return the classes that some, but very few examples are given, ascending.

    Examples
    --------
    >>> rare_classes(np.array([90, 1, 60, 0])).tolist()
    [1]
    """
    least = RARE / len(class_counts) * class_counts.sum()
    return np.flatnonzero((class_counts > 0) & (class_counts < least))
