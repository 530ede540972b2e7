"""Whole rows of a block that are kept for the next run: those that the evidence leaves open, or
nearly does.

They are few, but wherever a block holds one, all of it would be read again, run after run. Pure.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

#: Rows are kept that would be unresolved if each threshold moved by up to this share of itself, as
#: it may until the next run.
MARGIN = 0.1
#: Of a block of which more rows than this share would be kept, none are: reading them would cost as
#: much as the block.
MOST = 0.25


@dataclass(frozen=True)
class KeptRows:
    """Whole rows of a block, by their positions in it: indexed like the block itself, at those
    positions only.

    Attributes
    ----------
    positions : ndarray of int64, (m,)
        Ascending.
    pred_probs : ndarray, (m, K) or (m,)
        The rows, in the type of the input.

    Examples
    --------
    >>> kept = KeptRows.of(np.arange(5) == 3, np.eye(5, dtype="f4"))
    >>> kept[np.array([3])], kept.cover(np.arange(5) == 2)
    (array([[0., 0., 0., 1., 0.]], dtype=float32), False)
    """

    positions: npt.NDArray[np.int64]
    pred_probs: npt.NDArray[np.floating]

    @classmethod
    def of(cls, wanted: npt.NDArray[np.bool_], pred_probs: npt.NDArray[np.floating]) -> KeptRows:
        """Take the rows of a block where ``wanted`` holds, or none if these are too many."""
        return cls.all_of(wanted & _few(wanted), pred_probs)

    @classmethod
    def all_of(
        cls, wanted: npt.NDArray[np.bool_], pred_probs: npt.NDArray[np.floating]
    ) -> KeptRows:
        """Take the rows of a block where ``wanted`` holds, however many."""
        positions = np.flatnonzero(wanted)
        return cls(positions, pred_probs[positions])

    def only(self, wanted: npt.NDArray[np.bool_]) -> KeptRows:
        """Keep the rows where ``wanted`` holds of the block, or none if these are too many."""
        some = (wanted & _few(wanted))[self.positions]
        return KeptRows(self.positions[some], self.pred_probs[some])

    def among(self, wanted: npt.NDArray[np.bool_]) -> npt.NDArray[np.bool_]:
        """Return the rows of the block that are among these and where ``wanted`` holds."""
        some = np.zeros_like(wanted)
        some[self.positions] = wanted[self.positions]
        return some

    @classmethod
    def from_bytes(cls, content: bytes, row: np.dtype[Any]) -> KeptRows:
        """Read what :meth:`to_bytes` wrote of rows of a type: that of an array of K numbers, or of
        a row of which the most probable classes are known.
        """
        rows = len(content) // (8 + row.itemsize)
        values = np.frombuffer(content, row.newbyteorder("<"), offset=8 * rows)
        return cls(np.frombuffer(content, "<i8", rows), values)

    def to_bytes(self) -> bytes:
        """Return positions, then rows, little-endian."""
        values = self.pred_probs.astype(self.pred_probs.dtype.newbyteorder("<"))
        return self.positions.astype("<i8").tobytes() + values.tobytes()

    def cover(self, wanted: npt.NDArray[np.bool_]) -> bool:
        """Return whether all rows are among these where ``wanted`` holds."""
        return bool(np.isin(np.flatnonzero(wanted), self.positions).all())

    def __getitem__(self, rows: npt.NDArray[np.intp]) -> npt.NDArray[np.floating]:
        return self.pred_probs[np.searchsorted(self.positions, rows)]


def _few(wanted: npt.NDArray[np.bool_]) -> bool:
    return bool(np.count_nonzero(wanted) <= MOST * len(wanted))
