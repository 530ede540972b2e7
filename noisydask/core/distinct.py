"""Distinct values, and which of them each value is: by a table where they lie close together, else
by a hash table. The time grows with their number alone. Pure.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from noisydask.core.compiled import kernel

Ints = npt.NDArray[np.int64]

#: Values lie close together where their range holds no more than so many times as many, and some.
_SPREAD, _SMALL = 4, 1024
_SLOTS = 1 << 12


def distinct(values: Ints) -> tuple[Ints, npt.NDArray[np.int32]]:
    """Return distinct values, ascending, and the position of each value among them.

    Examples
    --------
    >>> [found.tolist() for found in distinct(np.array([30, 10, 30]))]
    [[10, 30], [1, 0, 1]]
    """
    if not len(values):
        return np.zeros(0, np.int64), np.zeros(0, np.int32)
    values = np.ascontiguousarray(values, np.int64)
    low, high = _ends(values)
    if int(high) - int(low) <= _SPREAD * len(values) + _SMALL:
        return _by_table(values, low, int(high) - int(low) + 1)
    found, codes = _by_hash(values, _SLOTS)
    order = np.argsort(found)
    ranks = np.empty(len(order), np.int32)
    ranks[order] = np.arange(len(order), dtype=np.int32)
    return found[order], ranks[codes]


@kernel()
def mixed(value):
    """Return 64 bits that each depend on all bits of a value: the finish of MurmurHash3."""
    bits = np.uint64(value)
    bits = (bits ^ (bits >> np.uint64(33))) * np.uint64(0xFF51AFD7ED558CCD)
    bits = (bits ^ (bits >> np.uint64(33))) * np.uint64(0xC4CEB9FE1A85EC53)
    return bits ^ (bits >> np.uint64(33))


@kernel()
def _ends(values):
    low = high = values[0]
    for i in range(values.size):
        low, high = min(low, values[i]), max(high, values[i])
    return low, high


@kernel()
def _by_table(values, low, span):
    ranks = np.zeros(span, np.int32)
    for i in range(values.size):
        ranks[values[i] - low] = 1
    count = np.int32(0)
    for at in range(span):
        there = ranks[at]
        ranks[at] = count
        count += there
    found, codes = np.empty(count, np.int64), np.empty(values.size, np.int32)
    for i in range(values.size):
        codes[i] = ranks[values[i] - low]
        found[codes[i]] = values[i]
    return found, codes


@kernel()
def _slot(value, found, slots):
    """Return the slot of a value, or the empty one that it may take."""
    last = np.int64(slots.size - 1)
    at = np.int64(mixed(value)) & last
    while slots[at] >= 0 and found[slots[at]] != value:
        at = (at + 1) & last
    return at


@kernel()
def _by_hash(values, num_slots):
    """Return distinct values as they first appear, and the position of each value among them."""
    found, slots = np.empty(num_slots // 2, np.int64), np.full(num_slots, -1, np.int32)
    codes, count = np.empty(values.size, np.int32), 0
    for i in range(values.size):
        at = _slot(values[i], found, slots)
        if slots[at] < 0 and count == found.size:  # half full: twice as many
            more = np.empty(2 * count, np.int64)
            more[:count] = found
            found, slots = more, np.full(2 * slots.size, -1, np.int32)
            for k in range(count):
                slots[_slot(found[k], found, slots)] = k
            at = _slot(values[i], found, slots)
        if slots[at] < 0:
            found[count], slots[at] = values[i], count
            count += 1
        codes[i] = slots[at]
    return found[:count].copy(), codes
