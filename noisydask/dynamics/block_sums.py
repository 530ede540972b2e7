"""What is kept of a block of dense losses beside its states: sums by label and iteration, and the
losses of its first candidates; and where its examples cross a curve. As bytes.
"""

from __future__ import annotations

import io
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from noisydask.core.curve_sums import CurveSums, carried

Ints = npt.NDArray[np.int64]


@dataclass(frozen=True)
class BlockSums:
    """What is kept of a block of losses beside its states and receipt.

    Attributes
    ----------
    sums : CurveSums
        By label and iteration.
    index, losses : ndarray, (k,) and (k, t)
        All losses of its first candidates, by their positions.
    """

    sums: CurveSums
    index: npt.NDArray[np.int64]
    losses: npt.NDArray[Any]

    def to_bytes(self) -> bytes:
        """Return the sums as they are stored: arrays of NumPy's own format; limbs above the largest
        sum are left out.
        """
        limbs = carried(self.sums.limbs)
        used = 1 + max(np.flatnonzero(limbs.any(axis=(1, 2))), default=0)
        buffer = io.BytesIO()
        np.savez(
            buffer,
            labels=self.sums.labels,
            limbs=limbs[:used],
            counts=self.sums.counts,
            index=self.index,
            losses=self.losses,
        )
        return buffer.getvalue()

    @classmethod
    def from_bytes(cls, content: bytes) -> BlockSums:
        """Read what :meth:`to_bytes` wrote; its checksum was compared before."""
        with np.load(io.BytesIO(content), allow_pickle=False) as arrays:
            sums = CurveSums.zero(arrays["labels"], arrays["counts"].shape[1])
            sums.counts[...] = arrays["counts"]
            limbs = arrays["limbs"]
            sums.limbs[: len(limbs)] = limbs
            return cls(sums, arrays["index"], arrays["losses"])
