"""Which classes are mistaken for which: the calibrated joint of given and true classes, and what
follows from it. The matrices hold only entries that are not 0, as there may be many classes.

The definitions are those of Northcutt, Jiang, Chuang, "Confident learning" (JAIR 70, 2021) as
cleanlab 2.9 computes them (``cleanlab.count``, ``cleanlab.filter``). Pure.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from noisydask.core.sparse_counts import SparseCounts
from noisydask.core.thresholds import CLIPPING_LOWER_BOUND
from noisydask.errors import InputError

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]

#: Most classes of which a matrix is made with all its zeros.
MOST_DENSE = 5000
#: Least divisor.
TINY = 1e-100
_MOST_NOISE = 0.9999
#: How the prior of the true classes is estimated.
PriorMethod = Literal["cnt", "eqn", "marginal", "marginal_ps"]


@dataclass(frozen=True)
class SparseMatrix:
    """A K x K matrix by its entries, ascending by (row, column).

    Attributes
    ----------
    num_classes : int
        K.
    rows, columns : ndarray of int64, (m,)
        Where the entries are; those that are not named are 0.
    values : ndarray of int64 or float64, (m,)
        The entries.

    Examples
    --------
    >>> counts = SparseMatrix.of_dense(np.array([[5, 0], [1, 3]]))
    >>> counts.rows.tolist(), counts.columns.tolist(), counts.values.tolist()
    ([0, 1, 1], [0, 0, 1], [5, 1, 3])
    >>> counts.row_sums().tolist(), counts.get(np.array([0]), np.array([1])).tolist()
    ([5, 4], [0])
    """

    num_classes: int
    rows: Ints
    columns: Ints
    values: npt.NDArray[Any]

    @classmethod
    def of_counts(cls, counts: SparseCounts, num_classes: int) -> SparseMatrix:
        """Take counts of pairs of classes."""
        rows, columns = np.divmod(counts.pairs, num_classes)
        return cls(num_classes, rows, columns, counts.counts)

    @classmethod
    def of_dense(cls, matrix: npt.NDArray[Any]) -> SparseMatrix:
        """Take the entries of a matrix that are not 0."""
        rows, columns = np.nonzero(matrix)
        return cls(len(matrix), rows, columns, matrix[rows, columns])

    def dense(self) -> npt.NDArray[Any]:
        """Return the matrix with its zeros.

        Raises
        ------
        InputError
            If there are more than :data:`MOST_DENSE` classes.
        """
        if self.num_classes > MOST_DENSE:
            raise InputError(
                f"a matrix of {self.num_classes:,} x {self.num_classes:,} is not made (more than "
                f"{MOST_DENSE:,} classes): take its entries, rows, columns and values, of "
                "confident_joint_entries, noise_matrix_entries or inverse_noise_matrix_entries"
            )
        matrix = np.zeros((self.num_classes, self.num_classes), self.values.dtype)
        matrix[self.rows, self.columns] = self.values
        return matrix

    def transposed(self) -> SparseMatrix:
        """Return the matrix with rows and columns exchanged."""
        order = np.lexsort((self.rows, self.columns))
        return SparseMatrix(
            self.num_classes, self.columns[order], self.rows[order], self.values[order]
        )

    def row_sums(self) -> npt.NDArray[Any]:
        """Return the sum of each row, (K,)."""
        return self._sums(self.rows)

    def column_sums(self) -> npt.NDArray[Any]:
        """Return the sum of each column, (K,)."""
        return self._sums(self.columns)

    def diagonal(self) -> npt.NDArray[Any]:
        """Return the diagonal, (K,)."""
        every = np.arange(self.num_classes)
        return self.get(every, every)

    @property
    def total(self) -> float:
        """The sum of all entries, rounded once."""
        return math.fsum(self.values.tolist())

    def get(self, rows: Ints, columns: Ints) -> npt.NDArray[Any]:
        """Return the entries at some places, (n,)."""
        nothing = np.zeros(len(rows), self.values.dtype)
        if not len(self.values):
            return nothing
        known = self.rows * self.num_classes + self.columns
        wanted = rows * self.num_classes + columns
        where = np.minimum(np.searchsorted(known, wanted), len(known) - 1)
        return np.where(known[where] == wanted, self.values[where], nothing)

    def _sums(self, places: Ints) -> npt.NDArray[Any]:
        sums = np.zeros(self.num_classes, self.values.dtype)
        np.add.at(sums, places, self.values)
        return sums


def confident_joint(counts: SparseCounts, num_classes: int) -> SparseMatrix:
    """Return the confident joint as (given class, likely class): the counts, but each entry of the
    diagonal at least 1.

    Examples
    --------
    >>> pairs = SparseCounts(np.array([0, 1]), np.array([4, 2]))
    >>> confident_joint(pairs, 2).dense().tolist()
    [[4, 2], [0, 1]]
    """
    every = np.arange(num_classes)
    diagonal = SparseCounts(every * (num_classes + 1), np.zeros(num_classes, np.int64))
    matrix = SparseMatrix.of_counts(counts + diagonal, num_classes)
    values = np.where(matrix.rows == matrix.columns, np.maximum(matrix.values, 1), matrix.values)
    return replace(matrix, values=values)


def checked_joint(confident_joint: Any, num_classes: int) -> SparseMatrix:
    """Return a joint that a user gives, (K, K).

    Raises
    ------
    InputError
        If it has another shape, or is not of finite counts of at least 0.
    """
    joint = np.asarray(confident_joint)
    if joint.shape != (num_classes, num_classes):
        raise InputError(
            f"confident_joint must have shape ({num_classes}, {num_classes}), a row and a column "
            f"for each class, not {joint.shape}"
        )
    if joint.dtype.kind not in "iuf" or not np.isfinite(joint).all() or (joint < 0).any():
        raise InputError("confident_joint must hold finite counts of at least 0")
    return SparseMatrix.of_dense(joint)


def calibrated_joint(joint: SparseMatrix, class_counts: Ints) -> SparseMatrix:
    """Scale the confident joint so that each row adds up to the examples given its class, in whole
    numbers: ``cleanlab.count.calibrate_confident_joint``.

    Rows are rounded, half to even; what a row then lacks is added 1 by 1 where most was cut off,
    what it has too much is taken where most was added. Of equal remainders, the lower class goes
    first: cleanlab's choice depends on the platform.

    Parameters
    ----------
    joint : SparseMatrix
        Of counts, not negative.
    class_counts : ndarray of int64, (K,)
        Examples given each class.

    Examples
    --------
    >>> joint = SparseMatrix.of_dense(np.array([[3, 1], [0, 2]]))
    >>> calibrated_joint(joint, np.array([10, 5])).dense().tolist()
    [[8, 2], [0, 5]]
    """
    sums = np.maximum(joint.row_sums().astype(np.float64), TINY)
    scaled = joint.values / sums[joint.rows] * class_counts[joint.rows]
    total = max(math.fsum(scaled.tolist()), TINY)
    return rounded(replace(joint, values=scaled / total * int(class_counts.sum())))


def rounded(matrix: SparseMatrix) -> SparseMatrix:
    """Round the entries of each row so that the total of the row is rounded too."""
    floats = matrix.values
    whole = np.rint(floats)
    rest = floats - whole
    # Rounded sums of rows: of few numbers each, whose order is fixed.
    sums = np.rint(matrix.row_sums()).astype(np.int64)
    lack = sums - replace(matrix, values=whole.astype(np.int64)).row_sums()
    for sign in (1, -1):
        order = np.lexsort((matrix.columns, -sign * rest, matrix.rows))
        rows = matrix.rows[order]
        place = np.arange(len(rows)) - np.searchsorted(rows, rows)
        whole[order] += sign * (place < sign * lack[rows])
    return replace(matrix, values=whole.astype(np.int64))


def estimate_joint(calibrated: SparseMatrix) -> SparseMatrix:
    """Return the distribution of (given, true class): ``cleanlab.count.estimate_joint``."""
    return replace(calibrated, values=calibrated.values / max(calibrated.total, TINY))


def num_issues_of_joint(joint: SparseMatrix, num_rows: int) -> int:
    """Return how many of some examples are off the diagonal of a joint distribution: the method
    "off_diagonal_calibrated" of ``cleanlab.count.num_label_issues``.
    """
    trace = math.fsum(joint.diagonal().tolist())
    return int(np.rint(num_rows * (1 - trace)))


@dataclass(frozen=True)
class LatentEstimates:
    """What is not observed: how true classes are labeled, and how common they are.

    Attributes
    ----------
    prior : ndarray of float64, (K,)
        Share of each true class.
    noise_matrix : SparseMatrix
        P(given class | true class): rows are given classes, columns add up to 1.
    inverse_noise_matrix : SparseMatrix
        P(true class | given class): rows are true classes, columns add up to 1.
    """

    prior: Floats
    noise_matrix: SparseMatrix
    inverse_noise_matrix: SparseMatrix


def estimate_latent(
    calibrated: SparseMatrix, class_counts: Ints, py_method: PriorMethod = "cnt"
) -> LatentEstimates:
    """Estimate noise matrix, inverse and prior from the calibrated joint.

    Source: ``cleanlab.count.estimate_latent`` of cleanlab 2.9, without making the three agree.

    Parameters
    ----------
    calibrated : SparseMatrix
        Counts of (given class, true class).
    class_counts : ndarray of int64, (K,)
        Examples given each class.
    py_method : {"cnt", "eqn", "marginal", "marginal_ps"}
        How the prior is estimated.

    Raises
    ------
    InputError
        If "eqn", which inverts a matrix, is asked for of more than :data:`MOST_DENSE` classes.

    Examples
    --------
    >>> joint = SparseMatrix.of_dense(np.array([[6, 2], [0, 8]]))
    >>> found = estimate_latent(joint, np.array([8, 8]))
    >>> found.inverse_noise_matrix.dense().tolist(), found.prior.round(3).tolist()
    ([[0.75, 0.0], [0.25, 1.0]], [0.375, 0.625])
    """
    given = class_counts / max(int(class_counts.sum()), 1)
    true_counts = calibrated.column_sums().astype(np.float64)
    noise = _divided(calibrated, true_counts)
    inverse = _divided(calibrated.transposed(), calibrated.row_sums().astype(np.float64))
    if py_method == "cnt":
        prior = inverse.diagonal() / np.maximum(noise.diagonal(), TINY) * given
    elif py_method == "eqn":
        prior = np.linalg.inv(noise.dense()).dot(given)
    elif py_method == "marginal":
        prior = true_counts / max(math.fsum(true_counts.tolist()), TINY)
    else:
        weighted = inverse.values * given[inverse.columns]
        prior = replace(inverse, values=weighted).row_sums()
    clipped = np.clip(prior, CLIPPING_LOWER_BOUND, 1.0)
    prior = clipped / max(math.fsum(clipped.tolist()), TINY)
    return LatentEstimates(prior, _clipped(noise), _clipped(inverse))


def _divided(matrix: SparseMatrix, sums: Floats) -> SparseMatrix:
    """Divide each column by a number."""
    return replace(matrix, values=matrix.values / np.maximum(sums, TINY)[matrix.columns])


def _clipped(matrix: SparseMatrix) -> SparseMatrix:
    """Keep what is off the diagonal below 1; make columns add up to 1 again."""
    off = matrix.rows != matrix.columns
    values = np.where(off, np.clip(matrix.values, 0, _MOST_NOISE), matrix.values)
    clipped = replace(matrix, values=values)
    return _divided(clipped, clipped.column_sums())
