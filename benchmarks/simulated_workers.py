"""Workers of a simulated cluster, many in one process: what the passes read and keep of rows costs
them next to nothing, everything else is the job as it is.

Run as ``python -m benchmarks.simulated_workers ADDRESS WORKERS FOLDER`` by
:mod:`benchmarks.simulation`. Replaced are, and only in these processes: reading rows of a Zarr
array, the kernel that turns rows into evidence, and the objects of evidence and scores, which are
not stored but made up again where they are read. A receipt is stored as an empty object.
"""

from __future__ import annotations

import asyncio
import os
import sys
from functools import lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt
from distributed import Worker

from noisydask.core.evidence import Evidence
from noisydask.core.row_kernel import FIXED_POINT
from noisydask.issues import scanning
from noisydask.stores.chunks import ChunkedArray
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
    """Make up the evidence of a block, of a good model: no row is open."""
    rng = np.random.default_rng(0)
    given = rng.integers(0, CLASSES, BLOCK_ROWS)
    wrong = rng.random(BLOCK_ROWS) < WRONG
    sure = rng.uniform(0.5, 1, BLOCK_ROWS).astype(np.float32)
    sure[wrong] = 0.99
    given_probability = np.where(wrong, rng.uniform(0, 0.005, BLOCK_ROWS), sure)
    return {
        "given": given,
        "top1": (given + wrong * rng.integers(1, CLASSES, BLOCK_ROWS)) % CLASSES,
        "top2": (given + 1) % CLASSES,
        "p_given": given_probability.astype(np.float32),
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
    if "/receipts/" in place.path:
        _write(place, b"")
    elif not any(name in place.path for name in _OF_ROWS):
        _write(place, content)


def make_rows_free() -> None:
    """Replace what touches rows, in this process."""
    replaced: list[tuple[Any, str, Any]] = [
        (ZarrRows, "_read", _read_rows),
        (scanning, "scan_rows", _scan_rows),
        (ChunkedArray, "_read_whole", _read_chunk),
        (Location, "write", _write_object),
    ]
    for owner, name, stand_in in replaced:
        if not hasattr(owner, name):
            raise AttributeError(f"{owner} has no {name} any more: nothing was simulated")
        setattr(owner, name, stand_in)


async def _serve(address: str, workers: int, folder: str) -> None:
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
