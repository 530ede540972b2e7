"""The job on a real S3 server beside the best that reading the same objects can be.

The server (SeaweedFS, from the package registry) runs on the loopback interface of this machine and
shares its cores. Rounds are interleaved: the stored bytes by plain GETs; read and decoded by Zarr
over obstore, by Zarr over s3fs, and by noisydask's own reader; the job; and the job with its output
on the local disk, which tells what the server's own work for what is written costs.
"""

from __future__ import annotations

import secrets
import shutil
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any, cast

import obstore
import zarr
from distributed import Client
from rich import box
from rich.console import Console
from rich.table import Table
from zarr.storage import FsspecStore

from benchmarks.data import make_data
from benchmarks.measure import read_all
from benchmarks.memory import forget_peak, peak
from benchmarks.requests import count_requests
from noisydask.core.blocks import plan_blocks
from noisydask.engine.cluster import connect
from noisydask.engine.config import ClusterConfig
from noisydask.issues.find import find_label_issues
from noisydask.stores.arrays import Rows, open_rows
from noisydask.stores.locations import Location
from noisydask.stores.zarr_stores import zarr_store

SHAPES = ("117432x1000", "1971321x100", "1000000x1000", "5000000x100")
_SHOWN = ("raw", "best", "job", "apart")
WAYS = ("raw", "obstore", "s3fs", "own", "job", "apart")


@dataclass(frozen=True)
class Bucket:
    """A bucket of a server that runs as long as the benchmark."""

    url: str
    options: dict[str, Any]

    def place(self, name: str) -> Location:
        """Return a place in it."""
        return Location.of(f"{self.url}/{name}", self.options, name)


@contextmanager
def bucket(folder: Path) -> Iterator[Bucket]:
    """Run a server that keeps its data in a folder."""
    sys.path.insert(0, str(Path(__file__).parent.parent / "tests"))
    from rig.server import BUCKET, s3_server, until_it_works  # noqa: PLC0415
    from s3fs import S3FileSystem  # noqa: PLC0415

    data = folder / "s3"
    data.mkdir(parents=True, exist_ok=True)
    with s3_server(data) as server:
        fs = S3FileSystem(**server.options())
        until_it_works(lambda: fs.exists(BUCKET) or fs.mkdir(BUCKET))
        until_it_works(lambda: fs.pipe_file(f"{BUCKET}/first", b"1"))
        yield Bucket(f"s3://{BUCKET}", server.options())


def upload(source: Path, to: Location) -> None:
    """Copy a Zarr array into a bucket, unless it is there."""
    if (to / "done").fs.exists((to / "done").path):
        return
    for file in sorted(path for path in source.rglob("*") if path.is_file()):
        (to / file.relative_to(source).as_posix()).write(file.read_bytes())
    (to / "done").write(b"1")


def measure_objects(
    shape: str, folder: Path, rounds: int, cluster: tuple[int, int], console: Console
) -> dict[str, Any]:
    """Measure one shape, on so many workers of so many threads; the figures."""
    workers, threads = cluster
    rows, classes = map(int, shape.split("x"))
    make_data(folder, rows, classes, npy=False)
    stem = f"{rows}x{classes}"
    with bucket(folder) as there:
        for name in ("pred_probs", "labels"):
            upload(folder / f"{stem}-{name}.zarr", there.place(f"{stem}-{name}.zarr"))
        config = ClusterConfig(workers=workers, threads_per_worker=threads)
        with connect(config) as client:
            disk = folder / "out-apart"
            figure = _interleaved(there, stem, disk, rounds, client, console)
        return figure | {"requests": fixed_requests(there, stem)}


def fixed_requests(there: Bucket, stem: str) -> dict[str, tuple[int, float]]:
    """Count what the job asks of the store. The output is a new one: of folders that are gone this
    server lists the names.
    """
    out = f"out-{secrets.token_hex(4)}"
    counts = count_requests(partial(_job, there, stem, out))
    there.place(f"{stem}-{out}").remove_all()
    return counts


def _job(there: Bucket, stem: str, out_name: str = "out") -> Any:
    out = there.place(f"{stem}-{out_name}")
    return _job_to(out.url, {"out": there.options}, there, stem)


def _job_to(out: str, of_out: dict[str, Any], there: Bucket, stem: str) -> Any:
    probs, labels = (
        there.place(f"{stem}-{name}").url for name in ("pred_probs.zarr", "labels.zarr")
    )
    options = dict.fromkeys(("labels", "pred_probs"), there.options) | of_out
    return find_label_issues(labels, probs, out=out, storage_options=options)


def _interleaved(
    there: Bucket, stem: str, disk: Path, rounds: int, client: Client, console: Console
) -> dict[str, Any]:
    probs, out = there.place(f"{stem}-pred_probs.zarr"), there.place(f"{stem}-out")
    source = cast(Rows, open_rows(probs.url, "pred_probs", probs.options))
    grid = plan_blocks(source.shape[0], source.shape[1] * source.dtype.itemsize, source.chunk_rows)
    seconds: dict[str, list[float]] = {way: [] for way in WAYS}
    blocks: list[float] = []
    found: list[Any] = []

    def job() -> None:
        found[:] = [_job(there, stem)]

    ways: dict[str, Callable[[], Any]] = {
        "raw": partial(_get_all, client, probs),
        "obstore": partial(_read_by_zarr, client, probs, "obstore"),
        "s3fs": partial(_read_by_zarr, client, probs, "s3fs"),
        "own": lambda: read_all(source, grid),
        "job": job,
        "apart": lambda: _job_to(str(disk), {}, there, stem),
    }
    for number in range(rounds + 1):  # the first compiles, and is not counted
        for way, call in ways.items():
            if way == "job":
                out.remove_all()
                shutil.rmtree(disk, ignore_errors=True)
                idle = max(client.run(forget_peak).values())
            begun = time.perf_counter()
            call()
            took = time.perf_counter() - begun
            if number:
                seconds[way].append(took)
        blocks.append((max(client.run(peak).values()) - idle) / grid.block_bytes)
    best = [min(some) for some in zip(*(seconds[way] for way in WAYS[1:4]), strict=True)]
    figure = {
        "shape": stem,
        **{way: median(seconds[way]) for way in WAYS},
        "best": median(best),
        "to_raw": median(a / b for a, b in zip(seconds["job"], seconds["raw"], strict=True)),
        "to_best": median(a / b for a, b in zip(seconds["job"], best, strict=True)),
        "apart_to_best": median(a / b for a, b in zip(seconds["apart"], best, strict=True)),
        "phases": found[0].manifest["seconds"],
        "blocks": max(blocks[1:]),
    }
    console.print(figure, highlight=False)
    return figure


def _chunks(place: Location) -> list[str]:
    return [f"{place.path}/{name}" for name in place.list() if name.startswith("c/")]


def _get_all(client: Client, place: Location) -> int:
    """Fetch all objects by plain GETs, in as many tasks as there are objects."""
    futures = client.map(partial(_get, place=place), _in_parts(_chunks(place)), pure=False)
    return sum(client.gather(futures))


def _in_parts(names: list[str], size: int = 4) -> list[list[str]]:
    return [names[low : low + size] for low in range(0, len(names), size)]


def _get(names: Sequence[str], place: Location) -> int:
    total = 0
    for name in names:
        store, key = place.fs.bucket(name)
        total += len(obstore.get(store, key).bytes())
    return total


def _read_by_zarr(client: Client, place: Location, by: str) -> int:
    """Read all rows by Zarr as it is, with the client named."""
    array = _zarr(place, by)
    step = array.chunks[0] * 4
    futures = client.map(
        partial(_read_rows, place=place, by=by, step=step),
        range(0, array.shape[0], step),
        pure=False,
    )
    return sum(client.gather(futures))


def _read_rows(low: int, place: Location, by: str, step: int) -> int:
    rows: int = _zarr(place, by)[low : low + step].nbytes
    return rows


_OPENED: dict[tuple[str, str], Any] = {}


def _zarr(place: Location, by: str) -> Any:
    """Open an array once in a process."""
    key = place.path, by
    if key not in _OPENED:
        if by == "obstore":
            store: Any = zarr_store(place, read_only=True)
        else:
            options = {**place.options, "max_concurrency": 1}
            store = FsspecStore.from_url(f"s3://{place.path}", storage_options=options)
        _OPENED[key] = zarr.open_array(store, mode="r")
    return _OPENED[key]


def objects_table(figures: Sequence[dict[str, Any]]) -> Table:
    """Return the figures as a table; ``best`` is the fastest read of a round, ``blocks`` a worker's
    peak memory over idle.
    """
    shown = Table(box=box.SIMPLE_HEAD, padding=0, collapse_padding=True)
    for name in ("shape", *_SHOWN, "job/raw", "job/best", "apart/best", "blocks"):
        shown.add_column(name, justify="right", no_wrap=True)
    for each in figures:
        shown.add_row(
            each["shape"],
            *(f"{each[way]:.2f} s" for way in _SHOWN),
            *(f"{each[name]:.2f}x" for name in ("to_raw", "to_best", "apart_to_best")),
            f"{each['blocks']:.1f}",
        )
    return shown
