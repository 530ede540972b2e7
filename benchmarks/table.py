"""The benchmark of the job on a table of losses: rows as a recorder leaves them, shuffled and
ranked.
"""

from __future__ import annotations

import shutil
import time
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from rich.console import Console

from benchmarks.memory import forget_peak, peak
from noisydask.dynamics.analyze import analyze_loss_dynamics
from noisydask.engine.cluster import connect
from noisydask.engine.config import ClusterConfig

_ITERATIONS = 50
_FILE_ROWS = 1 << 20


def make_table(folder: Path, rows: int) -> Path:
    """Write a table of so many rows once: 50 epochs one after the other, the examples of each in an
    order of its own.
    """
    table = folder / f"table-{rows}"
    if (table / "_done").exists():
        return table
    shutil.rmtree(table, ignore_errors=True)
    table.mkdir(parents=True)
    examples = -(-rows // _ITERATIONS)
    epochs = [
        (str(table), epoch, min(examples, rows - epoch * examples)) for epoch in range(_ITERATIONS)
    ]
    with ProcessPoolExecutor(mp_context=get_context("spawn")) as pool:
        for _ in pool.map(_write_epoch, epochs):
            pass
    (table / "_done").touch()
    return table


def _write_epoch(epoch: tuple[str, int, int]) -> None:
    table, number, rows = epoch
    rng = np.random.default_rng(number)
    ids = rng.permutation(rows)
    losses = rng.exponential(2.0 / (1 + number), rows).astype(np.float32)
    for low in range(0, rows, _FILE_ROWS):
        part = slice(low, low + _FILE_ROWS)
        columns = {
            "id": ids[part],
            "iteration": np.full(len(ids[part]), number),
            "loss": losses[part],
        }
        pq.write_table(
            pa.table(columns), f"{table}/{number:03d}-{low:09d}.parquet", compression="zstd"
        )


def measure_table(folder: Path, rows: int, workers: int, console: Console) -> dict[str, Any]:
    """Time the job, and the most memory that its workers had."""
    console.print(f"table of {rows:,} rows", highlight=False)
    table, out = make_table(folder, rows), folder / "out-table"
    shutil.rmtree(out, ignore_errors=True)
    with connect(ClusterConfig(workers=workers)) as client:
        idle = client.run(forget_peak)
        started = time.monotonic()
        found = analyze_loss_dynamics(table=str(table), out=str(out))
        seconds = time.monotonic() - started
        most = client.run(peak)
    figure = {
        "rows": rows,
        "examples": found.manifest["counts"]["examples"],
        "seconds": round(seconds, 2),
        "phases": found.manifest["seconds"],
        "worker_idle_bytes": max(idle.values()),
        "worker_peak_bytes": max(most.values()),
        "workers": workers,
    }
    console.print(
        f"  {seconds:.1f} s, at most {figure['worker_peak_bytes'] / 1e9:.1f} GB a worker",
        highlight=False,
    )
    return figure
