"""Chunks that are missing or damaged are named in one error, or left out and counted."""

from __future__ import annotations

from pathlib import Path
from typing import Any
from unittest.mock import Mock

import dask
import numpy as np
import pytest
import zarr
from conftest import Place
from distributed import Client
from layouts import make, write_zarr

import noisydask
from noisydask.core.blocks import BlockGrid
from noisydask.engine.progress import Silent
from noisydask.errors import InputError, JobError
from noisydask.issues.blocks import block_sources, describe
from noisydask.issues.results import LabelIssues
from noisydask.stores.arrays import open_rows, zarr_store
from noisydask.stores.fingerprints import Snapshot
from noisydask.stores.locations import Location
from noisydask.stores.zarr_rows import ZarrRows

pytestmark = pytest.mark.thorough
SLOW = pytest.mark.slow

DATA = make(rows=1030)
BLOCK_BYTES = 15_000
#: By layout, the object that holds rows 400 to 499 (or to 599) of the probabilities, and the row
#: after its last.
KEYS = {
    "v2": ("4.0", 500),
    "v3": ("c/4/0", 500),
    "sharded": ("c/2/0", 600),
    "split": ("c/4/1", 500),
}


@pytest.fixture(autouse=True)
def synchronous() -> Any:
    with dask.config.set(scheduler="synchronous"):
        yield


def run(place: Place, **how: Any) -> LabelIssues:
    options = dict.fromkeys(("labels", "pred_probs", "ids", "out"), place.options)
    how = {
        "labels": (place / "l.zarr").url,
        "pred_probs": (place / "p.zarr").url,
        "block_bytes": BLOCK_BYTES,
        **how,
    }
    return noisydask.find_label_issues(**how, out=(place / "out").url, storage_options=options)


def store(place: Place, layout: str = "v3", **how: Any) -> None:
    write_zarr(place / "l.zarr", DATA.labels)
    write_zarr(place / "p.zarr", DATA.pred_probs, layout)


def spoil(place: Place, path: str, way: str) -> None:
    if way == "removed":
        place.fs.rm_file(place.fs._strip_protocol(f"{place.url}/{path}"))
        return
    content = place.objects()[path]
    if way == "cut short":
        place.write(path, content[: len(content) // 2])
    elif way == "emptied":
        place.write(path, b"")
    else:
        place.write(path, bytes(255 - value for value in content))


def check_left_out(found: LabelIssues, start: int, stop: int) -> None:
    """The result is that of the other rows."""
    kept = np.delete(np.arange(len(DATA.labels)), slice(start, stop))
    expected = noisydask.find_label_issues(DATA.labels[kept], DATA.pred_probs[kept])
    np.testing.assert_array_equal(found.indices, kept[expected.indices])
    for name in ("confident_thresholds", "class_counts", "confident_joint"):
        np.testing.assert_array_equal(getattr(found, name), getattr(expected, name))
    quality = found.label_quality.compute()
    np.testing.assert_array_equal(quality[kept], expected.label_quality.compute())
    assert np.isnan(quality[start:stop]).all()
    assert found.manifest["counts"]["unreadable"] == stop - start
    assert found.manifest["counts"]["invalid"] == 0


@pytest.mark.parametrize(
    "way",
    ["removed", "garbled", *(pytest.param(way, marks=SLOW) for way in ("cut short", "emptied"))],
)
@pytest.mark.parametrize(
    "layout", ["v3", *(pytest.param(layout, marks=SLOW) for layout in KEYS if layout != "v3")]
)
def test_probabilities(layout: str, way: str, place: Place) -> None:
    store(place, layout)
    key, stop = KEYS[layout]
    spoil(place, f"p.zarr/{key}", way)
    for _ in range(2):  # the first time the other blocks leave their evidence
        with pytest.raises(
            JobError, match=f"p.zarr: .*chunk {key}, rows 400 to {stop - 1} cannot be read"
        ) as caught:
            run(place)
        assert "\n" not in str(caught.value)
        assert not any(name.startswith("out/latest") for name in place.objects())
    found = run(place, on_unreadable="skip")
    check_left_out(found, 400, stop)
    again = run(place, on_unreadable="skip")
    assert again.manifest["blocks"]["scanned"] == 1
    check_left_out(again, 400, stop)
    store(place, layout)
    assert run(place).manifest["counts"]["unreadable"] == 0


@pytest.mark.parametrize("way", ["cut short", "emptied", "garbled"])
def test_labels(way: str, place: Place) -> None:
    store(place)
    spoil(place, "l.zarr/c/3", way)
    with pytest.raises(JobError, match=r"l.zarr: chunk c/3, rows 300 to 399 cannot be read"):
        run(place)
    check_left_out(run(place, on_unreadable="skip"), 300, 400)


def test_a_checksum_that_fails(tmp_path: Path) -> None:
    place = Place(str(tmp_path))
    store(place)
    zarr.create_array(
        zarr_store(Location.of(f"{place.url}/p.zarr", {}, "test")),
        data=DATA.pred_probs,
        chunks=(100, 7),
        compressors=[zarr.codecs.Crc32cCodec()],
        overwrite=True,
    )
    content = place.objects()["p.zarr/c/6/0"]
    place.write("p.zarr/c/6/0", content[:100] + bytes([content[100] ^ 1]) + content[101:])
    with pytest.raises(JobError, match=r"p.zarr: chunk c/6/0, rows 600 to 699 cannot be read"):
        run(place)
    check_left_out(run(place, on_unreadable="skip"), 600, 700)


def test_worker_processes(client: Client, s3_place: Place) -> None:
    with dask.config.set(scheduler=client):
        store(s3_place)
        spoil(s3_place, "p.zarr/c/4/0", "garbled")
        with pytest.raises(JobError, match="chunk c/4/0, rows 400 to 499 cannot be read"):
            run(s3_place)
        found = run(s3_place, on_unreadable="skip")
    check_left_out(found, 400, 500)


def test_a_chunk_that_is_damaged_after_the_scan_is_not_left_out(tmp_path: Path) -> None:
    """Its rows were counted then; where the evidence leaves some open, they are read again."""
    place, hard = Place(str(tmp_path)), make(rows=1030, classes=30, strength=[1] * 3 + [4] * 27)
    write_zarr(place / "l.zarr", hard.labels)
    write_zarr(place / "p.zarr", hard.pred_probs)

    class Meddler(Silent):
        def phase(self, name: str) -> None:
            if name.startswith("counting"):
                spoil(place, "p.zarr/c/4/0", "garbled")

    with pytest.raises(JobError, match="chunk c/4/0, rows 400 to 499 cannot be read"):
        run(place, on_unreadable="skip", reporter=Meddler())


def test_several_missing_chunks_are_counted(tmp_path: Path) -> None:
    place = Place(str(tmp_path))
    store(place)
    for key in ("c/3/0", "c/4/0", "c/10/0"):
        spoil(place, f"p.zarr/{key}", "removed")
    with pytest.raises(JobError, match=r"chunk c/3/0, rows 300 to 399 .*3 chunks are missing"):
        run(place)
    assert run(place, on_unreadable="skip").manifest["counts"]["unreadable"] == 230


def test_the_list_of_chunks_is_walked_twice_however_many_blocks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows: Any = open_rows(
        write_zarr(Place(str(tmp_path)) / "p.zarr", DATA.pred_probs), "pred_probs"
    )
    listed, walked, chunks = Mock(wraps=rows.objects()), [0], ZarrRows.chunks

    def counted(self: ZarrRows, start: int, stop: int) -> Any:
        walked[0] += -(-(stop - start) // self.chunk_rows)
        return chunks(self, start, stop)

    monkeypatch.setattr(ZarrRows, "chunks", counted)
    snapshot = Snapshot(rows, listed)
    block_sources({"pred_probs": snapshot}, BlockGrid(1030, 100, 1), 7, keep=True, skip=False)
    describe("pred_probs", snapshot, 7)
    assert (walked[0], listed.values.call_count) == (2 * 11, 1)


def test_nothing_is_left(tmp_path: Path) -> None:
    place = Place(str(tmp_path))
    store(place)
    for chunk in range(11):
        spoil(place, f"p.zarr/c/{chunk}/0", "removed")
    with pytest.raises(
        InputError, match="1,030 of 1,030 rows are invalid: 1,030 with chunks that cannot be read"
    ):
        run(place, on_unreadable="skip")


def test_a_missing_chunk_is_no_row_whatever_the_fill_value(tmp_path: Path) -> None:
    """Rows of 0.5 would pass for probabilities."""
    place, rng = Place(str(tmp_path)), np.random.default_rng(0)
    first = rng.random(400).astype(np.float32)
    labels, probs = (first < 0.5).astype(int), np.stack([first, 1 - first], axis=1)
    write_zarr(place / "l.zarr", labels)
    at = zarr_store(Location.of(f"{place.url}/p.zarr", {}, "test"))
    zarr.create_array(at, data=probs, chunks=(100, 2), fill_value=0.5, overwrite=True)
    spoil(place, "p.zarr/c/2/0", "removed")
    with pytest.raises(JobError, match="chunk c/2/0, rows 200 to 299 cannot be read"):
        run(place)
    found = run(place, on_unreadable="skip")
    assert np.isnan(found.label_quality.compute()[200:300]).all()
    assert found.class_counts.sum() == 300


def sorted_labels(place: Place, fill: int) -> None:
    """Labels in ascending order, as Zarr writes them by default: no chunk that is all fill
    value."""
    order = np.argsort(DATA.labels, kind="stable")
    write_zarr(place / "p.zarr", DATA.pred_probs[order])
    at = zarr_store(Location.of(f"{place.url}/l.zarr", place.options, "test"))
    zarr.create_array(at, data=DATA.labels[order], chunks=(50,), fill_value=fill, overwrite=True)


def test_labels_that_are_all_fill_value_need_no_chunk(tmp_path: Path) -> None:
    place = Place(str(tmp_path))
    sorted_labels(place, 0)
    assert "l.zarr/c/0" not in place.objects()
    found = run(place)
    order = np.argsort(DATA.labels, kind="stable")
    expected = noisydask.find_label_issues(DATA.labels[order], DATA.pred_probs[order])
    np.testing.assert_array_equal(found.indices, expected.indices)
    assert found.manifest["inputs"]["labels"]["chunks_not_stored"] == (DATA.labels == 0).sum() // 50
    assert run(place).manifest["blocks"]["scanned"] == 0


def test_labels_that_were_stored_at_the_last_run_are_lost(place: Place) -> None:
    sorted_labels(place, 0)
    run(place)
    spoil(place, "l.zarr/c/10", "removed")
    with pytest.raises(
        JobError,
        match=r"l.zarr: the chunk of rows 500 to 549 was stored at the last run and is gone",
    ):
        run(place)
    assert run(place, on_unreadable="skip").manifest["counts"]["unreadable"] == 50
    assert run(place, full=True).manifest["counts"]["unreadable"] == 0


def test_labels_whose_fill_value_is_no_class_are_lost(tmp_path: Path) -> None:
    place = Place(str(tmp_path))
    sorted_labels(place, -1)
    assert run(place).manifest["blocks"]["scanned"] == 6
    spoil(place, "l.zarr/c/10", "removed")
    with pytest.raises(
        JobError, match=r"labels at .*chunk c/10, rows 500 to 549 cannot be read: it is not stored"
    ):
        run(place)
    assert run(place, on_unreadable="skip").manifest["counts"]["unreadable"] == 50


def test_one_chunk_of_labels_is_stored_now_and_another_is_lost(tmp_path: Path) -> None:
    place = Place(str(tmp_path))
    sorted_labels(place, 0)
    run(place, block_bytes=10**9)
    stored = zarr.open_array(f"{tmp_path}/l.zarr")
    stored[:1] = 1
    spoil(place, "l.zarr/c/10", "removed")
    with pytest.raises(
        JobError,
        match=r"l.zarr: the chunk of rows 500 to 549 was stored at the last run and is gone",
    ):
        run(place, block_bytes=10**9)


@pytest.mark.parametrize("before", ["memory", "other chunks"])
def test_labels_that_were_stored_in_another_way_are_not_lost(before: str, tmp_path: Path) -> None:
    place = Place(str(tmp_path))
    sorted_labels(place, 0)
    labels = np.sort(DATA.labels)
    first = labels if before == "memory" else write_zarr(place / "other.zarr", labels)
    run(place, labels=first)
    for how in ("skip", "raise"):
        assert run(place, on_unreadable=how).manifest["blocks"]["scanned"] == 0
    labels[-30:] = 0
    run(place, labels=labels)
    stored = zarr.open_array(f"{tmp_path}/l.zarr")
    stored[-30:] = 0
    assert run(place).manifest["counts"]["unreadable"] == 0


@pytest.mark.parametrize("how", ["raise", "skip"])
def test_missing_ids_are_refused(how: str, tmp_path: Path) -> None:
    place = Place(str(tmp_path))
    store(place)
    ids = write_zarr(place / "ids.zarr", np.arange(1, 1031))
    spoil(place, "ids.zarr/c/2", "removed")
    with pytest.raises(
        JobError, match=r"ids at .*chunk c/2, rows 200 to 299 cannot be read: it is not stored"
    ):
        run(place, ids=ids, on_unreadable=how)


def test_classes_that_are_all_zero_need_no_chunk(tmp_path: Path) -> None:
    """Zarr stores no chunk that is all 0; one that was lost is told from those by the sums of its
    rows."""
    place, labels = Place(str(tmp_path)), np.arange(400) // 100
    labels[::37] ^= 1
    probs = np.zeros((400, 4), np.float32)
    (
        probs[np.arange(400), np.arange(400) // 100],
        probs[np.arange(400), np.arange(400) // 100 ^ 1],
    ) = 0.75, 0.25
    at = zarr_store(Location.of(f"{place.url}/p.zarr", place.options, "test"))
    zarr.create_array(at, data=probs, chunks=(50, 2))
    assert "p.zarr/c/0/1" not in place.objects()
    expected = noisydask.find_label_issues(labels, probs)
    assert expected.num_issues > 5
    for how in ("raise", "skip"):
        np.testing.assert_array_equal(
            run(place, labels=labels, on_unreadable=how).indices, expected.indices
        )
    probs[60, 2:] = probs[60, :2]
    probs[60, :2] = 0
    zarr.create_array(at, data=probs, chunks=(50, 2), overwrite=True)
    spoil(place, "p.zarr/c/1/1", "removed")
    with pytest.raises(
        JobError,
        match=r"pred_probs at .*p.zarr: chunk c/1/1, rows 50 to 99 cannot be read: it is not "
        r"stored",
    ):
        run(place, labels=labels)
    counts = run(place, labels=labels, on_unreadable="skip").manifest["counts"]
    assert (counts["unreadable"], counts["invalid"]) == (1, 0)


def test_one_class(tmp_path: Path) -> None:
    """All labels are the fill value: nothing of them is stored."""
    place = Place(str(tmp_path))
    write_zarr(place / "l.zarr", np.zeros(300, np.int64))
    write_zarr(place / "p.zarr", np.ones((300, 1), np.float32))
    assert run(place).num_issues == 0
    assert run(place).manifest["blocks"]["scanned"] == 0
