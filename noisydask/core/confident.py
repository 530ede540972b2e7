"""Evidence and thresholds become counts of label issues and the confident joint.

The definitions are those of Northcutt, Jiang, Chuang, "Confident learning" (JAIR 70, 2021) as
cleanlab 2.9 computes them; what cleanlab asks of whole rows is answered here from the evidence, or
the row is named *unresolved*.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from noisydask.core.compiled import kernel
from noisydask.core.kept_rows import KeptRows
from noisydask.core.row_kernel import PROBABILITY_TOLERANCE, ROW_SUM_TOLERANCE
from noisydask.core.shapes import check_columns, check_range, check_shape
from noisydask.core.sparse_counts import SparseCounts
from noisydask.core.thresholds import CLIPPING_LOWER_BOUND, FLOATING_POINT_COMPARISON
from noisydask.core.top_rows import likely_of_top

Array = npt.NDArray[np.generic]
Floats = npt.NDArray[np.floating]
Columns = Mapping[str, npt.NDArray[Any]]


@dataclass(frozen=True)
class IssueCounts:
    """What the number of issues and the confident joint are made of.

    Attributes
    ----------
    confident : ndarray of int64, (K,)
        Per given class: examples whose predicted class reaches its threshold.
    off_diagonal : ndarray of int64, (K,)
        Those of them whose predicted class is not the given one.
    predicted : ndarray of int64, (K,)
        Per predicted class: examples.
    joint : SparseCounts
        Confident joint: (given, likely true class), uncalibrated.
    """

    confident: npt.NDArray[np.int64]
    off_diagonal: npt.NDArray[np.int64]
    predicted: npt.NDArray[np.int64]
    joint: SparseCounts

    @classmethod
    def zero(cls, num_classes: int) -> IssueCounts:
        """Return counts of no rows."""
        empty = np.zeros(0, np.int64)
        zeros = np.zeros((3, num_classes), np.int64)
        return cls(zeros[0], zeros[1], zeros[2], SparseCounts(empty, empty))

    def __add__(self, other: IssueCounts) -> IssueCounts:
        return IssueCounts(
            self.confident + other.confident,
            self.off_diagonal + other.off_diagonal,
            self.predicted + other.predicted,
            self.joint + other.joint,
        )


def dense_joint(num_classes: int) -> npt.NDArray[np.int64] | None:
    """Return room to count the joint of many blocks in place, (K * K,); None where it would be
    large.
    """
    if num_classes <= _DENSE:
        return np.zeros(num_classes**2, np.int64)
    return None


def count_issues(
    columns: Columns,
    thresholds: Floats,
    joint: bool = True,
    pred_probs: Floats | None = None,
    into: npt.NDArray[np.int64] | None = None,
    likely: npt.NDArray[Any] | None = None,
) -> tuple[IssueCounts, npt.NDArray[np.bool_]]:
    """Count off-diagonal examples and fill the confident joint.

    Parameters
    ----------
    columns : mapping
        Evidence of n rows (:class:`noisydask.core.evidence.Evidence`).
    thresholds : ndarray of float64, (K,)
        Confident thresholds.
    joint : bool
        Whether to fill the joint, which takes all columns.
    pred_probs : ndarray, (n, K), optional
        The rows themselves, to resolve those that the evidence leaves open.
    into : ndarray of int64, (K * K,), optional
        The joint is added to it (:func:`dense_joint`) and left out of the counts.
    likely : ndarray, (n,), the type of :func:`likely_dtype`, optional
        Filled with the likely class of each row; K where there is none, or the row is unresolved.

    Returns
    -------
    counts : IssueCounts
        Of all rows, less the places in the joint of unresolved ones.
    unresolved : ndarray of bool, (n,)
        Rows whose place in the confident joint needs all of the row.

    Raises
    ------
    ValueError
        If the arrays do not fit each other, or a column names an impossible class.
    """
    num_classes = len(thresholds)
    rows = len(columns["given"])
    check_columns(columns, rows)
    for name in ("given", "top1", "top2"):
        check_range(name, columns.get(name, columns["top1"]), num_classes + (name == "given"))
    if into is not None:
        check_shape("into", into, (num_classes**2,))
    if likely is not None:
        check_columns({"likely": likely}, rows, {"likely": likely_dtype(num_classes)})
    totals = np.zeros((3, num_classes), np.int64)
    unresolved = np.zeros(rows, bool)
    own = dense_joint(num_classes) if joint and into is None else into
    if own is not None and joint:
        dense = own
    else:
        dense = np.zeros(0, np.int64)
    sparse = joint and not dense.size
    if likely is None:
        likely = np.empty(rows if sparse else 0, likely_dtype(num_classes))
    limits = thresholds - FLOATING_POINT_COMPARISON
    given, top1, p_top1 = (columns[name] for name in ("given", "top1", "p_top1"))
    others = (top1[:0], p_top1[:0], p_top1[:0])
    if joint:
        others = (columns["top2"], columns["p_top2"], columns.get("p_rest", p_top1[:0]))
    room = _room(num_classes)
    lowest = limits.min()
    _count(
        given, top1, p_top1, *others, room, limits, lowest, joint, totals, dense, likely, unresolved
    )
    if dense.size and into is None:
        joint_counts = SparseCounts.of_dense(dense)
    elif sparse:
        joint_counts = SparseCounts.of(_pairs(given, likely, num_classes))
    else:
        joint_counts = SparseCounts.of(np.zeros(0, np.int64))
    if pred_probs is not None:
        joint_counts += resolve_joint(unresolved, given, thresholds, pred_probs)
    return IssueCounts(totals[0], totals[1], totals[2], joint_counts), unresolved


def likely_dtype(num_classes: int) -> np.dtype[Any]:
    """Return the type of likely classes: it holds K, which stands for none."""
    return np.min_scalar_type(num_classes)


def _pairs(
    given: npt.NDArray[Any], likely: npt.NDArray[Any], num_classes: int
) -> npt.NDArray[np.int64]:
    """Return places in the confident joint, of rows that have one."""
    rows = np.flatnonzero(likely < num_classes)
    pairs: npt.NDArray[np.int64] = given[rows].astype(np.int64) * num_classes + likely[rows]
    return pairs


def resolve_joint(
    unresolved: npt.NDArray[np.bool_],
    given: Array,
    thresholds: Floats,
    pred_probs: Floats | KeptRows,
    likely: npt.NDArray[Any] | None = None,
    undecided: npt.NDArray[np.bool_] | None = None,
) -> SparseCounts:
    """Return the part of the joint that unresolved rows make, from the rows themselves, (n, K), or
    (n,) where only their most probable classes are known; fill in their ``likely`` classes, and
    which are ``undecided`` even so, where these are wanted.
    """
    check_columns({"unresolved": unresolved}, len(given))
    if not isinstance(pred_probs, KeptRows):
        classes = () if pred_probs.dtype.names else (len(thresholds),)
        check_shape("pred_probs", pred_probs, (len(given), *classes))
    limits = thresholds - FLOATING_POINT_COMPARISON
    counts = SparseCounts.of(np.zeros(0, np.int64))
    order = np.argsort(limits)
    for some in slices(unresolved):
        rows = pred_probs[some]
        if rows.dtype.names:
            found, open_still = likely_of_top(rows, limits.astype(np.float64), order)
            if undecided is not None:
                undecided[some] = open_still
        else:
            found = _likely_of_rows(rows, limits)
        counts += SparseCounts.of(_pairs(given[some], found, len(thresholds)))
        if likely is not None:
            likely[some] = found
    return counts


# A joint of up to so many classes squared is counted in place (8 MB); of more, the pairs are
# sorted.
_DENSE = 1000


@kernel()
def _count(
    given,
    top1,
    p_top1,
    top2,
    p_top2,
    p_rest,
    room,
    limits,
    lowest,
    joint,
    totals,
    dense,
    likely,
    unresolved,
):
    """Count every row in ``totals`` (confident, off-diagonal, predicted), and its likely class in
    ``dense`` and ``likely``, if these are not empty.
    """
    num_classes = limits.size
    for i in range(given.size):
        label = np.int64(given[i])
        best = np.int64(top1[i])
        if likely.size:
            likely[i] = num_classes
        if label >= num_classes:
            continue
        totals[2, best] += 1
        # One confident class or several: if the predicted class is among them, it is the likely one
        # either way.
        found = best
        if p_top1[i] >= limits[best]:
            totals[0, label] += 1
            totals[1, label] += best != label
        elif not joint or p_top2[i] < lowest:
            continue
        elif (p_rest[i] if p_rest.size else min(p_top2[i], room - p_top1[i] - p_top2[i])) >= lowest:
            unresolved[i] = True
            continue
        else:
            found = np.int64(top2[i])
            if p_top2[i] < limits[found]:
                continue
        if dense.size:
            dense[label * num_classes + found] += 1
        if likely.size:
            likely[i] = found


def nearly_unresolved(columns: Columns, thresholds: Floats, margin: float) -> npt.NDArray[np.bool_]:
    """Return rows that are unresolved by :func:`count_issues`, or would be if each threshold moved
    by up to ``margin`` of itself.
    """
    num_classes = len(thresholds)
    limits = (1 + margin) * thresholds - FLOATING_POINT_COMPARISON
    lowest = (1 - margin) * thresholds.min() - FLOATING_POINT_COMPARISON
    doubtful = (columns["given"] < num_classes) & (columns["p_top1"] < limits[columns["top1"]])
    unresolved: npt.NDArray[np.bool_] = doubtful & (bound_of_rest(columns, num_classes) >= lowest)
    return unresolved


def bound_of_rest(columns: Columns, num_classes: int) -> Floats:
    """Return what the third largest probability is at most: itself where it was kept, else what the
    first two leave of the sum.
    """
    if "p_rest" in columns:
        return columns["p_rest"]
    second = columns["p_top2"]
    return np.minimum(second, _room(num_classes) - columns["p_top1"] - second)


def _room(num_classes: int) -> float:
    """Return what three classes of a valid row add up to at most; the others may be a little below
    0.
    """
    if num_classes > 2:
        return 1.0 + ROW_SUM_TOLERANCE + PROBABILITY_TOLERANCE * num_classes
    return 0.0


def _likely_of_rows(pred_probs: Floats, limits: Floats) -> npt.NDArray[np.int64]:
    """Return likely classes from whole rows, (n, K); K where there is none."""
    confident = pred_probs >= limits
    several = confident.sum(axis=1) > 1
    likely = np.where(several, pred_probs.argmax(axis=1), confident.argmax(axis=1))
    return np.where(confident.any(axis=1), likely, len(limits))


def slices(mask: npt.NDArray[np.bool_], at_once: int = 4096) -> Iterator[npt.NDArray[np.intp]]:
    """Return positions where ``mask`` holds, few at a time: whole rows are looked at without
    copying the block.
    """
    rows = np.flatnonzero(mask)
    return (rows[start : start + at_once] for start in range(0, len(rows), at_once))


def num_issues(
    counts: IssueCounts, class_counts: npt.NDArray[np.int64], estimation_method: str
) -> int:
    """Number of label issues, before those that agree with the prediction are dropped.

    Parameters
    ----------
    counts : IssueCounts
        Of all rows.
    class_counts : ndarray of int64, (K,)
        Examples given each class.
    estimation_method : {"off_diagonal", "off_diagonal_calibrated"}
        The second scales each class's share of confident examples that are off the diagonal to all
        its examples.
    """
    if estimation_method == "off_diagonal":
        return int(counts.off_diagonal.sum())
    calibrated = (
        counts.off_diagonal * class_counts / np.maximum(counts.confident, CLIPPING_LOWER_BOUND)
    )
    return int(np.rint(math.fsum(calibrated)))
