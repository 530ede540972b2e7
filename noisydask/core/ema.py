"""The arithmetic of one EMA: one more loss, its exact sum in integers, what losses are refused.

Every loop over losses, dense or ragged, does this arithmetic on a value, so that all have the same
answers, bit for bit.
"""

from __future__ import annotations

import math
from enum import IntEnum

import numpy as np

from noisydask.core.compiled import kernel

#: Sums are kept in integers: an EMA counts in units of ``2 ** -60``, by limbs of 40 bits.
LIMB_BITS, NUM_LIMBS, UNIT_BITS = 40, 5, 60
#: The largest loss that is accepted (float32's largest), which five limbs hold for any number of
#: examples.
LARGEST_LOSS = float(np.finfo(np.float32).max)

# Below this, an EMA is cut into two limbs by adding and subtracting: what is added leaves the
# rounded value in the low bits of the sum, which are added up as they are.
PLAIN = float(1 << 20)
HIGH, LOW = 1.5 * 2.0**32, 1.5 * 2.0**-8
HIGH_BITS, LOW_BITS = (int(np.float64(value).view(np.int64)) for value in (HIGH, LOW))
_UNITS = tuple(2.0 ** (LIMB_BITS * k - UNIT_BITS) for k in range(NUM_LIMBS))


class LossProblem(IntEnum):
    """Why a loss was refused."""

    NONE = 0
    NEGATIVE = 1
    TOO_LARGE = 2


NONE, NEGATIVE, TOO_LARGE = (int(problem) for problem in LossProblem)


@kernel()
def add_fixed(value, limbs, code, step):
    """Add an EMA of any size, rounded to a multiple of ``2 ** -60``, to the limbs of a code and
    iteration.
    """
    if value >= PLAIN:
        for limb in range(NUM_LIMBS - 1, 1, -1):
            whole = math.floor(value / _UNITS[limb])
            value -= whole * _UNITS[limb]
            limbs[limb, code, step] += np.int64(whole)
    rounded = value + HIGH
    limbs[1, code, step] += np.float64(rounded).view(np.int64) - HIGH_BITS
    limbs[0, code, step] += np.float64((value - (rounded - HIGH)) + LOW).view(np.int64) - LOW_BITS


@kernel()
def as_summed(value):
    """Return an EMA as :func:`add_fixed` counts it: what the mean of equal values is, to the last
    bit.
    """
    if value >= PLAIN:
        return value
    high = (value + HIGH) - HIGH
    return high + (((value - high) + LOW) - LOW)


@kernel()
def advance_one(value, alpha, ema, first, total, squares):
    """Return EMA and sums of one example after one more loss: the arithmetic of all loops."""
    distance = value - first
    return (1.0 - alpha) * ema + alpha * value, total + distance, squares + distance * distance
