"""The kernels of the loss dynamics over losses that lie example after example. See
:mod:`noisydask.core.dynamics`.

An example is advanced by the arithmetic of :mod:`noisydask.core.ema`, so that a table
and an array of the same losses have the same answers, bit for bit.
"""

from __future__ import annotations

import numpy as np

from noisydask.core.compiled import kernel
from noisydask.core.ema import (
    LARGEST_LOSS,
    NEGATIVE,
    NUM_LIMBS,
    TOO_LARGE,
    add_fixed,
    advance_one,
    as_summed,
)

_STEP = "steps must be positions of iterations"


@kernel()
def _check(starts, losses, steps, examples):
    """Refuse examples that do not lie in the losses."""
    fits = starts.size == examples + 1 and steps.size == losses.size
    if fits:
        fits = starts[0] >= 0 and starts[-1] <= losses.size
        for i in range(examples):
            fits &= starts[i] <= starts[i + 1]
    if not fits:
        raise ValueError("starts must rise within losses, of which each has a step")


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
    """Do the same as :func:`advance_dense` for losses that lie example after example; ``steps``
    says which iteration each is of.
    """
    _check(starts, losses, steps, ema.size)
    fits = total.size == squares.size == first.size == last.size == smallest.size == ema.size
    fits &= codes.size == count.size == problems.size == ema.size
    if not (fits and limbs.shape == (NUM_LIMBS, counts.shape[0], counts.shape[1])):
        raise ValueError("states and codes must have an element an example, sums one a label")
    for i in range(starts.size - 1):
        if codes[i] < 0 or codes[i] >= counts.shape[0]:
            raise ValueError("codes must be positions of labels")
        for j in range(starts[i], starts[i + 1]):
            if steps[j] < 0 or steps[j] >= counts.shape[1]:
                raise ValueError(_STEP)
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
    """Return EMA of each example at its iterations; what is not recorded is left as it is."""
    _check(starts, losses, steps, curves.shape[0])
    for i in range(starts.size - 1):
        ema = 0.0
        for j in range(starts[i], starts[i + 1]):
            if steps[j] < 0 or steps[j] >= curves.shape[1]:
                raise ValueError(_STEP)
            value = np.float64(losses[j])
            if value >= 0.0:
                ema = (1.0 - alpha) * ema + alpha * value
                curves[i, steps[j]] = ema


@kernel()
def crossings_ragged(starts, losses, steps, alpha, mean, ema, found):
    """Return the first iteration at which each example's EMA lies above the mean curve, where none
    was found before.
    """
    _check(starts, losses, steps, ema.size)
    if found.size != ema.size:
        raise ValueError("states must have an element an example")
    for i in range(starts.size - 1):
        for j in range(starts[i], starts[i + 1]):
            if steps[j] < 0 or steps[j] >= mean.size:
                raise ValueError(_STEP)
            value = np.float64(losses[j])
            if found[i] < 0 and value >= 0.0:
                ema[i] = (1.0 - alpha) * ema[i] + alpha * value
                if as_summed(ema[i]) > mean[steps[j]]:
                    found[i] = steps[j]
