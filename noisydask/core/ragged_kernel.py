"""The kernels of the loss dynamics over losses that lie example after example. See
:mod:`noisydask.core.dynamics`.

An example is advanced by the arithmetic of :mod:`noisydask.core.dynamics_kernel`, so that a table
and an array of the same losses have the same answers, bit for bit.
"""

from __future__ import annotations

import numpy as np

from noisydask.core.compiled import kernel
from noisydask.core.dynamics_kernel import (
    LARGEST_LOSS,
    NEGATIVE,
    TOO_LARGE,
    add_fixed,
    advance_one,
    as_summed,
)


@kernel()
def advance_ragged(
    starts,
    losses,
    steps,
    codes,
    alpha,
    ema,
    total,
    squares,
    first,
    last,
    smallest,
    count,
    problems,
    limbs,
    counts,
):
    """As :func:`advance_dense`, of losses that lie example after example; ``steps`` says which
    iteration each is of.
    """
    for i in range(starts.size - 1):
        for j in range(starts[i], starts[i + 1]):
            value = np.float64(losses[j])
            if value < 0:
                problems[i] = max(problems[i], NEGATIVE)
            elif value > LARGEST_LOSS:
                problems[i] = max(problems[i], TOO_LARGE)
            elif value >= 0:
                loss = abs(losses[j])
                if count[i] == 0:
                    first[i] = smallest[i] = loss
                count[i] += 1
                last[i], smallest[i] = loss, min(smallest[i], loss)
                ema[i], total[i], squares[i] = advance_one(
                    value, alpha, ema[i], np.float64(first[i]), total[i], squares[i]
                )
                add_fixed(ema[i], limbs, codes[i], steps[j])
                counts[codes[i], steps[j]] += 1


@kernel()
def curves_ragged(starts, losses, steps, alpha, curves):
    """EMA of each example at its iterations; what is not recorded is left as it is."""
    for i in range(starts.size - 1):
        ema = 0.0
        for j in range(starts[i], starts[i + 1]):
            value = np.float64(losses[j])
            if value >= 0.0:
                ema = (1.0 - alpha) * ema + alpha * value
                curves[i, steps[j]] = ema


@kernel()
def crossings_ragged(starts, losses, steps, alpha, mean, ema, found):
    """First iteration at which each example's EMA lies above the mean curve, where none was found
    before.
    """
    for i in range(starts.size - 1):
        for j in range(starts[i], starts[i + 1]):
            value = np.float64(losses[j])
            if found[i] < 0 and value >= 0.0:
                ema[i] = (1.0 - alpha) * ema[i] + alpha * value
                if as_summed(ema[i]) > mean[steps[j]]:
                    found[i] = steps[j]
