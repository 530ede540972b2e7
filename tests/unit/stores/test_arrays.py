"""Inputs of every kind read like NumPy arrays, here and in other processes, and say how many bytes
they fetched."""

from __future__ import annotations

import importlib.util
import io
import pickle
from pathlib import Path
from typing import Any

import dask.array as da
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import zarr
from conftest import Place
from distributed import Client
from hypothesis import given
from hypothesis import strategies as st
from layouts import ZARR_LAYOUTS, chunk_bytes, make, write_npy, write_parquet, write_zarr

from noisydask.errors import InputError, JobError
from noisydask.stores import zarr_arrays
from noisydask.stores.arrays import DaskRows, open_rows, zarr_store
from noisydask.stores.counting import CountingStore
from noisydask.stores.locations import Location
from noisydask.stores.npy_rows import NpyRows
from noisydask.stores.tables.table_column import TableColumn
from noisydask.stores.urls import split_column
from noisydask.stores.zarr_rows import ZarrRows

DATA = make()
RANGES = [(0, 1), (0, 1030), (99, 101), (200, 400), (1000, 1030), (1029, 1030), (150, 150)]
BIG_ENDIAN = DATA.labels.astype(">i4")


def check_reads(rows: Any, values: Any) -> None:
    """The rows are the values, now and after a journey to another process."""
    assert rows.shape == values.shape
    assert rows.dtype == values.dtype
    for one in (rows, pickle.loads(pickle.dumps(rows))):
        for start, stop in RANGES:
            read = one.read(start, stop)
            assert read.dtype == values.dtype
            np.testing.assert_array_equal(read, values[start:stop])


@pytest.mark.parametrize("layout", ZARR_LAYOUTS)
def test_zarr(place: Place, layout: str) -> None:
    url = write_zarr(place / "p.zarr", DATA.pred_probs, layout)
    rows = open_rows(url, "pred_probs", place.options)
    check_reads(rows, DATA.pred_probs)
    assert rows.chunk_rows == (200 if layout == "sharded" else 100)


@pytest.mark.parametrize("layout", ZARR_LAYOUTS)
def test_bytes_read_are_those_of_the_chunks(place: Place, layout: str) -> None:
    rows = open_rows(
        write_zarr(place / "p.zarr", DATA.pred_probs, layout), "pred_probs", place.options
    )
    assert rows.take_bytes_read() == 0  # opening counts nothing
    for start in range(0, 1030, rows.chunk_rows):
        rows.read(start, min(start + rows.chunk_rows, 1030))
    assert len(pickle.dumps(rows)) < 20_000
    assert pickle.loads(pickle.dumps(rows)).take_bytes_read() == 0
    assert rows.take_bytes_read() == chunk_bytes(place / "p.zarr")
    assert rows.take_bytes_read() == 0


@pytest.mark.parametrize("layout", ZARR_LAYOUTS)
def test_without_the_package_zarrs(
    tmp_path: Path, layout: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(zarr_arrays, "find_spec", lambda name: None)
    url = write_zarr(Place(str(tmp_path / "p.zarr")), DATA.pred_probs, layout)
    rows = open_rows(url, "pred_probs")
    assert isinstance(rows.array.store, CountingStore)
    check_reads(rows, DATA.pred_probs)
    rows.take_bytes_read()
    rows.read(0, 1030)
    assert rows.take_bytes_read() == chunk_bytes(Place(url))


@pytest.mark.skipif(not importlib.util.find_spec("zarrs"), reason="needs the package zarrs")
def test_local_zarr_is_read_by_the_package_zarrs(tmp_path: Path) -> None:
    rows = open_rows(write_zarr(Place(str(tmp_path / "p.zarr")), DATA.pred_probs), "pred_probs")
    for one in (rows, pickle.loads(pickle.dumps(rows))):
        assert type(one.array.async_array.codec_pipeline).__name__ == "ZarrsCodecPipeline"


@pytest.mark.parametrize("zarrs", [True, False])
@pytest.mark.parametrize(
    ("values", "how"),
    [
        (np.asfortranarray(DATA.pred_probs), {"zarr_format": 2, "order": "F"}),
        (BIG_ENDIAN, {"zarr_format": 2}),
        (DATA.labels, {"zarr_format": 2, "compressors": None}),
        (np.zeros(1030, np.uint8), {"zarr_format": 3}),  # all fill value: no object is stored
    ],
)
def test_unusual_zarr(
    tmp_path: Path, values: Any, how: Any, zarrs: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not zarrs:
        monkeypatch.setattr(zarr_arrays, "find_spec", lambda name: None)
    zarr.create_array(tmp_path, data=values, chunks=(100, 7)[: values.ndim], **how)
    check_reads(open_rows(str(tmp_path), "x"), values.astype(values.dtype.newbyteorder("=")))


def test_zarr_array_that_is_open_already(tmp_path: Path) -> None:
    group = zarr.create_group(tmp_path / "all.zarr")
    array = group.create_array("train/pred_probs", data=DATA.pred_probs, chunks=(100, 7))
    check_reads(open_rows(array, "pred_probs"), DATA.pred_probs)
    check_reads(
        open_rows(str(tmp_path / "all.zarr/train/pred_probs"), "pred_probs"), DATA.pred_probs
    )
    check_reads(open_rows(tmp_path / "all.zarr/train/pred_probs", "pred_probs"), DATA.pred_probs)
    check_reads(
        open_rows(zarr.create_array({}, data=DATA.labels, chunks=(100,)), "labels"), DATA.labels
    )


@given(st.integers(1, 60), st.integers(1, 25), st.data())
def test_any_range_of_any_chunks(rows: int, chunk: int, data: st.DataObject) -> None:
    values = np.arange(rows * 3, dtype=np.float32).reshape(rows, 3)
    opened = ZarrRows.of(
        zarr.create_array({}, data=values, chunks=(chunk, data.draw(st.integers(1, 3)))), "x"
    )
    start = data.draw(st.integers(0, rows))
    stop = data.draw(st.integers(start, rows))
    np.testing.assert_array_equal(opened.read(start, stop), values[start:stop])


@pytest.mark.parametrize(
    "values", [DATA.pred_probs, DATA.pred_probs.astype(np.float16), DATA.labels, BIG_ENDIAN]
)
def test_npy(place: Place, values: Any) -> None:
    rows = open_rows(write_npy(place / "values.npy", values), "values", place.options)
    check_reads(rows, values.astype(values.dtype.newbyteorder("=")))
    rows.take_bytes_read()
    rows.read(10, 20)
    assert rows.take_bytes_read() == values[10:20].nbytes


def test_npy_in_memory() -> None:
    url = write_npy(Place("memory://test_npy_in_memory") / "values.npy", DATA.pred_probs)
    check_reads(open_rows(url, "values"), DATA.pred_probs)
    url = write_zarr(Place("memory://test_npy_in_memory/values.zarr"), DATA.pred_probs)
    check_reads(open_rows(url, "values"), DATA.pred_probs)


def test_npy_that_is_refused(place: Place, tmp_path: Path) -> None:
    for name, values, says in (
        ("objects", np.array([1, "a", None], object), "holds Python objects"),
        ("fortran", np.asfortranarray(DATA.pred_probs), "Fortran order"),
    ):
        url = write_npy(place / f"{name}.npy", values)
        with pytest.raises(InputError, match=says):
            open_rows(url, "values", place.options)
    whole = Path(write_npy(Place(str(tmp_path)) / "whole.npy", DATA.labels)).read_bytes()
    for name, content, says in (
        ("short", whole[:-1], "cut short"),
        ("text", b"hello", "cannot be read"),
    ):
        place.write(f"{name}.npy", content)
        with pytest.raises(InputError, match=says):
            open_rows((place / f"{name}.npy").url, "values", place.options)


@pytest.mark.parametrize(
    "values",
    [DATA.labels, DATA.labels.astype(np.uint8), np.array([f"img{k}" for k in range(1030)], object)],
    ids=["int64", "uint8", "text"],
)
def test_parquet(place: Place, values: Any) -> None:
    url = write_parquet(
        place / "table", [values[:300], values[300:300], values[300:]], row_group_size=128
    )
    check_reads(open_rows(f"{url}#value", "values", place.options), values)
    check_reads(
        open_rows(
            write_parquet(place / "one.parquet", [values]) + "#value", "values", place.options
        ),
        values,
    )


@pytest.mark.parametrize("folder", ["a b", "ä/日本", "50%23", "a#1", "a.parquet#1", "#", "a?b"])
@pytest.mark.parametrize("scheme", ["", "file://"])
def test_paths_of_any_letters(folder: str, scheme: str, tmp_path: Path) -> None:
    (tmp_path / folder).mkdir(parents=True)
    place, values = Place(f"{tmp_path}/{folder}"), np.arange(250)
    urls = [
        write_zarr(place / "l.zarr", values),
        write_zarr(place / "l", values),
        write_zarr(place / "l#1", values),
        write_npy(place / "l#2.npy", values),
        write_parquet(place / "one.parquet", [values]) + "#value",
        write_parquet(place / "many#", [values[:100], values[100:]]) + "#value",
    ]
    for url in urls:
        rows = open_rows(f"{scheme}{url}", "labels")
        np.testing.assert_array_equal(rows.read(0, 250), values)


@pytest.mark.parametrize(
    ("url", "parts"),
    [
        ("s3://b/table#column", ("s3://b/table", "column")),
        ("s3://b/t.parquet#a/b#c", ("s3://b/t.parquet", "a/b#c")),
        ("s3://b/a#1/t.parquet#column", ("s3://b/a#1/t.parquet", "column")),
        ("s3://b/a#1/labels", ("s3://b/a#1/labels", "")),
        ("s3://b/a#1.zarr", ("s3://b/a#1.zarr", "")),
        ("s3://b/t.parquet#l.npy", ("s3://b/t.parquet", "l.npy")),
    ],
)
def test_a_column_and_a_path_are_told_apart(url: str, parts: tuple[str, str]) -> None:
    assert split_column(url) == parts


def test_parquet_categories(tmp_path: Path) -> None:
    values = np.array([f"class {k}" for k in DATA.labels], object)
    pd.DataFrame({"value": pd.Categorical(values)}).to_parquet(tmp_path / "t.parquet")
    check_reads(open_rows(f"{tmp_path}/t.parquet#value", "values"), values)


def test_parquet_folders_leave_out_what_is_hidden(place: Place) -> None:
    values, names = (
        np.arange(9),
        ("a.parq", "b.pq", "c.parquet", "_temporary/a.parquet", ".part.parquet", "_SUCCESS"),
    )
    for number, name in enumerate(names):
        buffer = io.BytesIO()
        pq.write_table(pa.table({"value": values + 9 * number}), buffer)
        place.write(f"t/{name}", buffer.getvalue())
    rows = open_rows(f"{place.url}/t#value", "values", place.options)
    check_reads(rows, np.arange(27))
    assert isinstance(rows, TableColumn)
    assert len(rows.objects()) == 3


def test_parquet_of_dask_keeps_its_order(tmp_path: Path) -> None:
    values = np.arange(1300)
    (tmp_path / "t").mkdir()
    for number in range(13):
        pd.DataFrame({"value": values[number * 100 : number * 100 + 100]}).to_parquet(
            tmp_path / f"t/part.{number}.parquet"
        )
    check_reads(open_rows(f"{tmp_path}/t#value", "values"), values)


def test_a_file_of_numpy_is_known_by_its_content(tmp_path: Path) -> None:
    with open(tmp_path / "labels.bin", "wb") as file:
        np.save(file, np.arange(250))
    check_reads(open_rows(tmp_path / "labels.bin", "labels"), np.arange(250))


def test_parquet_that_has_a_field_of_the_same_path(tmp_path: Path) -> None:
    values = np.arange(300)
    pq.write_table(pa.table({"a": [{"b": 1}] * 300, "a.b": values}), tmp_path / "t.parquet")
    check_reads(open_rows(f"{tmp_path}/t.parquet#a.b", "values"), values)


def test_parquet_that_is_refused(tmp_path: Path) -> None:
    pq.write_table(pa.table({"a": [1, None, 3]}), tmp_path / "t.parquet")
    with pytest.raises(InputError, match="has no column 'b'; it has: a"):
        open_rows(f"{tmp_path}/t.parquet#b", "labels")
    with pytest.raises(InputError, match="has empty cells, 1 of them"):
        open_rows(f"{tmp_path}/t.parquet#a", "labels").read(0, 3)
    pq.write_table(pa.table({"a": ["x"]}), tmp_path / "u.parquet")
    with pytest.raises(InputError, match=r"as int64 in .*t\.parquet, string in .*u\.parquet"):
        open_rows(f"{tmp_path}#a", "labels")


def test_text_in_memory() -> None:
    text = np.array(["a", "bb", "c"], np.dtypes.StringDType())
    for source in (text, da.from_array(text, chunks=2), list(text)):
        assert np.asarray(open_rows(source, "ids").array).tolist() == ["a", "bb", "c"]
    for source in (
        ["a", "b\udcff"],
        np.array(["a", "b\udcff"]),
        np.array(["a", "b\udcff"], object),
    ):
        with pytest.raises(InputError, match="ids holds text that no file can"):
            open_rows(source, "ids")


def test_masked_arrays_are_refused() -> None:
    with pytest.raises(InputError, match="losses is a masked array; fill it first"):
        open_rows(np.ma.array([1.0, 9.0], mask=[False, True]), "losses")


@pytest.mark.parametrize("values", [pa.array([b"a"]), pa.array([5], pa.date32())])
def test_parquet_of_neither_numbers_nor_text(values: Any, tmp_path: Path) -> None:
    pq.write_table(pa.table({"a": values}), tmp_path / "t.parquet")
    with pytest.raises(InputError, match="integers or text are needed"):
        open_rows(f"{tmp_path}/t.parquet#a", "ids")


@pytest.mark.parametrize("values", [DATA.pred_probs, DATA.labels, BIG_ENDIAN])
def test_arrays_in_memory(values: Any) -> None:
    native = values.astype(values.dtype.newbyteorder("="))
    for source in (values, values.tolist(), da.from_array(values, chunks=37)):
        rows = open_rows(source, "values")
        assert isinstance(rows, DaskRows)
        assert rows.dtype.isnative
        np.testing.assert_array_equal(np.asarray(rows.array), np.asarray(source))
    assert open_rows(values, "values").dtype == native.dtype
    assert open_rows(list("abc"), "ids").shape == (3,)


def test_memmap_is_read_by_the_workers(tmp_path: Path) -> None:
    np.save(tmp_path / "p.npy", DATA.pred_probs)
    mapped = np.load(tmp_path / "p.npy", mmap_mode="r")
    rows = open_rows(mapped, "pred_probs")
    assert isinstance(rows, NpyRows)
    assert len(pickle.dumps(rows)) < 2_000
    check_reads(rows, DATA.pred_probs)


def test_memmap_that_is_not_its_file(tmp_path: Path) -> None:
    np.save(tmp_path / "p.npy", DATA.pred_probs)
    private = np.load(tmp_path / "p.npy", mmap_mode="c")
    private[0, 0] = 0.25
    for array in (np.load(tmp_path / "p.npy", mmap_mode="r")[10:], private):
        rows = open_rows(array, "pred_probs")
        assert isinstance(rows, DaskRows)
        np.testing.assert_array_equal(np.asarray(rows.array), np.asarray(array))


@pytest.mark.parametrize(
    ("source", "says"),
    [
        ([[1], [1, 2]], "differ in length"),
        ([1, None], "holds Python objects"),
        ([{}, {}], "holds Python objects"),
        (None, "holds Python objects"),
        (da.from_array(np.arange(9))[da.from_array(np.arange(9)) > 3], "unknown number of rows"),
        (zarr.create_array({}, data=np.array(1.0)), "a single number"),
    ],
)
def test_sources_that_are_refused(source: Any, says: str) -> None:
    with pytest.raises(InputError, match=says):
        open_rows(source, "labels")


def test_rows_that_vanish_while_the_job_runs(place: Place) -> None:
    rows = open_rows(write_npy(place / "values.npy", DATA.labels), "values", place.options)
    place.fs.rm(place.fs._strip_protocol((place / "values.npy").url))
    with pytest.raises(JobError, match=r"values\.npy, rows 0 to 9: it is gone$"):
        rows.read(0, 10)


def test_zarr_that_is_damaged(tmp_path: Path) -> None:
    rows = open_rows(write_zarr(Place(str(tmp_path / "p.zarr")), DATA.pred_probs), "pred_probs")
    (tmp_path / "p.zarr/c/2/0").write_bytes(b"no chunk")
    with pytest.raises(JobError, match=r"p\.zarr: chunk c/2/0, rows 200 to 299 cannot be read"):
        rows.read(200, 300)


def test_rows_read_in_worker_processes(place: Place, client: Client) -> None:
    opened = {
        "zarr": open_rows(write_zarr(place / "p.zarr", DATA.pred_probs), "x", place.options),
        "npy": open_rows(write_npy(place / "p.npy", DATA.pred_probs), "x", place.options),
    }
    for rows in opened.values():
        futures = client.map(
            lambda k, rows: rows.read(k * 103, k * 103 + 103), range(10), rows=rows, pure=False
        )
        np.testing.assert_array_equal(np.concatenate(client.gather(futures)), DATA.pred_probs)


@pytest.mark.parametrize(
    ("url", "is_shown"),
    [
        ("/data/a.zarr", "/data/a.zarr"),
        ("s3://bucket/a@b.zarr", "s3://bucket/a@b.zarr"),
        ("s3://key:secret@bucket/a.zarr?token=1", "s3://bucket/a.zarr"),
        ("s3://key:sec/r+et@bucket/a.zarr", "s3://bucket/a.zarr"),
        ("https://token@host/a.npy#x", "https://host/a.npy#x"),
        ("simplecache::s3://key:secret@bucket/a.npy", "simplecache::s3://bucket/a.npy"),
    ],
)
def test_what_is_shown_of_a_url(url: str, is_shown: str) -> None:
    place = Location(url, "", {})
    assert place.shown == is_shown
    assert "secret" not in repr(place)
    assert "token" not in repr(Location.of("https://user:secret@host/a.npy?token=1", None, "x"))


def test_credentials_in_an_s3_url_become_options() -> None:
    place = Location.of("s3://key:sec%2Fret@bucket/a.zarr", None, "x")
    assert (place.url, place.path) == ("s3://bucket/a.zarr", "bucket/a.zarr")
    assert place.options == {"key": "key", "secret": "sec/ret"}


def test_urls_that_fsspec_cannot_use() -> None:
    with pytest.raises(
        InputError, match="fsspec cannot use s4://b/a, with the options key"
    ) as caught:
        Location.of("s4://user:hidden@b/a", {"key": "hidden"}, "labels")
    assert "hidden" not in str(caught.value)


def test_stores_of_both_kinds_of_file_systems(tmp_path: Path) -> None:
    assert zarr_store(Location.of(str(tmp_path), None, "x"), read_only=True).read_only
    assert zarr_store(Location.of("memory://a", None, "x"), read_only=True).read_only
