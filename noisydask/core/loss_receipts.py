"""The receipt of a block of losses: what its states were made from, after which iterations they
are, and their checksums.

Sums by label and iteration, and the losses of the block's first candidates, lie in an object
beside, as they may be large. As with the main job's, a receipt is believed only as a whole.
"""

from __future__ import annotations

import io
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from noisydask.core.curve_sums import CurveSums, carried
from noisydask.core.receipts import Why, sealed, unsealed

#: Rises with every change of what states or receipts mean: those of another version are made anew.
STATE_VERSION = 2
#: Bytes of a digest.
DIGEST_BYTES = 16


@dataclass(frozen=True)
class LossSource:
    """What the client knows of a block before it is read.

    Attributes
    ----------
    number : int
        The block.
    prefixes : bytes
        A digest for the first chunk of the iterations, one for the first two, and so on: what the
        block's losses of these lie in. Empty where the store tells none.
    receipt : bool
        Whether a receipt of it is stored.
    why : Why
        The reason to read it, if there is no receipt.
    """

    number: int
    prefixes: bytes = b""
    receipt: bool = False
    why: Why = Why.NEW

    @property
    def whole(self) -> str:
        """The digest of all iterations."""
        return self.prefixes[-DIGEST_BYTES:].hex()

    def prefix(self, chunks: int) -> str:
        """The digest of the first chunks; empty if there are not as many."""
        return (
            self.prefixes[(chunks - 1) * DIGEST_BYTES : chunks * DIGEST_BYTES].hex()
            if chunks
            else ""
        )


@dataclass(frozen=True)
class LossReceipt:
    """What is kept of a block beside its states.

    Attributes
    ----------
    iterations, source : int, str
        Iterations that were read, and the digest of what they lie in.
    kept, kept_source : int, str
        The same of those that end a chunk of the array: a chunk that is not full is written again
        when more come.
    labels : str
        Fingerprint of its labels.
    rows : int
        Number of rows.
    checksums : mapping of str to str
        CRC-32C of the stored chunk of each column, and of the sums, in hexadecimal.
    invalid, kept_invalid : int
        Losses that were left out as invalid, of all iterations and of those that are kept.
    """

    iterations: int
    source: str
    kept: int
    kept_source: str
    labels: str
    rows: int
    checksums: Mapping[str, str]
    invalid: int = 0
    kept_invalid: int = 0

    def to_bytes(self) -> bytes:
        """As it is stored."""
        return sealed(asdict(self) | {"version": STATE_VERSION})

    @classmethod
    def from_bytes(cls, content: bytes) -> LossReceipt | None:
        """What :meth:`to_bytes` wrote, or None if this is anything else.

        Examples
        --------
        >>> receipt = LossReceipt(24, "s", 20, "k", "l", 5, {"ema": "0a"})
        >>> LossReceipt.from_bytes(receipt.to_bytes()).kept
        20
        >>> LossReceipt.from_bytes(receipt.to_bytes()[:-5]) is None
        True
        """
        try:
            found = unsealed(content)
            return cls(**found) if found.pop("version") == STATE_VERSION else None
        except (ValueError, KeyError, TypeError):
            return None

    def stands(
        self, source: LossSource, labels: str, rows: int, iterations: int, width: int
    ) -> tuple[list[int], Why]:
        """After which iterations its states may serve, best first, and why they are not all that is
        needed.

        ``width`` is the number of iterations of a chunk.
        """
        if self.rows != rows:
            return [], Why.SOURCE
        if self.labels != labels:
            return [], Why.LABELS
        if (self.iterations, self.source) == (iterations, source.whole):
            return sorted({self.iterations, self.kept} - {0}, reverse=True), Why.DAMAGED
        same = (
            self.kept > 0
            and self.kept <= iterations
            and self.kept_source == source.prefix(self.kept // width)
        )
        return [
            self.kept
        ] if same else [], Why.APPENDED if same and iterations > self.iterations else Why.SOURCE


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
        """As it is stored: arrays of NumPy's own format; limbs above the largest sum are left
        out.
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
        """What :meth:`to_bytes` wrote; its checksum was compared before."""
        with np.load(io.BytesIO(content), allow_pickle=False) as found:
            sums = CurveSums.zero(found["labels"], found["counts"].shape[1])
            sums.counts[...] = found["counts"]
            limbs = found["limbs"]
            sums.limbs[: len(limbs)] = limbs
            return cls(sums, found["index"], found["losses"])
