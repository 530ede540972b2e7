"""Blocks that are not what their input declared end a job with one error, whatever reads them."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import dask
import dask.array as da
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import zarr
from conftest import Place
from distributed import Client
from layouts import write_npy, write_zarr

import noisydask
from noisydask.engine.progress import Silent
from noisydask.errors import InputError, NoisydaskError
from noisydask.stores.arrays import open_rows

ROWS, CLASSES = 600, 5
LABELS = np.arange(ROWS) % CLASSES
PROBS = np.full((ROWS, CLASSES), 0.05, np.float32)
PROBS[np.arange(ROWS), LABELS] = 0.8
IDS = np.array([f"n{row}" for row in range(ROWS)])


@pytest.fixture(params=["threads", "synchronous", "distributed"])
def scheduler(request: pytest.FixtureRequest) -> Iterator[None]:
    """Each of Dask's schedulers."""
    if request.param == "distributed":
        request.getfixturevalue("client")
        yield
    else:
        with dask.config.set(scheduler=request.param):
            yield


def lying(values: Any, change: Callable[[Any], Any], chunks: Any = 200) -> da.Array:
    """An array that declares the shape and type of ``values``, whose second block is changed."""

    def block(rows: Any, block_id: Any) -> Any:
        return change(rows) if block_id[0] == 1 else rows

    whole = da.from_array(values, chunks=(chunks, *values.shape[1:]))
    meta = np.empty((0,) * values.ndim, values.dtype)
    return whole.map_blocks(block, dtype=values.dtype, meta=meta)


def shorter(rows: Any) -> Any:
    return rows[:-10]


def longer(rows: Any) -> Any:
    return np.concatenate([rows, rows[-10:]])


def wider(rows: Any) -> Any:
    return np.hstack([rows, rows[:, -1:]])


def narrower(rows: Any) -> Any:
    return rows[:, 1:]


def double(rows: Any) -> Any:
    return rows.astype(np.float64)


def flat(rows: Any) -> Any:
    return rows[:, 0]


@pytest.mark.parametrize(
    ("change", "found"),
    [
        (shorter, "190 x 5 float32"),
        (longer, "210 x 5 float32"),
        (wider, "200 x 6 float32"),
        (narrower, "200 x 4 float32"),
        (double, "200 x 5 float64"),
        (flat, "200 float32"),
    ],
)
def test_pred_probs(scheduler: None, change: Any, found: str) -> None:
    says = f"pred_probs, rows 200 to 399: declared as 200 x 5 float32, found as {found}; "
    with pytest.raises(InputError, match=f"^{says}") as caught:
        noisydask.find_label_issues(LABELS, lying(PROBS, change))
    assert caught.value.exit_status == 2


def test_blocks_that_make_up_for_each_other() -> None:
    """As many rows as declared in all, though each stands beside another's label."""
    parts = [da.from_array(PROBS[:210], chunks=-1), da.from_array(PROBS[210:400], chunks=-1)]
    keys = {("x", k, 0): part.dask[part.__dask_keys__()[0][0]] for k, part in enumerate(parts)}
    graph = {**keys, **dict(parts[0].dask), **dict(parts[1].dask)}
    array = da.Array(graph, "x", ((200, 200), (CLASSES,)), np.float32)
    with pytest.raises(InputError, match=r"declared as 200 x 5 float32, found as (210|190) x 5"):
        noisydask.find_label_issues(LABELS[:400], array)


@pytest.mark.parametrize("change", [shorter, longer, double])
def test_labels_and_ids(change: Any) -> None:
    with pytest.raises(InputError, match=r"^labels, rows 200 to 399: declared as 200 int64, found"):
        noisydask.find_label_issues(lying(LABELS, change), PROBS)
    wrong = LABELS.copy()
    wrong[7] = (wrong[7] + 1) % CLASSES  # ids are looked at where there are issues
    with pytest.raises(InputError, match=r"^ids, rows 200 to 399: declared as 200 int64, found"):
        noisydask.find_label_issues(wrong, PROBS, ids=lying(np.arange(ROWS), change))


def test_ids_of_text_may_be_of_any_length() -> None:
    wrong = LABELS.copy()
    wrong[250] = (wrong[250] + 1) % CLASSES
    ids = lying(IDS, lambda rows: np.char.add(rows, "-much-longer"))
    found = noisydask.find_label_issues(wrong, PROBS, ids=ids).to_dataframe()
    assert found["id"].tolist() == ["n250-much-longer"]


@pytest.mark.parametrize("top_k", [None, 3])
@pytest.mark.parametrize("change", [shorter, longer, wider, double])
def test_losses(change: Any, top_k: int | None) -> None:
    says = "^losses, rows 200 to 399: declared as 200 x 5 float32, found"
    with pytest.raises(InputError, match=says):
        noisydask.analyze_loss_dynamics(lying(PROBS, change), top_k=top_k)


def test_what_comes_with_losses() -> None:
    for name, values in (("labels", LABELS), ("ids", np.arange(ROWS))):
        with pytest.raises(InputError, match=f"^{name}, rows 200 to 399: declared as 200 int64"):
            noisydask.analyze_loss_dynamics(PROBS, **{name: lying(values, shorter)})
    iters = lying(np.arange(CLASSES), lambda rows: rows[1:], chunks=2)
    with pytest.raises(InputError, match=r"^iters, rows 2 to 3: declared as 2 int64, found as 1"):
        noisydask.analyze_loss_dynamics(PROBS, iters=iters)


def test_batches_of_the_inspector() -> None:
    inspector = noisydask.LabelInspector(num_class=CLASSES, verbose=False)
    with pytest.raises(InputError, match=r"^pred_probs, rows 200 to 399: declared as 200 x 5"):
        inspector.update_confident_thresholds(LABELS, lying(PROBS, shorter))


def test_masked_blocks() -> None:
    masked = lying(PROBS, lambda rows: np.ma.masked_less(rows, 0.5))
    with pytest.raises(InputError, match=r"^pred_probs is a masked array"):
        noisydask.find_label_issues(LABELS, masked)


@pytest.mark.filterwarnings("ignore::noisydask.LabelWarning")
def test_blocks_without_rows_and_other_orders_of_bytes() -> None:
    """What is as declared goes through."""
    wanted = noisydask.find_label_issues(LABELS[::-1].copy(), PROBS).indices
    ragged = da.from_array(PROBS.astype(">f4"), chunks=((1, 0, 499, 100), (2, 3)))
    found = noisydask.find_label_issues(da.from_array(LABELS[::-1].astype(">i2"), 70), ragged)
    np.testing.assert_array_equal(found.indices, wanted)


@pytest.mark.parametrize(
    ("values", "found"),
    [
        (np.zeros((ROWS, 6), np.float32), "600 x 6 float32"),
        (np.zeros((ROWS, CLASSES), np.float64), "600 x 5 float64"),
    ],
)
@pytest.mark.parametrize("layout", ["v2", "v3", "sharded"])
def test_zarr_that_becomes_another_array(
    tmp_path: Path, layout: str, values: Any, found: str
) -> None:
    url = write_zarr(Place(str(tmp_path / "p.zarr")), PROBS, layout)
    rows = open_rows(url, "pred_probs")
    (tmp_path / "p.zarr").rename(tmp_path / "before")
    write_zarr(Place(url), values + np.arange(1, 1 + values.shape[1], dtype=values.dtype), layout)
    says = f"^pred_probs at {re.escape(url)}, rows 0 to 599: declared as 600 x 5 float32, found as"
    with pytest.raises(InputError, match=f"{says} {found};"):
        rows.read(0, ROWS)


def test_zarr_that_was_resized_elsewhere(tmp_path: Path) -> None:
    """An array that the caller has open does not know that it is shorter now."""
    stale = zarr.open_array(write_zarr(Place(str(tmp_path / "p.zarr")), PROBS))
    zarr.open_array(tmp_path / "p.zarr").resize((400, CLASSES))
    with pytest.raises(InputError, match="labels has 600 examples, pred_probs 400"):
        noisydask.find_label_issues(LABELS, stale)


@pytest.mark.parametrize("mapped", [True, False])
def test_a_file_of_numpy_that_is_cut_short(place: Place, mapped: bool) -> None:
    url = write_npy(place / "p.npy", PROBS)
    rows = open_rows(url, "pred_probs", place.options)
    if mapped:
        rows.read(0, 10)
    place.write("p.npy", place.read("p.npy")[:1000])
    with pytest.raises(InputError, match=r"p\.npy.*1,000 bytes"):
        rows.read(400, 600)


def test_a_file_of_numpy_that_is_mapped_by_the_caller(tmp_path: Path) -> None:
    np.save(tmp_path / "p.npy", PROBS)
    rows = open_rows(np.load(tmp_path / "p.npy", mmap_mode="r"), "pred_probs")
    rows.read(0, ROWS)
    np.save(tmp_path / "p.npy", PROBS[:50])
    says = f"^pred_probs at {re.escape(str(tmp_path))}/p.npy, rows 400 to 599: declared to end at "
    with pytest.raises(InputError, match=says + r"byte 12,128 of the file, which has 1,128 bytes"):
        rows.read(400, 600)


@pytest.mark.parametrize(
    ("parts", "says"),
    [
        ([LABELS[:290], LABELS[290:]], "rows 0 to 299: declared as 300 int64, found as 290 int64"),
        ([LABELS[:310], LABELS[310:]], "rows 0 to 299: declared as 300 int64, found as 310 int64"),
        ([LABELS[:300] * 1.0, LABELS[300:] * 1.0], "declared as 300 int64, found as 300 float64"),
        ([LABELS[:300]], "rows 0 to 599: declared as 600 int64, found as 300 int64"),
    ],
)
def test_parquet_that_changes(tmp_path: Path, parts: list[Any], says: str) -> None:
    def write(pieces: list[Any]) -> None:
        first = pa.table({"label": pieces[0]})
        with pq.ParquetWriter(tmp_path / "t.parquet", first.schema) as writer:
            for piece in pieces:
                writer.write_table(pa.table({"label": piece}))

    write([LABELS[:300], LABELS[300:]])
    rows = open_rows(f"{tmp_path}/t.parquet#label", "labels")
    write(parts)
    with pytest.raises(InputError, match=f"^labels at .*#label, .*{says}"):
        rows.read(0, ROWS)


def test_parquet_that_loses_its_column(tmp_path: Path) -> None:
    pd.DataFrame({"label": LABELS}).to_parquet(tmp_path / "t.parquet")
    rows = open_rows(f"{tmp_path}/t.parquet#label", "labels")
    pd.DataFrame({"other": LABELS}).to_parquet(tmp_path / "t.parquet")
    with pytest.raises(InputError, match="has no column 'label'; it has: other"):
        rows.read(0, ROWS)


class Meddler(Silent):
    """Changes an input when all are open and the job begins to read them."""

    def __init__(self, change: Callable[[], Any]) -> None:
        self.change = change

    def phase(self, name: str) -> None:
        """Act at once."""
        if name.startswith("reading"):
            self.change()


@pytest.mark.parametrize("rows", [90, 300, 599])
@pytest.mark.parametrize("name", ["labels", "pred_probs"])
@pytest.mark.parametrize("suffix", ["zarr", "npy"])
def test_inputs_that_become_shorter_under_a_job(
    tmp_path: Path, name: str, suffix: str, rows: int
) -> None:
    """Zarr reads what is gone as zeros, which are labels: nothing of it is published."""
    values = {"labels": LABELS, "pred_probs": PROBS}
    write = write_npy if suffix == "npy" else write_zarr
    urls = {one: write(Place(f"{tmp_path}/{one}.{suffix}"), values[one]) for one in values}

    def shorten() -> None:
        if suffix == "npy":
            write(Place(urls[name]), values[name][:rows])
        else:
            zarr.open_array(urls[name]).resize((rows, *values[name].shape[1:]))

    with pytest.raises(NoisydaskError, match=r"changed|declared"):
        noisydask.find_label_issues(**urls, out=tmp_path / "out", reporter=Meddler(shorten))
    assert not (tmp_path / "out/latest.json").exists()


def test_workers_say_it_in_one_sentence(client: Client, tmp_path: Path) -> None:
    """What a worker refuses arrives as it is."""
    url = write_npy(Place(str(tmp_path)) / "p.npy", PROBS)
    rows = open_rows(url, "pred_probs")
    np.save(url, PROBS[:50])
    with pytest.raises(InputError, match=r"^pred_probs at .*p\.npy, rows 400 to 599: declared"):
        client.submit(rows.read, 400, 600, pure=False).result()
