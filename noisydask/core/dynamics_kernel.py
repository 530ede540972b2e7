"""The kernels of the loss dynamics: compiled loops over tiles of losses. See
:mod:`noisydask.core.dynamics` for their meaning.

An EMA is a chain over the iterations: what runs in parallel is the rows. A tile of rows is turned
around a few iterations at a time, so that the innermost loop walks over rows and is vectorised. A
tile without gaps takes a loop without questions; every loop does the same arithmetic on a value, so
no bit depends on the tile that a row comes in.
"""

from __future__ import annotations

import numpy as np

from noisydask.core.compiled import kernel
from noisydask.core.ema import (
    HIGH,
    HIGH_BITS,
    LARGEST_LOSS,
    LOW,
    LOW_BITS,
    NEGATIVE,
    NONE,
    NUM_LIMBS,
    PLAIN,
    TOO_LARGE,
    add_fixed,
    advance_one,
)
from noisydask.core.transpose import turn

_LANES, _STEPS = 64, 32
_GAPS, _HUGE = 1, 2


@kernel()
def order_by_code(codes, num_codes):
    """Return positions in order of their codes, and where each code begins."""
    edges = np.zeros(num_codes + 1, np.int64)
    for i in range(codes.size):
        if codes[i] < 0 or codes[i] >= num_codes:
            raise ValueError("codes must be 0 to the number of labels less 1")
        edges[codes[i] + 1] += 1
    for c in range(num_codes):
        edges[c + 1] += edges[c]
    order, filled = np.empty(codes.size, np.int64), edges[:-1].copy()
    for i in range(codes.size):
        order[filled[codes[i]]] = i
        filled[codes[i]] += 1
    return order, edges


@kernel()
def _extremes(bits, i):
    """Return the smallest and largest bits of a row: non-negative floats order like them, all
    others lie above.
    """
    smallest = largest = bits[i, 0]
    for j in range(bits.shape[1]):
        smallest = min(smallest, bits[i, j])
        largest = max(largest, bits[i, j])
    return smallest, largest


@kernel()
def _note(losses, i, first, last, smallest, count):
    """Take in a row with gaps; what is wrong with it, if anything, and whether it is huge."""
    problem, huge = NONE, False
    for j in range(losses.shape[1]):
        value = losses[i, j]
        if value < 0:
            problem = max(problem, NEGATIVE)
        elif value > LARGEST_LOSS:
            problem = max(problem, TOO_LARGE)
        elif value >= 0:
            if count[i] == 0:
                first[i] = smallest[i] = abs(value)  # of -0.0 makes 0.0
            count[i] += 1
            last[i] = abs(value)
            smallest[i] = min(smallest[i], abs(value))
            huge = huge or value >= PLAIN
    return problem, huge


@kernel()
def _there(losses, bits, limit, i):
    """Number of losses of a row that is as it should be but for gaps; -1 where there is more to
    it.
    """
    there = gaps = np.int64(0)
    for j in range(losses.shape[1]):
        there += np.int64(bits[i, j] < limit)
        gaps += np.int64(losses[i, j] != losses[i, j])
    return there if there + gaps == losses.shape[1] else -1


@kernel()
def _ends(losses, i):
    """Return the first and last loss of a row that has any."""
    a, b = 0, losses.shape[1] - 1
    while losses[i, a] != losses[i, a]:
        a += 1
    while losses[i, b] != losses[i, b]:
        b -= 1
    return losses[i, a], losses[i, b]


@kernel()
def _look(
    losses,
    bits,
    limit,
    start,
    stop,
    ema,
    first,
    last,
    smallest,
    smallest_bits,
    count,
    problems,
    kinds,
):
    """Take in number, first, last and smallest of the losses of rows; say which loop each needs."""
    width = losses.shape[1]
    for i in range(start, stop):
        low, high = _extremes(bits, i)
        there = width if high < limit else _there(losses, bits, limit, i)
        if there < 0 or ema[i] >= PLAIN:
            problems[i], huge = _note(losses, i, first, last, smallest, count)
            kinds[i - start] = _HUGE if huge or ema[i] >= PLAIN else _GAPS
            continue
        kinds[i - start] = 0 if there == width else _GAPS
        if there:
            begin, last[i] = _ends(losses, i)
            if count[i] == 0:
                first[i], smallest_bits[i] = begin, low
            count[i] += there
            smallest_bits[i] = min(smallest_bits[i], low)


@kernel()
def _advance_plain(x, steps, lanes, alpha, ema, first, total, squares, high, low):
    """Advance tiles of which all losses are there and none is large."""
    keep = 1.0 - alpha
    for s in range(steps):
        above, below = np.int64(0), np.int64(0)
        for k in range(lanes):
            value = np.float64(x[s, k])
            now = keep * ema[k] + alpha * value
            ema[k] = now
            distance = value - first[k]
            total[k] += distance
            squares[k] += distance * distance
            rounded = now + HIGH
            above += np.float64(rounded).view(np.int64)
            below += np.float64((now - (rounded - HIGH)) + LOW).view(np.int64)
        high[s] += above - lanes * HIGH_BITS
        low[s] += below - lanes * LOW_BITS


@kernel()
def _advance_gaps(x, steps, lanes, alpha, ema, first, total, squares, high, low, counts):
    """Advance tiles of which some losses are missing or refused, and none is large."""
    keep = 1.0 - alpha
    for s in range(steps):
        above, below, there = np.int64(0), np.int64(0), np.int64(0)
        for k in range(lanes):
            value = np.float64(x[s, k])
            valid = (value >= 0.0) & (value <= LARGEST_LOSS)
            before, after, distance = ema[k], keep * ema[k] + alpha * value, value - first[k]
            distance = distance if valid else 0.0
            ema[k] = after if valid else before
            total[k] += distance
            squares[k] += distance * distance
            now = after if valid else 0.0
            rounded = now + HIGH
            above += np.float64(rounded).view(np.int64)
            below += np.float64((now - (rounded - HIGH)) + LOW).view(np.int64)
            there += np.int64(valid)
        high[s] += above - lanes * HIGH_BITS
        low[s] += below - lanes * LOW_BITS
        counts[s] += there


@kernel()
def _advance_huge(losses, rows, alpha, ema, first, total, squares, limbs, counts, code):
    """Advance losses of any kind."""
    for k in range(rows.size):
        i = rows[k]
        for j in range(losses.shape[1]):
            value = np.float64(losses[i, j])
            if value >= 0.0 and value <= LARGEST_LOSS:
                ema[i], total[i], squares[i] = advance_one(
                    value, alpha, ema[i], np.float64(first[i]), total[i], squares[i]
                )
                add_fixed(ema[i], limbs, code, j)
                counts[code, j] += 1


@kernel()
def _advance_tile(
    losses, bits, rows, kind, alpha, ema, total, squares, first, tile, limbs, counts, code
):
    """Advance a few rows of one code; ``tile`` is room for their states and turned losses."""
    width, lanes = losses.shape[1], rows.size
    e, s1, s2, origin, turned, x = tile
    for k in range(lanes):
        i = rows[k]
        e[k], s1[k], s2[k], origin[k] = ema[i], total[i], squares[i], first[i]
    for j in range(0, width, _STEPS):
        steps = min(_STEPS, width - j)
        turn(bits, rows, j, steps, turned)
        high, low, seen = limbs[1, code, j:], limbs[0, code, j:], counts[code, j:]
        if kind == _GAPS:
            _advance_gaps(x, steps, lanes, alpha, e, origin, s1, s2, high, low, seen)
        else:
            _advance_plain(x, steps, lanes, alpha, e, origin, s1, s2, high, low)
            for s in range(steps):  # an assignment of slices takes seconds to compile
                seen[s] += lanes
    for k in range(lanes):
        i = rows[k]
        ema[i], total[i], squares[i] = e[k], s1[k], s2[k]


@kernel()
def advance_dense(
    losses,
    bits,
    limit,
    codes,
    num_codes,
    window,
    alpha,
    ema,
    total,
    squares,
    first,
    last,
    smallest,
    smallest_bits,
    count,
    problems,
    limbs,
    counts,
):
    """Advance the states of whole rows by consecutive iterations; ``bits`` is ``losses`` seen as
    unsigned integers.

    Rows are walked over by windows, which stay in the cache; in each, rows of one code are taken
    together. ``codes`` is empty where all have code 0. ``limbs`` (5, codes, t) and ``counts``
    (codes, t) are added to.
    """
    rows, width = losses.shape
    fits = bits.shape == losses.shape and (codes.size == 0 or codes.size == rows) and window > 0
    fits &= ema.size == total.size == squares.size == first.size == last.size == rows
    fits &= smallest.size == smallest_bits.size == count.size == problems.size == rows
    fits &= limbs.shape == (NUM_LIMBS, num_codes, width) and counts.shape == (num_codes, width)
    if not (fits and num_codes > 0 and width > 0):
        raise ValueError("states must have a row a row of losses, sums a column an iteration")
    turned = np.empty((_STEPS, _LANES), bits.dtype)
    tile = (
        np.empty(_LANES),
        np.empty(_LANES),
        np.empty(_LANES),
        np.empty(_LANES),
        turned,
        turned.view(losses.dtype),
    )
    kinds = np.empty(min(window, ema.size), np.uint8)
    for begin in range(0, ema.size, window):
        end = min(begin + window, ema.size)
        _look(
            losses,
            bits,
            limit,
            begin,
            end,
            ema,
            first,
            last,
            smallest,
            smallest_bits,
            count,
            problems,
            kinds,
        )
        if codes.size:
            order, edges = order_by_code(codes[begin:end], num_codes)
        else:
            order, edges = np.arange(end - begin), np.array([0, end - begin])
        for code in range(edges.size - 1):
            for start in range(edges[code], edges[code + 1], _LANES):
                some = order[start : min(start + _LANES, edges[code + 1])]
                kind = 0
                for k in range(some.size):
                    kind = max(kind, kinds[some[k]])
                    some[k] += begin
                if kind == _HUGE:
                    _advance_huge(
                        losses, some, alpha, ema, first, total, squares, limbs, counts, code
                    )
                else:
                    _advance_tile(
                        losses,
                        bits,
                        some,
                        kind,
                        alpha,
                        ema,
                        total,
                        squares,
                        first,
                        tile,
                        limbs,
                        counts,
                        code,
                    )
