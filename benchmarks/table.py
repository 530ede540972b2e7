"""The benchmark of the job on a table of losses: rows as a recorder leaves them, shuffled and
ranked.
"""

from __future__ import annotations

import shutil
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

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
