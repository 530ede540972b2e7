"""Class totals of many blocks become confident thresholds: the mean probability of each class among
those given it.

The totals are integers (see :data:`noisydask.core.row_kernel.FIXED_POINT`), so they add up to the
same bits in any order.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from noisydask.core.row_kernel import FIXED_POINT

#: Subtracted from a threshold before a probability is compared with it, as cleanlab does.
FLOATING_POINT_COMPARISON = 1e-6
#: Least divisor, as in cleanlab.
CLIPPING_LOWER_BOUND = 1e-6
#: Thresholds are never below this.
LOWER_BOUND = 2 * FLOATING_POINT_COMPARISON
#: Stands for the threshold of a class without examples: no probability reaches it.
NEVER = 2.0

_LOW_BITS = 20


@dataclass(frozen=True)
class ClassTotals:
    """Per class, the number of examples and the sum of their probability of it.

    The sum is ``high * 2**20 + low`` in units of ``1 / FIXED_POINT``, each part an int64 (K,).
    """

    counts: npt.NDArray[np.int64]
    high: npt.NDArray[np.int64]
    low: npt.NDArray[np.int64]

    @classmethod
    def zero(cls, num_classes: int) -> ClassTotals:
        """Return totals of no rows."""
        return cls(*(np.zeros(num_classes, np.int64) for _ in range(3)))

    @classmethod
    def of(cls, counts: npt.NDArray[np.int64], fixed: npt.NDArray[np.int64]) -> ClassTotals:
        """Return totals of one call of the row kernel."""
        return cls(counts, fixed >> _LOW_BITS, fixed & ((1 << _LOW_BITS) - 1))

    @classmethod
    def of_values(
        cls, classes: npt.NDArray[np.integer], values: npt.NDArray[np.floating], num_classes: int
    ) -> ClassTotals:
        """Return totals of some rows by their classes."""
        fixed = (values.astype(np.float64) * FIXED_POINT).astype(np.int64)
        sums = np.zeros(num_classes, np.int64)
        np.add.at(sums, classes, fixed)
        return cls.of(np.bincount(classes, minlength=num_classes), sums)

    @classmethod
    def from_sums(
        cls,
        num_classes: int,
        classes: npt.NDArray[np.int64],
        counts: Sequence[int],
        sums: Sequence[int],
    ) -> ClassTotals:
        """Return totals of which these are the counts and :meth:`sums` of some classes; the others
        have no examples.
        """
        totals = cls.zero(num_classes)
        totals.counts[classes] = counts
        totals.high[classes] = [total >> _LOW_BITS for total in sums]
        totals.low[classes] = [total & ((1 << _LOW_BITS) - 1) for total in sums]
        return totals

    def sums(self, classes: npt.NDArray[np.int64] | slice = slice(None)) -> list[int]:
        """Return the sum of each class, or of some, in units of ``1 / FIXED_POINT``: Python's
        integers, of any size.
        """
        parts = zip(self.high[classes].tolist(), self.low[classes].tolist(), strict=True)
        return [(high << _LOW_BITS) + low for high, low in parts]

    def __add__(self, other: ClassTotals) -> ClassTotals:
        return ClassTotals(self.counts + other.counts, self.high + other.high, self.low + other.low)


def confident_thresholds(totals: ClassTotals, absent: float = NEVER) -> npt.NDArray[np.float64]:
    """Return the mean probability of each class over the examples given it, clipped from below at
    2e-6.

    Source: Northcutt, Jiang, Chuang, "Confident learning", JAIR 70 (2021), equation 2; the clipping
    is cleanlab's.

    Parameters
    ----------
    totals : ClassTotals
        Totals of all rows.
    absent : float
        Value for a class without examples.

    Returns
    -------
    ndarray of float64, (K,)

    Examples
    --------
    >>> totals = ClassTotals.of(np.array([2, 0]), np.array([int(1.5 * FIXED_POINT), 0]))
    >>> confident_thresholds(totals).tolist()
    [0.75, 2.0]
    """
    return np.maximum(means(totals, absent), LOWER_BOUND)


def means(totals: ClassTotals, absent: float) -> npt.NDArray[np.float64]:
    """Return the mean of each class, (K,); ``absent`` for a class without examples."""
    unit = int(FIXED_POINT)
    # Python divides two integers with one correct rounding, whatever their size.
    found = [
        total / (int(n) * unit) if n else absent
        for total, n in zip(totals.sums(), totals.counts, strict=True)
    ]
    return np.array(found, np.float64)
