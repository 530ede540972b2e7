"""A night: several jobs of one config, each published on its own; what ails one stops no other."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import yaml
from conftest import Place
from distributed import LocalCluster
from layouts import make, write_zarr
from rig.server import BUCKET, KEY, SECRET, S3Server

import noisydask
from noisydask.cli.app import main
from noisydask.cli.nightly import Step, run_night, worst
from noisydask.cli.nightly_config import checked_night
from noisydask.errors import GateError, InputError, JobError, LockedError
from noisydask.interrupts import Interrupted, interruptible

ROOT = Path(__file__).parents[2]
DATA = make(rows=600, classes=5)
RAISES: dict[int, Exception | None] = {
    0: None,
    1: JobError("down"),
    2: InputError("wrong"),
    3: GateError("too many", None),
    4: LockedError("locked"),
}


def step(name: str, status: int, done: list[str], needs: tuple[str, ...] = ()) -> Step:
    def run() -> None:
        done.append(name)
        error = RAISES[status]
        if error is not None:
            raise error

    return Step(name, run, needs)


@pytest.mark.parametrize("statuses", list(product(RAISES, repeat=3)))
def test_every_job_is_done_and_the_worst_status_counts(statuses: tuple[int, int, int]) -> None:
    done: list[str] = []
    outcomes = run_night(
        [step(str(k), status, done) for k, status in enumerate(statuses)], lambda: True
    )
    assert done == ["0", "1", "2"]
    assert tuple(outcome.status for outcome in outcomes) == statuses
    # Failed before wrong before locked before the gate: what to do about it, the most urgent first.
    order = {1: 0, 2: 1, 4: 2, 3: 3, 0: 4}
    assert worst(outcomes) == min(statuses, key=order.__getitem__)


def test_a_stop_ends_the_whole_night() -> None:
    """Its exception comes as an error of the job that it met, as libraries make one of it."""
    done: list[str] = []

    def met() -> None:
        try:
            signal.raise_signal(signal.SIGTERM)
        except BaseException as error:
            raise JobError("the connection is gone") from error

    def whole() -> None:
        with interruptible():
            run_night([Step("issues", met), step("dynamics", 0, done)], lambda: True)

    with pytest.raises(Interrupted):
        whole()
    assert not done


@pytest.mark.parametrize(
    ("status", "runs"), [(0, True), (3, True), (1, False), (2, False), (4, False)]
)
def test_a_job_without_what_it_needs_is_left_out(status: int, runs: bool) -> None:
    done: list[str] = []
    night = [step("issues", status, done), step("combine", 0, done, needs=("issues", "dynamics"))]
    outcomes = run_night(night, lambda: True)
    assert ("combine" in done) is runs
    assert outcomes[1].status == (0 if runs else status)


def test_nothing_is_tried_on_a_cluster_that_is_gone() -> None:
    done: list[str] = []
    outcomes = run_night([step("issues", 0, done), step("dynamics", 0, done)], lambda: not done)
    assert done == ["issues"]
    assert [outcome.status for outcome in outcomes] == [0, 1]


def test_a_bug_in_one_job_stops_no_other(caplog: pytest.LogCaptureFixture) -> None:
    done: list[str] = []
    outcomes = run_night([Step("issues", lambda: 1 / 0), step("dynamics", 0, done)], lambda: True)
    assert [outcome.status for outcome in outcomes] == [1, 0]
    assert "ZeroDivisionError" in caplog.text


# --- config

ISSUES = {"labels": "l", "pred_probs": "p", "out": "s3://b/issues"}
NIGHT: dict[str, Any] = {"job": "nightly", "issues": ISSUES}


def test_what_sections_share() -> None:
    own = ISSUES | {"storage_options": {"b": 2}}
    config = checked_night(
        NIGHT | {"storage_options": {"a": 1, "b": 1}, "issues": own, "cluster": {"workers": 3}}
    )
    assert config.issues is not None
    assert config.issues.storage_options == {"a": 1, "b": 2}
    assert config.cluster.workers == 3


def test_combine_takes_the_outputs_of_the_night() -> None:
    config = checked_night(
        NIGHT
        | {"dynamics": {"table": "t", "out": "s3://b/dynamics"}, "combine": {"out": "s3://b/both"}}
    )
    assert config.needs("combine") == ("issues", "dynamics")
    assert config.needs("issues") == ()
    config = checked_night(
        NIGHT | {"combine": {"out": "s3://b/both", "dynamics": "s3://b/dynamics"}}
    )
    assert config.combine is not None
    assert config.combine.issues is not None
    assert config.combine.issues.url == "s3://b/issues"
    assert config.needs("combine") == ("issues",)
    other = checked_night(
        NIGHT
        | {
            "combine": {
                "out": "s3://b/both",
                "issues": "s3://b/other",
                "dynamics": "s3://b/dynamics",
            }
        }
    )
    assert other.needs("combine") == ()


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"issues": ISSUES | {"cluster": {"workers": 2}}}, "all jobs share one"),
        ({"issues": None}, "at least one"),
        ({"combine": {"out": "s3://b/both"}}, "needs the jobs issues and dynamics"),
        ({"combine": {"out": "s3://b/issues/", "dynamics": "d"}}, "places apart"),
        ({"combine": {"out": "s3a://b/issues/runs", "dynamics": "d"}}, "places apart"),
        ({"combine": {"out": "o", "dynamics": "d", "labels": "l"}}, "combine.labels"),
        ({"dynamics": {"out": "d"}}, "dynamics: give one of losses, table and datumaro"),
        ({"dynamics": {"table": "t", "out": "s3://b/issues"}}, "places apart"),
        ({"issue": ISSUES}, "issue is not an option: did you mean issues"),
        ({"storage_options": "secret-value"}, "storage_options"),
        ({"issues": ["secret-value"]}, "issues"),
        ({"issues": ISSUES | {"storage_options": "secret-value"}}, "issues.storage_options"),
        ({"combine": "secret-value"}, "combine"),
    ],
)
def test_wrong_nights_are_refused(change: dict[str, Any], says: str) -> None:
    with pytest.raises(InputError, match=says) as caught:
        checked_night(NIGHT | change)
    assert "secret-value" not in str(caught.value)


# --- the command


LOSSES = np.random.default_rng(0).random((600, 12), np.float32)


def night(folder: Path, **change: Any) -> Path:
    """Data, and the config of a night in a folder."""
    place = Place(str(folder))
    for name, values in (
        ("labels", DATA.labels),
        ("pred_probs", DATA.pred_probs),
        ("losses", LOSSES),
    ):
        write_zarr(place / f"{name}.zarr", values)
    url = {name: str(folder / f"{name}.zarr") for name in ("labels", "pred_probs", "losses")}
    config: dict[str, Any] = {
        "job": "nightly",
        "issues": {name: url[name] for name in ("labels", "pred_probs")}
        | {"out": str(folder / "issues")},
        "dynamics": {name: url[name] for name in ("labels", "losses")}
        | {"out": str(folder / "dynamics"), "alpha": 0.5},
        "combine": {"out": str(folder / "both")},
    }
    for name, section in change.items():
        config[name] |= section
    path = folder / "night.yaml"
    path.write_text(yaml.safe_dump(config))
    return path


def on(cluster: LocalCluster) -> list[str]:
    return ["--scheduler", cluster.scheduler_address]


@pytest.mark.slow
def test_a_night_is_its_jobs_one_by_one(
    tmp_path: Path, one_worker: LocalCluster, capfd: pytest.CaptureFixture[str]
) -> None:
    assert main(["run", str(night(tmp_path)), *on(one_worker)]) == 0
    shown = capfd.readouterr().out
    assert "issues: done" in shown
    assert "combine: done" in shown
    alone = noisydask.find_label_issues(DATA.labels, DATA.pred_probs, out=tmp_path / "alone")
    np.testing.assert_array_equal(noisydask.open_run(tmp_path / "issues").indices, alone.indices)
    dynamics = noisydask.analyze_loss_dynamics(
        LOSSES, labels=DATA.labels, alpha=0.5, out=tmp_path / "dynamics-alone"
    )
    found = noisydask.open_run(tmp_path / "dynamics")
    pd.testing.assert_frame_equal(found.top_k(600), dynamics.top_k(600))
    both = noisydask.combine(alone, dynamics).to_dataframe()
    pd.testing.assert_frame_equal(noisydask.open_run(tmp_path / "both").to_dataframe(), both)


def test_combine_is_a_job_of_its_own(tmp_path: Path, one_worker: LocalCluster) -> None:
    config = yaml.safe_load(night(tmp_path).read_text())
    for name in ("issues", "dynamics"):
        assert main([name, *options(config[name]), "--quiet", *on(one_worker)]) == 0
    alone = config["combine"] | {"job": "combine", "out": str(tmp_path / "alone"), "top": 7}
    alone |= {name: config[name]["out"] for name in ("issues", "dynamics")}
    (tmp_path / "alone.yaml").write_text(yaml.safe_dump(alone))
    assert main(["run", str(tmp_path / "alone.yaml"), "--top", "5", *on(one_worker)]) == 0
    joined = noisydask.open_run(tmp_path / "alone")
    assert joined.manifest["counts"]["ranked"] == 5
    assert joined.manifest["settings"]["top"] == 5


def test_a_gate_stops_nothing_and_is_told(tmp_path: Path, one_worker: LocalCluster) -> None:
    assert main(["run", str(night(tmp_path, issues={"fail_above": 0.0})), *on(one_worker)]) == 3
    assert noisydask.open_run(tmp_path / "issues").num_issues > 0
    assert noisydask.open_run(tmp_path / "both").manifest["job"] == "combine"


def test_nights_for_machines_for_people_and_for_nobody(
    tmp_path: Path, one_worker: LocalCluster, capfd: pytest.CaptureFixture[str]
) -> None:
    config, outs = str(night(tmp_path, issues={"fail_above": 0.0})), ("issues", "dynamics", "both")
    runs: list[dict[str, Any]] = []
    for _ in range(2):
        assert main(["run", config, "--json", *on(one_worker)]) == 3
        printed = capfd.readouterr()
        runs.append(json.loads(printed.out))  # one document, and nothing else
        assert "above fail_above" in printed.err
    assert [each["status"] for each in runs[1]["outcomes"]] == [3, 0, 0]
    first, second = (list(each["jobs"].values()) for each in runs)
    for before, again in zip(first, second, strict=True):
        assert (again["repeats"], again["parent"]) == (before["run"], before["run"])
        assert again["top"] == before["top"]
    assert runs[1]["jobs"]["issues"]["bytes_read"] == {"pred_probs": 0, "pred_probs_again": 0}

    assert main(["run", config, "--quiet", *on(one_worker)]) == 3
    printed = capfd.readouterr()
    assert printed.out == ""
    assert printed.err.startswith("issues: ")
    assert len(printed.err.splitlines()) == 1
    for out, before in zip(outs, first, strict=True):
        arguments = ["show", str(tmp_path / out), "--run", before["run"], "--json", "--top", "10"]
        assert main(arguments) == 0
        assert json.loads(capfd.readouterr().out) == before
        assert main(["runs", str(tmp_path / out), "--json"]) == 0
        kept = json.loads(capfd.readouterr().out)
        assert [each["parent"] for each in kept] == [kept[1]["run"], kept[2]["run"], None]
        assert [each.get("repeats") for each in kept] == [before["run"], before["run"], None]
        assert main(["runs", str(tmp_path / out)]) == 0
        assert all(each["run"] in capfd.readouterr().out for each in kept[:1])


@pytest.mark.parametrize("job", ["issues", "dynamics", "combine"])
def test_one_job_for_machines_and_for_nobody(
    job: str, tmp_path: Path, one_worker: LocalCluster, capfd: pytest.CaptureFixture[str]
) -> None:
    config = yaml.safe_load(night(tmp_path).read_text())
    for name in ("issues", "dynamics") if job == "combine" else ():
        assert main([name, *options(config[name]), "--quiet", *on(one_worker)]) == 0
        assert capfd.readouterr() == ("", "")
    places = [config[name]["out"] for name in ("issues", "dynamics")] if job == "combine" else []
    arguments = [job, *places, *options(config[job]), *on(one_worker)]
    assert main([*arguments, "--json"]) == 0
    told = json.loads(capfd.readouterr().out)
    assert (told["job"], told["changes"]) == (job, None)
    assert main([*arguments, "--quiet"]) == 0
    assert capfd.readouterr() == ("", "")
    assert main(arguments) == 0
    lines = capfd.readouterr().out.splitlines()
    (changed,) = (line for line in lines if line.startswith("changed"))
    (read,) = (line for line in lines if line.startswith("read"))
    assert told["run"] in changed
    assert ("0 bytes" if job == "combine" else "0 bytes, 1 of 1 blocks reused") in read
    # What is wrong is said all the same.
    assert main([job, *places, "--out", str(tmp_path / "other"), "--quiet", "--workers", "0"]) == 2
    assert capfd.readouterr().err.startswith("error: ")


def options(section: dict[str, Any]) -> list[str]:
    return [
        word
        for name, value in section.items()
        for word in (f"--{name.replace('_', '-')}", str(value))
    ]


def test_wrong_input_of_one_job_leaves_out_what_needs_it(
    tmp_path: Path, one_worker: LocalCluster, capfd: pytest.CaptureFixture[str]
) -> None:
    assert (
        main(
            [
                "run",
                str(night(tmp_path, issues={"labels": str(tmp_path / "none.npy")})),
                *on(one_worker),
            ]
        )
        == 2
    )
    shown = capfd.readouterr().out
    assert "issues: labels at" in shown
    assert "dynamics: done" in shown
    assert "combine: left out: it needs issues" in shown
    assert not (tmp_path / "both").exists()
    assert noisydask.open_run(tmp_path / "dynamics").manifest["job"] == "dynamics"


def test_options_of_one_job_are_refused(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert main(["run", str(night(tmp_path)), "--quality-score", "normalized_margin"]) == 2
    assert "--quality-score belongs to one job" in capfd.readouterr().err


@pytest.mark.slow
def test_the_shipped_night_as_it_stands(s3: S3Server, tmp_path: Path) -> None:
    """`configs/nightly-s3.yaml` on a bucket of that name, from the script to submit, with
    credentials from the environment."""
    config = yaml.safe_load((ROOT / "configs/nightly-s3.yaml").read_text())
    options = s3.options()
    for name, values in (("labels", DATA.labels), ("pred_probs", DATA.pred_probs)):
        url = config["issues"][name]
        assert url.startswith(f"s3://{BUCKET}/")
        write_zarr(Place(url, options), values)
    with noisydask.LossRecorder(tmp_path / "losses") as recorder:
        for iteration, losses in enumerate(LOSSES.T):
            recorder.record(iteration, np.arange(600), losses, DATA.labels)
    table = Place(config["dynamics"]["table"], options)
    for path in (tmp_path / "losses").iterdir():
        table.write(path.name, path.read_bytes())
    environment = os.environ | {"AWS_ACCESS_KEY_ID": KEY, "AWS_SECRET_ACCESS_KEY": SECRET}
    environment |= {"AWS_ENDPOINT_URL": s3.endpoint, "AWS_DEFAULT_REGION": "us-east-1"}
    command = [
        sys.executable,
        ROOT / "jobs/nightly.py",
        ROOT / "configs/nightly-s3.yaml",
        "--workers",
        "1",
    ]
    done = subprocess.run(
        command,
        env=environment,
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=180,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "Traceback" not in done.stderr
    found = noisydask.open_run(config["issues"]["out"], options)
    expected = noisydask.find_label_issues(DATA.labels, DATA.pred_probs)
    np.testing.assert_array_equal(found.indices, expected.indices)
    assert noisydask.open_run(config["combine"]["out"], options).manifest["counts"]["common"] == 600
    assert SECRET not in json.dumps(found.manifest) + done.stdout + done.stderr
