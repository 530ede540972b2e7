"""Tensors, columns and frames of pandas, and lazy ones of Dask are inputs like NumPy's arrays."""

from __future__ import annotations

import tracemalloc
from pathlib import Path
from typing import Any

import dask
import dask.dataframe as dd
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from distributed import Client

import noisydask
from noisydask.errors import InputError
from noisydask.stores.arrays import DaskRows, open_rows
from noisydask.stores.conversion import as_array

ROWS, CLASSES = 900, 4
RNG = np.random.default_rng(7)
LABELS = RNG.integers(0, CLASSES, ROWS)
PROBS = RNG.dirichlet(np.full(CLASSES, 0.5), ROWS).astype(np.float32)
IDS = np.array([f"n{row}" for row in range(ROWS)])
LOSSES = RNG.random((ROWS, 3)).astype(np.float32)


# Labels and probabilities here are random.
pytestmark = pytest.mark.filterwarnings("ignore::noisydask.LabelWarning")


class Tensor:
    """As a tensor of PyTorch that needs gradients and lies on another device: only what is detached
    and brought to the host can be converted, and bfloat16 by way of float32 alone.
    """

    def __init__(self, values: Any, *, dtype: str = "", grad: bool = True, host: bool = False):
        self.values, self.dtype, self.grad, self.host = values, dtype, grad, host

    def detach(self) -> Tensor:
        return Tensor(self.values, dtype=self.dtype, grad=False, host=self.host)

    def cpu(self) -> Tensor:
        return Tensor(self.values, dtype=self.dtype, grad=self.grad, host=True)

    def float(self) -> Tensor:
        return Tensor(self.values.astype(np.float32), grad=self.grad, host=self.host)

    def numpy(self) -> Any:
        if self.grad:
            raise RuntimeError("Can't call numpy() on Tensor that requires grad.")
        if not self.host:
            raise TypeError("can't convert cuda:0 device type tensor to numpy.")
        if self.dtype == "bfloat16":
            raise TypeError("Got unsupported ScalarType BFloat16")
        return self.values

    __array__ = numpy


def bfloat16(values: Any) -> Any:
    """Values that lose nothing where the lower half of a float32 is cut off."""
    return (values.view(np.uint32) & 0xFFFF0000).view(np.float32)


@pytest.mark.parametrize("kind", ["Float32", "float[pyarrow]", "float32"])
@pytest.mark.parametrize("lazy", [False, True])
def test_find_label_issues_of_frames(kind: str, lazy: bool) -> None:
    wanted = noisydask.find_label_issues(LABELS, PROBS, ids=IDS).to_dataframe()
    frame, labels = pd.DataFrame(PROBS).astype(kind), pd.Series(LABELS)
    if kind != "float32":
        labels = labels.astype("int64[pyarrow]" if "pyarrow" in kind else "Int64")
    ids: Any = pd.Series(IDS)
    if lazy:
        frame, labels = dd.from_pandas(frame, npartitions=4), dd.from_pandas(labels, npartitions=3)
        ids = dd.from_pandas(ids, npartitions=7)
    found = noisydask.find_label_issues(labels, frame, ids=ids)
    pd.testing.assert_frame_equal(found.to_dataframe(), wanted)
    assert found.manifest["inputs"]["pred_probs"]["dtype"] == "float32"


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_find_label_issues_of_tensors(dtype: str) -> None:
    values = bfloat16(PROBS) if dtype == "bfloat16" else PROBS
    wanted = noisydask.find_label_issues(LABELS, values)
    found = noisydask.find_label_issues(Tensor(LABELS, grad=False), Tensor(values, dtype=dtype))
    np.testing.assert_array_equal(found.indices, wanted.indices)


def test_all_jobs_convert_alike(tmp_path: Path) -> None:
    """What the recorder takes, arrays and the compatible names take too."""
    losses = LOSSES.copy()
    losses[5, 1] = np.nan
    nullable = pd.DataFrame(losses).astype("Float32")
    nullable.iloc[5, 1] = pd.NA
    ids, labels = pd.Series(IDS, dtype="string"), pd.Series(LABELS, dtype="Int8")
    wanted = noisydask.analyze_loss_dynamics(losses, labels=LABELS, ids=IDS).top_k(ROWS)
    lazy = dd.from_pandas(nullable, npartitions=5)
    for given in (nullable, lazy, Tensor(losses)):
        found = noisydask.analyze_loss_dynamics(given, labels=labels, ids=ids)
        pd.testing.assert_frame_equal(found.top_k(ROWS), wanted)
        some = found.ema(["n5"]).to_numpy()
        assert np.isnan(some[0, 1])
    with noisydask.LossRecorder(tmp_path / "losses") as recorder:
        for step in range(3):
            recorder.record(step, ids, nullable[step], labels)
    found = noisydask.analyze_loss_dynamics(table=tmp_path / "losses", label_column="label")
    assert found.top_k(9)["id"].tolist() == wanted["id"][:9].tolist()
    inspector = noisydask.LabelInspector(num_class=CLASSES, verbose=False)
    batch = labels, dd.from_pandas(pd.DataFrame(PROBS), npartitions=3)
    inspector.update_confident_thresholds(*batch)
    scores = inspector.score_label_quality(*batch)
    np.testing.assert_array_equal(scores, PROBS[np.arange(ROWS), LABELS])


@pytest.mark.parametrize(
    ("values", "wanted"),
    [
        (pd.Series([1, 2], dtype="UInt8"), np.array([1, 2], np.uint8)),
        (pd.Series([0.5, None], dtype="Float64"), np.array([0.5, np.nan])),
        (pd.Series([0.5, None], dtype="halffloat[pyarrow]"), np.array([0.5, np.nan], np.float16)),
        (pd.Series([3, 1, 3], dtype="category"), np.array([3, 1, 3])),
        (pd.Index([3, 1], dtype="int32[pyarrow]"), np.array([3, 1], np.int32)),
        (
            pd.DataFrame({"a": pd.array([1], "Int8"), "b": np.ones(1, np.float32)}),
            np.ones((1, 2), np.float32),
        ),
        (pa.array([0.5, None], pa.float32()), np.array([0.5, np.nan], np.float32)),
        (pa.chunked_array([[1], [2]]), np.array([1, 2])),
        (np.array([1, 2], ">i4"), np.array([1, 2], np.int32)),
    ],
)
def test_types(values: Any, wanted: Any) -> None:
    found = as_array(values, "values")
    np.testing.assert_array_equal(found, wanted)
    assert found.dtype == wanted.dtype


def test_text() -> None:
    for kind in ("string", "string[pyarrow]", "category", object, pd.ArrowDtype(pa.string())):
        rows = open_rows(pd.Series(["a", "bc"], dtype=kind), "ids")
        assert np.asarray(rows.array).tolist() == ["a", "bc"]


@pytest.mark.parametrize("lazy", [False, True])
@pytest.mark.parametrize(
    ("values", "says"),
    [
        (pd.Series([1, None, None], dtype="Int64"), "labels .* it has 2 empty cells"),
        (pd.Series([1, None], dtype="int64[pyarrow]"), "labels .* it has 1 empty cells"),
        (pd.Series(["a", None], dtype="string"), "labels .* it has 1 empty cells"),
        (pd.Series([{}, {}], dtype=object), "labels holds Python objects or empty cells"),
    ],
)
def test_cells_that_are_refused(values: Any, says: str, lazy: bool) -> None:
    with dask.config.set({"dataframe.convert-string": False}):
        given = dd.from_pandas(values, npartitions=1) if lazy else values
    with pytest.raises(InputError, match=says):
        open_rows(given, "labels").read(0, len(values))


def test_what_is_no_array() -> None:
    class Unreadable:
        def __array__(self, *args: Any, **kwargs: Any) -> Any:
            raise TypeError("Implicit conversion is not allowed")

    with pytest.raises(InputError, match=r"^labels cannot be converted to an array: Implicit con"):
        open_rows(Unreadable(), "labels")
    with pytest.raises(InputError, match=r"^losses is a masked array"):
        as_array(np.ma.masked_less([0.5, 1.5], 1), "losses")


def test_partitions_that_are_not_what_their_frame_says() -> None:
    frame = dd.from_pandas(pd.DataFrame({"label": LABELS}), npartitions=3)
    wrong = frame.map_partitions(lambda rows: rows.astype(float), meta=frame._meta)
    with pytest.raises(InputError, match="declared as 300 int64, found as 300 float64"):
        noisydask.find_label_issues(wrong["label"], PROBS)


def test_frames_stay_on_the_workers(client: Client, tmp_path: Path) -> None:
    """The client learns how many rows there are, and holds none."""
    rows, classes = 250_000, 10
    values = np.full((rows, classes), 0.05, np.float32)
    labels = np.arange(rows) % classes
    values[np.arange(rows), labels] = 0.55
    labels[1234] = 0
    frame = pd.DataFrame(values, columns=[f"p{k}" for k in range(classes)]).assign(label=labels)
    pq.write_table(pa.Table.from_pandas(frame), tmp_path / "t.parquet", row_group_size=rows // 8)
    table = dd.read_parquet(tmp_path / "t.parquet", split_row_groups=True)
    assert table.npartitions == 8
    probs, given = table[[f"p{k}" for k in range(classes)]], table["label"]
    noisydask.find_label_issues(LABELS, PROBS)  # what is imported and compiled is no row
    tracemalloc.start()
    try:
        found = noisydask.find_label_issues(given, probs)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert found.indices.tolist() == [1234]
    assert peak < values.nbytes / 2
    assert isinstance(open_rows(probs, "pred_probs"), DaskRows)
