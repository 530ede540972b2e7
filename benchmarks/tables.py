"""``python -m benchmarks.tables FOLDER``: the job on a table of losses beside DuckDB, on the same
Parquet files and cores.

The same losses lie in two folders: in no order at all (``mixed``), and as a ``LossRecorder`` leaves
them, epoch after epoch, the examples of each in an order of its own (``recorded``). The job ranks
all examples, keeps their losses, and writes their statistics, the mean curve and the first curves.
DuckDB computes the EMA alone and writes the ranking as one Parquet file. They take turns; what is
said is the median of the rounds, of the ratio too.
"""

from __future__ import annotations

import json
import os
import shutil
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from statistics import median
from typing import Annotated, Any

import duckdb
import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq
import typer
from rich import box
from rich.console import Console
from rich.table import Table

from benchmarks.memory import forget_peak, peak
from noisydask.dynamics.analyze import analyze_loss_dynamics
from noisydask.dynamics.recorder import LossRecorder
from noisydask.engine.cluster import connect
from noisydask.engine.config import ClusterConfig

OUT, ERR = Console(), Console(stderr=True)
#: Losses of an example, files of the mixed table, and the weight of a new loss.
ITERATIONS, FILES, ALPHA = 50, 10, 0.1

#: DuckDB's ways to the same EMA of any table. Each loss weighs ``alpha * (1 - alpha) ** k``, where
#: k is how many losses of the example are later; or the losses of an example become a list.
WAYS = {
    "window": """
        SELECT id, sum({alpha} * loss * pow(1 - {alpha}, k)) AS ema FROM (
            SELECT id, loss, row_number() OVER (PARTITION BY id ORDER BY iteration DESC) - 1 AS k
            FROM read_parquet('{files}'))
        GROUP BY id""",
    "list": """
        SELECT id, list_reduce(list_prepend(0::DOUBLE, list(loss::DOUBLE ORDER BY iteration)),
                               lambda ema, x: (1 - {alpha}) * ema + {alpha} * x) AS ema
        FROM read_parquet('{files}') GROUP BY id""",
}


def make_mixed(folder: Path, rows: int) -> Path:
    """Write a table whose rows lie in no order, once: each file has some losses of all examples."""
    return _made(folder / f"mixed-{rows}", rows, _write_mixed, range(FILES))


def make_recorded(folder: Path, rows: int) -> Path:
    """Record the same losses epoch after epoch, once, as training does."""
    return _made(folder / f"recorded-{rows}", rows, _record, range(1))


def _made(table: Path, rows: int, write: Callable[..., None], numbers: range) -> Path:
    done = table.with_name(f"{table.name}.done")
    if not done.exists():
        shutil.rmtree(table, ignore_errors=True)
        table.mkdir(parents=True)
        with ProcessPoolExecutor(mp_context=get_context("spawn")) as pool:
            for future in [pool.submit(write, str(table), rows, number) for number in numbers]:
                future.result()
        done.touch()
    return table


def losses_of(examples: npt.NDArray[np.int64], iteration: int) -> npt.NDArray[np.float32]:
    """Return losses that fall with the iterations; the same for the same numbers."""
    bits = examples.astype(np.uint64) * np.uint64(ITERATIONS) + np.uint64(iteration + 1)
    for shift in (30, 27, 31):  # the finish of splitmix64
        bits = (bits ^ (bits >> np.uint64(shift))) * np.uint64(0xBF58476D1CE4E5B9)
    uniform = (bits >> np.uint64(11)).astype(np.float64) * 2.0**-53
    return (-np.log1p(-uniform) * 2.0 / (1 + iteration)).astype(np.float32)


def _write_mixed(table: str, rows: int, number: int) -> None:
    rng, examples = np.random.default_rng(number), np.arange(rows // ITERATIONS)
    share = ITERATIONS // FILES
    iterations = (np.arange(number * share, (number + 1) * share)[:, None] + 7 * examples) % 50
    order = rng.permutation(iterations.size)
    ids = np.tile(examples, share)
    losses = np.empty(iterations.size, np.float32)
    flat = iterations.ravel()
    for iteration in range(ITERATIONS):
        there = flat == iteration
        losses[there] = losses_of(ids[there], iteration)
    columns = {"id": ids[order], "iteration": flat[order], "loss": losses[order]}
    pq.write_table(pa.table(columns), f"{table}/{number:03d}.parquet", compression="zstd")


def _record(table: str, rows: int, number: int) -> None:
    rng, examples = np.random.default_rng(number), np.arange(rows // ITERATIONS)
    with LossRecorder(table, flush_rows=len(examples), flush_seconds=3600.0) as recorder:
        for iteration in range(ITERATIONS):
            ids = rng.permutation(examples)
            for low in range(0, len(ids), 4096):
                some = ids[low : low + 4096]
                recorder.record(iteration, some, losses_of(some, iteration))


def duckdb_ranks(table: Path, out: Path, way: str, threads: int) -> None:
    """Rank the examples of a table by DuckDB, and write the ranking."""
    query = WAYS[way].format(alpha=ALPHA, files=f"{table}/*.parquet")
    with duckdb.connect(config={"threads": threads}) as connection:
        connection.execute(f"COPY ({query} ORDER BY ema DESC, id) TO '{out}' (FORMAT parquet)")


def _agree(found: Any, ranked: Path) -> None:
    """Compare the first examples of both rankings, of which neither rounds like the other."""
    theirs = next(pq.ParquetFile(ranked).iter_batches(1000)).to_pandas()
    ours = found.top_k(1000)
    np.testing.assert_allclose(ours["metric"], theirs["ema"], rtol=1e-6)


def _timed(call: Callable[[], Any]) -> tuple[float, Any]:
    started = time.perf_counter()
    found = call()
    return time.perf_counter() - started, found


def measure(
    client: Any, table: Path, folder: Path, rounds: int, workers: int, ways: list[str]
) -> dict[str, Any]:
    """Time the job and DuckDB in turns; the first round compiles, and is not counted."""
    seconds: dict[str, list[float]] = {name: [] for name in ("job", *ways)}
    out, ranked = folder / "out", folder / "duckdb.parquet"
    most: list[int] = []
    for number in range(rounds + 1):
        shutil.rmtree(out, ignore_errors=True)
        client.run(forget_peak)
        took, found = _timed(
            partial(analyze_loss_dynamics, table=str(table), alpha=ALPHA, out=str(out))
        )
        told = {"job": took}
        most.append(max(client.run(peak).values()))
        for way in ways:
            told[way], _ = _timed(partial(duckdb_ranks, table, ranked, way, workers))
            _agree(found, ranked)
        ERR.print(f"  round {number}: {told} {found.manifest['seconds']}", highlight=False)
        if number:
            for name, each in told.items():
                seconds[name].append(each)
    best = [min(each) for each in zip(*(seconds[way] for way in ways), strict=True)]
    return {
        "table": table.name,
        "job_seconds": median(seconds["job"]),
        "phases": found.manifest["seconds"],
        "duckdb_seconds": {way: median(seconds[way]) for way in ways},
        "ratio_to_best": median(
            job / other for job, other in zip(seconds["job"], best, strict=True)
        ),
        "worker_peak_bytes": max(most),
    }


def _tables(folder: Path, rows: int) -> Iterator[Path]:
    yield make_mixed(folder, rows)
    yield make_recorded(folder, rows)


def measure_tables(
    folder: Path, rows: int, rounds: int, workers: int, ways: list[str] | None = None
) -> list[dict[str, Any]]:
    """Measure tables of so many losses, on workers of their own each."""
    figures = []
    for table in _tables(folder, rows):
        ERR.print(f"{table.name}, {os.cpu_count()} cores", highlight=False)
        with connect(ClusterConfig(workers=workers)) as client:
            figures.append(measure(client, table, folder, rounds, workers, ways or list(WAYS)))
    return figures


def tables_table(figures: list[dict[str, Any]]) -> Table:
    """The figures as a table."""
    shown = Table(box=box.SIMPLE_HEAD, padding=0, collapse_padding=True)
    for name in ("table of losses", "job", "DuckDB", "job / DuckDB", "worker memory"):
        shown.add_column(name, justify="right", no_wrap=True)
    for each in figures:
        shown.add_row(
            each["table"],
            f"{each['job_seconds']:.2f} s",
            f"{min(each['duckdb_seconds'].values()):.2f} s",
            f"{each['ratio_to_best']:.2f}x",
            f"{each['worker_peak_bytes'] / 1e9:.1f} GB",
        )
    return shown


def bench(
    folder: Annotated[Path, typer.Argument(help="Where the data are made and kept.")],
    rows: Annotated[list[int] | None, typer.Option(help="Rows of a table; repeatable.")] = None,
    rounds: Annotated[int, typer.Option(help="Rounds that are counted.", min=1)] = 3,
    workers: Annotated[int, typer.Option(help="Workers, and threads of DuckDB.", min=1)] = 2,
    way: Annotated[list[str] | None, typer.Option(help="Ways of DuckDB [all].")] = None,
) -> None:
    """Measure the job on tables of losses beside DuckDB, interleaved."""
    for number in rows or [20_000_000, 100_000_000]:
        for figure in measure_tables(folder, number, rounds, workers, way):
            OUT.print_json(json.dumps(figure))


if __name__ == "__main__":
    typer.run(bench)
