"""The benchmark: the read floor, the job and cleanlab side by side, interleaved, in one run.

The read floor is the time that the same workers need to read and decode every chunk of
``pred_probs`` once, through the same code, and do nothing else. Rounds are interleaved, so that a
machine that slows down slows all of them; what is reported is the median of the rounds' ratios.
"""

from __future__ import annotations

import json
import os
import platform
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any, cast

from distributed import Client
from rich import box
from rich.console import Console
from rich.table import Table

from benchmarks.data import make_data, make_losses, stored_bytes
from benchmarks.memory import forget_peak, peak
from noisydask.core.blocks import BlockGrid, plan_blocks
from noisydask.dynamics.analyze import analyze_loss_dynamics
from noisydask.engine import graph
from noisydask.engine.cluster import connect
from noisydask.engine.config import ClusterConfig
from noisydask.errors import InputError
from noisydask.issues.find import find_label_issues
from noisydask.stores.arrays import Rows, open_rows
from noisydask.stores.rows import reads

SHAPES = ("1000000x1000", "5000000x100", "20000000x10")
DYNAMICS = ("10000000x100",)
#: Candidates of a measured ranking of losses.
TOP_K = 1000


@dataclass(frozen=True)
class Plan:
    """What to measure."""

    shapes: tuple[str, ...]
    dynamics: tuple[str, ...]
    folder: Path
    rounds: int
    workers: int
    cleanlab: bool
    client: bool


def measure(plan: Plan, console: Console) -> dict[str, Any]:
    """Make the data that are not there yet, and measure."""
    shapes = [_sizes(shape) for shape in plan.shapes]
    dynamics = [_sizes(shape) for shape in plan.dynamics]
    figures: dict[str, Any] = {
        "machine": {"cpu": _cpu(), "cores": os.cpu_count(), "python": platform.python_version()},
        "workers": plan.workers,
        "shapes": [],
        "dynamics": [],
        "graph": _graph(100_000),
    }
    for rows, classes in shapes:
        console.print(f"data of {rows:,} x {classes:,}", highlight=False)
        make_data(plan.folder, rows, classes)
        figures["shapes"].append(_measure_shape(plan, rows, classes, console))
    for rows, iterations in dynamics:
        console.print(f"losses of {rows:,} x {iterations:,}", highlight=False)
        make_losses(plan.folder, rows, iterations)
        figures["dynamics"].append(_measure_dynamics(plan, rows, iterations, console))
    if plan.client:
        figures["client"] = [_client_peak(plan, rows, console) for rows in (10**6, 10**7, 10**8)]
    return figures


def _sizes(shape: str) -> tuple[int, int]:
    """Rows and columns of a shape as the command line has it."""
    rows, _, columns = shape.lower().partition("x")
    if not (rows.isdecimal() and columns.isdecimal() and int(rows) and int(columns)):
        raise InputError(f"{shape!r} is not a shape, such as 1000000x1000")
    return int(rows), int(columns)


def _measure_shape(plan: Plan, rows: int, classes: int, console: Console) -> dict[str, Any]:
    stem = plan.folder / f"{rows}x{classes}"
    probs, labels, out = f"{stem}-pred_probs.zarr", f"{stem}-labels.zarr", str(plan.folder / "out")
    issues, figure = _interleaved(
        plan, probs, lambda: find_label_issues(labels, probs, out=out), console
    )
    figure |= {
        "classes": classes,
        "issues": issues.num_issues,
        "bytes_read_ratio": issues.manifest["bytes_read"]["pred_probs"] / stored_bytes(Path(probs)),
    }
    if plan.cleanlab:
        figure |= _cleanlab(stem, figure["job_seconds"], console)
    return figure


def _measure_dynamics(plan: Plan, rows: int, iterations: int, console: Console) -> dict[str, Any]:
    """The job on losses: states are kept for the next run, and the curves of ten labels made."""
    stem = plan.folder / f"{rows}x{iterations}-dynamics"
    losses, labels, out = f"{stem}-losses.zarr", f"{stem}-labels.zarr", str(plan.folder / "out")
    found, figure = _interleaved(
        plan,
        losses,
        lambda: analyze_loss_dynamics(losses, labels=labels, top_k=TOP_K, out=out),
        console,
    )
    return figure | {
        "iterations": iterations,
        "candidates": found.num_candidates,
        "bytes_read_ratio": found.manifest["bytes_read"]["losses"] / stored_bytes(Path(losses)),
    }


def _interleaved(
    plan: Plan, array: str, job: Callable[[], Any], console: Console
) -> tuple[Any, dict[str, Any]]:
    """Measure the read floor of an array and a job that reads it, in rounds; what the job returned
    last, and the figures.
    """
    rounds: list[dict[str, float]] = []
    with connect(ClusterConfig(workers=plan.workers)) as client:
        source = cast(Rows, open_rows(array, "array"))
        grid = plan_blocks(
            source.shape[0], source.shape[1] * source.dtype.itemsize, source.chunk_rows
        )
        for number in range(
            plan.rounds + 1
        ):  # the first compiles, fills the page cache, and is not counted
            shutil.rmtree(plan.folder / "out", ignore_errors=True)
            idle = max(client.run(forget_peak).values())
            floor = _timed(partial(read_all, source, grid))
            client.run(forget_peak)
            found: list[Any] = []
            seconds = _timed(lambda into=found: into.append(job()))
            most = max(client.run(peak).values())
            rounds.append({"floor": floor, "job": seconds, "idle": idle, "peak": most})
            console.print(
                f"  round {number}: floor {floor:.2f} s, job {seconds:.2f} s", highlight=False
            )
    counted = rounds[1:]
    return found[0], {
        "examples": source.shape[0],
        "floor_seconds": median(r["floor"] for r in counted),
        "job_seconds": median(r["job"] for r in counted),
        "ratio_to_floor": median(r["job"] / r["floor"] for r in counted),
        "ratios": [round(r["job"] / r["floor"], 3) for r in counted],
        "phases": found[0].manifest["seconds"],
        "worker_peak_over_idle_blocks": max(r["peak"] - r["idle"] for r in counted)
        / grid.block_bytes,
        "block_bytes": grid.block_bytes,
    }


def read_all(source: Rows, grid: BlockGrid) -> int:
    """Read and decode every chunk once, on the active cluster; the bytes fetched."""
    numbers = graph.block_numbers(range(grid.num_blocks), (1,) * grid.num_blocks)
    fetched: int = graph.run_pass("floor", partial(_read_blocks, source=source, grid=grid), numbers)
    return fetched


def _read_blocks(blocks: Sequence[int], source: Rows, grid: BlockGrid) -> int:
    for block in blocks:
        for low, high in reads(source, *grid.bounds(block)):
            source.read(low, high)
    return source.take_bytes_read()


def _cleanlab(stem: Path, job_seconds: float, console: Console) -> dict[str, Any]:
    """Time cleanlab on the same data as ``.npy``, in a process of its own."""
    done = subprocess.run(
        [
            sys.executable,
            "-m",
            "benchmarks.cleanlab_alone",
            f"{stem}-labels.npy",
            f"{stem}-pred_probs.npy",
        ],
        check=True,
        capture_output=True,
        text=True,
    )
    figure = json.loads(done.stdout)
    console.print(f"  cleanlab: {figure['cleanlab_seconds']:.1f} s", highlight=False)
    return {**figure, "times_faster_than_cleanlab": figure["cleanlab_seconds"] / job_seconds}


def _client_peak(plan: Plan, rows: int, console: Console) -> dict[str, Any]:
    """Peak memory of a client whose workers live elsewhere, for a dataset of two classes."""
    make_data(plan.folder, rows, 2, npy=False)
    with connect(ClusterConfig(workers=plan.workers)) as client:
        stem = plan.folder / f"{rows}x2"
        done = subprocess.run(
            [
                sys.executable,
                "-m",
                "benchmarks.measure",
                client.scheduler.address,
                f"{stem}-labels.zarr",
                f"{stem}-pred_probs.zarr",
                str(plan.folder / "out"),
            ],
            check=True,
            capture_output=True,
            text=True,
        )
    figure: dict[str, Any] = json.loads(done.stdout)
    console.print(
        f"  client at {rows:,} examples: {figure['client_peak_mib']:.0f} MiB", highlight=False
    )
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
    """Time to build and optimise the scan's graph over so many blocks, one task each, and its tasks
    per block.
    """
    start = time.perf_counter()
    numbers = graph.block_numbers(range(blocks), (1,) * blocks)
    states = graph.tree("scan", graph.over_blocks("scan", _nothing, numbers, None, None))
    tasks = len(dict(graph.optimized(states).__dask_graph__()))
    return {
        "blocks": blocks,
        "seconds": time.perf_counter() - start,
        "tasks_per_block": tasks / blocks,
    }


def _nothing(blocks: Sequence[int], pred_probs: Any, labels: Any) -> int:
    return len(blocks)


def _timed(call: Any) -> float:
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


def _cpu() -> str:
    names = [
        line
        for line in Path("/proc/cpuinfo").read_text().splitlines()
        if line.startswith("model name")
    ]
    return names[0].partition(":")[2].strip() if names else platform.processor()


def table(figures: dict[str, Any]) -> Table:
    """The figures as a table; ``bytes`` are those read over those stored, ``blocks`` a worker's
    peak memory over idle.
    """
    title = f"{figures['machine']['cpu']}, {figures['workers']} workers"
    shown = Table(
        title=title, title_justify="left", box=box.SIMPLE_HEAD, padding=0, collapse_padding=True
    )
    for name in ("shape", "floor", "job", "ratio", "bytes", "blocks", "cleanlab", "faster"):
        shown.add_column(name, justify="right", no_wrap=True)
    for f in figures["shapes"] + figures["dynamics"]:
        theirs = (
            [f"{f['cleanlab_seconds']:.1f} s", f"{f['times_faster_than_cleanlab']:.1f}x"]
            if "cleanlab_seconds" in f
            else []
        )
        shown.add_row(
            f"{f['examples']:,} x {f['classes']:,}"
            if "classes" in f
            else f"losses {f['examples']:,} x {f['iterations']:,}",
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
