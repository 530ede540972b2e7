"""Losses that were recorded more than once for the same iteration become one. Pure."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import numpy.typing as npt

Ints = npt.NDArray[np.int64]


def one_of_each(
    losses: npt.NDArray[Any], starts: Ints, how: str, positions: Ints
) -> npt.NDArray[Any]:
    """Return one loss for each run of duplicates.

    Parameters
    ----------
    losses : ndarray, (n,)
        Finite; duplicates lie next to each other, in any order.
    starts : ndarray of int64, (runs,)
        Where each run begins; the first at 0. A loss without duplicates is a run of its own.
    how : {"first", "last", "mean"}
        The loss of the lowest or highest position; or the mean: the sum of the run, rounded once as
        ``math.fsum`` does, divided by its length. So the mean does not depend on the order.
    positions : ndarray of int64, (n,)
        Where each loss was found, no two alike; ``"mean"`` does not look at it.

    Returns
    -------
    ndarray, (runs,)

    Examples
    --------
    >>> losses, starts, positions = np.array([1e16, 1, 1, 7]), np.array([0, 3]), np.arange(4)
    >>> [one_of_each(losses, starts, how, positions).tolist() for how in ("last", "mean")]
    [[1.0, 7.0], [3333333333333334.0, 7.0]]
    """
    lengths = np.diff(starts, append=len(losses))
    if how == "mean":
        sums = np.add.reduceat(losses, starts)  # of two losses it is rounded once
        for run in np.flatnonzero(lengths > 2):
            sums[run] = math.fsum(losses[starts[run] : starts[run] + lengths[run]])
        return sums / lengths
    chosen = np.minimum if how == "first" else np.maximum
    return losses[positions == np.repeat(chosen.reduceat(positions, starts), lengths)]
