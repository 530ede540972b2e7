"""Inputs in buckets by the clients of fsspec and of Zarr, and by URL."""

from __future__ import annotations

from typing import Any

import fsspec
import numpy as np
import pytest
import zarr
from layouts import make, write_zarr
from rig.place import Place
from zarr.storage import FsspecStore, ObjectStore

import noisydask
from noisydask.runs.store import Output
from noisydask.stores.buckets import open_bucket

DATA = make(rows=300, classes=5)


@pytest.fixture(params=["s3", "azure"])
def bucket(request: pytest.FixtureRequest) -> Place:
    place: Place = request.getfixturevalue(f"{request.param}_place")
    return place


def by_fsspec(place: Place) -> Any:
    fs, path = fsspec.core.url_to_fs(place.url, asynchronous=True, **place.options)
    return zarr.open_array(FsspecStore(fs, read_only=True, path=path), mode="r")


def by_zarr(place: Place) -> Any:
    cloud, _, path = place.url.partition("://")
    name, _, key = path.partition("/")
    store = ObjectStore(open_bucket(cloud, name, place.options), read_only=True)
    return zarr.open_array(store, path=key, mode="r")


def run(place: Place, labels: Any, pred_probs: Any) -> Any:
    options = {"out": place.options}
    if isinstance(pred_probs, str):
        options |= {"labels": place.options, "pred_probs": place.options}
    out = f"{place.url}/out"
    return noisydask.find_label_issues(labels, pred_probs, out=out, storage_options=options)


def test_the_night_after_an_upgrade_reads_nothing(bucket: Place) -> None:
    """An older noisydask read by the clients of fsspec: fingerprints are the same."""
    urls = [
        write_zarr(bucket / "labels.zarr", DATA.labels),
        write_zarr(bucket / "probs.zarr", DATA.pred_probs),
    ]
    first = run(bucket, *(by_fsspec(bucket / name) for name in ("labels.zarr", "probs.zarr")))
    second = run(bucket, *urls)
    assert first.manifest["bytes_read"]["pred_probs"] > 0
    assert second.manifest["bytes_read"]["pred_probs"] == 0
    prints = [
        {name: each["fingerprint"] for name, each in found.manifest["inputs"].items()}
        for found in (first, second)
    ]
    assert prints[0] == prints[1]
    assert None not in prints[0].values()


def test_arrays_over_obstore_have_versions(bucket: Place) -> None:
    write_zarr(bucket / "labels.zarr", DATA.labels)
    write_zarr(bucket / "probs.zarr", DATA.pred_probs)
    for expected in (True, False):
        found = run(bucket, *(by_zarr(bucket / name) for name in ("labels.zarr", "probs.zarr")))
        assert (found.manifest["bytes_read"]["pred_probs"] > 0) is expected


@pytest.mark.parametrize("cloud", ["s3", "azure", "google"])
def test_a_job_on_each_cloud(cloud: str, request: pytest.FixtureRequest) -> None:
    """Whatever a run does to a bucket, twice; the second reads nothing, and the first is kept."""
    place: Place = request.getfixturevalue(f"{cloud}_place")
    expected = noisydask.find_label_issues(DATA.labels, DATA.pred_probs)
    urls = [
        write_zarr(place / "labels.zarr", DATA.labels),
        write_zarr(place / "probs.zarr", DATA.pred_probs),
    ]
    for generation in (1, 2):
        found = run(place, *urls)
        assert (found.manifest["bytes_read"]["pred_probs"] > 0) is (generation == 1)
        np.testing.assert_array_equal(found.indices, expected.indices)
        assert noisydask.open_run(f"{place.url}/out", place.options).num_issues == found.num_issues
    assert len(Output.at(f"{place.url}/out", place.options).place.list()) > 0
