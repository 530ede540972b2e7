"""``python -m benchmarks.filters``: what another filter costs, in a first run and on a finished one
over the time of the default, and the bytes that are read again for open rows.

Two kinds of data: ``sure``, of a model that is mostly right and of labels that are mistaken for the
next class, which leaves no row open that could be flagged; ``doubtful``, of labels that are wrong
at random, which leaves many.
"""

from __future__ import annotations

import shutil
import time
from collections import defaultdict
from pathlib import Path
from statistics import median
from typing import Annotated, Any

import numpy as np
import typer
import zarr
from distributed import Client, LocalCluster
from rich.console import Console

import noisydask

OUT = Console(width=100)
_AT_ONCE = 20_000


def make_data(folder: Path, rows: int, classes: int, kind: str) -> tuple[str, str]:
    """Write labels and ``pred_probs`` (float32), once; return their paths."""
    stem = folder / f"{kind}-{rows}x{classes}"
    labels, probs = f"{stem}-labels.zarr", f"{stem}-pred_probs.zarr"
    if Path(labels).exists():
        return labels, probs
    rng = np.random.default_rng(0)
    truth = rng.integers(0, classes, rows)
    chunk = max(1, (16 << 20) // (4 * classes))
    array = zarr.create_array(
        probs, shape=(rows, classes), chunks=(chunk, classes), dtype="f4", overwrite=True
    )
    noise, strength = (0.5, (9, 12)) if kind == "sure" else (1.0, (5, 10))
    for start in range(0, rows, _AT_ONCE):
        some = truth[start : start + _AT_ONCE]
        logits = noise * rng.standard_normal((len(some), classes), dtype="f4")
        logits[np.arange(len(some)), some] += rng.uniform(*strength, len(some)).astype("f4")
        values = np.exp(logits)
        array[start : start + len(some)] = values / values.sum(axis=1, keepdims=True)
    wrong = rng.random(rows) < 0.05
    others = (truth + 1) % classes if kind == "sure" else rng.integers(0, classes, rows)
    zarr.create_array(labels, data=np.where(wrong, others, truth), chunks=(100_000,))
    return labels, probs


def measure(folder: Path, shape: tuple[int, int], kind: str, rounds: int) -> None:
    """Print the ratios of one kind of data."""
    inputs = make_data(folder, *shape, kind)
    times: dict[str, list[float]] = defaultdict(list)
    again: dict[str, int] = {}

    def run(name: str, out: str, **options: Any) -> None:
        start = time.perf_counter()
        found = noisydask.find_label_issues(*inputs, out=folder / out, **options)
        times[name].append(time.perf_counter() - start)
        again[name] = sum(found.manifest["bytes_read"].values())

    run("warm", "first")
    for _ in range(rounds):
        for out in ("first", "other"):
            shutil.rmtree(folder / out, ignore_errors=True)
        run("default", "first")
        run("both", "other", filter_by="both")
        for name in ("prune_by_class", "confident_learning", "auto", "both"):
            run(f"then {name}", "first", filter_by=name)
        start = time.perf_counter()
        noisydask.open_run(folder / "first").health()
        times["then health"].append(time.perf_counter() - start)
    default = times.pop("default")
    del times["warm"]
    OUT.print(f"\n### {kind}, {shape[0]:,} x {shape[1]:,}: default {median(default):.2f} s\n")
    OUT.print("| run | time / default | bytes read |\n|---|---|---|")
    for name, found in times.items():
        ratio = median(one / other for one, other in zip(found, default, strict=True))
        OUT.print(f"| {name} | {ratio:.3f} | {again.get(name, 0):,} |")


def filters(
    folder: Annotated[Path, typer.Option(help="Where the data are made and kept.")] = Path(
        "bench-data"
    ),
    rows: Annotated[int, typer.Option(help="Examples.")] = 1_000_000,
    classes: Annotated[int, typer.Option(help="Classes.")] = 1000,
    rounds: Annotated[int, typer.Option(help="Interleaved rounds.", min=1)] = 5,
    workers: Annotated[int, typer.Option(help="Worker processes.", min=1)] = 2,
) -> None:
    """Measure filters over the default, interleaved."""
    folder.mkdir(parents=True, exist_ok=True)
    with (
        LocalCluster(n_workers=workers, threads_per_worker=1, dashboard_address=None) as cluster,
        Client(cluster),
    ):
        for kind in ("sure", "doubtful"):
            measure(folder, (rows, classes), kind, rounds)


if __name__ == "__main__":
    typer.run(filters)
