"""Workers unlike the client, clusters that start with no worker, and jobs that need none."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import sysconfig
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
from distributed import Client, LocalCluster
from layouts import write_zarr
from rig.place import Place

import noisydask
from noisydask.cli.app import main
from noisydask.engine.cluster import connect
from noisydask.engine.config import ClusterConfig
from noisydask.errors import InputError, JobError
from noisydask.stores.arrays import open_rows
from noisydask.stores.locations import Location

PACKAGES = Path(sysconfig.get_paths()["purelib"])
LABELS = np.arange(300) % 3
PROBS = np.full((300, 3), 0.1, np.float32)
PROBS[np.arange(300), (LABELS + (np.arange(300) % 10 == 0)) % 3] = 0.8


def installed_without(folder: Path, *names: str) -> Path:
    """All packages of this Python but some, as a folder to import them from."""
    folder.mkdir()
    for entry in PACKAGES.iterdir():
        if entry.name.split("-")[0] not in names and entry.suffix != ".pth":
            (folder / entry.name).symlink_to(entry)
    own = Path(noisydask.__file__).parent
    if "noisydask" not in names and not (folder / "noisydask").exists():
        (folder / "noisydask").symlink_to(own)
    return folder


@contextmanager
def worker(address: str, packages: Path) -> Iterator[subprocess.Popen[bytes]]:
    """A worker process that has these packages and no others."""
    command = [sys.executable, "-S", "-m", "distributed.cli.dask_worker", address]
    how = ["--nthreads", "1", "--no-nanny", "--no-dashboard", "--death-timeout", "60"]
    child = subprocess.Popen(
        [*command, *how], env={"PYTHONPATH": str(packages)}, stderr=subprocess.DEVNULL
    )
    try:
        yield child
    finally:
        child.kill()
        child.wait()


@pytest.fixture
def scheduler() -> Iterator[str]:
    """The address of a scheduler without workers."""
    with LocalCluster(n_workers=0, dashboard_address="127.0.0.1:0") as cluster:
        yield cluster.scheduler_address


def is_unharmed(child: subprocess.Popen[bytes], address: str) -> bool:
    """Whether a worker still works for others."""
    with Client(address, set_as_default=False) as other:
        return other.submit(sum, [1, 2]).result(20) == 3 and child.poll() is None


def arguments(place: Place, address: str, out: Path | str) -> list[str]:
    labels, probs = write_zarr(place / "y.zarr", LABELS), write_zarr(place / "p.zarr", PROBS)
    where = ["--labels", labels, "--pred-probs", probs, "--out", str(out)]
    return ["issues", "--scheduler", address, *where]


@pytest.mark.skipif(not (PACKAGES / "zarrs").exists(), reason="needs the package zarrs")
def test_each_worker_reads_by_what_is_installed_there(tmp_path: Path, scheduler: str) -> None:
    packages = installed_without(tmp_path / "packages", "zarrs")
    with worker(scheduler, packages) as child:
        assert main(arguments(Place(str(tmp_path)), scheduler, tmp_path / "out")) == 0
        assert is_unharmed(child, scheduler)
    assert sorted(noisydask.open_run(tmp_path / "out").indices) == list(range(0, 300, 10))


def test_a_package_that_workers_lack_is_named_and_they_live(
    tmp_path: Path, scheduler: str, s3_place: Place
) -> None:
    packages = installed_without(tmp_path / "packages", "obstore")
    with worker(scheduler, packages) as child, Client(scheduler) as client:
        client.wait_for_workers(1, 30)
        (name,) = client.nthreads()
        rows = open_rows(write_zarr(s3_place / "p.zarr", PROBS), "pred_probs", s3_place.options)
        start = time.monotonic()
        with pytest.raises(InputError, match=rf"lacks .*obstore \(.* here\) on {name}; install"):
            noisydask.find_label_issues(LABELS, rows.array, out=tmp_path / "out")
        assert time.monotonic() - start < 10
        assert not (tmp_path / "out/latest.json").exists()
        # One that joins later is sent tasks, of which those fail that need the package.
        place = Location.of(s3_place.url, s3_place.options, "x")
        for task in (lambda: rows.read(0, 1), lambda: place.fs.ls(place.path)):
            with pytest.raises(JobError, match=r"needs the package obstore, which .* lacks"):
                client.submit(task, pure=False).result(30)
        assert is_unharmed(child, scheduler)


def test_another_version_on_the_cluster_is_named(
    tmp_path: Path, scheduler: str, capfd: pytest.CaptureFixture[str]
) -> None:
    packages = installed_without(tmp_path / "packages")
    (own,) = packages.glob("noisydask-*.dist-info")
    own.unlink()
    other = packages / "noisydask-9.9.dist-info"
    other.mkdir()
    (other / "METADATA").write_text("Metadata-Version: 2.1\nName: noisydask\nVersion: 9.9\n")
    with worker(scheduler, packages):
        assert main(arguments(Place(str(tmp_path)), scheduler, tmp_path / "out")) == 2
    assert re.search(r"noisydask .* here, 9\.9 on tcp://", capfd.readouterr().err)


def test_workers_that_join_later_are_looked_at(
    tmp_path: Path, scheduler: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("noisydask.engine.workers.LOOK_SECONDS", 0.2)
    whole = installed_without(tmp_path / "whole")
    lacking = installed_without(tmp_path / "lacking", "obstore", "noisydask")

    def wait() -> None:
        with connect(ClusterConfig(scheduler=scheduler), {"obstore"}) as client:
            client.wait_for_workers(1, 30)
            future = client.submit(time.sleep, 60)
            with worker(scheduler, lacking) as late:
                late_ones.append(late)
                future.result()

    late_ones: list[subprocess.Popen[bytes]] = []
    told = pytest.raises(InputError, match=r"noisydask .* here, missing on tcp://")
    with worker(scheduler, whole) as child, told:
        wait()
    assert late_ones
    assert child.poll() is not None  # ended by the context above, not before


def test_an_adaptive_cluster_that_starts_with_no_worker(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    with LocalCluster(
        n_workers=0, threads_per_worker=1, dashboard_address="127.0.0.1:0", silence_logs=50
    ) as cluster:
        cluster.adapt(minimum=0, maximum=1, interval="100ms")
        out = tmp_path / "out"
        assert main(arguments(Place(str(tmp_path)), cluster.scheduler_address, out)) == 0
        assert "waiting for workers: 0 s of at most 120" in capfd.readouterr().err
    assert sorted(noisydask.open_run(out).indices) == list(range(0, 300, 10))


def test_a_cluster_that_gets_no_worker_is_waited_for_with_an_end(
    scheduler: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("noisydask.engine.workers.WORKER_SECONDS", 1)
    with Client(scheduler), pytest.raises(JobError, match=f"dask worker {scheduler}"):
        noisydask.find_label_issues(LABELS, PROBS)


#: Runs commands in a process of their own; prints how each ended, and how large the largest
#: process was that they started.
_ALONE = """
import json, resource, sys
from noisydask.cli.app import main
statuses = [main(words) for words in json.loads(sys.argv[1])]
print(json.dumps([statuses, resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss]))
"""


def alone(*commands: Sequence[str]) -> tuple[list[int], int, str]:
    """Exit statuses of commands, memory of the largest process that they started, their words."""
    done = subprocess.run(
        [sys.executable, "-c", _ALONE, json.dumps(commands)],
        capture_output=True,
        text=True,
        check=True,
    )
    return (*json.loads(done.stdout.splitlines()[-1]), done.stderr)


def test_small_data_need_no_processes_and_give_the_same_bits(tmp_path: Path) -> None:
    given = arguments(Place(str(tmp_path)), "-", tmp_path / "here")
    del given[1:3]
    statuses, children, told = alone(given)
    assert (statuses, children) == ([0], 0)
    assert "done in this process" in told
    statuses, children, _ = alone([*given[:-1], str(tmp_path / "there"), "--workers", "1"])
    assert statuses == [0]
    assert children > 0
    here, there = (written(tmp_path / name) for name in ("here", "there"))
    assert here == there


def written(out: Path) -> list[dict[str, object]]:
    """What a run wrote, but for the times."""
    objects = noisydask.open_run(out).manifest["objects"]
    return [stored for stored in objects if stored["path"] != "status.json"]


def test_inputs_are_looked_at_before_workers_start(tmp_path: Path) -> None:
    np.save(tmp_path / "y.npy", LABELS[1:])
    np.save(tmp_path / "p.npy", PROBS)
    given = ["--labels", str(tmp_path / "y.npy"), "--pred-probs", str(tmp_path / "p.npy")]
    config = tmp_path / "night.yaml"
    config.write_text(
        f"job: nightly\nissues: {{labels: {given[1]}, pred_probs: {given[3]}, "
        f"out: {tmp_path / 'night'}}}\ncluster: {{workers: 1}}"
    )
    statuses, children, _ = alone(
        ["issues", *given, "--out", str(tmp_path / "out"), "--workers", "1"],
        ["dynamics", "--losses", given[1], "--out", str(tmp_path / "out"), "--workers", "1"],
        ["combine", str(tmp_path), str(tmp_path), "--out", str(tmp_path / "o"), "--workers", "1"],
        ["run", str(config)],
    )
    assert (statuses, children) == ([2, 2, 2, 2], 0)
