"""Workers of a simulated cluster, many in one process: what the passes read and keep of rows costs
them next to nothing, everything else is the job as it is.

Run as ``python -m benchmarks.simulated_workers ADDRESS WORKERS FOLDER`` by
:mod:`benchmarks.simulation`. Replaced are, and only in these processes: reading rows of a Zarr
array, the kernel that turns rows into evidence, and the objects of evidence and scores, which are
not stored but made up again where they are read. Of a receipt only the fingerprints are stored.
"""

from __future__ import annotations

import asyncio
import os
import sys
from functools import lru_cache
from typing import Any

import dask
import numpy as np
import numpy.typing as npt
from distributed import Worker

from noisydask.checkpoint.checkpoint import RECEIPTS, Checkpoint
from noisydask.checkpoint.receipts import Receipt
from noisydask.core.evidence import Evidence
from noisydask.core.problems import Problems
from noisydask.core.row_kernel import FIXED_POINT
from noisydask.core.thresholds import ClassTotals
from noisydask.issues import block_scan
from noisydask.issues.evidence import BlockPayload
from noisydask.stores.chunks import ChunkedArray, checksum
from noisydask.stores.locations import Location
from noisydask.stores.zarr_rows import ZarrRows

Array = npt.NDArray[Any]

#: Examples of a block, their classes, and the share of them whose label is wrong.
BLOCK_ROWS, CLASSES, WRONG = 16_000, 1_000, 0.01
#: Objects that only workers read, by what their names hold.
_OF_ROWS = ("/evidence/", "/label_quality.zarr/", "/given_labels.zarr/")
#: Arrays of the run that hold a column of the evidence, or what is equal to one.
_SAME = {"label_quality.zarr": "p_given", "given_labels.zarr": "given"}


@lru_cache(maxsize=1)
def _block() -> dict[str, Array]:
    """Make up the evidence of a block, of a good model: no row is open, and half of the wrong
    labels have a probability of exactly 0, so that many rows share one score.
    """
    rng = np.random.default_rng(0)
    given = rng.integers(0, CLASSES, BLOCK_ROWS)
    wrong = rng.random(BLOCK_ROWS) < WRONG
    sure = rng.uniform(0.5, 1, BLOCK_ROWS).astype(np.float32)
    sure[wrong] = 0.99
    low = rng.uniform(0, 0.005, BLOCK_ROWS) * (rng.random(BLOCK_ROWS) < 0.5)
    return {
        "given": given,
        "top1": (given + wrong * rng.integers(1, CLASSES, BLOCK_ROWS)) % CLASSES,
        "top2": (given + 1) % CLASSES,
        "p_given": np.where(wrong, low, sure).astype(np.float32),
        "p_top1": sure,
        "p_top2": (1 - sure) / 2,
        "p_rest": (1 - sure) / 4,
    }


@lru_cache(maxsize=CLASSES)
def evidence_of(shift: int) -> dict[str, Array]:
    """Return the evidence of a block whose classes are moved by so many: so all pairs of classes
    come up that a dataset of this size has.
    """
    block = _block()
    moved = {name: (block[name] + shift) % CLASSES for name in ("given", "top1", "top2")}
    return block | {name: classes.astype(np.uint16) for name, classes in moved.items()}


@lru_cache(maxsize=CLASSES)
def _totals(shift: int) -> tuple[Array, Array]:
    columns = evidence_of(shift)
    fixed = np.zeros(CLASSES, np.int64)
    np.add.at(fixed, columns["given"], (columns["p_given"] * FIXED_POINT).astype(np.int64))
    return np.bincount(columns["given"], minlength=CLASSES), fixed


def _read_rows(rows: ZarrRows, start: int, stop: int) -> Array:
    """Stand for ``ZarrRows._read``: labels, or probabilities that take no memory."""
    if len(rows.shape) == 2:
        return np.broadcast_to(np.zeros((), rows.dtype), (stop - start, rows.shape[1]))
    return evidence_of(start // BLOCK_ROWS % CLASSES)["given"].astype(rows.dtype)


def _scan_rows(pred_probs: Array, labels: Array, into: Evidence) -> Evidence:
    """Stand for ``scan_rows``: the evidence of these labels."""
    if not len(labels):  # asked for to compile the kernel
        return into
    shift = int(labels[0] - _block()["given"][0]) % CLASSES
    for name, column in evidence_of(shift).items():
        into.columns[name][:] = column
    counts, fixed = _totals(shift)
    into.counts[:] += counts
    into.fixed[:] += fixed
    return into


def _read_chunk(array: ChunkedArray, chunk: int) -> Array:
    """Stand for ``ChunkedArray._read_whole``."""
    return evidence_of(chunk % CLASSES)[_SAME.get(array.name, array.name)]


_write = Location.write


def _write_object(place: Location, content: Any) -> None:
    """Stand for ``Location.write``."""
    if not any(name in place.path for name in _OF_ROWS):
        _write(place, content)


def _vouch(checkpoint: Checkpoint[Any], block: int, receipt: Receipt[Any]) -> None:
    """Stand for ``Checkpoint.vouch``."""
    fingerprints = f"{receipt.source} {receipt.labels} {receipt.payload.labels_layout}"
    _write(_receipt(checkpoint, block), fingerprints.encode())


def _recall(checkpoint: Checkpoint[Any], block: int) -> Receipt[Any] | None:
    """Stand for ``Checkpoint.recall``: the receipt of what the block was made from."""
    try:
        source, labels, layout = _receipt(checkpoint, block).read().decode().split(" ")
    except FileNotFoundError:
        return None
    checksums, payload = _told(block % CLASSES)
    payload = payload.model_copy(update={"labels_layout": layout})
    return Receipt[BlockPayload].model_construct(
        source=source, labels=labels, rows=BLOCK_ROWS, checksums=checksums, payload=payload
    )


def _receipt(checkpoint: Checkpoint[Any], block: int) -> Location:
    return checkpoint.root / RECEIPTS / f"{block:08d}.json"


@lru_cache(maxsize=CLASSES)
def _told(shift: int) -> tuple[dict[str, str], BlockPayload]:
    """Return what the receipt of a block tells of its evidence."""
    none = Problems.of(np.zeros(0, np.uint8), 0)
    checksums = {name: checksum(column) for name, column in evidence_of(shift).items()}
    return checksums, BlockPayload.of(ClassTotals.of(*_totals(shift)), none, (), "")


def make_rows_free() -> None:
    """Replace what touches rows, in this process."""
    replaced: list[tuple[Any, str, Any]] = [
        (ZarrRows, "_read", _read_rows),
        (block_scan, "scan_rows", _scan_rows),
        (ChunkedArray, "_read_whole", _read_chunk),
        (Location, "write", _write_object),
        (Checkpoint, "vouch", _vouch),
        (Checkpoint, "recall", _recall),
    ]
    for owner, name, stand_in in replaced:
        if not hasattr(owner, name):
            raise AttributeError(f"{owner} has no {name} any more: nothing was simulated")
        setattr(owner, name, stand_in)


#: What each worker asks of its whole process, hundreds of which share one here.
_QUIET = {
    "distributed.admin.system-monitor.interval": "1h",
    "distributed.admin.system-monitor.gil.enabled": False,
    "distributed.worker.profile.enabled": False,
}


async def _serve(address: str, workers: int, folder: str) -> None:
    dask.config.set(_QUIET)
    started = [
        Worker(address, nthreads=1, memory_limit=0, dashboard=False, local_directory=folder)
        for _ in range(workers)
    ]
    for worker in started:
        await worker
    await asyncio.gather(*(worker.finished() for worker in started))


if __name__ == "__main__":
    os.environ["NUMBA_NUM_THREADS"] = "1"
    make_rows_free()
    asyncio.run(_serve(sys.argv[1], int(sys.argv[2]), sys.argv[3]))
