"""Sums of the EMA by label and iteration, in integers: they add up to the same bits in any order.
Pure.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import numpy.typing as npt

from noisydask.core.ema import LIMB_BITS, NUM_LIMBS, UNIT_BITS
from noisydask.errors import InputError

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]

#: Labels times iterations of the curves that are made, at most: 48 bytes each. A reduction holds
#: eight such sums and two on the way, which take no more than the 60 % of a worker of 8 GiB that
#: Dask fills before it spills.
MOST_CELLS = 10_000_000
#: Examples after which the carries of sums are passed on, so that no limb leaves 63 bits.
ROWS_BETWEEN_CARRIES = 1 << 21


@dataclass
class CurveSums:
    """Sums and counts of the EMA by label and iteration; they add up to the same bits in any order.

    Attributes
    ----------
    labels : ndarray of int64, (L,)
        Label values, ascending.
    limbs : ndarray of int64, (5, L, T)
        Sums in units of ``2 ** -60``, by limbs of 40 bits, the lowest first.
    counts : ndarray of int64, (L, T)
        Recorded losses.
    """

    labels: Ints
    limbs: Ints
    counts: Ints
    _rows: int = 0

    @classmethod
    def zero(cls, labels: Ints, iterations: int) -> CurveSums:
        """Return sums of no examples of these labels yet.

        Raises
        ------
        InputError
            If there are too many labels and iterations.
        """
        if max(1, len(labels)) * iterations > MOST_CELLS:
            raise InputError(
                f"{len(labels):,} labels at {iterations:,} iterations, or more, are too many "
                "for mean curves, of which at most"
                f" {MOST_CELLS:,} numbers are kept in memory: are the labels names of examples? "
                "Leave them out, or record"
                " epochs instead of steps"
            )
        shape = len(labels), iterations
        return cls(labels, np.zeros((NUM_LIMBS, *shape), np.int64), np.zeros(shape, np.int64))

    def room_for(self, rows: int) -> None:
        """Pass on carries where so many more examples need it."""
        self._rows += rows
        if self._rows > ROWS_BETWEEN_CARRIES:
            carried(self.limbs)
            self._rows = rows

    def columns(self, start: int, stop: int) -> CurveSums:
        """Return a view of some iterations."""
        return CurveSums(
            self.labels, self.limbs[:, :, start:stop], self.counts[:, start:stop], self._rows
        )

    def __add__(self, other: CurveSums) -> CurveSums:
        """Return sums over the examples of both."""
        labels = np.union1d(self.labels, other.labels)
        both = CurveSums.zero(labels, self.counts.shape[1])
        for one in (self, other):
            where = np.searchsorted(labels, one.labels)
            both.limbs[:, where] += carried(one.limbs)
            both.counts[where] += one.counts
        return both

    def then(self, later: CurveSums) -> CurveSums:
        """Return sums over the iterations of both, of the same examples."""
        labels = np.union1d(self.labels, later.labels)
        width = self.counts.shape[1]
        both = CurveSums.zero(labels, width + later.counts.shape[1])
        for one, columns in ((self, slice(0, width)), (later, slice(width, None))):
            where = np.searchsorted(labels, one.labels)
            both.limbs[:, where, columns] = one.limbs
            both.counts[where, columns] = one.counts
        return both

    def mean(self) -> Floats:
        """Return the mean EMA of the examples recorded at each iteration, correctly rounded; NaN
        where none is: (T,).
        """
        return _quotients(carried(self.limbs).sum(axis=1), self.counts.sum(axis=0))

    def mean_per_label(self) -> Floats:
        """Do the same as :meth:`mean` for the examples of each label: (L, T)."""
        return _quotients(carried(self.limbs), self.counts)


def carried(limbs: Ints) -> Ints:
    """Bring all limbs but the last into 0 to 2 ** 40, in place."""
    for low, high in pairwise(limbs):
        high += low >> LIMB_BITS
        low &= (1 << LIMB_BITS) - 1
    return limbs


def _quotients(limbs: Ints, counts: Ints) -> Floats:
    """Return sums over counts, each rounded once."""
    some = np.flatnonzero(counts)
    totals = [0] * len(some)
    for limb in limbs[::-1]:
        totals = [
            (t << LIMB_BITS) + v for t, v in zip(totals, limb.ravel()[some].tolist(), strict=True)
        ]
    mean = np.full(counts.size, np.nan)
    mean[some] = [
        t / (n << UNIT_BITS) for t, n in zip(totals, counts.ravel()[some].tolist(), strict=True)
    ]
    return mean.reshape(counts.shape)
