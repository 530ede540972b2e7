"""Signals in the middle of a run: one sentence, a status, the lock released, nobody left."""

from __future__ import annotations

import gc
import json
import os
import random
import signal
import subprocess
import sys
import time
import weakref
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import dask
import numpy as np
import pytest
from conftest import Place
from dask.delayed import delayed
from distributed import Client, LocalCluster
from layouts import make, write_zarr

import noisydask
from noisydask.engine.progress import Silent
from noisydask.interrupts import (
    SIGNALS,
    Interrupted,
    held_back,
    interruptible,
    raise_if_interrupted,
    uninterrupted,
)
from noisydask.runs.lock import Lock
from noisydask.stores.locations import Location

DATA = make(rows=100_000)


@pytest.fixture(autouse=True)
def without_distributed_gc_timer() -> Iterator[None]:
    """Leave out what distributed calls at collections: an exception in it, such as a stop, makes
    it raise AssertionError at a later collection, which would fail another test.
    """
    callbacks = list(gc.callbacks)
    gc.callbacks[:] = [
        call for call in callbacks if "distributed" not in getattr(call, "__module__", "")
    ]
    yield
    gc.callbacks[:] = callbacks


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


def test_a_signal_that_comes_twice_at_once_counts_once() -> None:
    before = signal.getsignal(signal.SIGTERM)

    def told_twice() -> None:  # as coreutils' timeout does
        with interruptible():
            try:
                signal.raise_signal(signal.SIGTERM)
            finally:
                signal.raise_signal(signal.SIGINT)

    with pytest.raises(Interrupted) as caught:
        told_twice()
    assert caught.value.exit_status == 143
    assert signal.getsignal(signal.SIGTERM) == before
    assert signal.getitimer(signal.ITIMER_REAL) == (0, 0)


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


def arrive() -> None:
    """A signal, whose handler runs here."""
    signal.raise_signal(signal.SIGTERM)
    for _ in range(100):
        pass


def in_a_collection() -> None:
    def collecting(phase: str, _: Any) -> None:
        if phase == "start":
            arrive()

    gc.callbacks.append(collecting)
    gc.collect()
    gc.callbacks.remove(collecting)


def in_a_destructor() -> None:
    class Thing:
        def __del__(self) -> None:
            arrive()

    Thing()


def in_a_callback_of_a_weak_reference() -> None:
    class Thing:
        pass

    thing = Thing()
    reference = weakref.ref(thing, lambda _: arrive())
    del thing
    assert reference() is None


def in_a_library_that_catches_all() -> None:
    with suppress(BaseException):
        arrive()


def in_an_optional_import() -> None:
    with suppress(ImportError):
        try:
            arrive()
        except BaseException as error:
            raise ImportError("no") from error


def by_threads() -> None:
    dask.compute([delayed(time.sleep)(0.05) for _ in range(400)], scheduler="threads")


def one_by_one() -> None:
    dask.compute([delayed(time.sleep)(0.05) for _ in range(400)], scheduler="synchronous")


def on_the_cluster() -> None:
    dask.compute([delayed(time.sleep)(0.1, dask_key_name=f"z-{k}") for k in range(800)])


def in_python() -> None:
    end = time.monotonic() + 20
    while time.monotonic() < end:
        pass


LOST = [
    in_a_collection,
    in_a_destructor,
    in_a_callback_of_a_weak_reference,
    in_a_library_that_catches_all,
    in_an_optional_import,
]


def stop_of(*calls: Callable[[], object]) -> Interrupted:
    """What ends the calls, which are made one after the other."""

    def whole() -> None:
        with interruptible():
            for call in calls:
                call()

    with pytest.raises(Interrupted) as caught:
        whole()
    return caught.value


@pytest.mark.parametrize("lose", LOST)
@pytest.mark.parametrize("work", [in_python, by_threads, one_by_one])
def test_a_stop_whose_exception_is_dropped_comes_again(
    lose: Callable[[], None], work: Callable[[], None], capsys: pytest.CaptureFixture[str]
) -> None:
    begun = time.monotonic()
    assert stop_of(lose, work).exit_status == 143
    assert time.monotonic() - begun < 10  # of 20 seconds of work
    assert not capsys.readouterr().err  # Python says what it drops, were it not told otherwise


def test_a_stop_ends_the_wait_for_a_cluster(client: Client) -> None:
    begun = time.monotonic()
    stop_of(in_a_collection, on_the_cluster)
    assert time.monotonic() - begun < 10


def test_a_stop_that_somebody_keeps_is_told_where_nothing_more_may_be_done() -> None:
    kept = []

    def keep() -> None:
        try:
            arrive()
        except BaseException as error:
            kept.append(error)

    # Nothing raises it anew while it is still there.
    stop_of(keep, lambda: time.sleep(0.3), lambda: kept.append(None), raise_if_interrupted)
    assert kept.pop() is None


def test_an_error_that_came_of_the_stop_is_the_stop() -> None:
    def fail() -> None:
        try:
            arrive()
        except BaseException as error:
            raise OSError("the connection is gone") from error

    stop_of(fail)


def test_what_must_not_be_cut_in_two_is_not() -> None:
    done = []

    def write() -> None:
        with uninterrupted():
            arrive()
            time.sleep(0.3)
            done.append("whole")
        done.append("more")

    stop_of(write)
    assert done == ["whole"]


@pytest.mark.parametrize("keeps", [False, True])
def test_a_stop_publishes_nothing_even_if_its_exception_is_lost(
    keeps: bool, tmp_path: Path
) -> None:
    """The signal comes before the last passes, and its exception is dropped, or kept."""
    kept: list[BaseException] = []

    class Late(Silent):
        def phase(self, name: str) -> None:
            if name.startswith("ranking"):
                try:
                    arrive()
                except BaseException as error:
                    kept.extend([error] * keeps)

    inputs = (DATA.labels, DATA.pred_probs)
    stop_of(lambda: noisydask.find_label_issues(*inputs, out=tmp_path / "out", reporter=Late()))
    assert not (tmp_path / "out/latest.json").exists()
    assert json.loads((tmp_path / "out/lock.json").read_text())["released"]


#: A program that is told to end and does not, since what it does then takes for ever.
STUCK = """
import sys, time
from noisydask.interrupts import interruptible
from noisydask.stores.locations import Location
from noisydask.runs.lock import Lock

with interruptible(), Lock(Location.of(sys.argv[1], {}, "out"), "first", 60):
    try:
        print("ready", flush=True)
        time.sleep(60)
    finally:
        print("stuck", flush=True)
        time.sleep(60)
"""


@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_second_signal_ends_the_process(
    number: signal.Signals, status: int, tmp_path: Path
) -> None:
    command = [sys.executable, "-c", STUCK, str(tmp_path)]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as child:
        assert child.stdout is not None
        assert child.stdout.readline() == "ready\n"
        child.send_signal(number)
        assert child.stdout.readline() == "stuck\n"
        time.sleep(0.5)
        begun = time.monotonic()
        child.send_signal(number)
        said = child.communicate(timeout=20)[1]
        assert time.monotonic() - begun < 5
    assert child.returncode == status
    assert said == "interrupted\n"
    assert not json.loads((tmp_path / "lock.json").read_text()).get("released")
    with Lock(Location.of(str(tmp_path), {}, "out"), "second", 60):
        pass
    assert time.monotonic() - begun < 10


#: Put before all else that a Python imports: a signal comes at the n-th import of the command.
AT_IMPORT = """
import os, signal, sys

class Finder:
    left = int(os.environ["AT_IMPORT"])

    def find_spec(self, name, path=None, target=None):
        if callable(signal.getsignal(signal.SIGTERM)):
            self.left -= 1
            if not self.left:
                os.kill(os.getpid(), signal.Signals[os.environ["SIGNAL"]])

sys.meta_path.insert(0, Finder())
"""


@pytest.mark.parametrize(
    ("number", "at", "status"), [("SIGINT", 2, 130), ("SIGTERM", 9, 143), ("SIGINT", 30, 130)]
)
def test_a_signal_while_the_command_is_imported(
    number: str, at: int, status: int, tmp_path: Path
) -> None:
    (tmp_path / "sitecustomize.py").write_text(AT_IMPORT)
    environment = {"PYTHONPATH": str(tmp_path), "AT_IMPORT": str(at), "SIGNAL": number}
    done = subprocess.run(
        [sys.executable, "-m", "noisydask", "--version"],
        env=os.environ | environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stdout) == (status, "")
    assert done.stderr == "interrupted\n"


#: The command, of which one knows when signals are its own.
TOLD = """
import sys
from noisydask.interrupts import end_at_once_on_signals
end_at_once_on_signals()
print("begun", flush=True)
from noisydask.cli.start import start
if __name__ == "__main__":
    start(sys.argv[1:])
"""


@dataclass
class Trial:
    """A run that is told to end after some seconds, and what became of it."""

    folder: Path
    where: list[str]
    number: signal.Signals
    after: float
    status: int = 0
    said: str = ""
    seconds: float = 0.0

    def run(self) -> Trial:
        places = {name: self.folder.parent / f"{name}.npy" for name in ("labels", "pred-probs")}
        given = [part for name, place in places.items() for part in (f"--{name}", str(place))]
        more = ["--out", str(self.folder), "--block-bytes", "4000", *self.where]
        command = [sys.executable, str(self.folder.parent / "told.py"), "issues", *given, *more]
        with subprocess.Popen(
            command, start_new_session=True, stdout=-1, stderr=-1, text=True
        ) as child:
            assert child.stdout is not None
            assert child.stdout.readline() == "begun\n"
            begun = time.monotonic()
            with suppress(subprocess.TimeoutExpired):
                child.wait(self.after)
            child.send_signal(self.number)
            self.said = child.communicate(timeout=120)[1]
            self.status, self.seconds = child.returncode, time.monotonic() - begun
        end = time.monotonic() + 20
        while left := of_session(child.pid):
            assert time.monotonic() < end, left
            time.sleep(0.1)
        return self


@pytest.mark.parametrize(
    ("own", "trials"),
    [
        pytest.param(False, 16, marks=pytest.mark.slow),
        pytest.param(True, 6, marks=pytest.mark.slow),
        pytest.param(False, 160, marks=pytest.mark.soak),
        pytest.param(True, 40, marks=pytest.mark.soak),
    ],
)
def test_signals_at_random_moments(
    own: bool, trials: int, one_worker: LocalCluster, tmp_path: Path
) -> None:
    data = make(rows=4000)
    np.save(tmp_path / "labels.npy", data.labels)
    np.save(tmp_path / "pred-probs.npy", data.pred_probs)
    (tmp_path / "told.py").write_text(TOLD)
    expected = noisydask.find_label_issues(data.labels, data.pred_probs).indices
    where = ["--workers", "1"] if own else ["--scheduler", one_worker.scheduler_address]
    rng = random.Random(11)
    usual = max(Trial(tmp_path / f"w{k}", where, signal.SIGINT, 99).run().seconds for k in (0, 1))
    with ThreadPoolExecutor(2) as pool:
        made = [
            Trial(tmp_path / f"{k}", where, rng.choice(SIGNALS), rng.uniform(0, usual))
            for k in range(trials)
        ]
        done = list(pool.map(Trial.run, made))
    assert {trial.status for trial in done} <= {0, 130, 143}
    assert sum(trial.status != 0 for trial in done) > trials / 2
    for trial in done:
        lines = trial.said.splitlines()
        assert trial.status in (0, 128 + trial.number), trial
        assert "Traceback" not in trial.said, trial
        assert "Exception ignored" not in trial.said, trial
        assert trial.status == 0 or "interrupted" in lines[-1], trial
        published = (trial.folder / "latest.json").exists()
        assert published or trial.status, trial
        if published:
            assert np.array_equal(noisydask.open_run(trial.folder).indices, expected), trial
        if (trial.folder / "lock.json").exists():
            assert json.loads((trial.folder / "lock.json").read_text())["released"], trial
        inputs = (tmp_path / "labels.npy", tmp_path / "pred-probs.npy")
        again = noisydask.find_label_issues(*inputs, out=trial.folder, block_bytes=4000)
        assert np.array_equal(again.indices, expected), trial
