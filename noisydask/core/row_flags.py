"""Find what is wrong with losses that lie example after example, in one walk. Pure."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from noisydask.core.compiled import kernel
from noisydask.core.ema import LARGEST_LOSS

Array = npt.NDArray[Any]

#: Bits of a flag: a negative loss, one that is infinite or too large, another loss of the same
#: iteration before it, another label before it.
NEGATIVE, TOO_LARGE, DUPLICATE, LABEL = 1, 2, 4, 8


def flag_rows(
    starts: npt.NDArray[np.int64], iterations: Array, losses: Array, labels: Array | None = None
) -> npt.NDArray[np.uint8]:
    """Return what is wrong with each loss, 0 where nothing is: the sum of its bits.

    Parameters
    ----------
    starts : ndarray of int64, (n + 1,)
        Where the losses of each example begin.
    iterations, losses : ndarray, (m,)
        Ascending iterations within an example, and its losses, none of them NaN.
    labels : ndarray of int64, (m,), optional
        Labels, that of the example with each loss.

    Examples
    --------
    >>> losses, labels = np.array([-1.0, 0.5, np.inf, 2.0]), np.array([3, 3, 3, 4])
    >>> flag_rows(np.array([0, 3, 4]), np.array([0, 1, 1, 1]), losses, labels).tolist()
    [1, 0, 6, 0]
    """
    flags = np.zeros(len(losses), np.uint8)
    _flag(starts, iterations, losses, iterations if labels is None else labels, flags)
    if labels is None:
        flags &= ~np.uint8(LABEL)
    return flags


@kernel()
def _flag(starts, iterations, losses, labels, flags):
    fits = iterations.size == labels.size == losses.size
    for example in range(starts.size - 1):
        if not (fits and 0 <= starts[example] <= starts[example + 1] <= losses.size):
            raise ValueError("starts must rise within losses, of which each has an iteration")
        for i in range(starts[example], starts[example + 1]):
            flag = NEGATIVE if losses[i] < 0 else 0
            if losses[i] > LARGEST_LOSS:
                flag |= TOO_LARGE
            if i > starts[example]:
                if iterations[i] == iterations[i - 1]:
                    flag |= DUPLICATE
                if labels[i] != labels[i - 1]:
                    flag |= LABEL
            flags[i] = flag
