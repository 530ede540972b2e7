"""Mean curves of a table: which iterations there are is known only piece by piece. Pure."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from noisydask.core.curve_sums import CurveSums
from noisydask.core.distinct import distinct

__all__ = ["TableSums", "distinct"]

Ints = npt.NDArray[np.int64]


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
