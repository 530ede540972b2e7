"""The whole job on local disk and on a real S3 server, with worker processes: what it reads,
writes, and keeps to itself."""

from __future__ import annotations

import io
import json
import logging
from pathlib import Path
from typing import Any
from urllib.parse import quote

import google_crc32c
import numpy as np
import pandas as pd
import pytest
import zarr
from conftest import Place
from distributed import Client
from layouts import ZARR_LAYOUTS, chunk_bytes, make, write_npy, write_parquet, write_zarr
from rig.server import BUCKET, KEY, SECRET, S3Server

import noisydask
from noisydask.core.noise import confident_joint
from noisydask.core.sparse_counts import SparseCounts
from noisydask.engine import graph
from noisydask.errors import InputError
from noisydask.issues.result_arrays import write_joint
from noisydask.issues.results import LabelIssues
from noisydask.runs.store import Output
from noisydask.stores.arrays import zarr_store
from noisydask.stores.locations import Location

pytestmark = pytest.mark.thorough

DATA = make()
IDS = np.array([f"img-{k:05d}" for k in range(len(DATA.labels))], object)
BLOCK_BYTES = 20_000  # several blocks, several chunks each


def run(place: Place, layout: str = "v3", **how: Any) -> LabelIssues:
    """The job, everything in stores."""
    sources = {
        "labels": write_zarr(place / "labels.zarr", DATA.labels),
        "pred_probs": write_zarr(place / f"{layout}.zarr", DATA.pred_probs, layout),
        "ids": write_parquet(place / "ids", [IDS[:500], IDS[500:]]) + "#value",
    }
    options = dict.fromkeys((*sources, "out"), place.options)
    how = {
        "out": (place / "out").url,
        "storage_options": options,
        "block_bytes": BLOCK_BYTES,
        **how,
    }
    return noisydask.find_label_issues(**sources, **how)


def reopen(place: Place) -> LabelIssues:
    """The published run, as another process finds it."""
    finished = Output.at((place / "out").url, place.options).open_run()
    return LabelIssues(finished.store, finished.manifest)


@pytest.fixture(scope="module")
def expected() -> LabelIssues:
    """What the job finds in memory, on threads."""
    return noisydask.find_label_issues(DATA.labels, DATA.pred_probs, ids=IDS)


def check_equal(found: LabelIssues, expected: LabelIssues) -> None:
    for name in (
        "indices",
        "confident_thresholds",
        "class_counts",
        "confident_joint",
        "invalid_indices",
        "mask",
    ):
        np.testing.assert_array_equal(getattr(found, name), getattr(expected, name), err_msg=name)
    np.testing.assert_array_equal(found.label_quality.compute(), expected.label_quality.compute())
    pd.testing.assert_frame_equal(found.to_dataframe(), expected.to_dataframe())


@pytest.mark.parametrize("layout", ZARR_LAYOUTS)
def test_results_and_bytes_read(
    place: Place, layout: str, client: Client, expected: LabelIssues
) -> None:
    found = run(place, layout)
    check_equal(found, expected)
    check_equal(reopen(place), expected)
    assert found.num_issues > 50
    assert found.manifest["bytes_read"] == {
        "pred_probs": chunk_bytes(place / f"{layout}.zarr"),
        "pred_probs_again": 0,
    }


def test_npy_is_read_once(place: Place, client: Client, expected: LabelIssues) -> None:
    sources = {
        "labels": write_npy(place / "l.npy", DATA.labels),
        "pred_probs": write_npy(place / "p.npy", DATA.pred_probs),
    }
    options = dict.fromkeys((*sources, "out"), place.options)
    out = (place / "out").url
    found = noisydask.find_label_issues(
        **sources, out=out, storage_options=options, block_bytes=BLOCK_BYTES
    )
    np.testing.assert_array_equal(found.indices, expected.indices)
    assert found.manifest["bytes_read"]["pred_probs"] == DATA.pred_probs.nbytes


def test_layout_of_the_output(place: Place, client: Client) -> None:
    found = run(place, class_names=list("abcdefg"))
    objects = (place / "out").objects()
    prefix = f"runs/{found.run.run}/"
    assert {name.split("/")[0] for name in objects} - {".mutex"} == {
        "latest.json",
        "lock.json",
        "evidence",
        "runs",
    }
    assert all(
        name.startswith(("latest.json", "lock.json", ".mutex", "evidence/", prefix))
        for name in objects
    )
    in_run = {name.removeprefix(prefix) for name in objects if name.startswith(prefix)}
    arrays = (
        "issue_indices",
        "label_quality",
        "given_labels",
        "thresholds",
        "class_counts",
        "predicted_counts",
        "confident_joint",
        "joint_entries",
        "noise_entries",
        "prior",
        "invalid_indices",
    )
    expected = {"manifest.json", "status.json", "issues", *(f"{name}.zarr" for name in arrays)}
    assert {name.split("/")[0] for name in in_run} == expected
    table = pd.read_parquet(io.BytesIO(objects[f"{prefix}issues/part-00000.parquet"]))
    assert list(table.columns[:8]) == [
        "rank",
        "index",
        "id",
        "given_label",
        "suggested_label",
        "label_quality",
        "given_prob",
        "suggested_prob",
    ]
    for name, dtype, shape in (
        ("issue_indices", np.int64, (found.num_issues,)),
        ("label_quality", np.float32, (len(DATA.labels),)),
        ("given_labels", np.uint8, (len(DATA.labels),)),
        ("thresholds", np.float64, (7,)),
        ("class_counts", np.int64, (7,)),
        ("confident_joint", np.int64, (7, 7)),
    ):
        at = Location.of(f"{place.url}/out/{prefix}{name}.zarr", place.options, "test")
        array = zarr.open_array(zarr_store(at), mode="r")
        assert (array.dtype, array.shape) == (dtype, shape), name


def test_the_joint_of_many_classes_is_small(tmp_path: Path) -> None:
    run = Output.at(tmp_path).start_run()
    run.store.make_folder()
    joint = SparseCounts(np.array([1, 3000 * 2999]), np.array([5, 7]))
    write_joint(run, confident_joint(joint, 3000))
    assert sum(stored.size for stored in run.written.values()) < 100_000
    expected = np.eye(3000, dtype=np.int64)
    expected.ravel()[joint.pairs] = joint.counts
    found = zarr.open_array(zarr_store(run.store.place / "confident_joint.zarr"), mode="r")
    assert found.dtype == np.int64
    np.testing.assert_array_equal(found[...], expected)


def test_manifest_lists_every_object_of_the_run(place: Place, client: Client) -> None:
    found = run(place)
    objects = (place / "out/runs" / found.run.run).objects()
    manifest = objects.pop("manifest.json")
    assert json.loads(manifest) == found.manifest
    listed = {item["path"]: (item["size"], item["crc32c"]) for item in found.manifest["objects"]}
    assert len(listed) == len(found.manifest["objects"])
    assert listed == {
        path: (len(data), f"{google_crc32c.value(data):08x}") for path, data in objects.items()
    }


def test_latest_names_the_run_and_its_generation_rises(place: Place, client: Client) -> None:
    runs = []
    for generation in (1, 2, 3):
        runs.append(run(place).run.run)
        objects = (place / "out").objects()
        latest = json.loads(objects["latest.json"])
        assert (latest["run"], latest["generation"]) == (runs[-1], generation)
        manifest = objects[f"runs/{runs[-1]}/manifest.json"]
        expected = {
            "path": "manifest.json",
            "size": len(manifest),
            "crc32c": f"{google_crc32c.value(manifest):08x}",
        }
        assert latest["manifest"] == expected
        assert reopen(place).run.run == runs[-1]
    assert len(set(runs)) == 3
    names = {name.split("/")[1] for name in objects if name.startswith("runs/")}
    assert names == set(runs)


def test_local_pointer_is_never_half_written(
    tmp_path: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = Place(str(tmp_path))
    run(place)
    before = (place / "out").objects()

    def full(*args: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(noisydask.errors.JobError, match="no space left"):
        run(place)
    after = (place / "out").objects()
    written = {name for name in after if "/" not in name}
    assert written - {"lock.json.new"} == {
        "latest.json",
        "lock.json",
        ".mutex",
    }  # what was cut short has one name
    assert after["latest.json"] == before["latest.json"]


def test_what_is_not_a_run(place: Place) -> None:
    with pytest.raises(InputError, match="no finished run at"):
        reopen(place)
    for content in (b"", b"{}", b"[1]", b'"x"', b'{"run": "x", "generation": '):
        place.write("out/latest.json", content)
        with pytest.raises(InputError, match="damaged"):
            reopen(place)
    for elsewhere in ("x", "../x", "20260101T000000Z-0123abcd/../../x"):
        place.write("x/manifest.json", b"{}")
        place.write("out/latest.json", json.dumps({"run": elsewhere, "generation": 1}).encode())
        with pytest.raises(InputError, match="damaged"):
            reopen(place)
    name = "20260101T000000Z-0123abcd"
    place.write(
        f"out/runs/{name}/manifest.json", json.dumps({"run": name, "format_version": 99}).encode()
    )
    place.write(
        "out/latest.json", json.dumps({"run": name, "generation": 1, "format_version": 99}).encode()
    )
    with pytest.raises(InputError, match="has format 99, this noisydask reads 1"):
        reopen(place)


class Seen:
    """Everything of a job that others may see: keys of graphs, log, output, what lies under
    ``out``."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.keys: list[str] = []
        compute_all = graph.compute_all

        def spy(collections: Any) -> Any:
            collections = list(collections)
            self.keys += [
                str(key) for collection in collections for key in dict(collection.__dask_graph__())
            ]
            return compute_all(collections)

        monkeypatch.setattr(graph, "compute_all", spy)


@pytest.mark.parametrize("given", [pytest.param("options", marks=pytest.mark.slow), "url"])
def test_credentials_stay_secret(
    given: str,
    s3: S3Server,
    s3_place: Place,
    client: Client,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    capfd: pytest.CaptureFixture[str],
) -> None:
    caplog.set_level(logging.INFO)
    seen = Seen(monkeypatch)
    place = s3_place
    if given == "url":
        place = Place(
            s3_place.url.replace("s3://", f"s3://{KEY}:{quote(SECRET)}@"), s3.public_options()
        )
    labels, probs = (
        write_zarr(s3_place / "l.zarr", DATA.labels),
        write_zarr(s3_place / "p.zarr", DATA.pred_probs),
    )
    sources = {
        "labels": place.url + labels[len(s3_place.url) :],
        "pred_probs": place.url + probs[len(s3_place.url) :],
    }
    options = dict.fromkeys((*sources, "out"), place.options)
    how: dict[str, Any] = {
        "out": f"{place.url}/out",
        "storage_options": options,
        "block_bytes": BLOCK_BYTES,
    }
    found = noisydask.find_label_issues(**sources, **how)
    said = [repr(found), repr(found.run), *seen.keys]
    for bad in (
        {"labels": f"{place.url}/none.zarr"},
        {"out": place.url.replace(BUCKET, "no-such-bucket")},
    ):
        with pytest.raises(InputError) as caught:
            noisydask.find_label_issues(**(sources | how | bad))
        said.append(str(caught.value))
    output = capfd.readouterr()
    said += [caplog.text, output.out, output.err]
    said += [
        name + content.decode("latin-1") for name, content in (s3_place / "out").objects().items()
    ]
    assert len(seen.keys) > 20
    for text in said:
        assert SECRET not in text
        assert KEY not in text
