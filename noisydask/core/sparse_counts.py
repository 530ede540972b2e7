"""Counts of pairs of classes, of which only those are kept that occur. Pure."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

# Up to so many different pairs are counted in a table.
_TABLE = 1 << 22


@dataclass(frozen=True)
class SparseCounts:
    """Counts of pairs (given class, likely class), only those that occur.

    Attributes
    ----------
    pairs : ndarray of int64, (m,)
        ``given * K + likely``, ascending.
    counts : ndarray of int64, (m,)
    """

    pairs: npt.NDArray[np.int64]
    counts: npt.NDArray[np.int64]

    @classmethod
    def of(cls, pairs: npt.NDArray[np.int64]) -> SparseCounts:
        """Count pairs; negative ones are left out."""
        return cls(*np.unique(pairs[pairs >= 0], return_counts=True))

    @classmethod
    def of_codes(cls, codes: npt.NDArray[np.int64], stop: int) -> SparseCounts:
        """Count pairs from 0 to ``stop - 1``: in a table of all, where that is small."""
        if stop <= _TABLE:
            return cls.of_dense(np.bincount(codes, minlength=stop))
        return cls(*np.unique(codes, return_counts=True))

    @classmethod
    def of_dense(cls, counts: npt.NDArray[np.int64]) -> SparseCounts:
        """Take the counts of all pairs, (K * K,)."""
        pairs = np.flatnonzero(counts)
        return cls(pairs, counts[pairs])

    def __add__(self, other: SparseCounts) -> SparseCounts:
        pairs, where = np.unique(np.concatenate([self.pairs, other.pairs]), return_inverse=True)
        counts = np.zeros(len(pairs), np.int64)
        np.add.at(counts, where, np.concatenate([self.counts, other.counts]))
        return SparseCounts(pairs, counts)
