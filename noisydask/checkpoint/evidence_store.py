"""The evidence of all rows below ``OUT/evidence``, the receipts that make it the checkpoint, and
rows that it leaves open.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np

from noisydask.checkpoint.block_store import (
    OPEN_ROWS,
    RECEIPTS,
    BlockStore,
    open_arrays,
    open_rows_name,
    receipt_name,
)
from noisydask.core.blocks import BlockGrid
from noisydask.core.evidence import column_dtypes
from noisydask.core.kept_rows import KeptRows
from noisydask.core.receipts import EVIDENCE_VERSION, Receipt, StoredBlock
from noisydask.stores.chunks import ChunkedArray, checksum
from noisydask.stores.locations import Location


@dataclass(frozen=True)
class EvidenceStore(BlockStore):
    """Evidence, receipts and kept rows, read and written a block at a time."""

    num_classes: int

    def write_receipt(self, block: int, receipt: Receipt) -> None:
        """Vouch for a block whose evidence is stored."""
        self.put(receipt_name(block), receipt.to_bytes())

    def read_receipt(self, block: int) -> Receipt | None:
        """The receipt of a block, if there is one and it is whole."""
        content = self.get(receipt_name(block))
        return None if content is None else Receipt.from_bytes(content, self.num_classes)

    def write_rows(self, block: int, source: str, rows: KeptRows) -> None:
        """Keep rows of a block, in place of those kept before; ``source`` is the fingerprint of
        what they were read from.
        """
        content = source.encode() + rows.to_bytes()
        self.put(open_rows_name(block), checksum(content).encode() + content)

    def read_rows(self, stored: StoredBlock, dtype: np.dtype[Any]) -> KeptRows | None:
        """The rows kept of a block, if there are any, they are whole, and they are of what its
        evidence was made from.
        """
        if stored.source is None:
            return None
        content, tie = self.get(open_rows_name(stored.number)) or b"", stored.source.encode()
        if content[:8] != checksum(content[8:]).encode() or content[8 : 8 + len(tie)] != tie:
            return None
        return KeptRows.from_bytes(content[8 + len(tie) :], self.num_classes, dtype)

    def forget(self, block: int) -> None:
        """Remove the receipt of a block and the rows kept of it."""
        super().forget(block)
        self.remove(open_rows_name(block))


def open_evidence(
    root: Location,
    grid: BlockGrid,
    num_classes: int,
    dtype: np.dtype[Any],
    columns: Iterable[str],
    fresh: bool,
) -> tuple[EvidenceStore, str | None]:
    """Make room for the evidence of all rows, and keep what is there if it is of this kind.

    Parameters
    ----------
    root : Location
        The folder of the evidence.
    grid : BlockGrid
        The blocks; where rows were appended, all blocks but the last keep their place.
    num_classes, dtype, columns
        Number of classes and type of the probabilities, and the columns wanted. Others that are
        there stay.
    fresh : bool
        Keep nothing.

    Returns
    -------
    EvidenceStore, str or None
        The store, and why what was there was not kept, if anything was.
    """
    chunk_rows = min(grid.block_rows, grid.rows)
    kind: dict[str, Any] = {
        "evidence_version": EVIDENCE_VERSION,
        "classes": num_classes,
        "dtype": str(dtype),
        "block_rows": grid.block_rows,
        "chunk_rows": chunk_rows,
    }
    dtypes = column_dtypes(num_classes, dtype, columns)
    arrays = {
        name: ChunkedArray(root, name, (grid.rows,), chunk_rows, kinds)
        for name, kinds in dtypes.items()
    }
    return EvidenceStore(root, arrays, num_classes), open_arrays(
        root, arrays, kind, fresh, [RECEIPTS, OPEN_ROWS]
    )
