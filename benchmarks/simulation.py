"""``python -m benchmarks.simulation``: a job of more blocks and workers than this machine could
take, to see what its client and its scheduler cost.

The client is the job as it is: it plans, builds every graph, takes the results, writes the
manifest, publishes. The scheduler is Dask's own, in a process of its own. The workers are Dask's
too, many in one process; what they read and keep of rows costs nothing
(:mod:`benchmarks.simulated_workers`). In the client one thing is replaced: the store's answer to
the listing of the two inputs, of which only the metadata exist.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated, Any
from unittest.mock import patch

import typer
import zarr
from distributed import Client
from rich import box
from rich.console import Console
from rich.table import Table
from zarr.storage import LocalStore

from benchmarks.memory import forget_peak, peak
from benchmarks.simulated_workers import BLOCK_ROWS, CLASSES
from noisydask.engine import graph
from noisydask.issues.find import find_label_issues
from noisydask.stores import zarr_rows
from noisydask.stores.listing import Listing

#: Rows of a chunk of the labels.
_LABEL_ROWS = 1_000_000
OUT, ERR = Console(), Console(stderr=True)


@dataclass
class Pass:
    """Tasks, seconds and bytes of a pass.

    Attributes
    ----------
    name : str
        Its name.
    tasks : int
        Tasks that the scheduler saw done.
    plan : float
        CPU seconds of the client since the pass before, until its graph was sent.
    client : float
        CPU seconds of the client since the pass before, until it had the result.
    scheduler : float
        CPU seconds of the scheduler in this time.
    seconds : float
        The time itself.
    sent : int
        Bytes that the client sent to the scheduler.
    """

    name: str
    tasks: int = 0
    plan: float = 0.0
    client: float = 0.0
    scheduler: float = 0.0
    seconds: float = 0.0
    sent: int = 0


@dataclass
class Meter:
    """Measures each pass of a job from outside: where a graph is computed."""

    client: Client
    scheduler: int
    passes: list[Pass] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._compute = graph.compute_all
        self._send = self.client._graph_to_futures
        self._tasks = self._tasks_done()
        self._planned = 0.0
        self._last = self._now()

    @contextmanager
    def measuring(self) -> Iterator[None]:
        """Measure all passes of the context, and what comes after the last."""
        with (
            patch.object(graph, "compute_all", self._measured),
            patch.object(self.client, "_graph_to_futures", self._sent),
        ):
            yield
            self._take("end", time.process_time())

    def _sent(self, *args: Any, **kwargs: Any) -> Any:
        futures = self._send(*args, **kwargs)
        self._planned = time.process_time()
        return futures

    def _measured(self, collections: Any) -> tuple[Any, ...]:
        collections = list(collections)
        name = str(collections[0].__dask_keys__()).partition("noisydask-")[2].partition("-")[0]
        result = self._compute(collections)
        self._take(name or "shuffle", self._planned)
        return result

    def _take(self, name: str, planned: float) -> None:
        now = self._now()
        tasks = self._tasks_done()
        last = self._last
        client, scheduler, seconds, sent = (
            round(after - before, 3) for before, after in zip(last, now, strict=True)
        )
        plan = round(planned - last[0], 3)
        took = Pass(name, tasks - self._tasks, plan, client, scheduler, seconds, int(sent))
        ERR.print(f"  {took}", highlight=False)
        self.passes.append(took)
        self._last = now
        self._tasks = tasks

    def _now(self) -> tuple[float, ...]:
        sent = self.client.scheduler_comm.byte_count
        return time.process_time(), _cpu_seconds(self.scheduler), time.monotonic(), sent

    def _tasks_done(self) -> int:
        return int(self.client.run_on_scheduler(_tasks_done))


def _tasks_done(dask_scheduler: Any) -> int:
    prefixes = dask_scheduler.task_prefixes.values()
    return sum(prefix.state_counts["memory"] for prefix in prefixes)


def simulate(
    blocks: int, workers: int, chunks: int, processes: int, folder: Path
) -> dict[str, Any]:
    """Run two nights over so many blocks, of so many chunks each, on workers of one thread that
    share processes, in an empty folder.
    """
    inputs = _arrays(folder, blocks * BLOCK_ROWS, chunks)
    with cluster(workers, processes, folder) as (client, scheduler):
        idle = _idle(scheduler)
        jobs = {}
        for night, name in enumerate(("first", "next")):
            jobs[name] = _job(inputs, folder / "out", night, client, scheduler)
        memory = peak(scheduler)
    return {
        "workers": workers,
        "jobs": jobs,
        "scheduler_idle_share": idle,
        "scheduler_mb": memory / 1e6,
    }


def _job(
    inputs: tuple[str, str], out: Path, night: int, client: Client, scheduler: int
) -> dict[str, Any]:
    """Run the job of the first night, or of one in which a hundredth of the chunks are others."""
    forget_peak()
    meter = Meter(client, scheduler)
    listed = partial(_listed, night=night)
    with patch.object(zarr_rows, "list_array", listed), meter.measuring():
        found = find_label_issues(*inputs, out=out, block_bytes=BLOCK_ROWS * (4 * CLASSES + 41))
    return {
        "blocks": found.manifest["blocks"],
        "issues": found.num_issues,
        "passes": [asdict(each) for each in meter.passes],
        "client_mb": peak() / 1e6,
    }


def _arrays(folder: Path, rows: int, chunks: int) -> tuple[str, str]:
    """Make the metadata of the two inputs, without a chunk."""
    shapes = {
        "labels": ((rows,), (_LABEL_ROWS,), "i4"),
        "pred_probs": ((rows, CLASSES), (BLOCK_ROWS // chunks, CLASSES), "f4"),
    }
    for name, (shape, chunk, dtype) in shapes.items():
        store = LocalStore(folder / f"{name}.zarr")
        zarr.create_array(store, shape=shape, chunks=chunk, dtype=dtype)
    return str(folder / "labels.zarr"), str(folder / "pred_probs.zarr")


def _listed(store: Any, path: str, night: int) -> Listing:
    """Answer as a store does that holds every chunk, each with an ETag; those of every hundredth
    are of this night.
    """
    array = zarr.open_array(store, path=path, mode="r")
    rows = -(-array.shape[0] // array.chunks[0])
    key = array.metadata.encode_chunk_key
    rest = (0,) * (len(array.shape) - 1)
    keys = (key((number, *rest)) for number in range(rows))
    versions = {
        key: f'"{number:032x}-{0 if number % 100 else night}"' for number, key in enumerate(keys)
    }
    return {"zarr.json": '"0"', **versions}


def _idle(scheduler: int, seconds: float = 5.0) -> float:
    """Return which share of a core the scheduler takes for workers that do nothing."""
    before = _cpu_seconds(scheduler)
    time.sleep(seconds)
    return (_cpu_seconds(scheduler) - before) / seconds


def _cpu_seconds(process: int) -> float:
    """Return the CPU time that a process has taken, on Linux."""
    fields = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


@contextmanager
def cluster(workers: int, processes: int, folder: Path) -> Iterator[tuple[Client, int]]:
    """Run a scheduler in one process, workers in others; yield a client, and the number of the
    scheduler's process.
    """
    where = folder / "scheduler.json"
    command = ["distributed.cli.dask_scheduler", "--host", "127.0.0.1", "--port", "0"]
    command += ["--no-dashboard", "--scheduler-file", str(where)]
    with ExitStack() as stack:
        scheduler = stack.enter_context(_process(command))
        while not where.exists() or not where.read_text():
            time.sleep(0.1)
        address = json.loads(where.read_text())["address"]
        for number in range(processes):
            some = len(range(number, workers, processes))
            serve = ["benchmarks.simulated_workers", address, str(some), str(folder / "spill")]
            stack.enter_context(_process(serve))
        client = stack.enter_context(Client(address))
        client.wait_for_workers(workers, timeout=120)
        yield client, scheduler


@contextmanager
def _process(command: list[str]) -> Iterator[int]:
    """Run a module as a process, which ends with the context; yield its number."""
    with subprocess.Popen([sys.executable, "-m", *command], stderr=subprocess.DEVNULL) as process:
        try:
            yield process.pid
        finally:
            process.terminate()


def table(name: str, job: dict[str, Any], idle_share: float) -> Table:
    """Return the figures of a job's passes as a table; what an idle scheduler takes of a core is
    the word of its workers that they live.
    """
    shown = Table(title=f"{name} night", title_justify="left", box=box.SIMPLE_HEAD)
    for name in ("pass", "tasks", "plan s", "client s", "scheduler s", "time s", "sent MB"):
        shown.add_column(name, justify="left" if name == "pass" else "right")
    columns = ("tasks", "plan", "client", "scheduler", "seconds", "sent")
    sums = dict.fromkeys(columns, 0)
    for each in job["passes"]:
        sums = {name: sums[name] + each[name] for name in columns}
        shown.add_row(each["name"], *_cells(each))
    shown.add_row("all", *_cells(sums))
    idle = {"scheduler": idle_share * sums["seconds"]}
    shown.add_row("of it idle", *_cells(dict.fromkeys(columns, 0) | idle))
    return shown


def _cells(row: dict[str, Any]) -> list[str]:
    seconds = [f"{row[name]:.1f}" for name in ("plan", "client", "scheduler", "seconds")]
    return [f"{row['tasks']:,}", *seconds, f"{row['sent'] / 1e6:.1f}"]


def main(
    blocks: Annotated[int, typer.Option(help="Blocks of 16,000 x 1,000 float32.")] = 62_500,
    workers: Annotated[int, typer.Option(help="Simulated workers.")] = 100,
    chunks: Annotated[int, typer.Option(help="Objects that a block lies in.")] = 1,
    processes: Annotated[int, typer.Option(help="Processes that the workers share.")] = 1,
    output: Annotated[Path | None, typer.Option("--json", help="Write the figures here.")] = None,
) -> None:
    """Simulate a job, and print what it costs its client and its scheduler."""
    with TemporaryDirectory() as folder:
        figures = simulate(blocks, workers, chunks, processes, Path(folder))
    for name, job in figures["jobs"].items():
        OUT.print(table(name, job, figures["scheduler_idle_share"]))
        told = f"{job['issues']:,} issues, {job['blocks']['scanned']:,} blocks read"
        OUT.print(f"{told}; client at most {job['client_mb']:,.0f} MB", highlight=False)
    idle = f"{figures['scheduler_idle_share']:.1%} of a core while nothing is to be done"
    OUT.print(f"scheduler at most {figures['scheduler_mb']:,.0f} MB; {idle}", highlight=False)
    if output is not None:
        output.write_text(json.dumps(figures, indent=1), encoding="utf-8")


if __name__ == "__main__":
    typer.run(main)
