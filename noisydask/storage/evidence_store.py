"""The evidence of all rows as it is stored below ``OUT/evidence``, and the receipts that make it the checkpoint."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np

from noisydask.core.blocks import BlockGrid
from noisydask.core.evidence import column_dtypes
from noisydask.core.receipts import EVIDENCE_VERSION, Receipt
from noisydask.storage.block_store import RECEIPTS, BlockStore, open_arrays, receipt_name
from noisydask.storage.chunks import ChunkedArray
from noisydask.storage.locations import Location


@dataclass(frozen=True)
class EvidenceStore(BlockStore):
    """Evidence and receipts, read and written a block at a time."""

    num_classes: int

    def write_receipt(self, block: int, receipt: Receipt) -> None:
        """Vouch for a block whose evidence is stored."""
        self.put(receipt_name(block), receipt.to_bytes())

    def read_receipt(self, block: int) -> Receipt | None:
        """The receipt of a block, if there is one and it is whole."""
        content = self.get(receipt_name(block))
        return None if content is None else Receipt.from_bytes(content, self.num_classes)


def open_evidence(
    root: Location, grid: BlockGrid, num_classes: int, dtype: np.dtype[Any], columns: Iterable[str], fresh: bool
) -> tuple[EvidenceStore, str | None]:
    """Make room for the evidence of all rows, and keep what is there if it is of this kind.

    Parameters
    ----------
    root : Location
        The folder of the evidence.
    grid : BlockGrid
        The blocks; where rows were appended, all blocks but the last keep their place.
    num_classes, dtype, columns
        Number of classes and type of the probabilities, and the columns wanted. Others that are there stay.
    fresh : bool
        Keep nothing.

    Returns
    -------
    EvidenceStore, str or None
        The store, and why what was there was not kept, if anything was.
    """
    chunk_rows = min(grid.block_rows, grid.rows)
    kind: dict[str, Any] = {
        "evidence_version": EVIDENCE_VERSION, "classes": num_classes, "dtype": str(dtype), "block_rows": grid.block_rows,
        "chunk_rows": chunk_rows,
    }  # fmt: skip
    dtypes = column_dtypes(num_classes, dtype, columns)
    arrays = {name: ChunkedArray(root, name, (grid.rows,), chunk_rows, kinds) for name, kinds in dtypes.items()}
    return EvidenceStore(root, arrays, num_classes), open_arrays(root, arrays, kind, fresh, [RECEIPTS])
