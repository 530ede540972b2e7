"""``python -m benchmarks.top_classes FOLDER``: predictions of which the most probable classes are
kept, beside what reads them.

10,000,000 examples of 100,000 classes, the first 16 of each, as four Zarr arrays. Rounds are
interleaved: the same workers read and decode all arrays and do nothing else; the job.
"""

from __future__ import annotations

import json
import resource
import shutil
from functools import partial
from pathlib import Path
from statistics import median
from typing import Annotated, Any

import numpy as np
import typer
import zarr
from distributed import Client
from rich.console import Console

from benchmarks.predictions import timed
from noisydask.engine.cluster import connect
from noisydask.engine.config import ClusterConfig
from noisydask.issues.find import find_label_issues

OUT = Console()
_CHUNK = 131_072
_ARRAYS = ("pred_probs", "pred_classes", "given_probs", "labels")


def make_arrays(client: Client, folder: Path, rows: int, classes: int, k: int) -> Path:
    """Write the arrays, once."""
    place = folder / f"top-{rows}-{classes}-{k}"
    if (place / "_done").exists():
        return place
    shutil.rmtree(place, ignore_errors=True)
    for name, width, dtype in zip(_ARRAYS, (k, k, 0, 0), ("f4", "u4", "f4", "i4"), strict=True):
        rest = (width,) if width else ()
        shape, chunks = (rows, *rest), (_CHUNK, *rest)
        zarr.create_array(place / f"{name}.zarr", shape=shape, chunks=chunks, dtype=dtype)
    write = partial(_write_chunk, place=place, rows=rows, classes=classes, k=k)
    client.gather(client.map(write, range(0, rows, _CHUNK), pure=False))
    (place / "_done").touch()
    return place


def _write_chunk(low: int, place: Path, rows: int, classes: int, k: int) -> None:
    """Write some rows: of one in nine the label is not the prediction, of half of these it is not
    among the kept classes.
    """
    rng = np.random.default_rng(low)
    size = min(_CHUNK, rows - low)
    probs = np.sort(rng.gamma(0.3, size=(size, k)), axis=1)[:, ::-1]
    probs = probs / probs.sum(axis=1, keepdims=True) * rng.uniform(0.7, 0.99, (size, 1))
    steps = np.cumsum(rng.integers(1, classes // k - 1, (size, k)), axis=1)
    kept = (rng.integers(0, classes, (size, 1)) + steps) % classes
    every = np.arange(size)
    which = rng.choice([0] * 16 + [1, k], size)
    other = (kept[:, -1] + 1) % classes
    labels = np.where(which < k, kept[every, np.minimum(which, k - 1)], other)
    given = np.where(which < k, probs[every, np.minimum(which, k - 1)], probs[:, -1] / 2)
    for name, values in zip(_ARRAYS, (probs, kept, given, labels), strict=True):
        zarr.open_array(place / f"{name}.zarr")[low : low + size] = values


def _read_some(low: int, place: Path) -> int:
    """Read and decode the rows of a chunk of all arrays."""
    part = slice(low, low + _CHUNK)
    arrays = [zarr.open_array(place / f"{name}.zarr")[part] for name in _ARRAYS]
    return len(arrays)


def _read_all(client: Client, place: Path, rows: int) -> None:
    read = partial(_read_some, place=place)
    client.gather(client.map(read, range(0, rows, _CHUNK), pure=False))


def _job(place: Path, classes: int, out: Path) -> Any:
    shutil.rmtree(out, ignore_errors=True)
    inputs: dict[str, Any] = {name: place / f"{name}.zarr" for name in _ARRAYS}
    return find_label_issues(**inputs, num_classes=classes, out=out)


def measure(
    folder: Path, rows: int, classes: int, k: int, rounds: int, workers: int
) -> dict[str, Any]:
    """Measure the job on workers of one thread; the figures."""
    floors, jobs = [], []
    with connect(ClusterConfig(workers=workers, threads_per_worker=1)) as client:
        place = make_arrays(client, folder, rows, classes, k)
        out = folder / "out-top"
        for number in range(rounds + 1):  # the first compiles, and is not counted
            floor = timed(partial(_read_all, client, place, rows))
            job = timed(partial(_job, place, classes, out))
            if number:
                floors.append(floor)
                jobs.append(job)
    shutil.rmtree(out)
    ratios = [job / floor for job, floor in zip(jobs, floors, strict=True)]
    return {
        "rows": rows,
        "classes": classes,
        "kept": k,
        "read_seconds": median(floors),
        "job_seconds": median(jobs),
        "ratio": median(ratios),
        "client_megabytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
    }


def bench(
    folder: Annotated[Path, typer.Argument(help="Where the data are made and kept.")],
    rows: Annotated[int, typer.Option(min=1)] = 10_000_000,
    classes: Annotated[int, typer.Option(min=100)] = 100_000,
    k: Annotated[int, typer.Option(help="Kept classes.", min=2)] = 16,
    rounds: Annotated[int, typer.Option(help="Interleaved rounds.", min=1)] = 3,
    workers: Annotated[int, typer.Option(min=1)] = 2,
) -> None:
    """Measure the job beside reading."""
    OUT.print_json(json.dumps(measure(folder, rows, classes, k, rounds, workers)))


if __name__ == "__main__":
    typer.run(bench)
