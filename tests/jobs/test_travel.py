"""Results that go to other processes, and what a run keeps of inputs that were in memory."""

from __future__ import annotations

import copy
import gc
import json
import os
import pickle
import subprocess
import sys
from pathlib import Path
from typing import Any

import dask.array as da
import google_crc32c
import numpy as np
import pandas as pd
import pytest
import zarr
from conftest import Place
from distributed import Client
from layouts import make, write_npy

import noisydask
from noisydask.errors import GateError, InputError

DATA = make(rows=400, classes=4, noise=0.1)
LOSSES = np.random.default_rng(0).random((400, 3)).astype(np.float32)
TABLE = pd.DataFrame({"id": np.arange(400).repeat(2), "iteration": [0, 1] * 400})
TABLE["loss"] = LOSSES[:, :2].ravel()


def results() -> dict[str, Any]:
    """A result of each kind, without an output."""
    issues = noisydask.find_label_issues(DATA.labels, DATA.pred_probs)
    dense = noisydask.analyze_loss_dynamics(LOSSES, alpha=0.5)
    return {
        "issues": issues,
        "dense": dense,
        "table": noisydask.analyze_loss_dynamics(table=TABLE, alpha=0.5),
        "both": noisydask.combine(issues, dense),
    }


def content(found: dict[str, Any]) -> dict[str, Any]:
    """Something of everything that results are asked for, as plain values."""
    issues, dense, table, both = (found[name] for name in ("issues", "dense", "table", "both"))
    return {
        "indices": issues.indices.tolist(),
        "quality": issues.label_quality.compute().tolist(),
        "issues": issues.to_dataframe().to_json(),
        "joint": issues.confident_joint.tolist(),
        "dense": dense.ranking.compute().to_json(),
        "curves": dense.ema([3, 5]).to_json(),
        "mean": dense.mean_loss_dyns.tolist(),
        "table": table.top_k(20).to_json(),
        "table curves": table.ema([3, 5]).to_json(),
        "both": both.to_dataframe().to_json(),
    }


HERE = Path(__file__)
_ELSEWHERE = """
import json, pickle, sys
sys.path[:0] = {tests!r}
import noisydask, test_travel
with open({path!r}, "rb") as file:
    found = pickle.load(file)
told = test_travel.content(found)
# A job that reads results finds all of them too.
told["combined"] = noisydask.combine(found["issues"], found["dense"]).to_dataframe().to_json()
print(json.dumps(told))
"""


def test_results_without_an_output_travel_whole(tmp_path: Path) -> None:
    found = results()
    expected = content(found)
    expected["combined"] = expected["both"]
    path = tmp_path / "results.pickle"
    path.write_bytes(pickle.dumps(found))
    folders = [each.run.place.path for each in found.values()]
    del found
    gc.collect()
    assert not any(map(os.path.exists, folders))
    code = _ELSEWHERE.format(tests=[str(folder) for folder in HERE.parents[:2]], path=str(path))
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == json.loads(json.dumps(expected))


def test_a_copy_stands_by_itself_and_leaves_nothing_behind() -> None:
    found = noisydask.find_label_issues(DATA.labels, DATA.pred_probs)
    expected = found.to_dataframe()
    twin = copy.deepcopy(found)
    folders = found.run.place.path, twin.run.place.path
    assert folders[0] != folders[1]
    del found
    gc.collect()
    assert not os.path.exists(folders[0])
    pd.testing.assert_frame_equal(twin.to_dataframe(), expected)
    del twin
    gc.collect()
    assert not os.path.exists(folders[1])


def test_results_with_an_output_travel_as_its_place(tmp_path: Path) -> None:
    found = noisydask.find_label_issues(DATA.labels, DATA.pred_probs, out=tmp_path / "out")
    again = pickle.loads(pickle.dumps(found))
    assert again.run == found.run
    assert again.run.place.path.startswith(str(tmp_path / "out"))
    del found
    gc.collect()
    assert again.num_issues == len(again.indices) > 0


def test_a_task_may_return_results(client: Client) -> None:
    found = client.submit(noisydask.find_label_issues, DATA.labels, DATA.pred_probs).result()
    expected = noisydask.find_label_issues_batched(DATA.labels, DATA.pred_probs, verbose=False)
    np.testing.assert_array_equal(found.indices, expected)


def test_what_a_gate_refused_travels_with_its_error() -> None:
    with pytest.raises(GateError) as caught:
        noisydask.find_label_issues(DATA.labels, DATA.pred_probs, fail_above=0)
    again = pickle.loads(pickle.dumps(caught.value))
    assert str(again) == str(caught.value)
    np.testing.assert_array_equal(again.issues.indices, caught.value.issues.indices)


# --- ids


TEXT = np.array([f"img{k}é" for k in range(400)])
IDS = {
    "integers": np.arange(400)[::-1] * 7,
    "unsigned": np.arange(400, dtype=np.uint16) + 60_000,
    "text": TEXT,
    "a Dask array": da.from_array(TEXT.astype(object), chunks=70),
    "a series": pd.Series(TEXT),
}


@pytest.mark.parametrize("kind", IDS)
def test_ids_in_memory_are_kept_with_the_run(kind: str, tmp_path: Path) -> None:
    check_kept_ids(kind, Place(str(tmp_path)))


def test_ids_in_memory_are_kept_on_s3(s3_place: Place) -> None:
    check_kept_ids("text", s3_place)


def check_kept_ids(kind: str, place: Place) -> None:
    ids, options = IDS[kind], {"out": place.options}
    names = ids.compute() if kind == "a Dask array" else np.asarray(ids)
    out = (place / "i").url
    found = noisydask.find_label_issues(
        DATA.labels, DATA.pred_probs, ids=ids, out=out, storage_options=options, block_bytes=2000
    )
    assert found.to_dataframe()["id"].tolist() == names[found.indices].tolist()
    known = noisydask.analyze_loss_dynamics(LOSSES, ids=names)
    both = noisydask.combine(out, known, storage_options={"issues": place.options})
    assert both.manifest["settings"]["on"] == "id"
    frame = both.to_dataframe()
    assert frame["id"].tolist() == names[frame["index"]].tolist()
    assert len(frame) == 400
    kept = [each for each in found.manifest["objects"] if each["path"].startswith("ids/")]
    assert len(kept) == found.manifest["counts"]["blocks"] > 1
    for each in kept:
        stored = (place / "i").read(f"runs/{found.run.run}/{each['path']}")
        assert (len(stored), f"{google_crc32c.value(stored):08x}") == (each["size"], each["crc32c"])


def test_ids_in_memory_without_an_output(tmp_path: Path) -> None:
    found = noisydask.find_label_issues(DATA.labels, DATA.pred_probs, ids=TEXT)
    frame = noisydask.combine(found, noisydask.analyze_loss_dynamics(table=named_losses()))
    assert sorted(frame.to_dataframe()["id"]) == sorted(TEXT)


def named_losses() -> pd.DataFrame:
    return pd.DataFrame({"id": TEXT, "iteration": 0, "loss": LOSSES[:, 0]})


def test_why_an_issue_is_gone_is_known_by_ids_in_memory(tmp_path: Path) -> None:
    out = tmp_path / "out"
    worst = noisydask.find_label_issues(DATA.labels, DATA.pred_probs, ids=TEXT, out=out).indices[0]
    labels = DATA.labels.copy()
    labels[worst] = DATA.pred_probs[worst].argmax()
    found = noisydask.find_label_issues(labels, DATA.pred_probs, ids=TEXT, out=out)
    assert found.manifest["changes"]["gone_because"]["corrected"] == 1
    assert "unknown" not in found.manifest["changes"]["gone_because"]


def test_a_run_of_an_older_version_kept_no_ids(tmp_path: Path) -> None:
    found = noisydask.find_label_issues(DATA.labels, DATA.pred_probs, ids=TEXT, out=tmp_path / "i")
    manifest = tmp_path / "i/runs" / found.run.run / "manifest.json"
    old = json.loads(manifest.read_text())
    del old["inputs"]["ids"]["kept"]
    del old["warnings"]
    manifest.write_text(json.dumps(old))
    known = noisydask.analyze_loss_dynamics(LOSSES, ids=TEXT)
    with pytest.raises(InputError, match=r"were in memory .*: give ids"):
        noisydask.combine(tmp_path / "i", known)
    both = noisydask.combine(tmp_path / "i", known, ids=TEXT)
    assert both.num_examples == 400
    assert noisydask.open_run(tmp_path / "i").warnings == ()


# --- paths


@pytest.mark.parametrize("how", ["relative", "a URL", "home", "a Zarr array"])
def test_paths_mean_the_same_from_another_working_directory(
    how: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = Place(str(tmp_path / "data"))
    (tmp_path / "data").mkdir()
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "data")
    monkeypatch.setenv("HOME", str(tmp_path / "data"))
    zarr.save_array("ids.zarr", IDS["integers"])
    write_npy(place / "losses.npy", LOSSES)
    ids: Any = {
        "relative": "ids.zarr",
        "a URL": "file://ids.zarr",
        "home": "~/ids.zarr",
        "a Zarr array": zarr.open_array("ids.zarr", mode="r"),
    }[how]
    noisydask.find_label_issues(DATA.labels, DATA.pred_probs, ids=ids, out="i")
    noisydask.analyze_loss_dynamics("losses.npy", ids=ids, out="d", alpha=0.5)
    expected = noisydask.open_run("d").ema([IDS["integers"][3]])
    monkeypatch.chdir(tmp_path / "elsewhere")
    monkeypatch.setenv("HOME", str(tmp_path / "elsewhere"))
    issues, dynamics = (noisydask.open_run(tmp_path / "data" / name) for name in "id")
    assert issues.manifest["inputs"]["ids"]["url"] == str(tmp_path / "data/ids.zarr")
    both = noisydask.combine(issues, dynamics)
    assert both.manifest["settings"]["on"] == "id"
    assert both.num_examples == 400
    pd.testing.assert_frame_equal(dynamics.ema([IDS["integers"][3]]), expected)
