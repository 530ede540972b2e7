"""A job that was killed goes on from the blocks that are complete, when the same command is run
again."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import Place
from layouts import make, write_zarr

import noisydask
from noisydask.issues.results import LabelIssues

pytestmark = pytest.mark.thorough

BLOCKS = 30
DATA = make(rows=100 * BLOCKS)
BLOCK_BYTES = 7_000  # one chunk
#: A job whose blocks come one after another, slowly enough to be killed between them.
ONE_BY_ONE = """
import contextlib, sys, time, dask, json, noisydask
from noisydask.engine.progress import Silent

class Slow(Silent):
    @contextlib.contextmanager
    def reading(self, *_):
        yield lambda *_: time.sleep(0.03)

labels, pred_probs, out, block_bytes, options = sys.argv[1:]
options = dict.fromkeys(("labels", "pred_probs", "out"), json.loads(options))
with dask.config.set(scheduler="synchronous"):
    how = {"block_bytes": int(block_bytes), "storage_options": options, "reporter": Slow()}
    noisydask.find_label_issues(labels, pred_probs, out=out, **how)
"""


def store(place: Place) -> None:
    write_zarr(place / "l.zarr", DATA.labels)
    write_zarr(place / "p.zarr", DATA.pred_probs)


def run(place: Place, out: str = "out") -> LabelIssues:
    options = dict.fromkeys(("labels", "pred_probs", "out"), place.options)
    sources = ((place / "l.zarr").url, (place / "p.zarr").url)
    return noisydask.find_label_issues(
        *sources, out=(place / out).url, block_bytes=BLOCK_BYTES, storage_options=options
    )


def receipts(place: Place) -> int:
    return len(place.fs.find(f"{place.url}/out/evidence/receipts"))


def start(place: Place) -> subprocess.Popen[bytes]:
    arguments = [(place / name).url for name in ("l.zarr", "p.zarr", "out")]
    return subprocess.Popen(
        [sys.executable, "-c", ONE_BY_ONE, *arguments, str(BLOCK_BYTES), json.dumps(place.options)],
        start_new_session=True,
    )


def kill(child: subprocess.Popen[bytes]) -> None:
    """Kill it and all that it started, at once."""
    os.killpg(child.pid, signal.SIGKILL)
    child.wait()


def kill_after(child: subprocess.Popen[bytes], ready: Any, seconds: float = 120) -> None:
    deadline = time.monotonic() + seconds
    try:
        while not ready() and child.poll() is None:
            assert time.monotonic() < deadline
            time.sleep(0.001)
    finally:
        kill(child)


def results(place: Place, found: LabelIssues, out: str = "out") -> dict[str, bytes]:
    objects = (place / out / "runs" / found.run.run).objects()
    assert len(objects) > 10
    own = ("manifest.json", "status.json", "changes/")  # these tell of the run itself
    return {name: content for name, content in objects.items() if not name.startswith(own)}


@pytest.mark.slow
def test_killed_driver(place: Place) -> None:
    store(place)
    fresh = results(place, run(place, "fresh"), "fresh")
    complete = 0
    for wanted in (1, BLOCKS // 2):
        kill_after(start(place), lambda wanted=wanted: receipts(place) >= wanted)
        assert receipts(place) >= complete
        complete = receipts(place)
        assert "latest.json" not in (place / "out").objects()
    assert BLOCKS // 2 <= complete < BLOCKS
    found = run(place)
    # One block may have been complete but for a part of its receipt.
    assert complete - 1 <= found.manifest["blocks"]["reused"] <= complete
    assert found.num_issues > 200
    assert results(place, found) == fresh


@pytest.mark.soak
def test_killed_again_and_again(tmp_path: Path) -> None:
    """At any moment, from the first import to the last write; the job gets done all the same."""
    place, rng = Place(str(tmp_path)), np.random.default_rng(3)
    store(place)
    fresh = results(place, run(place, "fresh"), "fresh")
    began = time.monotonic()
    assert start(place).wait() == 0
    whole = time.monotonic() - began
    for _ in range(20):
        if rng.random() < 0.3:
            for path in (Path(place.url) / "out/evidence").glob("receipts/*.json"):
                path.unlink()
        child = start(place)
        time.sleep(rng.uniform(0.5, 1.0) * whole)
        kill(child)
        assert results(place, run(place)) == fresh


@pytest.mark.slow
def test_killed_cluster(tmp_path: Path) -> None:
    """The command with its scheduler and workers."""
    place = Place(str(tmp_path))
    store(place)
    fresh = results(place, run(place, "fresh"), "fresh")
    sources = ["--labels", (place / "l.zarr").url, "--pred-probs", (place / "p.zarr").url]
    command = [
        sys.executable,
        "-m",
        "noisydask",
        "issues",
        *sources,
        "--out",
        (place / "out").url,
        "--block-bytes",
        str(BLOCK_BYTES),
        "--workers",
        "2",
    ]
    kill_after(subprocess.Popen(command, start_new_session=True), lambda: receipts(place) >= 10)
    complete = receipts(place)
    assert complete < BLOCKS
    subprocess.run(command, check=True)
    found = noisydask.open_run((place / "out").url)
    assert found.manifest["blocks"]["reused"] >= complete - 2
    assert results(place, found) == fresh
