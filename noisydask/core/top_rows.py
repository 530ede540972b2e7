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

from noisydask.core.compiled import kernel
from noisydask.core.evidence import Evidence, probability_dtype
from noisydask.core.row_kernel import (
    FIXED_POINT,
    LABEL,
    NONE,
    NOT_FINITE,
    OUT_OF_RANGE,
    PROBABILITY_TOLERANCE,
    ROW_SUM,
    ROW_SUM_TOLERANCE,
    Problem,
)

Array = npt.NDArray[Any]
Bools = npt.NDArray[np.bool_]

_CLASSES = int(Problem.CLASSES)
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
    _select(values, labels, probs, classes, given)
    return probs, classes, given


@kernel()
def _select(values, labels, probs, classes, given):
    """Fill in the most probable classes of each row."""
    num_classes = values.shape[1]
    k = probs.shape[1]
    for i in range(values.shape[0]):
        filled = 0
        for j in range(num_classes):
            value = values[i, j]
            finite = np.isfinite(value)
            if filled == k and finite and not value > probs[i, k - 1]:
                continue
            place = min(filled, k - 1)
            while place > 0 and (not finite or value > probs[i, place - 1]):
                probs[i, place] = probs[i, place - 1]
                classes[i, place] = classes[i, place - 1]
                place -= 1
            probs[i, place], classes[i, place] = value, j
            filled = min(filled + 1, k)
        label = labels[i]
        given[i] = values[i, label] if 0 <= label < num_classes else np.nan


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
        _wrong_classes(np.ascontiguousarray(classes.T), np.uint32(num_classes), wrong)
        _scan_top(
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


@kernel()
def _scan_top(
    probs,
    classes,
    wrong,
    given_probs,
    labels,
    given,
    top1,
    p_given,
    p_top1,
    top2,
    p_top2,
    p_rest,
    problems,
    counts,
    fixed,
):
    """Fill the columns; those that are not wanted are empty."""
    num_classes = counts.size
    rows, k = probs.shape
    total, least, most = np.empty(rows), np.empty(rows, probs.dtype), np.empty(rows, probs.dtype)
    _sums(probs, total, least, most)
    for i in range(rows):
        label = labels[i]
        problem = NONE
        if not np.isfinite(total[i]):
            problem = NOT_FINITE
        elif not (least[i] >= -PROBABILITY_TOLERANCE and most[i] <= 1.0 + PROBABILITY_TOLERANCE):
            problem = OUT_OF_RANGE
        own = -1
        for j in range(k):
            if classes[i, j] == label:
                own = j
        first, second = 0, 1
        rest = probs[i, min(2, k - 1)]
        if not (probs[i, 0] > probs[i, 1] > rest and _descending(probs, i)):
            first, second, rest = _first_two(probs, classes, i)
        if problem == NONE:
            problem = _problem_of_top(wrong[i], k, total[i], label, num_classes)
        known = probs[i, max(own, 0)]
        if problem == NONE and given_probs.size:
            if own < 0:
                known = given_probs[i]
            problem = _problem_of_given(given_probs[i], known, own < 0, least[i])
        elif own < 0:
            known = min(least[i], _left(probs, i, num_classes))
        problems[i] = problem
        if problem != NONE:
            given[i], top1[i], p_given[i], p_top1[i] = num_classes, 0, 0, 0
            if top2.size:
                top2[i], p_top2[i] = 0, 0
            if p_rest.size:
                p_rest[i] = 0
            continue
        given[i], p_given[i] = label, known
        top1[i], p_top1[i] = classes[i, first], probs[i, first]
        if top2.size:
            top2[i], p_top2[i] = classes[i, second], probs[i, second]
        if p_rest.size:
            if k > 2:
                p_rest[i] = rest
            else:  # no other is above the second
                p_rest[i] = probs[i, second] if num_classes > 2 else 0
        counts[label] += 1
        fixed[label] += np.int64(np.float64(known) * FIXED_POINT)


@kernel(fastmath={"reassoc"})
def _sums(probs, total, least, most):
    """Fill in the sum of each row in any order, good enough to check it, its least and its largest
    value.
    """
    for i in range(total.size):
        added = probs.dtype.type(0)
        low = high = probs[i, 0]
        for j in range(probs.shape[1]):
            value = probs[i, j]
            added += value
            low = value if value < low else low
            high = value if value > high else high
        total[i], least[i], most[i] = added, low, high


@kernel(inline="always")
def _descending(probs, i):
    """Return whether no value of a row is above the one before."""
    above = 0
    for j in range(probs.shape[1] - 1):
        above += probs[i, j] < probs[i, j + 1]
    return above == 0


@kernel()
def _first_two(probs, classes, i):
    """Return where the two most probable classes of a row are, of equal ones the smallest, and the
    third largest value.
    """
    first, second = -1, -1
    rest = probs.dtype.type(-np.inf)
    for j in range(probs.shape[1]):
        if first < 0 or _before(probs, classes, i, j, first):
            if second >= 0:
                rest = max(rest, probs[i, second])
            first, second = j, first
        elif second < 0 or _before(probs, classes, i, j, second):
            if second >= 0:
                rest = max(rest, probs[i, second])
            second = j
        else:
            rest = max(rest, probs[i, j])
    return first, second, rest


@kernel()
def _left(probs, i, num_classes):
    """Return what a row leaves to each class that is not known; summed in order, so that its bits
    are the same everywhere.
    """
    total = 0.0
    for j in range(probs.shape[1]):
        total += probs[i, j]
    return probs.dtype.type(max(0.0, 1.0 - total) / max(1, num_classes - probs.shape[1]))


@kernel(inline="always")
def _before(probs, classes, i, j, other):
    """Return whether the class at j is more probable than another, or as probable and smaller."""
    if probs[i, j] != probs[i, other]:
        return probs[i, j] > probs[i, other]
    return classes[i, j] < classes[i, other]


@kernel()
def _problem_of_given(given, known, is_other, least):
    """Return what is wrong with the probability of the given label, if anything: it must be the one
    that is known of it, or that of a class which is not among the most probable.
    """
    if not np.isfinite(given):
        return NOT_FINITE
    if not -PROBABILITY_TOLERANCE <= given <= 1.0 + PROBABILITY_TOLERANCE:
        return OUT_OF_RANGE
    if abs(given - known) > PROBABILITY_TOLERANCE or (
        is_other and given > least + PROBABILITY_TOLERANCE
    ):
        return _CLASSES
    return NONE


@kernel()
def _problem_of_top(wrong, k, total, label, num_classes):
    """Return what is wrong with a row of finite probabilities, if anything."""
    if total > 1.0 + ROW_SUM_TOLERANCE or (k == num_classes and total < 1.0 - ROW_SUM_TOLERANCE):
        return ROW_SUM
    if label < 0 or label >= num_classes:
        return LABEL
    return _CLASSES if wrong else NONE


@kernel()
def _wrong_classes(columns, num_classes, wrong):
    """Fill in which rows have a class that repeats, or none that exists, from ``columns``, (k, n):
    all rows at a time, without a branch, so that the compiler turns it into SIMD.
    """
    k, rows = columns.shape
    for i in range(rows):
        wrong[i] = 0
    for j in range(k):
        for i in range(rows):
            wrong[i] |= np.uint32(columns[j, i] >= num_classes)
        for other in range(j):
            for i in range(rows):
                wrong[i] |= np.uint32(columns[j, i] == columns[other, i])


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
    _likely_of_top(probs, classes, limits, order, likely, undecided)
    return likely, undecided


@kernel()
def _likely_of_top(probs, classes, limits, order, likely, undecided):
    """Fill in likely classes, and which rows are undecided."""
    num_classes = limits.size
    k = probs.shape[1]
    for i in range(likely.size):
        best = 0
        confident = 0
        found = num_classes
        least = probs[i, 0]
        for j in range(k):
            least = min(least, probs[i, j])
            if _before(probs, classes, i, j, best):
                best = j
            if probs[i, j] >= limits[classes[i, j]]:
                confident += 1
                found = classes[i, j]
        if confident > 1:
            likely[i] = classes[i, best]
            continue
        for place in range(num_classes):
            other = order[place]
            if limits[other] > least:
                break
            known = False
            for j in range(k):
                known |= classes[i, j] == other
            if not known:
                undecided[i] = True
                found = num_classes
                break
        likely[i] = found
