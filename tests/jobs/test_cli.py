"""The command: the demo's way from data to answer, every exit status, what it prints for
machines."""

from __future__ import annotations

import json
import os
import re
import runpy
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
import zarr
from distributed import LocalCluster
from rig.jobs import Ended
from typer.testing import CliRunner

import noisydask
from noisydask.cli.app import main
from noisydask.cli.commands import app

ROOT = Path(__file__).parents[2]


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """A small dataset of three classes, with a few wrong labels."""
    rng = np.random.default_rng(0)
    truth = rng.integers(0, 3, 400)
    pred_probs = rng.dirichlet(np.ones(3), 400) * 0.2
    pred_probs[np.arange(400), truth] += 0.8
    pred_probs[:9] = 0.01
    pred_probs[np.arange(9), truth[:9]] = 0.98
    labels = truth.copy()
    labels[:9] = (labels[:9] + 1) % 3
    for name, values in (("labels", labels), ("pred_probs", pred_probs.astype("f4"))):
        array = zarr.create_array(
            tmp_path / f"{name}.zarr",
            shape=values.shape,
            chunks=(100, 3)[: values.ndim],
            dtype=values.dtype,
        )
        array[...] = values
    np.save(tmp_path / "ids.npy", np.array([f"a[red]{k}\x1b" for k in range(400)]))
    (tmp_path / "names.txt").write_text("cat\ndog\n[bold]eel\x1b[31m\n")
    return tmp_path


def arguments(data: Path, *more: str) -> list[str]:
    places = ("--labels", "labels.zarr"), ("--pred-probs", "pred_probs.zarr"), ("--out", "out")
    return [
        "issues",
        *(word for option, name in places for word in (option, str(data / name))),
        *more,
    ]


def on(cluster: LocalCluster) -> list[str]:
    return ["--scheduler", cluster.scheduler_address]


def test_issues_and_show(
    data: Path, one_worker: LocalCluster, capfd: pytest.CaptureFixture[str]
) -> None:
    named = ["--ids", str(data / "ids.npy"), "--class-names", str(data / "names.txt")]
    assert main([*arguments(data), *named, *on(one_worker)]) == 0
    shown = capfd.readouterr().out
    assert "9 of 400" in shown
    assert "a[red]" in shown  # as text, not as a colour
    assert "\x1b" not in shown
    assert main(["show", str(data / "out"), "--top", "4", "--json"]) == 0
    found = json.loads(capfd.readouterr().out)
    assert found["counts"]["issues"] == 9
    assert len(found["top"]) == 4
    assert set(found["top"][0]) >= {
        "rank",
        "index",
        "id",
        "given_label",
        "suggested_label",
        "label_quality",
        "given_name",
    }
    issues = noisydask.open_run(data / "out")
    np.testing.assert_array_equal(np.sort(issues.indices), np.arange(9))
    assert issues.to_dataframe()["rank"].tolist() == list(range(1, 10))
    assert issues.to_dataframe()["id"].tolist() == [f"a[red]{k}\x1b" for k in issues.indices]


def test_run_takes_a_config_and_the_command_line_wins(
    data: Path, one_worker: LocalCluster, capfd: pytest.CaptureFixture[str]
) -> None:
    config = {name: str(data / f"{name}.zarr") for name in ("labels", "pred_probs")}
    config |= {
        "out": {"url": str(data / "not-here")},
        "cluster": {"workers": 7},
        "estimation_method": "off_diagonal_calibrated",
    }
    (data / "job.yaml").write_text(yaml.safe_dump(config))
    assert main(["run", str(data / "job.yaml"), "--out", str(data / "here"), *on(one_worker)]) == 0
    assert not (data / "not-here").exists()
    manifest = noisydask.open_run(data / "here").manifest
    assert manifest["settings"]["estimation_method"] == "off_diagonal_calibrated"


@pytest.mark.parametrize("script", ["find_label_issues", "loss_dynamics", "nightly"])
@pytest.mark.parametrize(
    "more", [["--scheduler", "mine"], ["--scheduler-file=f"], ["--workers", "2"], []]
)
def test_the_command_line_wins_over_the_environment(
    script: str, more: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    called: list[list[str]] = []
    monkeypatch.setattr("noisydask.cli.start.start", called.append)
    monkeypatch.setenv("DASK_SCHEDULER_ADDRESS", "theirs")
    monkeypatch.setattr(sys, "argv", [script, "job.yaml", *more])
    runpy.run_path(str(ROOT / "jobs" / f"{script}.py"), run_name="__main__")
    assert called == [["run", *([] if more else ["--scheduler", "theirs"]), "job.yaml", *more]]


@pytest.mark.slow
def test_a_job_script_submits_to_a_running_cluster(data: Path, one_worker: LocalCluster) -> None:
    config = {name: str(data / f"{name}.zarr") for name in ("labels", "pred_probs")} | {
        "out": str(data / "out")
    }
    (data / "job.yaml").write_text(yaml.safe_dump(config))
    environment = os.environ | {"DASK_SCHEDULER_ADDRESS": one_worker.scheduler_address}
    done = subprocess.run(
        [sys.executable, ROOT / "jobs" / "find_label_issues.py", data / "job.yaml"],
        env=environment,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "Traceback" not in done.stderr
    assert noisydask.open_run(data / "out").num_issues == 9


@pytest.mark.parametrize(
    "more",
    [
        ["--labels", "nothing.zarr"],
        ["--pred-probs", "nothing.npy"],
        ["--quality-score", "unheard-of"],
        ["--block-bytes", "0"],
        ["--labels-options", "not json"],
        ["--class-names", "a,b"],
        ["--unknown-option"],
    ],
    ids=lambda more: more[0],
)
def test_wrong_usage_is_one_error_and_status_2(
    data: Path, one_worker: LocalCluster, more: list[str], capfd: pytest.CaptureFixture[str]
) -> None:
    assert main([*arguments(data), *on(one_worker), *more]) == 2
    shown = capfd.readouterr().err
    assert sum("error" in line.lower() for line in shown.splitlines()) == 1
    assert "Traceback" not in shown


@pytest.mark.parametrize(
    ("more", "says"),
    [
        (["issues"], "--labels is missing"),
        (
            ["issues", "--labels", "l", "--pred-probs", "p", "--out-options", "{}"],
            "--out is missing",
        ),
        (
            ["issues", "--labels", "l", "--pred-probs", "p", "--out", "o", "--workers", "0"],
            "--workers must be",
        ),
        (
            [
                "issues",
                "--labels",
                "l",
                "--pred-probs",
                "p",
                "--out",
                "o",
                "--scheduler",
                "nonsense",
            ],
            "--scheduler is not the address",
        ),
        (
            ["combine", "a", "b", "--out", "o", "--memory-limit", "lots"],
            "--memory-limit is not a size",
        ),
        (["dynamics", "--out", "o"], "error: give one of losses"),
        (["demo", "--folder", __file__], "cannot make the folder"),
        (
            ["run", str(ROOT / "configs/local.yaml"), "--alpha", "3"],
            "alpha belongs to the job dynamics",
        ),
    ],
)
def test_options_are_called_by_their_names(
    more: list[str], says: str, capfd: pytest.CaptureFixture[str]
) -> None:
    assert main(more) == 2
    assert says in capfd.readouterr().err


@pytest.mark.parametrize("night", [False, True])
@pytest.mark.parametrize("cluster", [4, [1], "workers", 0])
def test_a_cluster_that_is_no_mapping(
    data: Path, night: bool, cluster: Any, capfd: pytest.CaptureFixture[str]
) -> None:
    job = {"labels": "l", "pred_probs": "p", "out": "o"}
    (data / "job.yaml").write_text(
        yaml.safe_dump(({"job": "nightly", "issues": job} if night else job) | {"cluster": cluster})
    )
    assert main(["run", str(data / "job.yaml")]) == 2
    assert "cluster must be a mapping" in capfd.readouterr().err


def test_an_output_that_is_a_file(
    data: Path, one_worker: LocalCluster, capfd: pytest.CaptureFixture[str]
) -> None:
    for out in ("names.txt", "names.txt/below"):
        assert main([*arguments(data), *on(one_worker), "--out", str(data / out)]) == 2
        assert main(["show", str(data / out)]) == 2
        shown = capfd.readouterr().err
        assert shown.count("names.txt is a file, and out must be a folder") == 2


def test_invalid_rows_are_status_2_and_leave_the_last_run(
    data: Path, one_worker: LocalCluster, capfd: pytest.CaptureFixture[str]
) -> None:
    assert main([*arguments(data), *on(one_worker)]) == 0
    before = (data / "out" / "latest.json").read_bytes()
    zarr.open_array(data / "pred_probs.zarr", mode="r+")[7] = np.nan
    capfd.readouterr()
    assert main([*arguments(data), *on(one_worker)]) == 2
    assert "1 of 400 rows" in capfd.readouterr().err
    assert (data / "out" / "latest.json").read_bytes() == before
    assert main([*arguments(data), *on(one_worker), "--on-invalid", "skip"]) == 0
    assert noisydask.open_run(data / "out").invalid_indices.tolist() == [7]


def test_no_scheduler_is_status_1(
    data: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("noisydask.engine.cluster.CONNECT_SECONDS", 2)
    assert main(arguments(data, "--scheduler", "tcp://127.0.0.1:9")) == 1
    assert "no Dask scheduler answers" in capfd.readouterr().err


@pytest.mark.slow
def test_a_store_that_nobody_runs_is_one_error(tmp_path: Path) -> None:
    """And nothing after it, when the process ends."""
    pytest.importorskip("s3fs")
    options = json.dumps({"endpoint_url": "http://127.0.0.1:9", "key": "key", "secret": "secret"})
    command = [
        sys.executable,
        "-m",
        "noisydask",
        "issues",
        "--labels",
        "s3://b/l.zarr",
        "--pred-probs",
        "s3://b/p.zarr",
    ]
    done = subprocess.run(
        [*command, "--out", tmp_path / "out", "--storage-options", options],
        capture_output=True,
        text=True,
        check=False,
    )
    assert "cannot be reached" in Ended(done.returncode, done.stderr).one_error()
    assert done.returncode == 1


def test_show_without_a_run(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert main(["show", str(tmp_path)]) == 2
    assert "no finished run" in capfd.readouterr().err


def test_version_and_help() -> None:
    assert CliRunner().invoke(app, ["show", "-h"]).exit_code == 0
    shown = {
        job: CliRunner().invoke(app, [job, "-h"]).output.count("[required]")
        for job in ("issues", "dynamics", "run")
    }
    assert shown == {"issues": 1, "dynamics": 1, "run": 1}  # the config of run
    assert CliRunner().invoke(app, ["--version"]).output.split()[0] == "noisydask"
    assert CliRunner().invoke(app, ["issues", "--help"]).exit_code == 0


@pytest.mark.slow
def test_demo_finds_most_flipped_labels(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "noisydask", "demo", "--folder", "demo"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "Traceback" not in done.stderr
    flipped = zarr.open_array(tmp_path / "demo" / "flipped.zarr", mode="r")[...]
    issues = noisydask.open_run(tmp_path / "demo" / "out")
    hits = np.isin(issues.indices, flipped).sum()
    assert hits > 0.8 * len(flipped)
    assert f"{hits} of the {len(flipped)} flipped labels were found" in " ".join(
        done.stdout.split()
    )
    both = noisydask.open_run(tmp_path / "demo" / "both").to_dataframe()
    columns = ("quality_percentile", "metric_percentile", "consensus")
    quality, losses, consensus = (
        int(np.isin(both.sort_values([name, "index"])["index"][: len(flipped)], flipped).sum())
        for name in columns
    )
    assert consensus >= max(quality, losses) > 0.8 * len(flipped)
    for name, found in (
        ("label quality", quality),
        ("EMA of the loss", losses),
        ("both", consensus),
    ):
        assert re.search(rf"{name} +{found} \(", done.stdout)
