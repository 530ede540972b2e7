"""The evidence of all rows below ``OUT/evidence``, the receipts that make it the checkpoint of the
main job, and rows that it leaves open.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Self

import numpy as np

from noisydask.checkpoint.checkpoint import Checkpoint, Contents, of_block, open_checkpoint
from noisydask.checkpoint.receipts import Payload, Receipt, Why
from noisydask.core.blocks import BlockGrid
from noisydask.core.evidence import column_dtypes
from noisydask.core.kept_rows import KeptRows
from noisydask.core.problems import Problems
from noisydask.core.row_kernel import Problem
from noisydask.core.thresholds import ClassTotals
from noisydask.core.versions import EVIDENCE_VERSION
from noisydask.stores.chunks import ChunkedArray
from noisydask.stores.locations import Location

#: Folders of the rows kept of each block: those whose likely class is open, and those whose margins
#: are.
OPEN_ROWS, PAIR_ROWS = "open_rows", "pair_rows"


class BlockPayload(Payload):
    """What a receipt tells of a block, so that a block whose receipt still matches costs neither
    its probabilities nor the kernel.

    Attributes
    ----------
    unstored_labels : tuple of (int, int)
        Ranges of rows whose labels were the array's fill value for want of a chunk.
    labels_layout : str
        How the labels were stored, where they were.
    classes, counts, sums : tuple of int
        Class totals of its valid rows: classes that occur, their counts, and their sums.
    problem_counts : tuple of int
        Number of refused rows of each kind.
    first_problems : tuple of (int, int)
        The first refused rows and their kinds.
    """

    unstored_labels: tuple[tuple[int, int], ...]
    labels_layout: str
    classes: tuple[int, ...]
    counts: tuple[int, ...]
    sums: tuple[int, ...]
    problem_counts: tuple[int, ...]
    first_problems: tuple[tuple[int, int], ...]

    @classmethod
    def of(
        cls,
        totals: ClassTotals,
        problems: Problems,
        unstored_labels: tuple[tuple[int, int], ...],
        labels_layout: str,
        **more: Any,
    ) -> Self:
        """Describe a block that was scanned; ``more`` are fields of a payload that has more."""
        classes = np.flatnonzero(totals.counts)
        return cls(
            unstored_labels=unstored_labels,
            labels_layout=labels_layout,
            classes=tuple(classes.tolist()),
            counts=tuple(totals.counts[classes].tolist()),
            sums=tuple(totals.sums(classes)),
            problem_counts=tuple(problems.counts.tolist()),
            first_problems=problems.first,
            **more,
        )

    def totals(self, num_classes: int) -> ClassTotals:
        """Return the class totals."""
        classes = np.array(self.classes, np.int64)
        return ClassTotals.from_sums(num_classes, classes, self.counts, self.sums)

    @property
    def problems(self) -> Problems:
        """The refused rows."""
        counts = np.zeros(len(Problem), np.int64)
        counts[: len(self.problem_counts)] = self.problem_counts  # kinds that are new come last
        return Problems(counts, self.first_problems)


EvidenceCheckpoint = Checkpoint[BlockPayload]
_CONTENTS = Contents(Receipt[BlockPayload], EVIDENCE_VERSION, (OPEN_ROWS, PAIR_ROWS))


@dataclass(frozen=True)
class StoredBlock:
    """A block of the evidence: the checksums of its columns, how many of its rows were refused,
    and, with a receipt, the fingerprint of what it was made from.
    """

    number: int
    checksums: Mapping[str, str]
    refused: int
    source: str | None = None


def refusal(
    receipt: Receipt[BlockPayload], source: str, labels: str, rows: int, columns: Iterable[str]
) -> Why | None:
    """Return why a receipt does not count for a block with this source and these labels; None where
    it does.
    """
    if (receipt.source, receipt.rows) != (source, rows):
        return Why.SOURCE
    if receipt.labels != labels:
        return Why.LABELS
    if set(columns) <= set(receipt.checksums):
        return None
    return Why.COLUMNS


def keep_rows(evidence: Checkpoint[Any], folder: str, stored: StoredBlock, rows: KeptRows) -> None:
    """Keep rows of a block for the next run in one of its folders, where its source is known."""
    if stored.source is not None:
        evidence.keep(of_block(folder, stored.number), stored.source, rows.to_bytes())


def kept_rows(
    evidence: Checkpoint[Any],
    folder: str,
    stored: StoredBlock,
    row: np.dtype[Any],
) -> KeptRows | None:
    """Read the rows kept of a block, each of type ``row``, if there are any of what its evidence
    was made from.
    """
    if stored.source is None:
        return None
    content = evidence.kept(of_block(folder, stored.number), stored.source)
    if content is None:
        return None
    return KeptRows.from_bytes(content, row)


def evidence_kind(grid: BlockGrid, num_classes: int, dtype: np.dtype[Any]) -> dict[str, Any]:
    """Return what evidence depends on as a whole."""
    return {
        "evidence_version": EVIDENCE_VERSION,
        "classes": num_classes,
        "dtype": str(dtype),
        "block_rows": grid.block_rows,
        "chunk_rows": min(grid.block_rows, grid.rows),
    }


def open_evidence(
    root: Location,
    grid: BlockGrid,
    num_classes: int,
    dtype: np.dtype[Any],
    columns: Iterable[str],
    fresh: bool,
) -> tuple[EvidenceCheckpoint, str | None]:
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
    Checkpoint, str or None
        The evidence, and why what was there was not kept, if anything was.
    """
    chunk_rows = min(grid.block_rows, grid.rows)
    kind = evidence_kind(grid, num_classes, dtype)
    arrays = {
        name: ChunkedArray(root, name, (grid.rows,), chunk_rows, column_dtype)
        for name, column_dtype in column_dtypes(num_classes, dtype, columns).items()
    }
    return open_checkpoint(root, _CONTENTS, arrays, arrays, kind, fresh)
