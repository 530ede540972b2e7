"""A cluster's scheduler and worker killed in the middle of a job."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from noisydask.faults.cases import ordinary
from noisydask.faults.jobs import Ended, published, write_data
from noisydask.faults.proxy import proxy
from noisydask.faults.server import BUCKET, KEY, SECRET, S3Server, free_ports

DATA = ordinary()


@pytest.fixture
def cluster() -> Iterator[tuple[str, list[subprocess.Popen[bytes]]]]:
    """A scheduler and two workers, each a process of its own."""
    (port,) = free_ports(1)
    address = f"tcp://127.0.0.1:{port}"
    start = [
        sys.executable,
        "-m",
        "distributed.cli.dask_scheduler",
        "--host",
        "127.0.0.1",
        "--port",
        str(port),
        "--no-dashboard",
    ]
    work = [sys.executable, "-m", "distributed.cli.dask_worker", address, "--nthreads", "1", "--no-dashboard", "--no-nanny"]
    children = [subprocess.Popen(command, stderr=subprocess.DEVNULL) for command in (start, work, work)]
    yield address, children
    for child in children:
        child.kill()
        child.wait()


def issues(address: str, endpoint: str, prefix: str) -> Ended:
    """The command, on a cluster."""
    options = {"endpoint_url": endpoint, "client_kwargs": {"region_name": "us-east-1"}}
    places = (("--labels", "labels.zarr"), ("--pred-probs", "pred_probs.zarr"), ("--out", "out"))
    words = [word for option, name in places for word in (option, f"s3://{BUCKET}/{prefix}/{name}")]
    done = subprocess.run(
        [sys.executable, "-m", "noisydask", "issues", *words, "--scheduler", address, "--block-bytes", "2000",
         "--storage-options", json.dumps(options | {"key": KEY, "secret": SECRET})],
        env=os.environ, capture_output=True, text=True, timeout=200, check=False,
    )  # fmt: skip
    return Ended(done.returncode, done.stderr)


@pytest.mark.parametrize("victim", [0, 1], ids=["scheduler", "worker"])
def test_a_process_of_the_cluster_dies(
    victim: int, cluster: tuple[str, list[subprocess.Popen[bytes]]], s3: S3Server, tmp_path: Path
) -> None:
    address, children = cluster
    out = write_data(s3, tmp_path.name, DATA)
    killed: list[float] = []

    def kill(_: object) -> None:
        if not killed:
            killed.append(time.monotonic())
            children[victim].kill()

    with proxy(s3.endpoint) as way:
        way.add("forward", methods=("GET",), pattern="pred_probs.zarr/c/2", count=1, call=kill)
        ended = issues(address, way.endpoint, tmp_path.name)
    assert killed
    if victim:
        assert ended.status == 0, ended.said
        assert published(out)
    else:
        assert ended.status == 1, ended.said
        assert "the cluster failed" in ended.one_error()
        assert time.monotonic() - killed[0] < 60
        assert published(out) is None
