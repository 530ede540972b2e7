"""The benchmark: the read floor, the job and cleanlab side by side, interleaved, in one run.

The read floor is the time that the same workers need to read and decode every chunk of ``pred_probs`` once, through the
same code, and do nothing else. Rounds are interleaved, so that a machine that slows down slows all of them; what is
reported is the median of the rounds' ratios.
"""

from __future__ import annotations

import json
import os
import platform
import shutil
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any, cast

from distributed import Client
from rich import box
from rich.console import Console
from rich.table import Table

from noisydask import graph, scanning
from noisydask.arrays import Rows, open_rows
from noisydask.bench_data import make_data, stored_bytes
from noisydask.bench_memory import forget_peak, peak
from noisydask.blocks import BlockGrid, plan_blocks
from noisydask.cluster import connect
from noisydask.config import ClusterConfig
from noisydask.issues import find_label_issues

SHAPES = ("1000000x1000", "5000000x100", "20000000x10")


@dataclass(frozen=True)
class Plan:
    """What to measure."""

    shapes: tuple[str, ...]
    folder: Path
    rounds: int
    workers: int
    cleanlab: bool
    client: bool


def measure(plan: Plan, console: Console) -> dict[str, Any]:
    """Make the data that are not there yet, and measure."""
    figures: dict[str, Any] = {
        "machine": {"cpu": _cpu(), "cores": os.cpu_count(), "python": platform.python_version()},
        "workers": plan.workers,
        "shapes": [],
        "graph": _graph(100_000),
    }
    for shape in plan.shapes:
        rows, classes = (int(n) for n in shape.lower().split("x"))
        console.print(f"data of {rows:,} x {classes:,}", highlight=False)
        make_data(plan.folder, rows, classes)
        figures["shapes"].append(_measure_shape(plan, rows, classes, console))
    if plan.client:
        figures["client"] = [_client_peak(plan, rows, console) for rows in (10**6, 10**7, 10**8)]
    return figures


def _measure_shape(plan: Plan, rows: int, classes: int, console: Console) -> dict[str, Any]:
    name = f"{rows}x{classes}"
    probs, labels = plan.folder / f"{name}-pred_probs.zarr", plan.folder / f"{name}-labels.zarr"
    out = plan.folder / "out"
    rounds: list[dict[str, float]] = []
    with connect(ClusterConfig(workers=plan.workers)) as client:
        source = cast(Rows, open_rows(str(probs), "pred_probs"))
        grid = plan_blocks(rows, classes * 4, source.chunk_rows)
        for number in range(plan.rounds + 1):  # the first compiles, fills the page cache, and is not counted
            shutil.rmtree(out, ignore_errors=True)
            idle = max(client.run(forget_peak).values())
            floor = _timed(partial(read_all, source, grid))
            client.run(forget_peak)
            found: list[Any] = []
            job = _timed(lambda into=found: into.append(find_label_issues(str(labels), str(probs), out=str(out))))
            most = max(client.run(peak).values())
            rounds.append({"floor": floor, "job": job, "idle": idle, "peak": most})
            console.print(f"  round {number}: floor {floor:.2f} s, job {job:.2f} s", highlight=False)
        issues = found[0]
    counted = rounds[1:]
    figure = {
        "examples": rows,
        "classes": classes,
        "floor_seconds": median(r["floor"] for r in counted),
        "job_seconds": median(r["job"] for r in counted),
        "ratio_to_floor": median(r["job"] / r["floor"] for r in counted),
        "ratios": [round(r["job"] / r["floor"], 3) for r in counted],
        "phases": issues.manifest["seconds"],
        "issues": issues.num_issues,
        "bytes_read_ratio": issues.manifest["bytes_read"]["pred_probs"] / stored_bytes(probs),
        "worker_peak_over_idle_blocks": max(r["peak"] - r["idle"] for r in counted) / grid.block_bytes,
        "block_bytes": grid.block_bytes,
    }
    if plan.cleanlab:
        figure |= _cleanlab(plan.folder / name, figure["job_seconds"], console)
    return figure


def read_all(source: Rows, grid: BlockGrid) -> int:
    """Read and decode every chunk once, on the active cluster; the bytes fetched."""
    numbers = graph.block_numbers(range(grid.num_blocks), (1,) * grid.num_blocks)
    fetched: int = graph.run_pass("floor", partial(_read_blocks, source=source, grid=grid), numbers)
    return fetched


def _read_blocks(blocks: Sequence[int], source: Rows, grid: BlockGrid) -> int:
    for block in blocks:
        for low, high in scanning.reads(source, *grid.bounds(block)):
            source.read(low, high)
    return source.take_bytes_read()


def _cleanlab(stem: Path, job_seconds: float, console: Console) -> dict[str, Any]:
    """Time cleanlab on the same data as ``.npy``, in a process of its own."""
    done = subprocess.run(  # noqa: S603  our own interpreter and code
        [sys.executable, "-m", "noisydask.bench_cleanlab", f"{stem}-labels.npy", f"{stem}-pred_probs.npy"],
        check=True, capture_output=True, text=True,
    )  # fmt: skip
    figure = json.loads(done.stdout)
    console.print(f"  cleanlab: {figure['cleanlab_seconds']:.1f} s", highlight=False)
    return {**figure, "times_faster_than_cleanlab": figure["cleanlab_seconds"] / job_seconds}


def _client_peak(plan: Plan, rows: int, console: Console) -> dict[str, Any]:
    """Peak memory of a client whose workers live elsewhere, for a dataset of two classes."""
    make_data(plan.folder, rows, 2, npy=False)
    with connect(ClusterConfig(workers=plan.workers)) as client:
        stem = plan.folder / f"{rows}x2"
        done = subprocess.run(  # noqa: S603  our own interpreter and code
            [sys.executable, "-m", "noisydask.bench", client.scheduler.address, f"{stem}-labels.zarr",
             f"{stem}-pred_probs.zarr", str(plan.folder / "out")],
            check=True, capture_output=True, text=True,
        )  # fmt: skip
    figure: dict[str, Any] = json.loads(done.stdout)
    console.print(f"  client at {rows:,} examples: {figure['client_peak_mib']:.0f} MiB", highlight=False)
    return {"examples": rows, **figure}


def _client_alone(address: str, labels: str, pred_probs: str, out: str) -> dict[str, float]:
    """Be the client of a cluster, and say how much memory that took."""
    with Client(address):
        found = find_label_issues(labels, pred_probs, out=out)
    return {
        "client_peak_mib": peak() / 1024**2,
        "seconds": found.manifest["seconds"]["total"],
    }


def _graph(blocks: int) -> dict[str, float]:
    """Time to build and optimise the scan's graph over so many blocks, one task each, and its tasks per block."""
    start = time.perf_counter()
    numbers = graph.block_numbers(range(blocks), (1,) * blocks)
    states = graph.tree("scan", graph.over_blocks("scan", _nothing, numbers, None, None))
    tasks = len(dict(graph.optimized(states).__dask_graph__()))
    return {"blocks": blocks, "seconds": time.perf_counter() - start, "tasks_per_block": tasks / blocks}


def _nothing(blocks: Sequence[int], pred_probs: Any, labels: Any) -> int:
    return len(blocks)


def _timed(call: Any) -> float:
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


def _cpu() -> str:
    names = [line for line in Path("/proc/cpuinfo").read_text().splitlines() if line.startswith("model name")]
    return names[0].partition(":")[2].strip() if names else platform.processor()


def table(figures: dict[str, Any]) -> Table:
    """The figures as a table; ``bytes`` are those read over those stored, ``blocks`` a worker's peak memory over idle."""
    title = f"{figures['machine']['cpu']}, {figures['workers']} workers"
    shown = Table(title=title, title_justify="left", box=box.SIMPLE_HEAD, padding=0, collapse_padding=True)
    for name in ("shape", "floor", "job", "ratio", "bytes", "blocks", "cleanlab", "faster"):
        shown.add_column(name, justify="right", no_wrap=True)
    for f in figures["shapes"]:
        theirs = (
            [f"{f['cleanlab_seconds']:.1f} s", f"{f['times_faster_than_cleanlab']:.1f}x"] if "cleanlab_seconds" in f else []
        )
        shown.add_row(
            f"{f['examples']:,} x {f['classes']:,}",
            f"{f['floor_seconds']:.2f} s",
            f"{f['job_seconds']:.2f} s",
            f"{f['ratio_to_floor']:.2f}x",
            f"{f['bytes_read_ratio']:.2f}x",
            f"{f['worker_peak_over_idle_blocks']:.1f}",
            *theirs,
        )
    return shown


if __name__ == "__main__":
    print(json.dumps(_client_alone(*sys.argv[1:5])))
