"""A block at which worker after worker dies: which one it was, in one sentence."""

from __future__ import annotations

from typing import TYPE_CHECKING

from noisydask.errors import JobError
from noisydask.stores.arrays import DaskRows
from noisydask.stores.rows import Rows
from noisydask.stores.urls import shown

if TYPE_CHECKING:
    from distributed.scheduler import KilledWorker


def deadly(error: KilledWorker, rows: tuple[int, int] | None, source: Rows | DaskRows) -> JobError:
    """Return the error that names where workers died.

    Parameters
    ----------
    error : KilledWorker
        What Dask says after the last of several deaths.
    rows : (int, int), optional
        First row and the one after the last of the block at which it was: of the task's blocks, the
        first that is not complete; where all are, or the task reads none, nothing.
    source : Rows or DaskRows
        What was read.
    """
    deaths = f"{error.allowed_failures + 1} workers died, one after the other"
    if rows is None:
        return JobError(f"the cluster failed: {deaths}, at one task of the scan; run the job again")
    start, stop = rows
    where = f"rows {start:,} to {stop - 1:,}"
    if isinstance(source, Rows):
        first, *more = (shown(chunk.key) for chunk in source.chunks(start, stop))
        if more:
            chunks = f"chunks {first} to {more[-1]}"
        elif first:
            chunks = f"chunk {first}"
        else:
            chunks = "the file"
        where = f"{source.url}: {chunks}, {where}"
    if error.last_worker.nthreads > 1:
        beside = ", or at what they read at the same time"
    else:
        beside = ""
    return JobError(
        f"the cluster failed: {deaths}, at {where}{beside}. Is it damaged, or too large for "
        "their memory?"
        " What is known of complete blocks is kept: run the job again"
    )
