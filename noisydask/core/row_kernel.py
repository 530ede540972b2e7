"""The row kernel itself: compiled loops over tiles of rows. See :mod:`noisydask.core.evidence` for
what they are for.

The loops work on tiles, arrays of their own for a few thousand rows, so that what one leaves for
the next is still in the cache. Inside a loop over rows no row is sliced: each slice would be a
counted reference.
"""

from __future__ import annotations

from enum import IntEnum

import numpy as np

from noisydask.core.compiled import kernel

#: Probabilities are summed as integers, scaled by this: integer sums have no order, so no schedule
#: can change a bit.
FIXED_POINT = float(1 << 40)
#: A probability may leave [0, 1] by this much (files are quantised), a row's sum may leave 1 by
#: that much.
PROBABILITY_TOLERANCE = 1e-3
ROW_SUM_TOLERANCE = 1e-2

# Up to this many classes a float32 row is walked once with packed integers; above, vectorised
# passes win.
_NARROW = 24
_LOW = np.uint64(0xFFFFFFFF)
_HIGH = np.uint64(32)


class Problem(IntEnum):
    """Why a row was refused."""

    NONE = 0
    NOT_FINITE = 1
    OUT_OF_RANGE = 2
    ROW_SUM = 3
    LABEL = 4
    UNREADABLE = 5
    CLASSES = 6


# The kernel needs plain integers.
NONE, NOT_FINITE, OUT_OF_RANGE, ROW_SUM, LABEL = (
    int(problem) for problem in Problem if problem < Problem.UNREADABLE
)


@kernel()
def _top3_narrow(pred_probs, bits, top1, top2, largest, lower, third, total, want_third):
    """Return best two classes, largest, second and (if wanted) third largest value, as bits, and
    sum of short float32 rows.

    Non-negative floats order like their bits. Value and complement of the class share one integer,
    so that a plain maximum prefers the lower class among equals, and no branch depends on the data.
    """
    rows, num_classes = bits.shape
    for i in range(rows):
        a = b = c = np.uint64(0)
        added = 0.0
        for k in range(num_classes):
            added += pred_probs[i, k]
            key = (np.uint64(bits[i, k]) << _HIGH) | (_LOW - np.uint64(k))
            top = max(a, key)
            key = min(a, key)
            if want_third:
                c = max(c, min(b, key))
            a, b = top, max(b, key)
        top1[i], top2[i] = _LOW - (a & _LOW), _LOW - (b & _LOW)
        largest[i], lower[i], third[i], total[i] = a >> _HIGH, b >> _HIGH, c >> _HIGH, added


@kernel(inline="always")
def _below(bits, i, value):
    """Return the first class of row i that has ``value``, how many have it, the largest value below
    it: vectorised reductions.
    """
    zero, one, none = bits.dtype.type(0), bits.dtype.type(1), bits.dtype.type(bits.shape[1])
    first, count, lower = none, zero, zero
    for k in range(bits.shape[1]):
        here = bits[i, k]
        equal = here == value
        first = min(first, bits.dtype.type(k) if equal else none)
        count += one if equal else zero
        lower = max(lower, here if here < value else zero)
    return first, count, lower


@kernel(fastmath={"reassoc"})
def _largest_and_sums(pred_probs, bits, largest, total):
    """Return the largest value of each row, as bits, and its sum in any order and in its own type:
    good enough to check a row.
    """
    for i in range(bits.shape[0]):
        most, added = bits.dtype.type(0), pred_probs.dtype.type(0)
        for k in range(bits.shape[1]):
            most = max(most, bits[i, k])
        for k in range(bits.shape[1]):
            added += pred_probs[i, k]
        largest[i], total[i] = most, added


@kernel()
def _top3_wide(
    pred_probs, bits, labels, top1, top2, largest, third, total, p_given, p_top1, p_top2
):
    """Return the same as :func:`_top3_narrow` for long rows (or float64), by passes that the
    compiler turns into SIMD.

    The probabilities are taken while the row is in the nearest cache; of a wrong label, that of
    class 0.
    """
    _largest_and_sums(pred_probs, bits, largest, total)
    num_classes = bits.shape[1]
    for i in range(bits.shape[0]):
        best = largest[i]
        found, equal, second = _below(bits, i, best)
        first = np.int64(found)
        top1[i] = first
        p_top1[i] = pred_probs[i, first]
        p_given[i] = pred_probs[i, labels[i] if 0 <= labels[i] < num_classes else 0]
        if equal == 1:
            found, equal, below = _below(bits, i, second)
            k = np.int64(found)
            third[i] = second if equal > 1 else below
        else:
            k = first + 1
            while k < num_classes and bits[i, k] != best:
                k += 1
            third[i] = best if equal > 2 else second
        top2[i] = k
        if p_top2.size and k < num_classes:
            p_top2[i] = pred_probs[i, k]


@kernel()
def _top3_signed(row):
    """Return best two classes and third largest value of a row with tiny negative values, whose
    bits do not order.
    """
    first = second = third = -np.inf
    a = b = 0
    for k in range(row.size):
        value = row[k]
        if value > first:
            a, b = k, a
            first, second, third = value, first, second
        elif value > second:
            b = k
            second, third = value, second
        elif value > third:
            third = value
    return a, b, third if row.size > 2 else 0.0


@kernel()
def _row_sums(pred_probs, p_sum):
    """Sum rows in float64 from left to right: the same bits on every machine."""
    for i in range(p_sum.size):
        total = 0.0
        for k in range(pred_probs.shape[1]):
            total += pred_probs[i, k]
        p_sum[i] = total


@kernel()
def _normalized_entropies(pred_probs, entropy):
    """Return entropy of each row over the logarithm of its length (0 for one class)."""
    scale = np.log(max(2, pred_probs.shape[1]))
    for i in range(entropy.size):
        total = 0.0
        for k in range(pred_probs.shape[1]):
            value = np.float64(pred_probs[i, k])
            if value > 0.0:
                total -= value * np.log(value)
        entropy[i] = total / scale


@kernel()
def _problem(row, total, label):
    """Return what is wrong with a row, if anything."""
    for k in range(row.size):
        if not np.isfinite(row[k]):
            return NOT_FINITE
    for k in range(row.size):
        if row[k] < -PROBABILITY_TOLERANCE or row[k] > 1.0 + PROBABILITY_TOLERANCE:
            return OUT_OF_RANGE
    if not abs(total - 1.0) <= ROW_SUM_TOLERANCE:
        return ROW_SUM
    return NONE if 0 <= label < row.size else LABEL


@kernel()
def _suspects(largest, limit, total, labels, num_classes, suspect):
    """Return rows to look at closely: bits above those of 1 (negative, not finite, too large), a
    wrong sum or label.
    """
    found = 0
    for i in range(labels.size):
        wrong = largest[i] > limit or not abs(total[i] - 1.0) <= ROW_SUM_TOLERANCE
        if wrong or labels[i] < 0 or labels[i] >= num_classes:
            suspect[found] = i
            found += 1
    return found


@kernel()
def _add_to_classes(labels, problems, p_given, counts, fixed):
    """Add to its class the probability of the given label, of the rows without problems."""
    for i in range(labels.size):
        if problems[i] == NONE:
            counts[labels[i]] += 1
            fixed[labels[i]] += np.int64(np.float64(p_given[i]) * FIXED_POINT)


@kernel()
def _pick(pred_probs, classes, column):
    """Return probability of one class in each row; of an impossible class, that of class 0."""
    for i in range(column.size):
        column[i] = pred_probs[i, classes[i] if 0 <= classes[i] < pred_probs.shape[1] else 0]


@kernel()
def _copy(values, column):
    """Fill a column. An assignment of slices would bring texts of errors, which take seconds to
    compile.
    """
    for i in range(column.size):
        column[i] = values[i]


@kernel()
def _refuse(i, num_classes, given, top1, top2, p_top1, p_given, p_top2, p_rest, p_sum, entropy):
    """Mark a row as refused: class K, zeros."""
    given[i], top1[i], p_given[i], p_top1[i] = num_classes, 0, 0, 0
    if top2.size:
        top2[i] = 0
    if p_top2.size:
        p_top2[i] = 0
    if p_rest.size:
        p_rest[i] = 0
    if p_sum.size:
        p_sum[i] = 0
    if entropy.size:
        entropy[i] = 0


@kernel()
def scan_tiles(
    pred_probs,
    bits,
    limit,
    labels,
    step,
    given,
    top1,
    top2,
    p_given,
    p_top1,
    p_top2,
    p_rest,
    rest_bits,
    p_sum,
    entropy,
    problems,
    counts,
    fixed,
):
    """Fill the columns, tile by tile of ``step`` rows; ``bits`` is ``pred_probs`` seen as unsigned
    integers. Columns that are not wanted are empty.
    """
    rows, num_classes = pred_probs.shape
    fits = bits.shape == pred_probs.shape and num_classes > 0 and step > 0
    fits &= labels.size == given.size == top1.size == p_given.size == p_top1.size == rows
    fits &= p_rest.size == rest_bits.size
    for size in (top2.size, p_top2.size, p_rest.size, p_sum.size, entropy.size):
        fits &= size == 0 or size == rows
    if not (fits and problems.size == rows and counts.size == fixed.size == num_classes):
        raise ValueError("columns must have an element a row of pred_probs, sums one a class")
    first, second = np.empty(step, np.uint32), np.empty(step, np.uint32)
    largest, lower = np.empty(step, bits.dtype), np.empty(step, bits.dtype)
    third = np.empty(step, bits.dtype)
    p_top1_bits, p_top2_bits = p_top1.view(bits.dtype), p_top2.view(bits.dtype)
    total, suspect = np.empty(step), np.empty(step, np.int64)
    for low in range(0, rows, step):
        high = min(low + step, rows)
        x, label, a, b = (
            pred_probs[low:high],
            labels[low:high],
            first[: high - low],
            second[: high - low],
        )
        if num_classes <= _NARROW and bits.itemsize == 4:
            want_third = p_rest.size > 0
            _top3_narrow(x, bits[low:high], a, b, largest, lower, third, total, want_third)
            _pick(x, label, p_given[low:high])
            _copy(largest, p_top1_bits[low:high])
            _copy(lower, p_top2_bits[low:high])
        else:
            probabilities = p_given[low:high], p_top1[low:high], p_top2[low:high]
            _top3_wide(x, bits[low:high], label, a, b, largest, third, total, *probabilities)
        found = _suspects(largest, limit, total, label, num_classes, suspect)
        for i in suspect[:found]:
            problems[low + i] = _problem(x[i], total[i], label[i])
        _copy(label, given[low:high])
        _copy(a, top1[low:high])
        if p_rest.size:
            _copy(third, rest_bits[low:high])
        for i in suspect[:found]:
            a[i], b[i], rest = _top3_signed(x[i])
            top1[low + i], p_top1[low + i] = a[i], x[i, a[i]]
            if p_rest.size:
                p_rest[low + i] = rest
            if p_top2.size:
                p_top2[low + i] = x[i, b[i]]
        if num_classes == 1:  # there is no second class
            for i in range(low, high):
                b[i - low] = 0
            for i in range(low, min(high, p_top2.size)):
                p_top2[i] = 0
        if top2.size:
            _copy(b, top2[low:high])
        if p_sum.size:
            _row_sums(x, p_sum[low:high])
        if entropy.size:
            _normalized_entropies(x, entropy[low:high])
        _add_to_classes(label, problems[low:high], p_given[low:high], counts, fixed)
        for i in suspect[:found]:
            if problems[low + i] != NONE:
                _refuse(
                    low + i,
                    num_classes,
                    given,
                    top1,
                    top2,
                    p_top1,
                    p_given,
                    p_top2,
                    p_rest,
                    p_sum,
                    entropy,
                )
