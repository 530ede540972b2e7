"""Outputs and inputs that meet, whatever their spelling, and folders that belong to others."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import yaml
import zarr
from conftest import Place
from layouts import make, write_npy, write_parquet, write_zarr

import noisydask
from noisydask.cli.app import main
from noisydask.cli.nightly_config import checked_night
from noisydask.errors import InputError
from noisydask.stores.locations import Location
from noisydask.stores.urls import is_inside

DATA = make(rows=200, classes=4)
NOT_OURS = "which noisydask did not make; give a folder that is empty or one that noisydask made$"


def run(out: Any, pred_probs: Any = DATA.pred_probs, **how: Any) -> Any:
    return noisydask.find_label_issues(DATA.labels, pred_probs, out=out, **how)


def tree(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*")}


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A home and working directory with an input in ``in/p.zarr``, which ``link`` leads to."""
    write_zarr(Place(str(tmp_path)) / "in/p.zarr", DATA.pred_probs)
    (tmp_path / "link").symlink_to(tmp_path / "in")
    (tmp_path / "hop").symlink_to("link")
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    return tmp_path


SPELLINGS = (
    "{home}/in/p.zarr",
    "~/in/p.zarr",
    "in/p.zarr",
    "./in//p.zarr/",
    "in/../in/p.zarr",
    "file://{home}/in/p.zarr",
    "file://~/in/p.zarr",
    "file:///{home}//in/./p.zarr//",
    "local://{home}/in/p.zarr",
    "link/p.zarr",
    "~/hop/p.zarr/",
    "hop/../in/p.zarr",
)


@pytest.mark.parametrize("spelling", SPELLINGS)
def test_one_place_by_all_its_names(spelling: str, home: Path) -> None:
    url, before = spelling.format(home=home), tree(home)
    for pred_probs, out in (
        (url, "in/p.zarr/out"),
        ("~/in/p.zarr", url),
        ("in/p.zarr", f"{url}/x"),
    ):
        with pytest.raises(InputError, match=r"^out at .* lies in pred_probs at .*; give another"):
            run(out, pred_probs)
    assert tree(home) == before
    assert is_inside(f"{url}/x", "in/p.zarr")
    assert is_inside(url, "~/in")
    assert not is_inside(url, "~/in/p")


@pytest.mark.parametrize("spelling", SPELLINGS)
def test_an_input_in_an_output_by_all_its_names(spelling: str, home: Path) -> None:
    (home / "in/p.zarr").rename(home / "p.zarr")
    (home / "in/p.zarr/runs").mkdir(parents=True)
    (home / "p.zarr").rename(home / "in/p.zarr/runs/p.zarr")
    url = f"{spelling.format(home=home)}/runs/p.zarr"
    with pytest.raises(InputError, match=r"^pred_probs at .* lies in what the job writes"):
        run("in/p.zarr", url)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("s3://b/x", "s3a://b/x"),
        ("s3://b//x/", "s3://b/x"),
        ("s3://b/y/../x", "s3://b/x"),
        ("s3://key:sec/ret@b/x", "s3://b/./x"),
        ("gs://b/x", "gcs://b/x"),
    ],
)
def test_one_place_by_all_its_urls(one: str, other: str) -> None:
    assert is_inside(one, other)
    assert is_inside(f"{other}/out", one)
    assert not is_inside(f"{other}.out", one)


def test_the_tilde_on_the_command_line(home: Path, capfd: pytest.CaptureFixture[str]) -> None:
    labels, before = write_npy(Place(str(home)) / "y.npy", DATA.labels), tree(home) | {"y.npy"}
    command = ["issues", "--labels", labels, "--pred-probs", "~/in/p.zarr"]
    assert main([*command, "--workers", "1", "--out", str(home / "in/p.zarr/out")]) == 2
    assert "lies in pred_probs" in capfd.readouterr().err
    assert tree(home) == before


def test_both_rankings_are_not_written_into_what_they_join(home: Path) -> None:
    run("i")
    noisydask.analyze_loss_dynamics(np.ones((200, 1)), out="d")
    before = tree(home)
    name = noisydask.open_run("i").run.run
    for out in ("~/i", f"i/runs/{name}", f"i/../d/runs/{name}/x", "d", "i/runs/x", "d/evidence"):
        with pytest.raises(InputError, match=r"give (out )?another place|did not make"):
            noisydask.combine("i", "d", out=out)
    assert tree(home) == before


@pytest.mark.parametrize(
    ("first", "second"),
    [("out", "~/out"), ("in/out", "link/out/dynamics"), ("file://{home}/out/x", "./out")],
)
def test_outputs_of_a_night_lie_apart(first: str, second: str, home: Path) -> None:
    night = {
        "job": "nightly",
        "issues": {"labels": "y.npy", "pred_probs": "in/p.zarr", "out": first.format(home=home)},
        "dynamics": {"losses": "l.npy", "out": second},
    }
    for one, other in ((first.format(home=home), second), (second, first.format(home=home))):
        night["issues"] |= {"out": one}  # type: ignore[operator]
        night["dynamics"] |= {"out": other}  # type: ignore[operator]
        with pytest.raises(InputError, match="must be places apart"):
            checked_night(night)


def test_no_job_of_a_night_writes_into_an_input_of_another(home: Path) -> None:
    issues = {"labels": "y.npy", "pred_probs": "link/p.zarr", "out": "out"}
    dynamics = {"losses": "l.npy", "out": "~/in/p.zarr/dynamics"}
    with pytest.raises(InputError, match=r"lies in issues.pred_probs"):
        checked_night({"job": "nightly", "issues": issues, "dynamics": dynamics})
    dynamics = {"losses": "out/evidence/l.npy", "out": "d"}
    with pytest.raises(InputError, match=r"dynamics.losses at .* lies in what the job writes"):
        checked_night({"job": "nightly", "issues": issues, "dynamics": dynamics})
    both = {"out": "both", "ids": "ids.npy"}
    dynamics = {"losses": "l.npy", "out": "d"}
    checked_night({"job": "nightly", "issues": issues, "dynamics": dynamics, "combine": both})


# --- no place at all


@pytest.mark.parametrize("nothing", ["", " "])
def test_the_empty_place(
    nothing: str, home: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    (home / "empty").mkdir()
    monkeypatch.chdir(home / "empty")
    for call in (
        lambda: run(nothing),
        lambda: noisydask.analyze_loss_dynamics(np.ones((3, 2)), out=nothing),
        lambda: noisydask.find_label_issues(nothing, DATA.pred_probs),
        lambda: noisydask.open_run(nothing),
        lambda: noisydask.LossRecorder(nothing),
    ):
        with pytest.raises(InputError, match="is empty: give a path or URL"):
            call()
    data = ["--labels", "y.npy", "--pred-probs", "p.npy"]
    config = {"labels": "y.npy", "pred_probs": "p.npy", "out": nothing}
    (home / "job.yaml").write_text(yaml.safe_dump(config))
    (home / "night.yaml").write_text(yaml.safe_dump({"job": "nightly", "issues": config}))
    for command in (
        ["issues", *data, "--out", nothing],
        ["dynamics", "--losses", "l.npy", "--out", nothing],
        ["issues", *data, "--out", nothing, "--out-options", "{}"],
        ["run", str(home / "job.yaml")],
        ["run", str(home / "night.yaml")],
    ):
        assert main(command) == 2
        assert "out is empty: give a path or URL" in capfd.readouterr().err
    assert not list((home / "empty").iterdir())


# --- folders of others


def test_a_folder_that_is_not_ours(place: Place) -> None:
    options = {"out": place.options}
    for name in ("notes.txt", "photos/1.jpg", "work/notes.txt", "work/evidence/zarr.json"):
        place.write(name, b"dear to somebody")
    before = place.objects()
    for out in (place, place / "photos", place / "work"):
        with pytest.raises(InputError, match=NOT_OURS):
            run(out.url, storage_options=options)
        with pytest.raises(InputError, match=NOT_OURS):
            noisydask.analyze_loss_dynamics(
                np.ones((3, 2)), out=out.url, storage_options={"out": place.options}
            )
    assert place.objects() == before
    run((place / "new").url, storage_options=options)


def test_a_large_bucket_that_holds_an_output_of_ours(s3_place: Place) -> None:
    """It was filled by others since: of its names, of which one request tells the first, none is
    ours."""
    options = {"out": s3_place.options}
    first = run(s3_place.url, storage_options=options)
    for number in range(120):
        s3_place.write(f"a/{number}.txt" if number % 2 else f"a{number:03d}.txt", b"x")
    again = run(s3_place.url, storage_options=options)
    assert again.manifest["parent"] == first.run.run


def test_the_working_directory(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = tree(home)
    for out in (".", "./", Path(), f"file://{home}", home / "link/.."):
        with pytest.raises(InputError, match=NOT_OURS):
            run(out)
    assert tree(home) == before
    (home / "empty").mkdir()
    monkeypatch.chdir(home / "empty")
    assert run(".").num_issues == run(Path()).num_issues > 0


def test_hidden_files_do_not_count(tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out/.gitkeep").touch()
    assert run(tmp_path / "out").num_issues > 0


@pytest.mark.parametrize("sign", ["lock.json", "latest.json", "lock.json.new", "evidence", "runs"])
def test_what_a_job_left_is_ours(sign: str, tmp_path: Path) -> None:
    """A job that died may have left any of these alone."""
    out = tmp_path / "out"
    run(out)
    for path in list(out.iterdir()):
        if path.name != sign.removesuffix(".new"):
            os.rename(path, tmp_path / path.name)
        elif path.name != sign:
            os.rename(path, out / sign)
    if sign == "latest.json":  # that names a run which is gone
        os.rename(tmp_path / "runs", out / "runs")
    assert run(out).num_issues > 0


def test_an_older_output_among_files_of_others_goes_on(tmp_path: Path) -> None:
    first = run(tmp_path / "out")
    (tmp_path / "out/p.zarr").mkdir()
    (tmp_path / "out/a.txt").touch()
    assert run(tmp_path / "out").manifest["parent"] == first.run.run


# --- URLs that are chained


@pytest.mark.parametrize(
    "url",
    [
        "simplecache::s3://key:hush@bucket/x",
        "filecache::file:///data/x",
        "zip://x::s3://bucket/a.zip",
        "blockcache::/data/x#column",
    ],
)
def test_chained_urls_get_one_right_sentence(url: str, tmp_path: Path) -> None:
    calls: dict[str, Any] = {
        "out": lambda: run(url),
        "pred_probs": lambda: run(tmp_path / "out", url),
        "labels": lambda: noisydask.find_label_issues(url, DATA.pred_probs),
        "table": lambda: noisydask.analyze_loss_dynamics(table=url),
        "the recorder's url": lambda: noisydask.LossRecorder(url),
    }
    for name, call in calls.items():
        with pytest.raises(
            InputError, match=f"^{name} at .*chained with '::' are not suppo"
        ) as told:
            call()
        assert "hush" not in str(told.value)
        assert "\n" not in str(told.value)


def test_a_local_place_is_absolute(home: Path) -> None:
    for url in ("a/b", "./a/b", "~/a/b", "file://a/b"):
        place = Location.of(url, None, "out")
        assert os.path.normpath(place.url) == str(home / "a/b")
        assert place.shown == place.url == place.path


def test_a_column_of_a_table_at_home(home: Path) -> None:
    write_parquet(Place(str(home)) / "t.parquet", [DATA.labels])
    with pytest.raises(InputError, match="lies in labels"):
        noisydask.find_label_issues("~/t.parquet#value", DATA.pred_probs, out=home / "t.parquet")
    pd.testing.assert_frame_equal(
        noisydask.find_label_issues("~/t.parquet#value", DATA.pred_probs).to_dataframe(),
        noisydask.find_label_issues(DATA.labels, DATA.pred_probs).to_dataframe(),
    )


@pytest.mark.parametrize("job", ["issues", "dynamics"])
def test_outputs_inside_of_an_array_that_is_open(job: str, tmp_path: Path) -> None:
    """Where an input lies that is given as an object counts as well."""
    values = np.full((30, 3), 1 / 3, np.float32)
    array = zarr.create_array(str(tmp_path / "in.zarr"), data=values)
    before = sorted(tmp_path.rglob("*"))
    given = (np.arange(30) % 3, array) if job == "issues" else (array,)
    function = noisydask.find_label_issues if job == "issues" else noisydask.analyze_loss_dynamics
    with pytest.raises(InputError, match="and would damage it"):
        function(*given, out=tmp_path / "in.zarr/out")
    assert sorted(tmp_path.rglob("*")) == before
