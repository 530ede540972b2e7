"""Outputs that older versions wrote: runs are shown, opened and compared, the next night works, and
either version respects the lock and the pointer of the other.
"""

from __future__ import annotations

import json
import os
import tarfile
import threading
from datetime import UTC, datetime
from pathlib import Path
from uuid import uuid4

import pytest

import noisydask
from noisydask import LockedError
from noisydask.cli.app import main
from noisydask.runs.changes import diff
from noisydask.runs.store import Output

ARCHIVES = sorted((Path(__file__).parents[1] / "data" / "old_output").glob("*.tar.xz"))
OUTPUTS = ("issues", "dense", "table", "both")


@pytest.fixture(params=ARCHIVES, ids=lambda path: path.name.partition(".")[0])
def old(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """Unpack the inputs and outputs of an older version."""
    with tarfile.open(request.param) as archive:
        archive.extractall(tmp_path, filter="data")
    return tmp_path / "old"


def call(old: Path, name: str, **more: object) -> object:
    """Run the job of an output once more, on the inputs as they are now."""
    ids, out = str(old / "ids.npy"), str(old / name)
    if name == "issues":
        return noisydask.find_label_issues(
            str(old / "labels.npy"),
            str(old / "probs.zarr"),
            ids=ids,
            block_bytes=1600,
            out=out,
            **more,
        )
    if name == "dense":
        losses = str(old / "losses.zarr")
        return noisydask.analyze_loss_dynamics(losses=losses, ids=ids, out=out, **more)
    if name == "table":
        return noisydask.analyze_loss_dynamics(table=str(old / "losses.parquet"), out=out, **more)
    return noisydask.combine(str(old / "issues"), str(old / "dense"), ids=ids, out=out, **more)


def ranking(run: object) -> list[object]:
    """Return ids and scores of a run's ranking, in order."""
    frame = run.to_dataframe() if hasattr(run, "to_dataframe") else run.top_k(1000)
    names = ("id", "label_quality", "metric", "consensus")
    return frame[[name for name in names if name in frame]].to_numpy().tolist()


@pytest.mark.parametrize("name", OUTPUTS)
def test_runs_of_an_old_output_are_opened_and_shown(
    old: Path, name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    run = noisydask.open_run(old / name)
    assert len(ranking(run)) >= 10
    for command in (["show"], ["show", "--json"], ["runs"]):
        assert main([command[0], str(old / name), *command[1:]]) == 0, command
    assert capsys.readouterr().out


def test_runs_of_an_old_output_are_compared(old: Path, capsys: pytest.CaptureFixture[str]) -> None:
    changes = diff(Output.at(old / "issues"))
    assert changes.counts.gone > 0
    assert main(["diff", str(old / "issues")]) == 0
    assert capsys.readouterr().out


@pytest.mark.parametrize("name", OUTPUTS)
def test_the_next_night_has_the_same_results(old: Path, name: str) -> None:
    before = noisydask.open_run(old / name)
    expected = ranking(before)
    run = call(old, name)
    # Issues of the same quality may stand in another order.
    assert sorted(map(str, ranking(run))) == sorted(map(str, expected))
    manifest = noisydask.open_run(old / name).manifest
    assert manifest["generation"] == before.manifest["generation"] + 1
    assert manifest["parent"] == before.manifest["run"]
    assert manifest["changes"]["new"] == manifest["changes"]["gone"] == 0
    again = call(old, name)
    assert again.manifest["repeats"] == manifest["run"]


def test_evidence_of_an_old_version_is_named_and_made_anew(old: Path) -> None:
    for name, version in (("issues", "evidence version"), ("dense", "dynamics version")):
        blocks = call(old, name).manifest["blocks"]
        assert version in blocks["evidence_not_used"]
        assert blocks["reused"] == 0


def lock(old: Path, **changes: object) -> None:
    """Write the lock of an older version, held by a driver on another machine."""
    path = old / "issues" / "lock.json"
    document = json.loads(path.read_text())
    document["owner"] = document["owner"] | {"host": "elsewhere", "machine": "another/1"}
    document |= {"renewed": datetime.now(UTC).isoformat(timespec="seconds")}
    path.with_suffix(".tmp").write_text(json.dumps(document | changes))
    path.with_suffix(".tmp").replace(path)


def test_a_lock_of_an_old_version_is_respected(old: Path) -> None:
    lock(old, released=False, lease=3.0)
    stop = threading.Event()

    def renew() -> None:
        while not stop.wait(0.5):
            lock(old, released=False, lease=3.0, write=uuid4().hex)

    thread = threading.Thread(target=renew)
    thread.start()
    try:
        with pytest.raises(LockedError, match="elsewhere"):
            call(old, "issues")
    finally:
        stop.set()
        thread.join()


def test_a_lock_of_an_old_version_ends_with_its_lease(old: Path) -> None:
    lock(old, released=False, lease=1.0)
    os.utime(old / "issues" / "lock.json", (0, 0))
    assert call(old, "issues", lease_seconds=1.0)


def test_an_old_version_finds_what_it_needs_in_lock_and_pointer(old: Path) -> None:
    names = ("lock.json", "latest.json")
    before = {name: json.loads((old / "issues" / name).read_text()) for name in names}
    call(old, "issues")
    for name in names:
        now = json.loads((old / "issues" / name).read_text())
        assert set(before[name]) <= set(now)
        assert all(type(now[key]) is type(value) for key, value in before[name].items())
    owner = json.loads((old / "issues" / "lock.json").read_text())["owner"]
    assert set(before["lock.json"]["owner"]) <= set(owner)
