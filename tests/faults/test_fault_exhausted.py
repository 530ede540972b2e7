"""Memory and disks that are exhausted: one error that says so, and the next run goes on."""

from __future__ import annotations

import logging
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Any

import dask
import dask.dataframe as dd
import numpy as np
import pandas as pd
import partd
import pytest
import zarr
from distributed import Client, LocalCluster
from rig.cases import Case, ordinary
from rig.jobs import Ended, published, start
from rig.place import Place

import noisydask

#: The job in a process that may not get much more memory than it has.
LITTLE_MEMORY = """
import resource, sys, dask, noisydask, zarr
with dask.config.set(scheduler="synchronous"):
    # starts all threads and loads all code
    noisydask.find_label_issues(*sys.argv[4:6], out=sys.argv[6])
    with open("/proc/self/status") as status:
        size = next(int(line.split()[1]) for line in status if line.startswith("VmSize")) * 1024
    resource.setrlimit(resource.RLIMIT_AS, (size + (400 << 20), -1))
    try:
        noisydask.find_label_issues(*sys.argv[1:3], out=sys.argv[3], on_unreadable="skip")
    except noisydask.NoisydaskError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(error.exit_status)
"""


@pytest.mark.slow
def test_a_chunk_that_does_not_fit_the_memory(tmp_path: Path) -> None:
    """It is readable, and must not be left out as if it were not."""
    places = [str(tmp_path / name) for name in ("labels.zarr", "pred_probs.zarr", "out")]
    rows, classes = 1 << 20, 128
    zarr.create_array(places[0], shape=(rows,), chunks=(rows,), dtype="i8", fill_value=0)
    zarr.create_array(
        places[1], data=np.full((rows, classes), 1 / classes, np.float32), chunks=(rows, classes)
    )
    small = Place(str(tmp_path / "small"))
    store(small, ordinary())
    places += [str(tmp_path / "small" / name) for name in ("labels.zarr", "pred_probs.zarr", "out")]
    done = subprocess.run(
        [sys.executable, "-c", LITTLE_MEMORY, *places], capture_output=True, text=True, check=False
    )
    assert "not enough memory" in Ended(done.returncode, done.stderr).one_error()
    assert done.returncode == 1
    assert published(Place(places[2])) is None


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of a few megabytes."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=4m", "tmpfs", str(folder)]
    if os.geteuid() != 0 or subprocess.run(mount, capture_output=True, check=False).returncode != 0:
        pytest.skip("needs the right to mount a file system")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


@pytest.mark.parametrize("left", [0, pytest.param(40_000, marks=pytest.mark.slow), 100_000])
def test_the_disk_of_the_output_is_full(left: int, small_disk: Path, tmp_path: Path) -> None:
    data, out = Place(str(tmp_path)), Place(str(small_disk / "out"))
    expected = run(data, Place(str(tmp_path / "out")), ordinary(rows=330, seed=1))
    before = run(data, out, ordinary(rows=330))
    store(data, ordinary(rows=330, seed=1))
    free = os.statvfs(small_disk)
    (small_disk / "filler").write_bytes(b"x" * (free.f_bavail * free.f_bsize - left))
    ended = start("pred_probs", arguments(data, out)).wait()
    assert ended.status == 1, ended.said
    assert "no space left" in ended.one_error()
    assert published(out) == before
    (small_disk / "filler").unlink()
    ended = start("pred_probs", arguments(data, out)).wait()
    assert ended.status == 0, ended.said
    assert published(out) == expected


@pytest.mark.parametrize("workers", [True, False])
def test_the_disk_of_a_shuffle_is_full(
    workers: bool, small_disk: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The disk of the workers, or of this process, that Dask keeps rows on; the output's has
    room."""
    monkeypatch.setattr(
        partd, "Buffer", partial(partd.Buffer, available_memory=100_000)
    )  # as for 10,000 times the rows
    numbers = np.arange(600_000)
    losses = pd.DataFrame(
        {"id": numbers % 20_000, "iteration": numbers // 20_000, "loss": numbers * 0.5}
    )
    (tmp_path / "losses").mkdir()
    for number in range(4):
        losses[number::4].to_parquet(tmp_path / "losses" / f"{number}.parquet")
    # Frames are shuffled by Dask; rows in files move by way of the output.
    files = sorted((tmp_path / "losses").iterdir())
    table = dd.from_map(pd.read_parquet, files, meta=losses[:0])
    analyze = partial(noisydask.analyze_loss_dynamics, table=table, block_bytes=1_000_000)
    how: dict[str, Any] = {
        "threads_per_worker": 1,
        "silence_logs": logging.CRITICAL,
        "dashboard_address": ":0",
    }
    with dask.config.set(temporary_directory=str(small_disk)), ExitStack() as stack:
        if workers:
            stack.enter_context(Client(stack.enter_context(LocalCluster(n_workers=2, **how))))
        with pytest.raises(
            noisydask.JobError, match=r"disk (is )?full.* the workers' local directory"
        ):
            analyze(out=tmp_path / "out")
    assert published(Place(str(tmp_path / "out"))) is None
    assert len(analyze(out=tmp_path / "out").top_k(3)) == 3


def arguments(data: Place, out: Place) -> dict[str, Any]:
    return {
        "labels": (data / "labels.zarr").url,
        "pred_probs": (data / "pred_probs.zarr").url,
        "out": out.url,
        "block_bytes": ordinary().block_bytes,
    }


def store(data: Place, case: Case) -> None:
    (data / "labels.zarr").write_array(case.labels, 50)
    (data / "pred_probs.zarr").write_array(case.pred_probs, 50)


def run(data: Place, out: Place, case: Case) -> dict[str, bytes]:
    store(data, case)
    ended = start("pred_probs", arguments(data, out)).wait()
    assert ended.status == 0, ended.said
    found = published(out)
    assert found
    return found
