"""Mean curves of a table: which iterations there are is known only piece by piece. Pure."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from noisydask.core.curve_sums import CurveSums

Ints = npt.NDArray[np.int64]


def distinct(values: Ints) -> tuple[Ints, npt.NDArray[np.int32]]:
    """Return distinct values, ascending, and the position of each value among them.

    Examples
    --------
    >>> [found.tolist() for found in distinct(np.array([30, 10, 30]))]
    [[10, 30], [1, 0, 1]]
    """
    if len(values):
        low, high = (int(values.min()), int(values.max()))
    else:
        low, high = (0, -1)
    if high - low > 4 * len(values) + 1024:
        values_found, codes = np.unique(values, return_inverse=True)
        return values_found, codes.astype(np.int32)
    there = np.zeros(high - low + 1, bool)
    there[values - low] = True
    return np.flatnonzero(there) + low, (np.cumsum(there) - 1).astype(np.int32)[values - low]


@dataclass(frozen=True, eq=False)
class TableSums:
    """Sums of the EMA by label and iteration; they add up to the same bits in any order.

    Attributes
    ----------
    iterations : ndarray of int64, (T,)
        Ascending.
    sums : CurveSums of T iterations
    """

    iterations: Ints
    sums: CurveSums

    @classmethod
    def zero(cls, labels: Ints, iterations: Ints) -> TableSums:
        """Return sums of no examples yet."""
        return cls(iterations, CurveSums.zero(labels, len(iterations)))

    def __add__(self, other: TableSums) -> TableSums:
        iterations = np.union1d(self.iterations, other.iterations)
        return TableSums(iterations, self._at(iterations) + other._at(iterations))

    def _at(self, iterations: Ints) -> CurveSums:
        """Return the sums at more iterations."""
        if len(iterations) == len(self.iterations):
            return self.sums
        wider = TableSums.zero(self.sums.labels, iterations).sums
        where = np.searchsorted(iterations, self.iterations)
        wider.limbs[:, :, where] = self.sums.limbs
        wider.counts[:, where] = self.sums.counts
        return wider
