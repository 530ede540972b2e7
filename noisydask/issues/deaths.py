"""A block at which worker after worker dies: which one it was, in one sentence."""

from __future__ import annotations

from collections.abc import Sequence

from distributed.scheduler import KilledWorker

from noisydask.core.receipts import BlockSource
from noisydask.errors import JobError
from noisydask.issues.passes import Dataset


def deadly(error: KilledWorker, blocks: Sequence[BlockSource], data: Dataset) -> JobError:
    """The error that names where workers died: of a task's blocks, the first of which no evidence was kept.

    Parameters
    ----------
    error : KilledWorker
        What Dask says after the last of several deaths.
    blocks : sequence of BlockSource
        The blocks of the task, in the order in which it takes them.
    data : Dataset
        What was read.
    """
    block = next((block.number for block in blocks if not _complete(block, data)), None)
    deaths = f"{error.allowed_failures + 1} workers died, one after the other"
    if block is None:
        return JobError(f"the cluster failed: {deaths}, at one task of the scan; run the job again")
    start, stop = data.grid.bounds(block)
    where = f"rows {start:,} to {stop - 1:,}"
    if data.pred_probs is not None:
        first, *more = (chunk.key for chunk in data.pred_probs.chunks(start, stop))
        chunks = f"chunks {first} to {more[-1]}" if more else f"chunk {first}" if first else "the file"
        where = f"{data.pred_probs.url}: {chunks}, {where}"
    beside = ", or at what they read at the same time" if error.last_worker.nthreads > 1 else ""
    return JobError(
        f"the cluster failed: {deaths}, at {where}{beside}. Is it damaged, or too large for their memory?"
        " The evidence of complete blocks is kept: run the job again"
    )


def _complete(block: BlockSource, data: Dataset) -> bool:
    """Whether the evidence of a block is that of what there is to be read."""
    receipt = data.evidence.read_receipt(block.number) if block.fingerprint is not None else None
    return receipt is not None and receipt.sources == block.fingerprint
