"""Compiled loops over rows of which the most probable classes are known. See
:mod:`noisydask.core.top_rows` for what they are for.
"""

from __future__ import annotations

import numpy as np

from noisydask.core.compiled import kernel
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

_CLASSES = int(Problem.CLASSES)


@kernel()
def select_rows(values, labels, probs, classes, given):
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


@kernel()
def scan_top(
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
def wrong_classes(columns, num_classes, wrong):
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


@kernel()
def likely_classes(probs, classes, limits, order, likely, undecided):
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
