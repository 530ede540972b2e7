"""How many examples filters prune of each pair of classes: from the joint of given and true classes
and the options of the filters. Pure.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from noisydask.core.noise import TINY, Floats, Ints, SparseMatrix, rounded
from noisydask.errors import InputError


def prune_counts(
    joint: SparseMatrix,
    class_counts: Ints,
    min_examples_per_class: int = 1,
    frac_noise: float = 1.0,
    num_to_remove_per_class: Sequence[int] | None = None,
) -> SparseMatrix:
    """Return how many examples given each class are pruned for each other class, and how many are
    kept: entry (k, j) and the diagonal.

    Source: ``cleanlab.filter.find_label_issues`` of cleanlab 2.9.

    Parameters
    ----------
    joint : SparseMatrix
        The calibrated joint, or one that a user gives, which is taken as it is.
    class_counts : ndarray of int64, (K,)
        Examples given each class.
    min_examples_per_class : int
        The diagonal is at least that.
    frac_noise : float
        Share of the entries off the diagonal that are pruned.
    num_to_remove_per_class : sequence of int, (K,), optional
        How many examples are pruned in all for each class: as cleanlab does, the numbers are shared
        out over the given classes as the counts are; a class for which nothing is pruned without it
        gets nothing. Of each given class so many are pruned by class.

    Raises
    ------
    InputError
        If ``num_to_remove_per_class`` has not one number a class.

    Examples
    --------
    >>> joint = SparseMatrix.of_dense(np.array([[95, 5], [2, 8]]))
    >>> prune_counts(joint, np.array([100, 10]), frac_noise=0.5).dense().tolist()
    [[97, 2], [1, 9]]
    """
    pruned = _keep_examples(joint, min_examples_per_class)
    pruned = _reduce(pruned, frac_noise)
    if num_to_remove_per_class is None:
        return pruned
    check_numbers(num_to_remove_per_class, joint.num_classes)
    remove = np.asarray(num_to_remove_per_class, np.int64)
    return _remove(pruned, class_counts, remove)


def check_numbers(num_to_remove_per_class: Sequence[int], num_classes: int) -> None:
    """Refuse numbers of examples to remove that are not one for each class.

    Examples
    --------
    >>> check_numbers([1, 2], 3)
    Traceback (most recent call last):
    noisydask.errors.InputError: num_to_remove_per_class has 2 numbers for 3 classes: it needs ...
    """
    if len(num_to_remove_per_class) != num_classes:
        raise InputError(
            f"num_to_remove_per_class has {len(num_to_remove_per_class):,} numbers for "
            f"{num_classes:,} classes: it needs one for each"
        )


def _with_diagonal(matrix: SparseMatrix) -> SparseMatrix:
    """Name all entries of the diagonal."""
    every = np.arange(matrix.num_classes)
    missing = every[~np.isin(every, matrix.rows[matrix.rows == matrix.columns])]
    rows = np.concatenate([matrix.rows, missing])
    columns = np.concatenate([matrix.columns, missing])
    values = np.concatenate([matrix.values, np.zeros(len(missing), matrix.values.dtype)])
    order = np.lexsort((columns, rows))
    return SparseMatrix(matrix.num_classes, rows[order], columns[order], values[order])


def _keep_examples(joint: SparseMatrix, least: int) -> SparseMatrix:
    """Raise the diagonal; what it gains is taken in equal shares from the rest of its row."""
    matrix = _with_diagonal(joint)
    diagonal = matrix.diagonal()
    raised = np.maximum(diagonal, least)
    entries = np.bincount(matrix.rows[matrix.values != 0], minlength=matrix.num_classes)
    share = (raised - diagonal) / np.maximum(entries - 1.0, 1.0)
    less = np.maximum(matrix.values - share[matrix.rows], 0)
    values = np.where(matrix.rows == matrix.columns, raised[matrix.rows], less)
    return replace(matrix, values=values)


def _reduce(matrix: SparseMatrix, share: float) -> SparseMatrix:
    """Take a share of what is off the diagonal, and cut off fractions."""
    off = matrix.rows != matrix.columns
    left = np.where(off, matrix.values * share, matrix.values)
    gained = _sums_of_whole_rows(replace(matrix, values=matrix.values - left))
    values = np.where(off, left, left + gained[matrix.rows])
    return replace(matrix, values=values.astype(np.int64))


def _sums_of_whole_rows(matrix: SparseMatrix) -> Floats:
    """Add up rows with their zeros in NumPy's own order: what is cut off next depends on the last
    bit.
    """
    sums = np.zeros(matrix.num_classes)
    ends = np.searchsorted(matrix.rows, np.arange(matrix.num_classes + 1))
    row = np.zeros(matrix.num_classes)
    for number in np.unique(matrix.rows):
        here = slice(ends[number], ends[number + 1])
        row[matrix.columns[here]] = matrix.values[here]
        sums[number] = row.sum()
        row[matrix.columns[here]] = 0
    return sums


def _remove(pruned: SparseMatrix, class_counts: Ints, remove: Ints) -> SparseMatrix:
    """Share out numbers of examples as the counts are shared, as cleanlab does: number j to what is
    pruned *for* class j.
    """
    sums = pruned.column_sums().astype(np.float64)
    off = (pruned.rows != pruned.columns) & (sums[pruned.rows] > 0)
    shares = np.zeros(len(pruned.values))
    shares[off] = pruned.values[off] / sums[pruned.rows[off]]
    totals = replace(pruned, values=shares).column_sums()
    scaled = np.zeros(len(shares))
    scaled[off] = shares[off] * remove[pruned.columns[off]]
    scaled[off] /= np.maximum(totals[pruned.columns[off]], TINY)
    diagonal = (class_counts - remove)[pruned.rows]
    values = np.where(pruned.rows == pruned.columns, diagonal, scaled)
    return rounded(replace(pruned, values=values).transposed()).transposed()
