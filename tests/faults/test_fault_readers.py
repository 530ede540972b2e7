"""Readers in a loop while drivers publish and clean up: each sees a complete run, whichever it
is."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable

import pytest
from rig.cases import Case, ordinary
from rig.jobs import check, published
from rig.place import Place
from rig.plans import LEASE, Trial

import noisydask

NewTrial = Callable[[Case], Trial]


def read_run(out: Place) -> tuple[str, dict[str, bytes]]:
    """The run that the pointer names, object by object as its manifest lists them."""
    latest = json.loads(out.read("latest.json"))
    run = out / "runs" / latest["run"]
    found = {"manifest.json": run.read("manifest.json")}
    check(latest["manifest"], found)
    for stored in json.loads(found["manifest.json"])["objects"]:
        where = out / "runs" / stored.get("run", latest["run"])
        found[stored["path"]] = where.read(stored["path"])
        check(stored, found)
    return latest["run"], found


def readers_and_publishes(trial: Trial, readers: int, publishes: int) -> None:
    """Only the published run, its parent and what they refer to are kept; what readers may still
    read has some seconds of grace. Every other run repeats the one before."""
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
        for number in range(publishes):
            how = {"lease_seconds": LEASE, "keep_runs": 1, "full": number % 2 == 1}
            ended = trial.job.run(**how, grace_seconds=20)
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
    objects = trial.out.objects()
    latest = json.loads(objects["latest.json"])
    named = {latest["run"], latest["parent"]}
    manifests = [json.loads(objects[f"runs/{name}/manifest.json"]) for name in named]
    needed = {manifest["repeats"] for manifest in manifests if "repeats" in manifest}
    assert needed
    kept = {name.split("/")[1] for name in objects if name.startswith("runs/")}
    assert kept == named | needed


def test_readers_during_publishes(new_trial: NewTrial) -> None:
    readers_and_publishes(new_trial(ordinary(rows=330)), 3, 3)


@pytest.mark.soak
@pytest.mark.slow
def test_twenty_readers_during_twenty_publishes(new_trial: NewTrial) -> None:
    readers_and_publishes(new_trial(ordinary(rows=330)), 20, 20)


def test_a_driver_killed_while_it_cleans_up(new_trial: NewTrial) -> None:
    trial = new_trial(ordinary(rows=330))
    for _ in range(2):
        assert trial.job.run(lease_seconds=LEASE, full=True).status == 0
    children = []
    rule = trial.way.add(
        "forward",
        methods=("POST", "DELETE"),
        pattern=r"delete|/runs/",
        count=1,
        call=lambda _: children[0].kill(),
    )
    how = {"lease_seconds": LEASE, "keep_runs": 1, "grace_seconds": 0, "full": True}
    children.append(trial.job.start(**how))
    assert children[0].wait().status == -9
    assert rule.done == 1
    trial.check()
    assert published(trial.out)
    trial.check_again()
