"""``python -m benchmarks.predictions FOLDER``: tables of predictions beside what reads them.

The same 5,000,000 x 100 probabilities with their labels as Parquet with a column a class, as
Parquet with a column of lists, and fewer of them as CSV. Rounds are interleaved: the same workers
read and decode all columns by pyarrow and do nothing else; the job.
"""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from statistics import median
from typing import Annotated, Any

import numpy as np
import pyarrow as pa
import pyarrow.csv as pc
import pyarrow.parquet as pq
import typer
from distributed import Client
from rich.console import Console

from benchmarks.data import rows_of
from noisydask.engine.cluster import connect
from noisydask.engine.config import ClusterConfig
from noisydask.issues.find import find_label_issues

OUT = Console()
CLASSES = 100
#: Rows of a row group, and of a file.
_GROUP, _FILE = 50_000, 250_000
_NAMES = [f"p_{number:02}" for number in range(CLASSES)]


def make_tables(folder: Path, kind: str, rows: int) -> Path:
    """Write predictions as files of a kind, once."""
    place = folder / f"predictions-{kind}-{rows}"
    if (place / "_done").exists():
        return place
    shutil.rmtree(place, ignore_errors=True)
    place.mkdir(parents=True)
    for number, low in enumerate(range(0, rows, _FILE)):
        probs, labels = rows_of(low, min(low + _FILE, rows), CLASSES)
        given = pa.array(labels)
        if kind == "list":
            lists = pa.FixedSizeListArray.from_arrays(pa.array(probs.ravel()), CLASSES)
            table = pa.table({"label": given, "probs": lists})
        else:
            columns = dict(zip(_NAMES, map(pa.array, np.ascontiguousarray(probs.T)), strict=True))
            table = pa.table({"label": given, **columns})
        if kind == "csv":
            pc.write_csv(table, place / f"part-{number}.csv")
        else:
            pq.write_table(table, place / f"part-{number}.parquet", row_group_size=_GROUP)
    (place / "_done").touch()
    return place


def _read_file(file: str) -> int:
    """Read all columns of a file by pyarrow, a row group at a time, on one thread."""
    if file.endswith(".csv"):
        read = pc.ReadOptions(use_threads=False)
        types = dict.fromkeys(_NAMES, pa.float32())
        convert = pc.ConvertOptions(column_types=types)
        return sum(len(batch) for batch in pc.open_csv(file, read, convert_options=convert))
    with pq.ParquetFile(file, memory_map=True) as opened:
        groups = range(opened.num_row_groups)
        return sum(opened.read_row_group(k, use_threads=False).num_rows for k in groups)


def _read_all(client: Client, place: Path) -> int:
    files = sorted(str(file) for file in place.iterdir() if file.name.startswith("part"))
    return sum(client.gather(client.map(_read_file, files, pure=False)))


def _job(place: Path, kind: str, out: Path) -> Any:
    shutil.rmtree(out, ignore_errors=True)
    columns = "probs" if kind == "list" else "p_*"
    return find_label_issues(table=place, class_columns=columns, out=out)


def timed(call: Callable[[], Any]) -> float:
    """Return the seconds that a call takes."""
    begun = time.perf_counter()
    call()
    return time.perf_counter() - begun


def measure_predictions(
    folder: Path, kind: str, rows: int, rounds: int, workers: int
) -> dict[str, Any]:
    """Measure files of one kind, on workers of one thread; the figures."""
    place = make_tables(folder, kind, rows)
    floors, jobs = [], []
    with connect(ClusterConfig(workers=workers, threads_per_worker=1)) as client:
        for number in range(rounds + 1):  # the first compiles, and is not counted
            floor = timed(partial(_read_all, client, place))
            job = timed(partial(_job, place, kind, folder / "out-predictions"))
            if number:
                floors.append(floor)
                jobs.append(job)
    shutil.rmtree(folder / "out-predictions")
    ratios = [job / floor for job, floor in zip(jobs, floors, strict=True)]
    return {
        "kind": kind,
        "rows": rows,
        "pyarrow_seconds": median(floors),
        "job_seconds": median(jobs),
        "ratio": median(ratios),
    }


def bench(
    folder: Annotated[Path, typer.Argument(help="Where the data are made and kept.")],
    rows: Annotated[int, typer.Option(help="Rows of Parquet; CSV has a fifth.")] = 5_000_000,
    rounds: Annotated[int, typer.Option(help="Interleaved rounds.", min=1)] = 3,
    workers: Annotated[int, typer.Option(min=1)] = 2,
) -> None:
    """Measure each kind of table."""
    for kind, some in (("wide", rows), ("list", rows), ("csv", rows // 5)):
        OUT.print_json(json.dumps(measure_predictions(folder, kind, some, rounds, workers)))


if __name__ == "__main__":
    typer.run(bench)
