"""Readers in a loop while drivers publish and clean up: each sees a complete run, whichever it
is."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable

import pytest

import noisydask
from noisydask.faults.cases import Case, ordinary
from noisydask.faults.jobs import check, published
from noisydask.faults.place import Place
from noisydask.faults.plans import LEASE, Trial

NewTrial = Callable[[Case], Trial]


def read_run(out: Place) -> tuple[str, dict[str, bytes]]:
    """The run that the pointer names, object by object as its manifest lists them."""
    latest = json.loads(out.read("latest.json"))
    run = out / "runs" / latest["run"]
    found = {"manifest.json": run.read("manifest.json")}
    check(latest["manifest"], found)
    for stored in json.loads(found["manifest.json"])["objects"]:
        found[stored["path"]] = run.read(stored["path"])
        check(stored, found)
    return latest["run"], found


def readers_and_publishes(trial: Trial, readers: int, publishes: int) -> None:
    """Only the published run and its parent are kept; what readers may still read has some seconds
    of grace."""
    assert trial.run().status == 0
    stop, wrong, seen = threading.Event(), [], []

    def look() -> None:
        while not stop.is_set():
            try:
                name, found = read_run(trial.out)
                issues = noisydask.open_run(trial.out.url, trial.out.options)
                assert len(issues.indices) == issues.num_issues
            except Exception as error:
                wrong.append(repr(error))
                return
            assert found["issue_indices.zarr/0"] == trial.expected["issue_indices.zarr/0"]
            seen.append(name)

    threads = [threading.Thread(target=look) for _ in range(readers)]
    for thread in threads:
        thread.start()
    try:
        for _ in range(publishes):
            ended = trial.job.run(lease_seconds=LEASE, keep_runs=1, grace_seconds=20)
            assert ended.status == 0, ended.said
    finally:
        stop.set()
        for thread in threads:
            thread.join()
    assert not wrong, wrong[0]
    assert len(seen) >= readers
    assert len(set(seen)) > 1
    trial.job.run(lease_seconds=LEASE, keep_runs=1, grace_seconds=0)
    trial.check()
    assert (
        len({name.split("/")[1] for name in trial.out.objects() if name.startswith("runs/")}) == 2
    )


def test_readers_during_publishes(new_trial: NewTrial) -> None:
    readers_and_publishes(new_trial(ordinary(rows=330)), 3, 3)


@pytest.mark.soak
@pytest.mark.slow
def test_twenty_readers_during_twenty_publishes(new_trial: NewTrial) -> None:
    readers_and_publishes(new_trial(ordinary(rows=330)), 20, 20)


def test_a_driver_killed_while_it_cleans_up(new_trial: NewTrial) -> None:
    trial = new_trial(ordinary(rows=330))
    for _ in range(2):
        assert trial.run().status == 0
    children = []
    rule = trial.way.add(
        "forward",
        methods=("POST", "DELETE"),
        pattern=r"delete|/runs/",
        count=1,
        call=lambda _: children[0].kill(),
    )
    children.append(trial.job.start(lease_seconds=LEASE, keep_runs=1, grace_seconds=0))
    assert children[0].wait().status == -9
    assert rule.done == 1
    trial.check()
    assert published(trial.out)
    trial.check_again()
