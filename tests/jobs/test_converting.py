"""Conversions that are killed, replaced, refused, and done by workers: at their place lies a whole
array, or none.
"""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import dask
import numpy as np
import pytest
import zarr
from conftest import Place
from distributed import Client
from hypothesis import given
from hypothesis import strategies as st
from layouts import make

import noisydask
from noisydask.cli.app import main
from noisydask.core.blocks import ROW_OVERHEAD
from noisydask.errors import InputError, JobError
from noisydask.predictions import convert as converting
from noisydask.stores import array_draft
from noisydask.stores.locations import Location
from noisydask.stores.zarr_rows import ZarrRows

DATA = make(rows=8_000, classes=7)
#: Chunks of 16 rows: hundreds of objects, so that a kill comes between two.
SMALL = 28 * 16
CHILD = """
import json, sys, dask, noisydask
from noisydask.stores import array_draft
array_draft.CHUNK_BYTES = 28 * 16
with dask.config.set(scheduler="threads", num_workers=2):
    noisydask.convert(sys.argv[1], sys.argv[2], storage_options={"url": json.loads(sys.argv[3])})
"""


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Chunks so small that there are many."""
    monkeypatch.setattr(array_draft, "CHUNK_BYTES", SMALL)


@pytest.fixture
def source(tmp_path: Path) -> str:
    """Probabilities in a file."""
    np.save(tmp_path / "p.npy", DATA.pred_probs)
    return str(tmp_path / "p.npy")


def wait_for_chunks(child: subprocess.Popen[bytes], to: Place) -> None:
    for _ in range(3000):
        if to.fs.exists(to.path("c")) and to.fs.find(to.path("c")):
            return
        assert child.poll() is None, "ended before a chunk was seen"
        time.sleep(0.01)
    raise AssertionError("no chunk was written")


def test_after_a_kill_the_same_bytes(place: Place, source: str, small: None) -> None:
    to = place / "killed.zarr"
    arguments = [sys.executable, "-c", CHILD, source, to.url, json.dumps(dict(to.options))]
    with subprocess.Popen(arguments) as child:
        wait_for_chunks(child, to)
        child.kill()
    assert child.returncode == -signal.SIGKILL
    left = to.objects()
    assert left
    assert "zarr.json" not in left
    options = {"pred_probs": place.options}
    with pytest.raises(InputError, match="not an array"):
        noisydask.find_label_issues(DATA.labels, to.url, storage_options=options)
    whole = place / "whole.zarr"
    for each in (to, whole):  # no overwrite: what was left is nobody's
        noisydask.convert(source, each.url, storage_options={"url": place.options})
    assert to.objects() == whole.objects()
    assert len(to.objects()) == 8_000 // 16 + 1  # and the metadata


@pytest.mark.parametrize("shard_bytes", [0, SMALL * 5])
def test_workers_write_what_threads_write(
    shard_bytes: int, place: Place, source: str, small: None, client: Client
) -> None:
    how: dict[str, Any] = {
        "storage_options": {"url": place.options},
        "shard_bytes": shard_bytes,
    }
    noisydask.convert(source, f"{place.url}/workers.zarr", **how)
    with dask.config.set(scheduler="threads"):
        noisydask.convert(source, f"{place.url}/threads.zarr", **how)
    assert (place / "workers.zarr").objects() == (place / "threads.zarr").objects()


def test_replacing_first_removes_what_makes_it_an_array(
    place: Place, source: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    to = place / "p.zarr"
    to.write_array(DATA.pred_probs, 1000)
    before = to.objects()

    def stop(self: Location) -> None:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(Location, "remove_all", stop)
    with pytest.raises(InputError, match=r"url at .*: cannot be written \(Input/output error\)"):
        noisydask.convert(source, to.url, overwrite=True, storage_options={"url": place.options})
    assert to.objects() == {name: each for name, each in before.items() if name != "zarr.json"}


@pytest.mark.parametrize("zarr_format", [2, 3])
def test_arrays_of_both_formats_are_replaced(zarr_format: Any, tmp_path: Path, source: str) -> None:
    zarr.create_array(tmp_path / "p.zarr", data=DATA.labels, chunks=(99,), zarr_format=zarr_format)
    with pytest.raises(InputError, match=r"there is an array at .*overwrite=True"):
        noisydask.convert(source, tmp_path / "p.zarr")
    noisydask.convert(source, tmp_path / "p.zarr", overwrite=True)
    np.testing.assert_array_equal(zarr.open_array(tmp_path / "p.zarr")[...], DATA.pred_probs)
    assert not (tmp_path / "p.zarr" / ".zarray").exists()


def test_numbered_files_of_others_stay(tmp_path: Path, source: str) -> None:
    (tmp_path / "own").mkdir()
    (tmp_path / "own" / "1").write_text("page one")
    with pytest.raises(InputError, match="holds '1', which is no part of an array"):
        noisydask.convert(source, tmp_path / "own", overwrite=True)
    assert (tmp_path / "own" / "1").read_text() == "page one"


def test_a_lost_chunk_is_not_written_as_zeros(tmp_path: Path) -> None:
    zarr.create_array(tmp_path / "p.zarr", data=DATA.pred_probs, chunks=(1000, 7))
    (tmp_path / "p.zarr" / "c" / "3" / "0").unlink()
    with pytest.raises(JobError, match=r"chunk c/3/0, rows 3,000 to 3,999 .* not stored"):
        noisydask.convert(tmp_path / "p.zarr", tmp_path / "to.zarr")
    assert not (tmp_path / "to.zarr" / "zarr.json").exists()


def test_labels_of_one_class_may_not_be_stored(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    labels = np.where(np.arange(3000) < 1000, 0, DATA.labels[:3000])
    zarr.create_array(tmp_path / "l.zarr", data=labels, chunks=(1000,))
    assert not (tmp_path / "l.zarr" / "c" / "0").exists()
    assert main(["convert", f"{tmp_path}/l.zarr", f"{tmp_path}/to.zarr"]) == 0
    told = capsys.readouterr().err
    assert "1 chunk of the source is not stored, the first of rows 0 to 999" in told
    np.testing.assert_array_equal(zarr.open_array(tmp_path / "to.zarr")[...], labels)


@pytest.mark.parametrize(
    ("values", "fill", "told"),
    [
        (DATA.labels, -1, "not stored"),
        (DATA.labels, 0, None),
        (DATA.pred_probs[:, 0], 0, "not stored"),
        (DATA.pred_probs, np.nan, None),
    ],
    ids=["no-class", "class", "zero", "not-recorded"],
)
def test_what_a_chunk_that_is_not_stored_means(
    values: Any, fill: float, told: str | None, tmp_path: Path
) -> None:
    chunks = (1000, *values.shape[1:])
    zarr.create_array(tmp_path / "a.zarr", data=values, chunks=chunks, fill_value=fill)
    key = "/".join(["c", "2", *["0"] * (values.ndim - 1)])
    (tmp_path / "a.zarr" / key).unlink()
    if told:
        with pytest.raises(JobError, match=f"chunk {key}, .*{told}"):
            noisydask.convert(tmp_path / "a.zarr", tmp_path / "to.zarr")
        return
    place = noisydask.convert(tmp_path / "a.zarr", tmp_path / "to.zarr")
    wanted = values.copy()
    wanted[2000:3000] = fill
    np.testing.assert_array_equal(zarr.open_array(place)[...], wanted)


def test_places_that_cannot_be_written(
    tmp_path: Path, source: str, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").write_text("mine")
    for to in (tmp_path / "file", tmp_path / "file" / "p.zarr"):
        assert main(["convert", source, str(to), "--overwrite"]) == 2
        told = capsys.readouterr().err
        assert f"error: url at {to}: {tmp_path}/file is a file, and url must be a folder" in told
        assert "Traceback" not in told
    assert (tmp_path / "file").read_text() == "mine"
    with pytest.raises(JobError, match="cannot be reached"):
        noisydask.convert(source, "http://127.0.0.1:1/p.zarr")


def test_a_large_chunk_is_decoded_few_times(
    tmp_path: Path, small: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(converting, "DEFAULT_BLOCK_BYTES", 1000 * (28 + ROW_OVERHEAD))
    zarr.create_array(tmp_path / "p.zarr", data=DATA.pred_probs, chunks=(8_000, 7))
    read: list[tuple[int, int]] = []
    real = ZarrRows._read

    def count(self: ZarrRows, start: int, stop: int) -> Any:
        read.append((start, stop))
        return real(self, start, stop)

    monkeypatch.setattr(ZarrRows, "_read", count)
    place = noisydask.convert(tmp_path / "p.zarr", tmp_path / "to.zarr")
    assert len(read) <= 2
    np.testing.assert_array_equal(zarr.open_array(place)[...], DATA.pred_probs)


@given(rows=st.integers(1, 10**9), chunk=st.integers(1, 10**7), objects=st.integers(1, 10**6))
def test_blocks_hold_whole_objects_and_chunks(rows: int, chunk: int, objects: int) -> None:
    class Stored:
        shape = (rows, 5)
        num_bytes = rows * 20
        chunk_rows = chunk

    grid = converting._blocks(Stored(), objects)  # type: ignore[arg-type]
    assert grid.block_rows % objects == 0
    assert grid.block_rows > min(chunk, rows) - objects
    largest = max(converting.DEFAULT_BLOCK_BYTES, chunk * grid.row_bytes)
    assert grid.block_bytes <= max(largest, objects * grid.row_bytes)


def test_shards_are_no_longer_than_the_array(tmp_path: Path, source: str, small: None) -> None:
    place = noisydask.convert(source, tmp_path / "p.zarr", shard_bytes=1 << 40)
    assert zarr.open_array(place).shards == (8_000, 7)


@pytest.mark.parametrize(("size", "rows"), [("1344", 48), ("1.5KiB", 48), ("0", None)])
def test_shards_as_people_write_sizes(
    size: str, rows: int | None, tmp_path: Path, source: str, small: None
) -> None:
    place = str(tmp_path / "p.zarr")
    assert main(["convert", source, place, "--shard-bytes", size, "--quiet"]) == 0
    assert zarr.open_array(place).shards == (None if rows is None else (rows, 7))


@pytest.mark.parametrize("size", ["much", "-1"])
def test_shards_of_no_size(size: str, source: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["convert", source, "p.zarr", f"--shard-bytes={size}"]) == 2
    assert "--shard-bytes" in capsys.readouterr().err
    assert not Path("p.zarr").exists()
