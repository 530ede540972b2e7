"""A cluster's scheduler and workers killed in the middle of a job, again and again; a chunk that
kills every worker."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from rig.cases import CHUNK, Case, ordinary
from rig.jobs import Ended, published
from rig.plans import IN_FLIGHT, LEASE, Trial
from rig.server import BUCKET, KEY, SECRET, free_ports

pytestmark = pytest.mark.slow

NewTrial = Callable[[Case], Trial]
CHUNKS = r"pred_probs\.zarr/c/"
#: What a worker does when a chunk is asked for, before it is read.
DEADLY = """
import os, time
from noisydask.stores.object_files import ObjectFiles
read = ObjectFiles.cat_file

def deadly(self, path, *args, read=read, **kwargs):
    if path.endswith("{reads}.zarr/c/3/0"):
        {act}
    return read(self, path, *args, **kwargs)

ObjectFiles.cat_file = deadly
"""
ACTS = {
    "it ends the process": "os._exit(1)",
    "it eats the memory": "hog = [b'x' * (1 << 24) for _ in range(1000) if time.sleep(0.01) is "
    "None]",
}


@dataclass
class Cluster:
    """A scheduler and workers, each a process of its own."""

    address: str
    scheduler: subprocess.Popen[bytes]
    workers: list[subprocess.Popen[bytes]] = field(default_factory=list)

    def add_worker(self, *how: str) -> None:
        """Start a worker, which is not started again when it dies unless ``how`` says so."""
        self.workers.append(
            _start("dask_worker", self.address, "--nthreads", "1", "--no-dashboard", *how)
        )

    def run(self, trial: Trial) -> Ended:
        """The command, on this cluster."""
        options = {
            "endpoint_url": trial.way.endpoint,
            "client_kwargs": {"region_name": "us-east-1"},
        }
        read = {"pred_probs": "--pred-probs", "losses": "--losses"}[trial.reads]
        places = (("--labels", "labels.zarr"), (read, f"{trial.reads}.zarr"), ("--out", "out"))
        words = [
            word
            for option, name in places
            for word in (option, f"s3://{BUCKET}/{trial.prefix}/{name}")
        ]
        job = (
            ["issues"]
            if trial.reads == "pred_probs"
            else ["dynamics", "--alpha", "0.1", "--top-k", "40"]
        )
        done = subprocess.run(
            [
                sys.executable,
                "-m",
                "noisydask",
                *job,
                *words,
                "--scheduler",
                self.address,
                "--block-bytes",
                str(trial.case.block_bytes),
                "--lease-seconds",
                str(LEASE),
                "--storage-options",
                json.dumps(options | {"key": KEY, "secret": SECRET}),
            ],
            env=os.environ,
            capture_output=True,
            text=True,
            timeout=200,
            check=False,
        )
        return Ended(done.returncode, done.stderr)


def _start(program: str, *arguments: str) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", f"distributed.cli.{program}", *arguments]
    return subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


@pytest.fixture
def cluster() -> Iterator[Cluster]:
    """A scheduler without workers."""
    (port,) = free_ports(1)
    scheduler = _start(
        "dask_scheduler", "--host", "127.0.0.1", "--port", str(port), "--no-dashboard"
    )
    found = Cluster(f"tcp://127.0.0.1:{port}", scheduler)
    yield found
    for worker in found.workers:
        worker.terminate()  # a nanny takes its worker along
    for child in [*found.workers, scheduler]:
        with contextlib.suppress(subprocess.TimeoutExpired):
            child.wait(10)
        child.kill()
        child.wait()


@pytest.fixture
def trial(new_trial: NewTrial) -> Trial:
    return new_trial(ordinary(rows=550))


def test_a_worker_dies(cluster: Cluster, trial: Trial) -> None:
    for _ in range(2):
        cluster.add_worker("--no-nanny")
    rule = trial.way.add(
        "forward",
        methods=("GET",),
        pattern=CHUNKS,
        first=3,
        count=1,
        call=lambda _: cluster.workers[0].kill(),
    )
    ended = cluster.run(trial)
    assert rule.done == 1
    assert ended.status == 0, ended.said
    assert published(trial.out) == trial.expected
    assert trial.chunks_read() <= trial.case.blocks * 2, "a worker's death costs its blocks only"


def test_all_workers_die_and_others_come(cluster: Cluster, trial: Trial) -> None:
    for _ in range(2):
        cluster.add_worker("--no-nanny")

    def kill(_: object) -> None:
        for worker in cluster.workers:
            worker.kill()
        cluster.add_worker("--no-nanny")

    trial.way.add("forward", methods=("GET",), pattern=CHUNKS, first=3, count=1, call=kill)
    ended = cluster.run(trial)
    assert len(cluster.workers) == 3
    assert ended.status == 0, ended.said
    assert published(trial.out) == trial.expected


def test_a_worker_dies_again_and_again(cluster: Cluster, trial: Trial) -> None:
    for _ in range(2):
        cluster.add_worker("--no-nanny")
    killed: list[int] = []

    def kill(_: object) -> None:
        if trial.chunks_read() % 3 == 0 and len(killed) < 6:
            killed.append(trial.chunks_read())
            cluster.workers[-1].kill()
            cluster.add_worker("--no-nanny")

    trial.way.add("forward", methods=("GET",), pattern=CHUNKS, call=kill)
    ended = cluster.run(trial)
    assert len(killed) > 2
    if ended.status:  # one block may have had bad luck at four workers
        assert ended.status == 1, ended.said
        assert "workers died" in ended.one_error()
        trial.check()
        trial.way.rules.clear()
        assert cluster.run(trial).status == 0
    assert published(trial.out) == trial.expected


def test_the_scheduler_dies(cluster: Cluster, trial: Trial) -> None:
    cluster.add_worker("--no-nanny")
    killed: list[float] = []

    def kill(_: object) -> None:
        killed.append(time.monotonic())
        cluster.scheduler.kill()

    trial.way.add("forward", methods=("GET",), pattern=CHUNKS, first=3, count=1, call=kill)
    ended = cluster.run(trial)
    assert time.monotonic() - killed[0] < 60
    assert ended.status == 1, ended.said
    assert "the cluster failed" in ended.one_error()
    assert published(trial.out) is None
    trial.check_again()
    assert trial.chunks_read() < 2 * trial.case.blocks


@pytest.mark.parametrize(
    ("act", "reads"), [*((act, "pred_probs") for act in ACTS), ("it ends the process", "losses")]
)
def test_a_chunk_that_kills_every_worker_is_named(
    act: str, reads: str, cluster: Cluster, new_trial: Callable[..., Trial], tmp_path: Path
) -> None:
    trial = new_trial(ordinary(rows=550), reads)
    preload = tmp_path / "deadly.py"
    preload.write_text(DEADLY.format(act=ACTS[act], reads=reads))
    for _ in range(2):
        cluster.add_worker("--nanny", "--memory-limit", "700MB", "--preload", str(preload))
    ended = cluster.run(trial)
    assert ended.status == 1, ended.said
    error = ended.one_error()
    assert f"{reads}.zarr: chunk c/3/0, rows {3 * CHUNK} to {4 * CHUNK - 1}" in error
    assert "workers died" in error
    assert published(trial.out) is None
    kept = [name for name in trial.out.objects() if "/receipts/" in name]
    assert 0 < len(kept) < trial.case.blocks
    trial.way.clear()
    trial.check_again()
    if reads == "pred_probs":  # candidates by their losses are looked at once more
        assert trial.chunks_read() <= trial.case.blocks - len(kept) + IN_FLIGHT
