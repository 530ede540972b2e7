"""What is removed of old and dead runs, and what never is."""

from __future__ import annotations

import json
import os
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import dask
import numpy as np
import pandas as pd
import pytest
from conftest import Place
from hypothesis import given
from hypothesis import strategies as st
from layouts import make

import noisydask
from noisydask.core import ranking
from noisydask.issues.results import LabelIssues
from noisydask.runs.options import PublishSettings
from noisydask.runs.retention import OWN, KeptRun, superfluous
from noisydask.runs.store import Output, RunStore

pytestmark = pytest.mark.thorough

DATA = make(rows=230, classes=3)
DEAD = "20200101T000000Z-0123abcd"


def run(place: Place, **how: Any) -> LabelIssues:
    how = {"storage_options": {"out": place.options}, "grace_seconds": 0, **how}
    return noisydask.find_label_issues(DATA.labels, DATA.pred_probs, out=f"{place.url}/out", **how)


def runs(place: Place) -> set[str]:
    """Runs of which there is an object."""
    return {name.split("/")[1] for name in (place / "out").objects() if name.startswith("runs/")}


def test_the_newest_runs_are_kept(place: Place) -> None:
    names = [run(place, keep_runs=2).run.run for _ in range(4)]
    assert runs(place) == set(names[-2:])
    assert noisydask.open_run(f"{place.url}/out", place.options).num_issues > 0


def test_the_parent_of_the_published_run_is_kept(place: Place) -> None:
    names = [run(place, keep_runs=1).run.run for _ in range(3)]
    assert runs(place) == set(names[-2:])


def test_young_runs_and_those_in_grace_are_kept(place: Place) -> None:
    names = [
        run(place, keep_runs=1, **how).run.run
        for how in ({"keep_days": 1}, {"grace_seconds": 60}, {"keep_days": 1})
    ]
    assert runs(place) == set(names)


def test_remains_of_dead_runs_go_after_their_grace(place: Place) -> None:
    left = (
        "status.json",
        "label_quality.zarr/0",
        "issues/part-00000.parquet",
        "losses/part-00000-00012.parquet",
        "scratch/label_quality-00000.parquet",
        "scratch/joined-00001.parquet",
    )
    for name in left:
        place.write(f"out/runs/{DEAD}/{name}", b"x")
    first = run(place, grace_seconds=3600)
    assert runs(place) == {DEAD, first.run.run}
    second = run(place)
    assert runs(place) == {first.run.run, second.run.run}
    assert not (Path(place.url) / "out/runs" / DEAD).exists()


def test_the_folder_of_a_run_that_died_at_once_goes_too(tmp_path: Path) -> None:
    folder = tmp_path / "out/runs" / DEAD
    (folder / "issues").mkdir(parents=True)
    run(Place(str(tmp_path)), grace_seconds=3600)
    assert folder.exists()
    os.utime(folder, (0, 0))
    run(Place(str(tmp_path)), grace_seconds=3600)
    assert not folder.exists()


def test_what_is_not_ours_stays(place: Place) -> None:
    foreign = [
        "out/runs/notes.txt",
        "out/runs/20200101T000000Z-0123ABCD/manifest.json",
        "out/runs/backup/status.json",
        f"out/runs/{DEAD}x/status.json",
        f"out/runs/{DEAD}/notes.txt",
        f"out/runs/{DEAD}/label_quality.zarr/notes",
        "out/mine.txt",
        "elsewhere/status.json",
    ]
    run(place)
    for name in (*foreign, f"out/runs/{DEAD}/status.json"):
        place.write(name, b"mine")
    run(place)
    left = place.objects()
    assert {name for name in left if left[name] == b"mine"} == set(foreign)


def test_a_hostile_manifest_deletes_nothing_else(place: Place) -> None:
    paths = [
        "../../../secret",
        "/etc/passwd",
        "../../latest.json",
        "../../evidence/zarr.json",
        f"../{DEAD}x/status.json",
    ]
    manifest = {"run": "../..", "objects": [{"path": path} for path in paths], "parts": paths}
    place.write("secret", b"mine")
    place.write(f"out/runs/{DEAD}/manifest.json", json.dumps(manifest).encode())
    found = run(place, keep_runs=1)
    assert runs(place) == {found.run.run}
    left = place.objects()
    assert left["secret"] == b"mine"
    assert "out/latest.json" in left


def test_links_are_not_followed(tmp_path: Path) -> None:
    place = Place(str(tmp_path))
    (tmp_path / "precious").mkdir()
    (tmp_path / "precious/status.json").write_text("mine")
    (tmp_path / "out/runs" / DEAD).mkdir(parents=True)
    (tmp_path / "out/runs/20200101T000000Z-00000000").symlink_to(tmp_path / "precious")
    (tmp_path / "out/runs" / DEAD / "issues").symlink_to(tmp_path / "precious")
    (tmp_path / "precious/part-00000.parquet").write_text("mine")
    (tmp_path / "out/runs" / DEAD / "status.json").write_text("dead")
    old = datetime(2020, 1, 1, tzinfo=UTC).timestamp()
    os.utime(tmp_path / "out/runs" / DEAD / "status.json", (old, old))
    run(place)
    assert sorted(path.name for path in (tmp_path / "precious").iterdir()) == [
        "part-00000.parquet",
        "status.json",
    ]
    assert not (tmp_path / "out/runs" / DEAD / "status.json").exists()


def test_a_reader_in_the_middle_is_safe_in_grace(place: Place) -> None:
    run(place)
    reading = noisydask.open_run(f"{place.url}/out", place.options)
    for _ in range(3):
        run(place, keep_runs=1, grace_seconds=60)
    assert len(reading.to_dataframe()) == reading.num_issues
    assert len(reading.indices) == reading.num_issues


def test_a_removed_run_is_named(place: Place) -> None:
    first = run(place)
    for _ in range(2):
        run(place, keep_runs=1)
    with pytest.raises(noisydask.InputError, match=f"no finished run {first.run.run}"):
        Output.at(f"{place.url}/out", place.options).open_run(first.run.run)


def test_everything_that_a_run_writes_is_known_as_ours(place: Place) -> None:
    run(place)
    found = run(place)
    objects = (place / "out/runs" / found.run.run).objects()
    assert all(OWN.fullmatch(name) for name in objects), sorted(objects)


@pytest.mark.parametrize("source", ["dense", "table", "datumaro"])
def test_everything_that_a_run_on_losses_writes_is_known_as_ours(
    tmp_path: Path, source: str
) -> None:
    losses, labels = np.random.default_rng(0).random((30, 4)), np.arange(30) % 3
    table = pd.DataFrame(
        {
            "id": np.repeat(np.arange(30), 4),
            "iteration": np.tile(np.arange(4), 30),
            "loss": losses.ravel(),
        }
    )
    how: dict[str, Any] = {
        "dense": {"losses": losses, "labels": labels},
        "table": {"table": table},
        "datumaro": {"datumaro": Path(__file__).parents[2] / "data/datumaro/classification"},
    }[source]
    found = noisydask.analyze_loss_dynamics(**how, out=tmp_path / "out")
    objects = Place(found.run.place.path).objects()
    assert len(objects) > 8
    assert all(OWN.fullmatch(name) for name in objects), sorted(objects)


def test_scratch_files_of_a_dead_run_go(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    how: dict[str, Any] = {"out": tmp_path / "out", "grace_seconds": 0}
    issues = noisydask.find_label_issues(DATA.labels, DATA.pred_probs, out=tmp_path / "issues")
    losses = np.random.default_rng(0).random((230, 2))
    dynamics = noisydask.analyze_loss_dynamics(
        losses, ids=np.arange(230), out=tmp_path / "dynamics"
    )

    def dies(*_: Any, **__: Any) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch, dask.config.set(scheduler="synchronous"):
        patch.setattr(ranking, "ROWS_PER_PART", 50)
        patch.setattr(RunStore, "remove_folder", dies)
        with pytest.raises(KeyboardInterrupt):
            noisydask.combine(issues, dynamics, on="id", **how)
    (dead,) = (tmp_path / "out/runs").iterdir()
    assert {path.name.partition("-")[0] for path in (dead / "scratch").iterdir()} == {
        "joined",
        "label_quality",
        "metric",
    }
    noisydask.combine(issues, dynamics, **how)
    assert not dead.exists()


@given(
    st.lists(st.tuples(st.integers(0, 100), st.booleans()), max_size=12),
    st.integers(1, 5),
    st.integers(0, 40),
    st.integers(0, 40),
    st.integers(0, 60),
)
def test_what_is_kept(
    found: list[tuple[int, bool]], keep: int, days: int, grace: int, later: int
) -> None:
    start = datetime(2026, 1, 1, tzinfo=UTC)
    ages = sorted(found)
    runs = [
        KeptRun(f"{k:08d}", start + timedelta(days=day), finished)
        for k, (day, finished) in enumerate(ages)
    ]
    now = start + timedelta(days=100 + later)
    named = {run.name for run in [run for run in runs if run.finished][-2:]}
    settings = PublishSettings(keep_runs=keep, keep_days=days, grace_seconds=grace * 86400)
    gone = {run.name for run in superfluous(runs, named, now, settings)}
    finished = [run for run in runs if run.finished]
    assert not gone & named
    assert not gone & {run.name for run in finished[-keep:]}
    for number, run in enumerate(runs):
        age = (now - run.touched).days
        if not run.finished:
            assert (run.name in gone) == (age > grace)
        elif run.name in gone:
            assert age > days
            successor = next(later for later in runs[number + 1 :] if later.finished)
            assert (now - successor.touched).days >= grace
