"""``python -m benchmarks.growth FOLDER``: how the cost of the job grows beside its read floor, with
examples, with classes, with workers.

Examples are those of ten classes laid out many times over by hard links (``benchmarks.billion``
goes on to 10^9); for each number of classes there are as many examples as 400 MB of probabilities
hold.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from statistics import median
from typing import Annotated, cast

import typer
from rich import box
from rich.console import Console
from rich.table import Table

from benchmarks.billion import ROWS, make_billion
from benchmarks.data import make_data
from benchmarks.measure import read_all
from noisydask.core.blocks import plan_blocks
from noisydask.engine.cluster import connect
from noisydask.engine.config import ClusterConfig
from noisydask.issues.find import find_label_issues
from noisydask.stores.arrays import Rows, open_rows

OUT = Console()
_BYTES = 400_000_000
_CLASSES = (2, 10, 100, 1_000, 10_000, 100_000)
_WORKERS = (1, 2, 4)


def _layouts(folder: Path) -> list[tuple[str, str, str, int]]:
    """Return what is measured: its name, labels, probabilities, and the workers."""
    examples = [(f"{rows:,} x 10", *_made(folder, rows, 10), 2) for rows in (10**6, 10**7)]
    examples += [(f"{times * ROWS:,} x 10", *make_billion(folder, times), 2) for times in (5, 20)]
    sizes = [(_BYTES // (4 * classes), classes) for classes in _CLASSES]
    classes = [(f"{rows:,} x {k:,}", *_made(folder, rows, k), 2) for rows, k in sizes]
    thousand = "1,000,000 x 1,000", *_made(folder, 10**6, 1000)
    return examples + classes + [(*thousand, workers) for workers in _WORKERS]


def _made(folder: Path, rows: int, classes: int) -> tuple[str, str]:
    make_data(folder, rows, classes, npy=False)
    stem = folder / f"{rows}x{classes}"
    return f"{stem}-labels.zarr", f"{stem}-pred_probs.zarr"


def _measure(labels: str, probs: str, workers: int, out: Path, rounds: int) -> tuple[float, float]:
    """Return the seconds of the read floor and of the job, medians of interleaved rounds."""
    source = cast(Rows, open_rows(probs, "pred_probs"))
    row_bytes = source.shape[1] * source.dtype.itemsize
    grid = plan_blocks(source.shape[0], row_bytes, source.chunk_rows)
    floors, jobs = [], []
    with connect(ClusterConfig(workers=workers, threads_per_worker=1)):
        for number in range(rounds + 1):  # the first compiles, and is not counted
            shutil.rmtree(out, ignore_errors=True)
            floor = _timed(partial(read_all, source, grid))
            job = _timed(partial(find_label_issues, labels, probs, out=out))
            if number:
                floors.append(floor)
                jobs.append(job)
    shutil.rmtree(out)
    return median(floors), median(jobs)


def _timed(call: Callable[[], object]) -> float:
    begun = time.perf_counter()
    call()
    return time.perf_counter() - begun


def bench(
    folder: Annotated[Path, typer.Argument(help="Where the data are made and kept.")],
    rounds: Annotated[int, typer.Option(help="Interleaved rounds.", min=1)] = 3,
) -> None:
    """Measure each layout, on workers of one thread."""
    shown = Table(box=box.SIMPLE_HEAD, padding=0, collapse_padding=True)
    for name in ("examples x classes", "workers", "floor", "job", "job / floor"):
        shown.add_column(name, justify="right", no_wrap=True)
    for name, labels, probs, workers in _layouts(folder):
        floor, job = _measure(labels, probs, workers, folder / "out-growth", rounds)
        shown.add_row(
            name,
            str(workers),
            f"{floor:.2f} s",
            f"{job:.2f} s",
            f"{job / floor:.2f}x",
        )
    OUT.print(shown)


if __name__ == "__main__":
    typer.run(bench)
