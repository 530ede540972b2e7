"""Rows of which only the most probable classes are known: their k classes and probabilities, and
the probability of the given label.

They become the same evidence as whole rows: that names the two most probable classes, and the third
probability bounds all others. What asks for more of a row is answered where the classes that are
not known cannot matter, each being at most as probable as the last one known; else the row is
*undecided*. Of equally probable classes the smallest must be the known ones. Pure.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from noisydask.core.evidence import Evidence, probability_dtype
from noisydask.core.top_kernel import likely_classes, scan_top, select_rows, wrong_classes

Array = npt.NDArray[Any]
Bools = npt.NDArray[np.bool_]

_TILE_ROWS = 1 << 11
#: Columns of evidence that need whole rows.
OF_WHOLE_ROWS = ("p_sum", "entropy")


def top_dtype(k: int, dtype: npt.DTypeLike, given: bool = True) -> np.dtype[Any]:
    """Return the type of a row of ``k`` classes: ``probs``, ``classes``, and, where it is known,
    ``given``, the probability of the given label.

    Examples
    --------
    >>> top_dtype(2, "f4").itemsize
    20
    """
    kept = np.dtype(dtype)
    fields: list[Any] = [("probs", kept, (k,)), ("classes", np.uint32, (k,))]
    return np.dtype([*fields, ("given", kept)] if given else fields)


def top_rows(
    pred_probs: Array, pred_classes: Array, given_probs: Array | None, num_classes: int
) -> Array:
    """Put the parts of rows together.

    Parameters
    ----------
    pred_probs : ndarray, (n, k), float16, float32 or float64
        The largest probabilities of each row, in any order.
    pred_classes : ndarray, (n, k), any integer type
        Their classes.
    given_probs : ndarray, (n,), optional
        The probability of the given label; without it, it is bounded where it is not among these.
    num_classes : int
        K; a class that does not exist becomes K.

    Returns
    -------
    ndarray of :func:`top_dtype`, (n,)

    Examples
    --------
    >>> rows = top_rows(np.array([[0.7, 0.2]]), np.array([[3, 1]]), np.array([0.05]), 10)
    >>> rows["classes"].tolist(), rows["given"].tolist()
    ([[3, 1]], [0.05])
    """
    known = given_probs is not None
    rows = np.empty(len(pred_probs), top_dtype(pred_probs.shape[1], pred_probs.dtype, known))
    rows["probs"] = pred_probs
    # Seen as unsigned, a negative class is a very large one.
    unsigned = pred_classes.view(f"u{pred_classes.itemsize}")
    np.minimum(unsigned, num_classes, out=rows["classes"], casting="unsafe", dtype=np.uint64)
    if known:
        rows["given"] = given_probs
    return rows


def select_top(
    pred_probs: Array, labels: npt.NDArray[np.int64], k: int
) -> tuple[Array, npt.NDArray[np.uint32], Array]:
    """Return the k most probable classes of whole rows, most probable first, the smallest of equal
    ones; and the probability of the given label, NaN of a label that is no class.

    Parameters
    ----------
    pred_probs : ndarray, (n, K), float16, float32 or float64
        Whole rows.
    labels : ndarray of int64, (n,)
        Given labels.
    k : int
        At most K.

    Returns
    -------
    probs, classes, given : ndarray, (n, k), (n, k) and (n,)
        float32, or float64 for float64; classes are uint32. Values that are not finite are kept
        before others, so that their rows are refused later.

    Examples
    --------
    >>> probs, classes, given = select_top(np.array([[0.2, 0.5, 0.1, 0.2]]), np.array([2]), 2)
    >>> probs.tolist(), classes.tolist(), given.tolist()
    ([[0.5, 0.2]], [[1, 0]], [0.1])
    """
    values = np.ascontiguousarray(pred_probs, probability_dtype(pred_probs.dtype))
    probs = np.empty((len(values), k), values.dtype)
    classes = np.empty((len(values), k), np.uint32)
    given = np.empty(len(values), values.dtype)
    select_rows(values, labels, probs, classes, given)
    return probs, classes, given


def scan_top_rows(rows: Array, labels: Array, into: Evidence) -> Evidence:
    """Fill evidence, checks and class sums from rows of which the most probable classes are known.

    Parameters
    ----------
    rows : ndarray of :func:`top_dtype`, (n,)
        The rows, each of at least two classes.
    labels : ndarray, (n,), any integer type
        Given labels.
    into : Evidence
        Filled and returned; its ``counts`` and ``fixed`` are added to.

    Examples
    --------
    >>> rows = top_rows(np.array([[0.7, 0.2]]), np.array([[3, 1]]), np.array([0.05]), 10)
    >>> columns = "given", "top1", "p_given", "p_top1", "top2", "p_top2"
    >>> found = scan_top_rows(rows, np.array([5]), Evidence.empty(1, 10, "f8", columns))
    >>> found.columns["top2"].tolist(), found.columns["p_given"].tolist()
    ([1], [0.05])
    """
    num_classes = len(into.counts)
    probs = rows["probs"]
    into.check(len(rows), num_classes, probs.dtype)
    probability = probability_dtype(probs.dtype)
    columns = into.columns
    none = columns["p_given"][:0]
    given_probs = rows["given"] if "given" in (rows.dtype.names or ()) else none
    for start in range(0, len(rows), _TILE_ROWS):
        part = slice(start, start + _TILE_ROWS)
        classes = np.ascontiguousarray(rows["classes"][part])
        wrong = np.empty(len(classes), np.uint32)
        wrong_classes(np.ascontiguousarray(classes.T), np.uint32(num_classes), wrong)
        scan_top(
            np.ascontiguousarray(probs[part], probability),
            classes,
            wrong,
            np.ascontiguousarray(given_probs[part], probability),
            np.ascontiguousarray(labels[part], np.int64),
            columns["given"][part],
            columns["top1"][part],
            columns["p_given"][part],
            columns["p_top1"][part],
            columns.get("top2", columns["top1"][:0])[part],
            columns.get("p_top2", none)[part],
            columns.get("p_rest", none)[part],
            into.problems[part],
            into.counts,
            into.fixed,
        )
    return into


def likely_of_top(
    rows: Array, limits: npt.NDArray[np.float64], order: npt.NDArray[np.intp] | None = None
) -> tuple[Array, Bools]:
    """Return likely classes of rows whose prediction is below its limit.

    Parameters
    ----------
    rows : ndarray of :func:`top_dtype`, (n,)
        Valid rows.
    limits : ndarray of float64, (K,)
        From where on a class is confident.
    order : ndarray of int, (K,), optional
        Classes by ascending limit.

    Returns
    -------
    likely : ndarray of int64, (n,)
        K where there is none, and of undecided rows.
    undecided : ndarray of bool, (n,)
        Rows of which a class that is not known may be confident, so that it matters.

    Examples
    --------
    >>> rows = top_rows(np.array([[0.4, 0.3]] * 2), np.array([[0, 1], [0, 2]]), None, 4)
    >>> likely_of_top(rows, np.array([0.5, 0.3, 0.9, 0.3]))
    (array([4, 4]), array([ True,  True]))
    >>> likely_of_top(rows, np.array([0.5, 0.3, 0.3, 0.4]))
    (array([4, 4]), array([ True,  True]))
    >>> likely_of_top(rows, np.array([0.5, 0.3, 0.9, 0.4]))
    (array([1, 4]), array([False,  True]))
    """
    likely = np.empty(len(rows), np.int64)
    undecided = np.zeros(len(rows), bool)
    if order is None:
        order = np.argsort(limits)
    probs = np.ascontiguousarray(rows["probs"], probability_dtype(rows["probs"].dtype))
    classes = np.ascontiguousarray(rows["classes"])
    likely_classes(probs, classes, limits, order, likely, undecided)
    return likely, undecided
