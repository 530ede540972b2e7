"""``python -m benchmarks.billion FOLDER``: 10^9 examples of ten classes for real, beside their read
floor.

The 40 GB of probabilities are hard links to the chunks of 20,000,000 examples, which are laid out
in no time; the job cannot tell. What it writes, about 20 GB, is real, and removed.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Annotated, Any, cast

import typer
from rich.console import Console

from benchmarks.data import make_data
from benchmarks.measure import read_all
from noisydask.core.blocks import plan_blocks
from noisydask.engine.cluster import connect
from noisydask.engine.config import ClusterConfig
from noisydask.stores.arrays import Rows, open_rows

OUT = Console()
ROWS, CLASSES = 20_000_000, 10
_PROBE_BYTES = 1 << 30


def make_billion(folder: Path, times: int) -> tuple[str, str]:
    """Lay out so many times the examples of a smaller dataset; the labels and probabilities."""
    make_data(folder, ROWS, CLASSES, npy=False)
    made = []
    for name in ("labels", "pred_probs"):
        source = folder / f"{ROWS}x{CLASSES}-{name}.zarr"
        metadata = json.loads((source / "zarr.json").read_text())
        chunk_rows = metadata["chunk_grid"]["configuration"]["chunk_shape"][0]
        whole = ROWS // chunk_rows  # the last chunk is not full
        metadata["shape"][0] = times * whole * chunk_rows
        target = folder / f"{times}-times-{name}.zarr"
        made.append(str(target))
        if target.exists():
            continue
        chunks = [Path("c", str(k), *(["0"] if name == "pred_probs" else [])) for k in range(whole)]
        for number in range(times * whole):
            chunk = chunks[number % whole]
            link = target / "c" / str(number) / Path(*chunk.parts[2:])
            link.parent.mkdir(parents=True, exist_ok=True)
            os.link(source / chunk, link)
        (target / "zarr.json").write_text(json.dumps(metadata))
    return made[0], made[1]


def write_rate(folder: Path) -> float:
    """Bytes a second that the disk takes, written and synced."""
    probe, content = folder / "probe", os.urandom(1 << 24)
    begun = time.perf_counter()
    with probe.open("wb") as file:
        for _ in range(_PROBE_BYTES // len(content)):
            file.write(content)
        file.flush()
        os.fsync(file.fileno())
    seconds = time.perf_counter() - begun
    probe.unlink()
    return _PROBE_BYTES / seconds


def bench(
    folder: Annotated[Path, typer.Argument(help="Where the data are made and kept.")],
    times: Annotated[int, typer.Option(help="How many times 20,000,000 examples.")] = 51,
    workers: Annotated[int, typer.Option(min=1)] = 2,
) -> None:
    """Measure the read floor, then the job, whose client is a process of its own."""
    labels, probs = make_billion(folder, times)
    out = folder / "out-billion"
    shutil.rmtree(out, ignore_errors=True)
    figure: dict[str, Any] = {"write_rate": write_rate(folder)}
    with connect(ClusterConfig(workers=workers)) as client:
        source = cast(Rows, open_rows(probs, "pred_probs"))
        row_bytes = source.shape[1] * source.dtype.itemsize
        grid = plan_blocks(source.shape[0], row_bytes, source.chunk_rows)
        begun = time.perf_counter()
        read_all(source, grid)
        figure |= {"rows": source.shape[0], "floor_seconds": time.perf_counter() - begun}
        alone = [sys.executable, "-m", "benchmarks.measure", client.scheduler.address]
        begun = time.perf_counter()
        done = subprocess.run(
            [*alone, labels, probs, str(out)], check=True, capture_output=True, text=True
        )
        took = time.perf_counter() - begun
    figure |= json.loads(done.stdout) | {"with_start_seconds": took}
    figure["ratio_to_floor"] = figure["seconds"] / figure["floor_seconds"]
    shutil.rmtree(out)
    OUT.print_json(json.dumps(figure))


if __name__ == "__main__":
    typer.run(bench)
