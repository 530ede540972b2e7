"""Predictions of which only the most probable classes are kept give the answer of whole rows, or
say which examples they leave undecided.
"""

from __future__ import annotations

import io
import warnings
from pathlib import Path
from typing import Any

import dask.array as da
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import zarr
from conftest import Place
from hypothesis import given, settings
from hypothesis import strategies as st
from layouts import make, write_zarr

import noisydask
from noisydask.cli.app import main
from noisydask.core.confident import _likely_of_rows
from noisydask.core.evidence import Evidence, scan_rows
from noisydask.core.filters import FILTERS
from noisydask.core.top_rows import likely_of_top, scan_top_rows, select_top, top_rows
from noisydask.errors import InputError, JobError

Array = np.ndarray[Any, Any]
DATA = make(rows=1030, classes=7)
COLUMNS = ("given", "top1", "p_given", "p_top1", "top2", "p_top2", "p_rest")
#: Filters that never depend on what is undecided.
EXACT = ("batched", "predicted_neq_given", "auto")


def top_of(labels: Array, probs: Array, k: int, seed: int = 0) -> dict[str, Array]:
    """The most probable classes, in any order, as inputs of the job."""
    kept, classes, own = select_top(probs, labels.astype(np.int64), k)
    order = np.random.default_rng(seed).permuted(np.tile(np.arange(k), (len(probs), 1)), axis=1)
    kept, classes = (np.take_along_axis(each, order, 1) for each in (kept, classes))
    return {"pred_probs": kept.astype(probs.dtype), "pred_classes": classes, "given_probs": own}


def find(labels: Array, inputs: dict[str, Any], classes: int = 7, **how: Any) -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", noisydask.LabelWarning)
        return noisydask.find_label_issues(labels, num_classes=classes, **inputs, **how)


def dense(labels: Array, probs: Array, **how: Any) -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", noisydask.LabelWarning)
        return noisydask.find_label_issues(labels, probs, **how)


def check_same(found: Any, wanted: Any) -> None:
    np.testing.assert_array_equal(found.indices, wanted.indices)
    np.testing.assert_array_equal(found.label_quality.compute(), wanted.label_quality.compute())
    np.testing.assert_array_equal(found.confident_thresholds, wanted.confident_thresholds)


def random_rows(seed: int, rows: int, classes: int, dtype: Any, ties: bool) -> tuple[Array, Array]:
    rng = np.random.default_rng(seed)
    truth = rng.integers(0, classes, rows)
    logits = rng.normal(size=(rows, classes)) * rng.choice([0.3, 1.5])
    logits[np.arange(rows), truth] += rng.choice([0.0, 2.0, 5.0])
    probs = np.exp(logits)
    if ties:
        probs = np.ceil(probs / probs.sum(axis=1, keepdims=True) * 8)
    probs = (probs / probs.sum(axis=1, keepdims=True)).astype(dtype)
    return np.where(rng.random(rows) < 0.2, rng.integers(0, classes, rows), truth), probs


@given(
    st.integers(0, 2**32),
    st.integers(2, 300),
    st.integers(2, 30),
    st.integers(2, 8),
    st.sampled_from([np.float16, np.float32, np.float64]),
    st.booleans(),
)
@settings(max_examples=150)
def test_evidence_is_that_of_whole_rows(
    seed: int, rows: int, classes: int, k: int, dtype: Any, ties: bool
) -> None:
    k = min(k, classes)
    labels, probs = random_rows(seed, rows, classes, dtype, ties)
    wanted = scan_rows(probs, labels, COLUMNS)
    top = top_of(labels, probs, k, seed)
    kept = top_rows(top["pred_probs"], top["pred_classes"], top["given_probs"], classes)
    found = scan_top_rows(kept, labels, Evidence.empty(rows, classes, dtype, COLUMNS))
    np.testing.assert_array_equal(found.problems, wanted.problems)
    np.testing.assert_array_equal(found.counts, wanted.counts)
    np.testing.assert_array_equal(found.fixed, wanted.fixed)
    for name in COLUMNS:
        if name != "p_rest" or k > 2:
            np.testing.assert_array_equal(found.columns[name], wanted.columns[name], name)
    assert (found.columns["p_rest"] >= wanted.columns["p_rest"]).all()


@given(
    st.integers(0, 2**32),
    st.integers(2, 12),
    st.integers(2, 6),
    st.sampled_from([np.float32, np.float64]),
    st.booleans(),
)
@settings(max_examples=150)
def test_undecided_rows_are_those_that_other_classes_could_change(
    seed: int, classes: int, k: int, dtype: Any, ties: bool
) -> None:
    """Every row that is decided is so whatever the classes are like that are not known."""
    k = min(k, classes)
    labels, probs = random_rows(seed, 60, classes, dtype, ties)
    rng = np.random.default_rng(seed)
    limits = rng.choice([0.05, 0.2, 0.4, 0.7, 2.0], classes)
    some = probs.max(axis=1) < limits[probs.argmax(axis=1)]
    probs, labels = probs[some], labels[some]
    top = top_of(labels, probs, k, seed)
    kept = top_rows(top["pred_probs"], top["pred_classes"], None, classes)
    likely, undecided = likely_of_top(kept, limits)
    np.testing.assert_array_equal(likely[~undecided], _likely_of_rows(probs, limits)[~undecided])
    # Others as probable as they may be, or not at all: what is decided is the same.
    low, high = probs.copy(), probs.copy()
    unknown = np.ones(probs.shape, bool)
    np.put_along_axis(unknown, top["pred_classes"].astype(np.int64), False, 1)
    low[unknown] = -1
    least = top["pred_probs"].min(axis=1, keepdims=True)
    # Of equal ones the smallest are known.
    last = np.where(top["pred_probs"] == least, top["pred_classes"], 0).max(axis=1, keepdims=True)
    equal = np.where(np.arange(classes) > last, least, np.nextafter(least, least.dtype.type(-1)))
    high[unknown] = equal[unknown]
    differ = _likely_of_rows(low, limits) != _likely_of_rows(high, limits)
    assert not (differ & ~undecided).any()
    assert k < classes or not undecided.any()


@pytest.mark.parametrize("by", FILTERS)
@pytest.mark.parametrize("k", [2, 3, 7])
def test_filters_give_the_answer_of_whole_rows(by: str, k: int) -> None:
    wanted = dense(DATA.labels, DATA.pred_probs, filter_by=by)
    top = top_of(DATA.labels, DATA.pred_probs, k)
    found = find(DATA.labels, top, filter_by=by, block_bytes=9000)
    if by in EXACT or not found.num_undecided:
        check_same(found, wanted)
    if k == 7:
        assert found.num_undecided == 0
    if not found.num_undecided:
        np.testing.assert_array_equal(found.confident_joint, wanted.confident_joint)
    assert len(found.undecided_indices) == found.num_undecided
    assert (np.diff(found.undecided_indices) > 0).all()


def test_undecided_examples_are_counted_and_listed() -> None:
    rng = np.random.default_rng(0)
    truth = rng.integers(0, 40, 3000)
    logits = 2 * rng.normal(size=(3000, 40)) + 4 * np.eye(40)[truth]
    probs = (np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)).astype(np.float32)
    labels = np.where(rng.random(3000) < 0.1, rng.integers(0, 40, 3000), truth)
    wanted = dense(labels, probs)
    top = top_of(labels, probs, 2)
    with pytest.warns(noisydask.LabelWarning, match="cannot be decided"):
        found = noisydask.find_label_issues(labels, num_classes=40, **top, block_bytes=9000)
    check_same(found, wanted)
    assert found.num_undecided > 20
    limits = wanted.confident_thresholds - 1e-6
    kept = top_rows(top["pred_probs"], top["pred_classes"], None, 40)
    _, undecided = likely_of_top(kept, limits)
    below = probs.max(axis=1) < limits[probs.argmax(axis=1)]
    np.testing.assert_array_equal(found.undecided_indices, np.flatnonzero(undecided & below))
    lacking = wanted.confident_joint - found.confident_joint
    assert 0 < lacking.sum() <= found.num_undecided
    assert (lacking >= 0).all()


@pytest.mark.parametrize("by", ["batched", "prune_by_noise_rate"])
def test_stored_arrays_are_read_once(by: str, place: Place) -> None:
    top = top_of(DATA.labels, DATA.pred_probs, 3)
    sources = {name: write_zarr(place / name, values) for name, values in top.items()}
    labels = write_zarr(place / "labels", DATA.labels)
    how: dict[str, Any] = {
        "out": f"{place.url}/out",
        "storage_options": dict.fromkeys((*sources, "labels", "out"), place.options),
        "block_bytes": 9000,
        "filter_by": by,
    }
    first = find(labels, sources, **how)
    check_same(first, find(DATA.labels, top, filter_by=by))
    again = find(labels, sources, **how, quality_score="log_margin")
    assert again.manifest["blocks"]["scanned"] == 0
    assert first.manifest["inputs"]["pred_probs"]["num_classes"] == 7
    changed = top["given_probs"].copy()
    changed[5] *= 0.5
    rows = top["pred_classes"][5] == DATA.labels[5]
    top["pred_probs"][5, rows] = changed[5]
    for name in ("pred_probs", "given_probs"):
        values = top["pred_probs"] if name == "pred_probs" else changed
        array = zarr.open_array(sources[name], storage_options=place.options or None)
        array[:100] = values[:100]
    found = find(labels, sources, **how)
    assert 0 < found.manifest["blocks"]["scanned"] < found.manifest["counts"]["blocks"]
    check_same(found, find(DATA.labels, {**top, "given_probs": changed}, filter_by=by))


def test_other_classes_are_another_input(tmp_path: Path) -> None:
    top = top_of(DATA.labels, DATA.pred_probs, 3)
    sources = {name: write_zarr(Place(str(tmp_path)) / name, v) for name, v in top.items()}
    how: dict[str, Any] = {"out": tmp_path / "out", "block_bytes": 9000}
    find(DATA.labels, sources, **how)
    array = zarr.open_array(sources["pred_classes"])
    swapped = array[:100]
    swapped[0] = swapped[0][::-1]
    array[:100] = swapped
    found = find(DATA.labels, sources, **how, on_invalid="skip")
    assert 0 < found.manifest["blocks"]["scanned"] < found.manifest["counts"]["blocks"]


def test_columns_of_a_table_and_the_command(tmp_path: Path, capsys: Any) -> None:
    top = top_of(DATA.labels, DATA.pred_probs, 3)
    rows = pa.table(
        {
            "label": DATA.labels,
            "probs": list(top["pred_probs"]),
            "classes": list(top["pred_classes"]),
            "own": top["given_probs"],
        }
    )
    buffer = io.BytesIO()
    pq.write_table(rows, buffer, row_group_size=170)
    (tmp_path / "t.parquet").write_bytes(buffer.getvalue())
    url = f"{tmp_path}/t.parquet"
    line = ["issues", "--labels", f"{url}#label", "--pred-probs", f"{url}#probs"]
    line += ["--pred-classes", f"{url}#classes", "--out", str(tmp_path / "out")]
    assert main([*line, "--num-classes", "7"]) == 2
    assert "given_probs" in capsys.readouterr().err.replace("--given-probs", "given_probs")
    assert main([*line, "--given-probs", f"{url}#own", "--num-classes", "7"]) == 0
    check_same(noisydask.open_run(tmp_path / "out"), dense(DATA.labels, DATA.pred_probs))
    named = ["issues", "--table", url, "--class-columns", "probs", "--pred-classes", "classes"]
    named += ["--given-probs", "own", "--num-classes", "7", "--out", str(tmp_path / "named")]
    assert main(named) == 0
    check_same(noisydask.open_run(tmp_path / "named"), dense(DATA.labels, DATA.pred_probs))
    names = ",".join("gfedcba")
    assert main([*line, "--given-probs", "bound", "--class-names", names]) == 0
    found = noisydask.open_run(tmp_path / "out")
    assert any("approximation" in text for text in found.warnings)
    assert found.manifest["inputs"]["pred_probs"]["given_probs"] == "bound"


def test_lazy_arrays() -> None:
    top = top_of(DATA.labels, DATA.pred_probs, 3)
    lazy = {name: da.from_array(values, chunks=100) for name, values in top.items()}
    check_same(find(DATA.labels, lazy, block_bytes=9000), dense(DATA.labels, DATA.pred_probs))


def test_a_bound_is_never_above_what_is_kept() -> None:
    labels, probs = random_rows(0, 500, 20, np.float32, False)
    top = top_of(labels, probs, 3)
    known = dense(labels, probs).label_quality.compute()
    bounded = find(labels, {**top, "given_probs": "bound"}, 20).label_quality.compute()
    among = (top["pred_classes"] == labels[:, None]).any(axis=1)
    np.testing.assert_array_equal(bounded[among], known[among])
    assert (bounded <= top["pred_probs"].min(axis=1) + known * among).all()


def wrong_rows() -> dict[str, Any]:
    """Inputs of which one row is invalid."""

    def changed(name: str, value: Any) -> dict[str, Array]:
        top = top_of(DATA.labels, DATA.pred_probs, 3)
        top[name][17] = value
        return top

    return {
        "NaN": changed("pred_probs", np.nan),
        "outside 0 to 1": changed("pred_probs", [0.5, 1.2, 0.1]),
        "do not sum": changed("pred_probs", [0.5, 0.4, 0.3]),
        "classes that repeat": changed("pred_classes", [1, 2, 1]),
        "do not exist": changed("pred_classes", [1, 2, 7]),
        "NaN or infinite": changed("given_probs", np.nan),
        "not the most probable": changed("given_probs", 0.99),
    }


@pytest.mark.parametrize("what", wrong_rows())
def test_invalid_rows_are_named_or_left_out(what: str) -> None:
    top = wrong_rows()[what]
    with pytest.raises(InputError, match=f"1 of 1,030 rows are invalid.*{what}.*rows 17"):
        find(DATA.labels, top)
    found = find(DATA.labels, top, on_invalid="skip")
    assert found.invalid_indices.tolist() == [17]


WRONG: dict[str, tuple[dict[str, Any], str]] = {
    "no number": ({"num_classes": None}, "how many classes there are"),
    "no given": ({"given_probs": None}, "give the probability of each given label"),
    "one class": ({"pred_probs": np.ones((9, 1)), "pred_classes": np.ones((9, 1), int)}, "2 to"),
    "shapes": ({"pred_classes": np.ones((9, 2), int)}, "one shape"),
    "floats": ({"pred_classes": np.ones((9, 3))}, "must be integers"),
    "lengths": ({"given_probs": np.ones(8)}, "a number for each example"),
    "entropy": ({"quality_score": "confidence_weighted_entropy"}, "needs all classes"),
    "adjusted": ({"adjust_pred_probs": True}, "needs all classes"),
    "kept": ({"keep_columns": ["p_sum"]}, "needs all classes"),
    "logits": ({"logits": True}, "need all classes"),
    "names": ({"class_names": list("abc")}, "class names for 7 classes"),
    "too many": ({"num_classes": 2}, "2 to num_classes"),
    "alone": ({"pred_classes": None}, "belongs to pred_classes"),
}


@pytest.mark.parametrize("what", WRONG)
def test_what_does_not_fit_is_refused(what: str) -> None:
    how, told = WRONG[what]
    top = top_of(DATA.labels[:9], DATA.pred_probs[:9], 3)
    with pytest.raises(InputError, match=told):
        noisydask.find_label_issues(DATA.labels[:9], **{"num_classes": 7, **top, **how})


def test_a_chunk_that_is_lost_or_damaged(tmp_path: Path) -> None:
    top = top_of(DATA.labels, DATA.pred_probs, 3)
    sources = {name: write_zarr(Place(str(tmp_path)) / name, v) for name, v in top.items()}
    chunks = sorted(path for path in (tmp_path / "pred_classes").rglob("*") if path.name == "0")
    chunks[1].write_bytes(b"damaged")
    with pytest.raises(JobError, match="pred_classes"):
        find(DATA.labels, sources)
    found = find(DATA.labels, sources, on_unreadable="skip")
    assert found.manifest["counts"]["unreadable"] > 0


@given(st.integers(0, 2**32), st.integers(2, 30), st.integers(2, 8), st.booleans())
def test_the_most_probable_are_selected(seed: int, classes: int, k: int, ties: bool) -> None:
    k = min(k, classes)
    labels, probs = random_rows(seed, 50, classes, np.float32, ties)
    kept, found, own = select_top(probs, labels, k)
    wanted = np.argsort(-probs, axis=1, kind="stable")[:, :k]
    np.testing.assert_array_equal(found, wanted)
    np.testing.assert_array_equal(kept, np.take_along_axis(probs, wanted, 1))
    np.testing.assert_array_equal(own, probs[np.arange(50), labels])


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_a_writer_keeps_the_most_probable(dtype: Any, place: Place) -> None:
    probs = DATA.pred_probs.astype(dtype)
    how: dict[str, Any] = {"num_examples": 1030, "top": 3, "storage_options": place.options}
    writers = [noisydask.PredictionWriter(f"{place.url}/w", **how, flush_bytes=900) for _ in "ab"]
    order = np.random.default_rng(0).permutation(1030)
    for number, rows in enumerate(np.array_split(order, 20)):
        writers[number % 2].write(rows, probs[rows], DATA.labels[rows])
    writers[1].close()
    writers[0].write([5], probs[5:6], DATA.labels[5:6])  # a row again, as it was
    done = writers[0].finish()
    sources = {name: getattr(done, name) for name in ("pred_probs", "pred_classes", "given_probs")}
    options = dict.fromkeys((*sources, "labels"), place.options)
    assert done.num_classes == 7
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", noisydask.LabelWarning)
        found = noisydask.find_label_issues(
            done.labels, num_classes=done.num_classes, **sources, storage_options=options
        )
    check_same(found, dense(DATA.labels, probs.astype(np.result_type(dtype, np.float32))))


def test_a_writer_keeps_names(tmp_path: Path) -> None:
    writer = noisydask.PredictionWriter(tmp_path, num_examples=1030, top=3, class_names="gfedcba")
    writer.write(np.arange(1030), DATA.pred_probs, np.array([*"gfedcba"])[DATA.labels])
    done = writer.finish()
    sources = {name: getattr(done, name) for name in ("pred_probs", "pred_classes", "given_probs")}
    found = noisydask.find_label_issues(done.labels, **sources)
    assert found.to_dataframe()["given_name"].isin([*"gfedcba"]).all()
    check_same(found, dense(DATA.labels, DATA.pred_probs))
    with pytest.raises(InputError, match=r"7 class names for 3 classes.*pred_classes"):
        noisydask.find_label_issues(done.labels, done.pred_probs)


def test_a_writer_refuses_what_does_not_fit(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="at least 2"):
        noisydask.PredictionWriter(tmp_path / "w", top=1)
    writer = noisydask.PredictionWriter(tmp_path / "w", num_examples=1030, top=3)
    with pytest.raises(InputError, match="give labels"):
        writer.write([0], DATA.pred_probs[:1])
    with pytest.raises(InputError, match="has 2 classes"):
        writer.write([0], DATA.pred_probs[:1, :2], DATA.labels[:1])
    writer.write([0], DATA.pred_probs[:1], DATA.labels[:1])
    with pytest.raises(InputError, match="first 3 of 6 classes"):
        writer.write([1], DATA.pred_probs[1:2, :6], DATA.labels[1:2])
    writer.close()
