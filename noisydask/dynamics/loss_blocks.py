"""What the client knows of each block of dense losses before any is read: the chunks of its
iterations, by identity, and which of them should be stored and are not.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from hashlib import blake2b
from typing import Any

import numpy as np
import numpy.typing as npt

from noisydask.checkpoint.receipts import BlockSource, Why
from noisydask.core.blocks import BlockGrid
from noisydask.core.versions import STATE_VERSION
from noisydask.stores.fingerprints import Snapshot, digest
from noisydask.stores.unstored import described, refuse_lost, unstored

Ints = npt.NDArray[np.int64]

#: Bytes of a digest.
_DIGEST_BYTES = 16


@dataclass(frozen=True)
class LossSource(BlockSource):
    """What the client knows of a block of losses before it is read; its fingerprint is that of all
    iterations.

    Attributes
    ----------
    prefixes : bytes
        A digest for the first chunk of the iterations, one for the first two, and so on: what the
        block's losses of these lie in. Empty where the store tells none.
    """

    prefixes: bytes = b""

    def prefix(self, chunks: int) -> str:
        """Return the digest of the first chunks; empty if there are not as many."""
        if not chunks:
            return ""
        return self.prefixes[(chunks - 1) * _DIGEST_BYTES : chunks * _DIGEST_BYTES].hex()


def loss_sources(
    snapshot: Snapshot | None,
    grid: BlockGrid,
    iterations: Ints,
    alpha: float,
    receipts: set[int],
    why: Why,
) -> Iterator[LossSource]:
    """Describe all blocks; without a snapshot by their numbers only."""
    if snapshot is None:
        yield from (LossSource(block, why=why) for block in range(grid.num_blocks))
        return
    rows = snapshot.rows
    width = chunk_width(rows)
    here = [iterations[low : low + width].tolist() for low in range(0, len(iterations), width)]
    common = digest(STATE_VERSION, rows.layout, str(rows.dtype), alpha)
    for block in range(grid.num_blocks):
        prefixes = _prefixes(snapshot, common, grid.bounds(block), here, width)
        whole = prefixes[-_DIGEST_BYTES:].hex()
        yield LossSource(block, whole, block in receipts, why, prefixes)


def _prefixes(
    snapshot: Snapshot, common: str, bounds: tuple[int, int], here: list[Any], width: int
) -> bytes:
    """Return the digests of a block's first chunks of iterations, of which ``here`` are the
    numbers.
    """
    objects = snapshot.objects or {}
    lies_in: list[list[Any]] = [[] for _ in here]
    for chunk in snapshot.rows.chunks(*bounds):
        column = chunk.rest[0].start // width if chunk.rest else 0
        lies_in[column].append((chunk.key, objects.get(chunk.key)))
    state = blake2b(repr((common, *bounds)).encode(), digest_size=_DIGEST_BYTES)
    prefixes = []
    for part in zip(here, lies_in, strict=True):
        state.update(repr(part).encode())
        prefixes.append(state.digest())
    return b"".join(prefixes)


def chunk_width(rows: Any) -> int:
    """Return the number of iterations that the store keeps together."""
    return int(getattr(rows, "chunk_columns", 0) or rows.shape[1])


def refuse_lost_losses(inputs: Mapping[str, Snapshot]) -> None:
    """Name the first chunk of training losses, or of what comes with them, that should be stored
    and is not.

    Raises
    ------
    JobError
        If there is one.
    """
    for name, snapshot in inputs.items():
        lost, _ = unstored(snapshot, _may_be_filled(name, snapshot))
        refuse_lost(name, snapshot, lost, skip=False)


def describe_losses(name: str, snapshot: Snapshot) -> dict[str, Any]:
    """Return what the manifest says of an input's objects."""
    return described(snapshot, _may_be_filled(name, snapshot))


def _may_be_filled(name: str, snapshot: Snapshot) -> bool:
    """Return whether an input may well hold a chunk that is all fill value: NaN is a loss that was
    not recorded, and any integer is a label.
    """
    fill = snapshot.rows.fill
    unrecorded = name == "losses" and fill is not None and bool(np.isnan(fill))
    return name == "labels" or unrecorded
