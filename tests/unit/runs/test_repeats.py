"""A night on which nothing changed refers to the files of the run that it repeats."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import dask
import numpy as np
import pandas as pd
import pytest
import zarr
from conftest import Place
from layouts import make, unlike_the_last, write_npy, write_zarr
from rig.jobs import published
from rig.proxy import Proxy

import noisydask
from noisydask.cli.app import main
from noisydask.errors import GateError, InputError, JobError
from noisydask.runs.lock import Lock
from noisydask.runs.publish import Publication
from noisydask.runs.status import StatusReporter
from noisydask.runs.store import Output
from noisydask.stores.arrays import zarr_store
from noisydask.stores.locations import Location
from noisydask.stores.rows import Rows

pytestmark = pytest.mark.thorough

DATA = make(rows=630, classes=4, noise=0.3)
LOSSES = np.random.default_rng(1).exponential(1.0, (630, 12)).astype(np.float32)
IDS = np.array([f"image {row}" for row in range(630)])
SMALL = {"manifest.json", "status.json"}


@pytest.fixture(autouse=True)
def synchronous() -> Any:
    with dask.config.set(scheduler="synchronous"):
        yield


def store(place: Place) -> None:
    write_zarr(place / "labels.zarr", DATA.labels)
    write_zarr(place / "pred_probs.zarr", DATA.pred_probs)
    write_zarr(place / "losses.zarr", LOSSES)
    write_npy(place / "ids.npy", IDS)


def issues(place: Place, **how: Any) -> Any:
    places = ("labels", "pred_probs", "ids")
    inputs = {"labels": "labels.zarr", "pred_probs": "pred_probs.zarr", "ids": "ids.npy"}
    how = {name: (place / path).url for name, path in inputs.items()} | how
    options = dict.fromkeys((*places, "out"), place.options)
    how = {"block_bytes": 2_000, "storage_options": options, "grace_seconds": 0} | how
    return noisydask.find_label_issues(**how, out=(place / "out").url)


def dynamics(place: Place, **how: Any) -> Any:
    inputs = {"losses": "losses.zarr", "labels": "labels.zarr", "ids": "ids.npy"}
    how = {name: (place / path).url for name, path in inputs.items()} | {"alpha": 0.1} | how
    options = dict.fromkeys((*inputs, "out"), place.options)
    return noisydask.analyze_loss_dynamics(
        **how, out=(place / "dynamics").url, block_bytes=9_000, storage_options=options
    )


def combine(place: Place, **how: Any) -> Any:
    options = dict.fromkeys(("issues", "dynamics", "ids", "out"), place.options)
    outs = ((place / name).url for name in ("out", "dynamics"))
    return noisydask.combine(*outs, out=(place / "both").url, storage_options=options, **how)


JOBS: dict[str, Callable[..., Any]] = {"out": issues, "dynamics": dynamics, "both": combine}


def night(place: Place) -> dict[str, Any]:
    return {out: job(place) for out, job in JOBS.items()}


def own(place: Place, out: str, found: Any) -> set[str]:
    """What lies in the folder of a run itself."""
    return set((place / out / "runs" / found.run.run).objects())


def total_read(found: Any) -> int:
    return sum(found.manifest["bytes_read"].values())


def forbid_reading(monkeypatch: pytest.MonkeyPatch) -> None:
    read = Rows.read

    def few(rows: Rows, start: int, stop: int) -> Any:
        assert stop - start <= 4, f"{rows.url} was read"  # thresholds of classes may be
        return read(rows, start, stop)

    monkeypatch.setattr(Rows, "read", few)


def test_an_unchanged_night_reads_and_writes_nothing_of_size(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    store(place)
    first = night(place)
    contents = {out: published(place / out) for out in JOBS}
    with monkeypatch.context() as patch:
        forbid_reading(patch)
        nights = [night(place) for _ in range(2)]
    for out, found in first.items():
        assert min(found.manifest["bytes_read"].values()) >= 0 < total_read(found)
        runs = [found.run.run, *(again[out].run.run for again in nights)]
        assert len(set(runs)) == 3
        for before, again in zip(runs, (again[out] for again in nights), strict=False):
            said = again.manifest
            assert own(place, out, again) == SMALL
            assert said["repeats"] == runs[0]  # never a run that repeats one itself
            assert said["parent"] == said["changes"]["since"] == before
            assert {said["changes"][kind] for kind in ("new", "gone", "moved")} == {0}
            assert set(said["bytes_read"]) == set(found.manifest["bytes_read"])
            assert total_read(again) == 0
            assert (
                json.loads((place / out).read(f"runs/{again.run.run}/status.json"))["state"]
                == "complete"
            )
            reopened = noisydask.open_run((place / out).url, place.options, run=again.run.run)
            assert reopened.manifest == said
            pd.testing.assert_frame_equal(reopened._first(None), found._first(None))
        # Every object, checked against sizes and checksums of the manifest, is that of the first.
        assert published(place / out) == contents[out]
    again = noisydask.open_run((place / "out").url, place.options)
    assert np.array_equal(again.label_quality.compute(), first["out"].label_quality.compute())
    assert np.array_equal(again.mask, first["out"].mask)
    again = noisydask.open_run((place / "dynamics").url, place.options)
    pd.testing.assert_series_equal(again.mean_loss_dyns, first["dynamics"].mean_loss_dyns)


def test_requests_of_an_unchanged_night(s3_place: Place, way: Proxy) -> None:
    """Counted at the S3 server: no chunk is fetched, and nothing is put but what tells of the
    run."""
    store(s3_place)
    night(s3_place)
    options = s3_place.options | {"endpoint_url": way.endpoint}
    night(Place(s3_place.url, options))
    asked = [(request.method, request.path.partition("?")[0]) for request in way.requests]
    assert asked
    inputs = [path for _, path in asked if "labels.zarr/c/" in path or "_probs.zarr/c/" in path]
    assert not inputs, inputs
    parts = [path for method, path in asked if method == "GET" and path.endswith(".parquet")]
    assert len(parts) <= 2  # combine looks at the schema of the ranking that it is given
    puts = {path.rpartition("/")[2] for method, path in asked if method == "PUT"}
    assert puts <= SMALL | {"latest.json", "lock.json", "lock.json.probe"}, puts


def correct_label(place: Place) -> None:
    at = Location.of((place / "labels.zarr").url, place.options, "test")
    array = zarr.open_array(zarr_store(at), mode="r+")
    array[77] = (array[77] + 1) % 4


def damage_size(place: Place) -> None:
    origin = noisydask.open_run((place / "out").url, place.options).manifest["repeats"]
    place.write(f"out/runs/{origin}/issues/part-00000.parquet", b"cut short")


def lose_a_part(place: Place) -> None:
    origin = noisydask.open_run((place / "out").url, place.options).manifest["repeats"]
    place.remove(f"out/runs/{origin}/label_quality.zarr/0")


DIFFERENT: dict[str, tuple[Callable[[Place], Any], dict[str, Any]]] = {
    "label corrected": (correct_label, {}),
    "an object of the run lost": (lose_a_part, {}),
    "an object of the run cut short": (damage_size, {}),
    "full": (lambda place: None, {"full": True}),
    "another score": (lambda place: None, {"quality_score": "normalized_margin"}),
    "other blocks": (lambda place: None, {"block_bytes": 3_000}),
    "class names": (lambda place: None, {"class_names": ["a", "b", "c", "d"]}),
    "without ids": (lambda place: None, {"ids": None}),
    "labels in memory": (lambda place: None, {"labels": DATA.labels}),
    "an output of an older version": (lambda place: unlike_the_last(place / "out"), {}),
}


@pytest.mark.parametrize("what", DIFFERENT)
def test_what_may_alter_a_byte_is_computed(what: str, tmp_path: Path) -> None:
    place, (alter, how) = Place(str(tmp_path)), DIFFERENT[what]
    store(place)
    issues(place)
    assert "repeats" in issues(place, keep_runs=5, lease_seconds=30, fail_above=1).manifest
    alter(place)
    found = issues(place, **how)
    assert "repeats" not in found.manifest
    assert {"issues/part-00000.parquet", "given_labels.zarr/0"} <= own(place, "out", found)
    shutil.rmtree(tmp_path / "out/evidence")
    fresh = found.to_dataframe()
    pd.testing.assert_frame_equal(issues(place, **how | {"full": True}).to_dataframe(), fresh)


def test_another_version_computes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    place = Place(str(tmp_path))
    store(place)
    issues(place)
    monkeypatch.setattr("noisydask.runs.job._versions", lambda: {"noisydask": "99"})
    assert "repeats" not in issues(place).manifest


def test_combine_goes_by_the_files_that_it_joins(tmp_path: Path) -> None:
    place = Place(str(tmp_path))
    store(place)
    night(place)
    assert "repeats" in night(place)["both"].manifest
    assert "repeats" not in combine(place, full=True).manifest
    assert "repeats" not in combine(place, top=5).manifest
    combine(place)
    correct_label(place)
    again = night(place)
    assert ["repeats" in found.manifest for found in again.values()] == [False, False, False]


@pytest.mark.parametrize("suffix", ["parquet", "csv"])
def test_tables_and_datasets_are_recognised(tmp_path: Path, suffix: str) -> None:
    table = pd.DataFrame({"id": np.arange(40) % 10, "iteration": np.arange(40) // 10})
    table["loss"] = LOSSES.ravel()[:40]
    (tmp_path / "table").mkdir()
    write = table.to_parquet if suffix == "parquet" else table.to_csv
    write(tmp_path / f"table/a.{suffix}", index=False)
    how: dict[str, Any] = {"table": tmp_path / "table", "out": tmp_path / "out"}
    first, again = (noisydask.analyze_loss_dynamics(**how) for _ in range(2))
    assert again.manifest["repeats"] == first.run.run
    pd.testing.assert_frame_equal(again.ema([3, 4]), first.ema([3, 4]))
    assert "repeats" not in noisydask.analyze_loss_dynamics(**how, full=True).manifest
    table["loss"] += 1
    write(tmp_path / f"table/b.{suffix}", index=False)
    with pytest.raises(noisydask.InputError):  # each loss is there twice
        noisydask.analyze_loss_dynamics(**how)


def test_retention_keeps_what_is_referred_to(place: Place) -> None:
    def nights(number: int) -> list[str]:
        names = []
        for _ in range(number):
            names.append(issues(place, keep_runs=2).run.run)
            time.sleep(1.1 if place.options else 0)  # S3 tells seconds only
        return names

    def kept() -> set[str]:
        return {name.split("/")[0] for name in (place / "out/runs").objects()}

    store(place)
    names = nights(6)
    assert kept() == {names[0], *names[-2:]}
    for found in noisydask.list_runs((place / "out").url, place.options):
        assert len(found.to_dataframe()) == found.num_issues > 0
    correct_label(place)
    names += nights(4)
    assert kept() == {names[6], *names[-2:]}


def test_killed_before_the_pointer_moves(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    """At each step of the publication."""
    store(place)
    first = issues(place)

    def dies(*_: Any, **__: Any) -> None:
        raise KeyboardInterrupt

    for owner, step in (
        (StatusReporter, "finish"),
        (Lock, "confirm"),
        (Publication, "_clean_up"),
    ):
        with monkeypatch.context() as patch:
            patch.setattr(owner, step, dies)
            with pytest.raises(KeyboardInterrupt):
                issues(place)
        pd.testing.assert_frame_equal(
            noisydask.open_run((place / "out").url, place.options).to_dataframe(),
            first.to_dataframe(),
        )
    again = issues(place)
    assert again.manifest["repeats"] == first.run.run
    assert published(place / "out")


def test_inputs_that_change_meanwhile(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    store(place)
    first = issues(place)
    with monkeypatch.context() as patch:
        patch.setattr("noisydask.runs.job.is_whole", lambda *_: correct_label(place) or True)
        with pytest.raises(JobError, match=r"labels at .* changed while it was read"):
            issues(place)
    assert noisydask.open_run((place / "out").url, place.options).run.run == first.run.run
    assert "repeats" not in issues(place).manifest


def test_gates_of_an_unchanged_night(tmp_path: Path) -> None:
    place = Place(str(tmp_path))
    store(place)
    issues(place)
    issues(place, fail_new_above=0)
    with pytest.raises(GateError, match="above fail_above") as error:
        issues(place, fail_above=0.001)
    assert "repeats" in error.value.issues.manifest
    assert json.loads((tmp_path / "out/latest.json").read_text())["generation"] == 3


def test_rows_that_could_not_be_read_are_tried_again(tmp_path: Path) -> None:
    place = Place(str(tmp_path))
    store(place)
    place.write("pred_probs.zarr/c/1/0", b"damaged")
    first, again = (issues(place, on_unreadable="skip") for _ in range(2))
    assert first.manifest["counts"]["unreadable"] > 0
    assert "repeats" not in again.manifest


@pytest.mark.parametrize("name", ["../../elsewhere", "x", 7])
def test_a_reference_leads_to_no_other_place(tmp_path: Path, name: Any) -> None:
    place = Place(str(tmp_path))
    store(place)
    found = issues(place)
    path = tmp_path / "out/runs" / found.run.run / "manifest.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"repeats": name}))
    with pytest.raises(noisydask.InputError, match="damaged"):
        Output.at(tmp_path / "out").open_run()


def test_the_night_says_so(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    place = Place(str(tmp_path))
    store(place)
    first = issues(place)
    issues(place)
    for out in ("out",):
        assert main(["show", str(tmp_path / out)]) == 0
        shown = capfd.readouterr().out
        assert first.run.run in shown
        assert "0 bytes" in shown


def test_evidence_that_is_of_other_inputs_is_no_reason_to_repeat(tmp_path: Path) -> None:
    """A run that did not come to its end leaves evidence; the next night does not rest on it."""
    rng = np.random.default_rng(0)
    labels = np.arange(300) % 3
    probs = np.full((300, 3), 0.1, np.float32)
    probs[np.arange(300), labels] = 0.8
    np.save(tmp_path / "p.npy", probs)
    np.save(tmp_path / "a.npy", labels)
    np.save(tmp_path / "b.npy", np.where(rng.random(300) < 0.01, 7, labels))
    pred_probs, out = tmp_path / "p.npy", tmp_path / "out"

    def run(name: str) -> dict[str, Any]:
        return noisydask.find_label_issues(tmp_path / name, pred_probs, out=out).manifest

    run("a.npy")
    with pytest.raises(InputError, match="invalid"):
        run("b.npy")
    again = run("a.npy")
    assert "repeats" not in again
    assert again["blocks"]["scanned"] == 1
    assert "repeats" in run("a.npy")
    shutil.rmtree(out / "evidence")
    assert run("a.npy")["blocks"]["scanned"] == 1


def test_nothing_is_started_for_an_unchanged_night(tmp_path: Path) -> None:
    """Neither are workers where the output is locked, or not ours."""
    np.save(tmp_path / "l.npy", np.arange(300) % 3)
    np.save(tmp_path / "p.npy", np.full((300, 3), 1 / 3, np.float32))
    words = ["issues", "--labels", f"{tmp_path}/l.npy", "--pred-probs", f"{tmp_path}/p.npy"]
    words += ["--out", f"{tmp_path}/out", "--workers", "1"]
    command = [sys.executable, "-m", "noisydask", *words]
    lines = [
        subprocess.run(command, capture_output=True, text=True, check=True).stderr for _ in range(2)
    ]
    assert ["dashboard" in each for each in lines] == [True, False]
    (tmp_path / "other").mkdir()
    (tmp_path / "other/x.txt").write_text("x")
    command[-3] = f"{tmp_path}/other"
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "dashboard" not in done.stderr


def test_what_a_run_refers_to_and_is_gone_is_one_error(tmp_path: Path) -> None:
    np.save(tmp_path / "l.npy", np.arange(300) % 3)
    np.save(tmp_path / "p.npy", np.eye(3, dtype=np.float32)[(np.arange(300) + 1) % 3])
    given = tmp_path / "l.npy", tmp_path / "p.npy"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", noisydask.LabelWarning)
        first = noisydask.find_label_issues(*given, out=tmp_path / "out")
        second = noisydask.find_label_issues(*given, out=tmp_path / "out")
    assert second.manifest["repeats"] == first.run.run
    shutil.rmtree(tmp_path / "out/runs" / first.run.run)
    with pytest.raises(JobError, match="is gone; was the run removed"):
        noisydask.open_run(tmp_path / "out").to_dataframe()
