"""The whole job across hosts: S3 server, scheduler, three workers and driver, each with an address
of its own; links fail.

Run by ``test_many_hosts.py`` on a host of its own, which sees the others' addresses as any other
does."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import fsspec
import pytest
import zarr
from conftest import Place
from distributed import Client
from hosts import GIVEN, Hosts
from layouts import make
from rig.server import BUCKET, s3_server

from noisydask.stores.arrays import zarr_store
from noisydask.stores.locations import Location

WORKERS = ("w1", "w2", "w3")
PORT = 8786
ROWS, BLOCK_ROWS = 120_000, 800
BLOCK_BYTES = BLOCK_ROWS * (10 * 4 + 40)


@dataclass
class Site:
    """The hosts with a cluster and a bucket on them."""

    hosts: Hosts
    place: Place
    folder: Path
    client: Client

    def drive(self, out: str) -> subprocess.Popen[bytes]:
        """Start the job on the driver's host."""
        command = [
            sys.executable,
            "-m",
            "noisydask",
            "issues",
            "--scheduler",
            f"tcp://{self.hosts.addresses['scheduler']}:{PORT}",
            "--labels",
            f"{self.place.url}/labels.zarr",
            "--pred-probs",
            f"{self.place.url}/pred_probs.zarr",
            "--out",
            f"{self.place.url}/{out}",
            "--storage-options",
            json.dumps(self.place.options),
            "--block-bytes",
            str(BLOCK_BYTES),
        ]
        return self.hosts.start("driver", command, self.folder / f"{out}.txt")

    def end(self, driver: subprocess.Popen[bytes], out: str) -> dict[str, bytes]:
        """Wait for the driver, and return all that it published but the manifest and the status,
        which tell the time."""
        status = driver.wait(timeout=400)
        assert status == 0, (self.folder / f"{out}.txt").read_text()[-3000:]
        run = json.loads(self.place.fs.cat(f"{self.place.url}/{out}/latest.json"))["run"]
        objects = (self.place / out / "runs" / run).objects()
        manifest = json.loads(objects["manifest.json"])
        assert manifest["counts"]["examples"] == ROWS
        assert manifest["counts"]["issues"] > 1000
        return {
            name: content
            for name, content in objects.items()
            if name not in ("manifest.json", "status.json")
        }

    def evidence(self, out: str) -> int:
        """Objects of the evidence so far."""
        return len(self.place.fs.find(f"{self.place.url}/{out}/evidence", refresh=True))

    def num_workers(self) -> int:
        return len(self.client.scheduler_info(n_workers=-1)["workers"])


def until(condition: Callable[[], bool], seconds: float = 120.0, every: float = 0.1) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "waited for nothing"
        time.sleep(every)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    hosts = Hosts(**json.loads(os.environ[GIVEN]))
    folder = tmp_path_factory.mktemp("site")
    with ExitStack() as stack:
        stack.callback(hosts.end)
        server = stack.enter_context(s3_server(folder, hosts.addresses["s3"], hosts.on("s3")))
        place = Place(f"s3://{BUCKET}/site", server.options())
        make_bucket(place)
        data = make(rows=ROWS, classes=10)
        for name, values in (("labels", data.labels), ("pred_probs", data.pred_probs)):
            store = zarr_store(Location.of(f"{place.url}/{name}.zarr", place.options, "test"))
            zarr.create_array(store, data=values, chunks=(BLOCK_ROWS, 10)[: values.ndim])
        yield Site(hosts, place, folder, stack.enter_context(start_cluster(hosts, folder)))


def make_bucket(place: Place) -> None:
    fs = fsspec.filesystem("s3", **place.options)

    def works() -> bool:
        try:
            fs.makedirs(BUCKET, exist_ok=True)
            fs.pipe_file(f"{BUCKET}/first", b"1")  # the volumes of a new bucket take a moment
        except OSError:
            return False
        return True

    until(works)


def start_cluster(hosts: Hosts, folder: Path) -> Client:
    """A scheduler that gives a silent worker up after twenty seconds, and three workers; a client
    that only looks.

    A worker that was given up ends when it hears of it; its host starts it again, as Kubernetes or
    systemd would."""
    address = f"tcp://{hosts.addresses['scheduler']}:{PORT}"
    # The environment of this process is that of the hosts, but for what Dask is told here.
    told = {"WORKER_TTL": "20s", "ALLOWED_FAILURES": "10"}
    environment = [
        "env",
        *(f"DASK_DISTRIBUTED__SCHEDULER__{name}={value}" for name, value in told.items()),
    ]
    dask = [*environment, sys.executable, "-m"]
    scheduler = [
        *dask,
        "distributed.cli.dask_scheduler",
        "--host",
        hosts.addresses["scheduler"],
        "--port",
        str(PORT),
    ]
    hosts.start("scheduler", [*scheduler, "--no-dashboard"], folder / "scheduler.txt")
    for name in WORKERS:
        worker = [
            *dask,
            "distributed.cli.dask_worker",
            address,
            "--host",
            hosts.addresses[name],
            "--nworkers",
            "1",
        ]
        worker += [
            "--nthreads",
            "1",
            "--memory-limit",
            "2GiB",
            "--no-dashboard",
            "--local-directory",
            str(folder / name),
        ]
        again = ["sh", "-c", 'while :; do "$@"; sleep 1; done', "worker"]
        hosts.start(name, [*again, *worker], folder / f"{name}.txt")
    client = Client(address, timeout=60, set_as_default=False)
    client.wait_for_workers(len(WORKERS), timeout=60)
    return client


@pytest.fixture(scope="module")
def undisturbed(site: Site) -> dict[str, bytes]:
    return site.end(site.drive("undisturbed"), "undisturbed")


def test_each_works_on_a_host_of_its_own(site: Site, undisturbed: dict[str, bytes]) -> None:
    hosts = {
        worker["host"] for worker in site.client.scheduler_info(n_workers=-1)["workers"].values()
    }
    assert hosts == {site.hosts.addresses[name] for name in WORKERS}
    assert undisturbed


@pytest.mark.parametrize("how", ["shortly", "until it is given up"])
def test_a_link_that_fails_and_heals_changes_nothing(
    how: str, site: Site, undisturbed: dict[str, bytes]
) -> None:
    until(lambda: site.num_workers() == len(WORKERS))
    out = how.replace(" ", "-")
    whole = site.evidence("undisturbed")
    driver = site.drive(out)
    until(lambda: site.evidence(out) > whole // 3, every=0.02)
    site.hosts.cut("w2")
    try:
        time.sleep(1.5)
        if how != "shortly":
            until(lambda: site.num_workers() == len(WORKERS) - 1)
        assert driver.poll() is None, "the job was over before the link was healed"
        assert site.evidence(out) < whole
    finally:
        site.hosts.heal("w2")
    assert site.end(driver, out) == undisturbed
    until(lambda: site.num_workers() == len(WORKERS))  # the host is back at work for the next night
