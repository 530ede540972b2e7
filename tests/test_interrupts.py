"""Signals in the middle of a run: one sentence, a status, the lock released, nobody left."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from conftest import Place
from layouts import make, write_zarr

from noisydask.running.interrupts import Interrupted, held_back, interruptible

DATA = make(rows=100_000)


def start(folder: Path) -> subprocess.Popen[str]:
    place = Place(str(folder))
    sources = [
        write_zarr(place / "l.zarr", DATA.labels),
        write_zarr(place / "p.zarr", DATA.pred_probs),
    ]
    command = [
        sys.executable,
        "-m",
        "noisydask",
        "issues",
        "--labels",
        sources[0],
        "--pred-probs",
        sources[1],
        "--out",
        str(folder / "out"),
        "--block-bytes",
        "7000",
        "--workers",
        "2",
    ]
    return subprocess.Popen(
        command, start_new_session=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


def of_session(session: int) -> list[str]:
    """Processes of a session that still run; those that nobody has asked for their status do
    not."""
    listed = subprocess.run(
        ["ps", "-o", "stat=,args=", "-s", str(session)], capture_output=True, text=True, check=False
    )
    return [line for line in listed.stdout.splitlines() if not line.startswith("Z")]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("number", "whom", "status"),
    [(signal.SIGINT, "all", 130), (signal.SIGTERM, "driver", 143), (signal.SIGTERM, "all", 143)],
)
def test_a_run_that_is_told_to_end(
    number: signal.Signals, whom: str, status: int, tmp_path: Path
) -> None:
    child = start(tmp_path)
    deadline = time.monotonic() + 120
    while len(list((tmp_path / "out/evidence/receipts").glob("*"))) < 10:
        assert child.poll() is None, child.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.01)
    (os.killpg if whom == "all" else os.kill)(child.pid, number)
    said = child.communicate(timeout=60)[1]
    assert child.returncode == status
    assert "interrupted; run it again" in said.splitlines()[-1]
    assert "Traceback" not in said
    deadline = time.monotonic() + 10
    while left := of_session(child.pid):
        assert time.monotonic() < deadline, left
        time.sleep(0.1)
    assert json.loads((tmp_path / "out/lock.json").read_text())["released"]
    (told,) = (tmp_path / "out/runs").glob("*/status.json")
    assert json.loads(told.read_text())["state"] == "failed"


def test_the_first_signal_raises_and_later_ones_do_not() -> None:
    before = signal.getsignal(signal.SIGTERM)

    def told_twice() -> None:
        with interruptible():
            try:
                signal.raise_signal(signal.SIGTERM)
            finally:
                signal.raise_signal(signal.SIGINT)

    with pytest.raises(Interrupted) as caught:
        told_twice()
    assert caught.value.exit_status == 143
    assert signal.getsignal(signal.SIGTERM) == before


def test_what_is_held_back_comes_at_the_end() -> None:
    done = []

    def told_early() -> None:
        with interruptible(), held_back():
            os.kill(os.getpid(), signal.SIGINT)
            os.kill(os.getpid(), signal.SIGTERM)
            time.sleep(0.1)
            done.append(True)

    with pytest.raises(Interrupted):
        told_early()
    assert done
    assert not signal.pthread_sigmask(signal.SIG_BLOCK, ())


def test_what_was_ignored_stays_ignored() -> None:
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        with interruptible():
            signal.raise_signal(signal.SIGINT)
    finally:
        signal.signal(signal.SIGINT, before)
