"""The evidence of each of several models below ``OUT/evidence-models``, with its probabilities of
the classes that matter for any of them (:mod:`noisydask.core.union`).
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np

from noisydask.checkpoint.checkpoint import Checkpoint, Contents, open_checkpoint
from noisydask.checkpoint.receipts import Receipt
from noisydask.core.blocks import BlockGrid
from noisydask.core.evidence import column_dtypes
from noisydask.core.problems import Problems
from noisydask.core.thresholds import ClassTotals
from noisydask.core.union import union_dtypes
from noisydask.core.versions import EVIDENCE_VERSION
from noisydask.issues.evidence import BlockPayload, StoredBlock, evidence_kind
from noisydask.stores.chunks import ChunkedArray
from noisydask.stores.locations import Location

#: Folder of an output for the evidence of several models, and of a model's rows that are kept.
MODELS, UNION_ROWS = "evidence-models", "union_rows"


class ModelPayload(BlockPayload):
    """What a receipt tells of a block of one of several models.

    Attributes
    ----------
    agreeing : int
        Rows of which the model predicts the given label.
    log_loss : int
        Sum of the log losses of the rows, in units of ``1 / FIXED_POINT``.
    together : str
        Fingerprint of all models' blocks that were read in one step with this one; empty where some
        were not.
    """

    agreeing: int
    log_loss: int
    together: str


ModelCheckpoint = Checkpoint[ModelPayload]
_CONTENTS = Contents(Receipt[ModelPayload], EVIDENCE_VERSION, (UNION_ROWS,))


@dataclass(frozen=True)
class ModelBlock(StoredBlock):
    """A block of the evidence of one of several models; ``together`` is that of its receipt."""

    together: str = ""


@dataclass(frozen=True)
class ModelState:
    """Of the scan of one model: class totals, refused rows, rows whose label it predicts, log loss,
    bytes read, what is stored.
    """

    totals: ClassTotals
    problems: Problems
    agreeing: int
    log_loss: int
    bytes_read: int
    stored: tuple[ModelBlock, ...] = ()

    def __add__(self, other: ModelState) -> ModelState:
        return ModelState(
            self.totals + other.totals,
            self.problems + other.problems,
            self.agreeing + other.agreeing,
            self.log_loss + other.log_loss,
            self.bytes_read + other.bytes_read,
            self.stored + other.stored,
        )

    @classmethod
    def of(
        cls,
        block: int,
        receipt: Receipt[ModelPayload],
        problems: Problems,
        num_classes: int,
        bytes_read: int,
        source: str | None,
    ) -> ModelState:
        """Take what a receipt tells."""
        payload = receipt.payload
        stored = ModelBlock(block, receipt.checksums, problems.total, source, payload.together)
        totals = payload.totals(num_classes)
        return cls(totals, problems, payload.agreeing, payload.log_loss, bytes_read, (stored,))


def open_model_evidence(
    root: Location,
    grid: BlockGrid,
    num_classes: int,
    dtype: np.dtype[Any],
    columns: Iterable[str],
    num_models: int,
    fresh: bool,
) -> tuple[ModelCheckpoint, str | None]:
    """Make room for the evidence of a model, and keep what is there if it is of this kind; return
    also why it was not kept, if anything was.
    """
    chunk_rows = min(grid.block_rows, grid.rows)
    kind = evidence_kind(grid, num_classes, dtype) | {"models": num_models}
    rows = (grid.rows,)
    arrays = {
        name: ChunkedArray(root, name, rows, chunk_rows, column_dtype)
        for name, column_dtype in column_dtypes(num_classes, dtype, columns).items()
    }
    for name, (column_dtype, width) in union_dtypes(num_classes, dtype, num_models).items():
        shape = (grid.rows, width) if width else rows
        arrays[name] = ChunkedArray(root, name, shape, chunk_rows, column_dtype)
    return open_checkpoint(root, _CONTENTS, arrays, arrays, kind, fresh)
