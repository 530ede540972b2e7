"""Compiled loops over dense losses: where they cross a curve, and curves of some examples."""

from __future__ import annotations

import numpy as np

from noisydask.core.compiled import kernel
from noisydask.core.ema import (
    LARGEST_LOSS,
    as_summed,
)


@kernel()
def crossings_dense(losses, rows, first, alpha, mean, ema, found):
    """Do the same as :func:`crossings_ragged` for some rows of iterations from ``first`` on;
    ``ema`` and ``found`` are of these rows.
    """
    fits = ema.size == found.size == rows.size and first >= 0
    if not (fits and first + losses.shape[1] <= mean.size):
        raise ValueError("states must have an element a row, the mean one an iteration")
    for k in range(rows.size):
        if rows[k] < 0 or rows[k] >= losses.shape[0]:
            raise ValueError("rows must be positions in losses")
        now = ema[k]
        for j in range(losses.shape[1]):
            if found[k] >= 0:
                break
            value = np.float64(losses[rows[k], j])
            if value >= 0.0 and value <= LARGEST_LOSS:
                now = (1.0 - alpha) * now + alpha * value
                if as_summed(now) > mean[first + j]:
                    found[k] = first + j
        ema[k] = now


@kernel()
def curves_dense(losses, alpha, curves):
    """Return EMA of whole rows at each iteration; what is not recorded is left as it is."""
    if curves.shape != losses.shape:
        raise ValueError("curves must have the shape of losses")
    for i in range(losses.shape[0]):
        now = 0.0
        for j in range(losses.shape[1]):
            value = np.float64(losses[i, j])
            if value >= 0.0 and value <= LARGEST_LOSS:
                now = (1.0 - alpha) * now + alpha * value
                curves[i, j] = now
