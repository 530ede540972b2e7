"""Logits, quantised values and votes give the answer of the probabilities that they become."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import dask.array as da
import numpy as np
import pytest
import zarr
from conftest import Place
from hypothesis import given, settings
from hypothesis import strategies as st
from layouts import make, write_zarr

import noisydask
from noisydask.core.row_values import normalized, scaled, softmax
from noisydask.errors import InputError, JobError

DATA = make(rows=1030, classes=7)
LOGITS = np.log(DATA.pred_probs).astype(np.float32) + 11
VOTES = np.random.default_rng(0).poisson(DATA.pred_probs * 9 + 0.05).astype(np.uint8)
VOTES[VOTES.sum(1) == 0, 0] = 1
COARSE = np.round(DATA.pred_probs.astype(np.float64) * 65535).astype(np.uint16)
KINDS: dict[str, tuple[Any, dict[str, Any], Any]] = {
    "logits": (LOGITS, {"logits": True}, softmax(LOGITS)),
    "warm": (LOGITS, {"logits": True, "temperature": 2.5}, softmax(LOGITS, 2.5)),
    "half": (LOGITS.astype("f2"), {"logits": True}, softmax(LOGITS.astype("f2"))),
    "double": (LOGITS.astype("f8"), {"logits": True}, softmax(LOGITS.astype("f8"))),
    "votes": (VOTES, {"normalize": True}, normalized(VOTES)),
    "scale": (COARSE, {"scale": 1 / 65535}, scaled(COARSE, 1 / 65535)),
}


def check_same(found: Any, probs: Any) -> None:
    wanted = noisydask.find_label_issues(DATA.labels, probs)
    assert found.num_issues > 50
    np.testing.assert_array_equal(found.indices, wanted.indices)
    np.testing.assert_array_equal(found.label_quality.compute(), wanted.label_quality.compute())


@pytest.mark.parametrize("kind", KINDS)
def test_values_give_the_answer_of_their_probabilities(kind: str, place: Place) -> None:
    values, how, probs = KINDS[kind]
    url = write_zarr(place / "values", values)
    options = {"pred_probs": place.options, "out": place.options}
    out = {"out": f"{place.url}/out", "storage_options": options, "block_bytes": 9000}
    found = noisydask.find_label_issues(DATA.labels, url, **how, **out)
    check_same(found, probs)
    again = noisydask.find_label_issues(DATA.labels, url, **how, **out, compare=True)
    assert again.manifest["blocks"]["scanned"] == 0
    for source in (values, da.from_array(values, chunks=(100, 3))):
        check_same(noisydask.find_label_issues(DATA.labels, source, **how), probs)


def test_another_temperature_is_another_input(tmp_path: Path) -> None:
    zarr.create_array(tmp_path / "z.zarr", data=LOGITS, chunks=(100, 7))
    how: dict[str, Any] = {"out": tmp_path / "out", "block_bytes": 9000, "logits": True}
    first = noisydask.find_label_issues(DATA.labels, tmp_path / "z.zarr", **how)
    second = noisydask.find_label_issues(DATA.labels, tmp_path / "z.zarr", **how, temperature=2)
    assert first.manifest["blocks"]["scanned"] == second.manifest["blocks"]["scanned"] > 5
    check_same(second, softmax(LOGITS, 2))


@pytest.mark.parametrize("how", [{"logits": True}, {"normalize": True}])
def test_a_lost_chunk_of_some_classes_is_named(how: dict[str, Any], tmp_path: Path) -> None:
    """Without it the rows would still add up to 1."""
    values = LOGITS if "logits" in how else VOTES
    zarr.create_array(tmp_path / "z.zarr", data=values, chunks=(100, 4))
    (tmp_path / "z.zarr" / "c" / "3" / "1").unlink()
    with pytest.raises(JobError, match=r"chunk c/3/1, rows 300 to 399 .* is not stored"):
        noisydask.find_label_issues(DATA.labels, tmp_path / "z.zarr", **how)


def test_several_models_of_logits() -> None:
    other = LOGITS + np.random.default_rng(1).normal(0, 1, LOGITS.shape).astype(np.float32)
    found = noisydask.find_label_issues(DATA.labels, [LOGITS, other], logits=True)
    wanted = noisydask.find_label_issues(DATA.labels, [softmax(LOGITS), softmax(other)])
    np.testing.assert_array_equal(found.indices, wanted.indices)


@given(st.data())
@settings(max_examples=60)
def test_softmax_is_that_of_float64(data: st.DataObject) -> None:
    width = data.draw(st.integers(1, 40))
    row = data.draw(st.lists(st.floats(-100, 100, width=32), min_size=width, max_size=width))
    temperature = data.draw(st.floats(0.5, 5))
    values = np.array([row, row[::-1]], np.float32)
    shifted = (values.astype(np.float64) - values.max(1, keepdims=True)) / np.float32(temperature)
    wanted = np.exp(shifted)
    wanted /= wanted.sum(1, keepdims=True)
    np.testing.assert_allclose(softmax(values, temperature), wanted, rtol=3e-5, atol=2e-38)
    double = softmax(values.astype(np.float64), float(np.float32(temperature)))
    np.testing.assert_allclose(double, wanted, rtol=1e-9, atol=1e-300)
    # A row is what it is, whatever lies beside it.
    np.testing.assert_array_equal(softmax(values)[1:], softmax(values[1:]))


def test_extreme_logits() -> None:
    values = np.array([[3e38, -3e38, 0], [0, -np.inf, 0], [88, 88, 88]], np.float32)
    np.testing.assert_array_equal(
        softmax(values), np.array([[1, 0, 0], [0.5, 0, 0.5], [1 / 3] * 3], np.float32)
    )
    wrong = np.array([[np.nan, 0], [np.inf, 0], [-np.inf, -np.inf]], np.float32)
    with pytest.raises(InputError, match="3 of 3 rows are invalid: 3 with NaN"):
        noisydask.find_label_issues([0, 1, 1], wrong, logits=True)
    with pytest.raises(InputError, match="2 of 3 rows are invalid: 2 with NaN"):
        noisydask.find_label_issues([0, 1, 1], [[0, 0], [1.0, -1.0], [3, 1]], normalize=True)


def test_what_is_not_said_names_its_option() -> None:
    for values, said in (
        (LOGITS, "If they are logits or votes, say so. .*logits=True, normalize=True"),
        (VOTES.astype(np.float32) / 20, "If they are votes, .*normalize=True"),
        (VOTES, r"uint8; if they are quantised.*scale=0.0039.*normalize=True"),
    ):
        with pytest.raises(InputError, match=said):
            noisydask.find_label_issues(DATA.labels, values)
    with pytest.raises(InputError, match="one of logits, scale and normalize"):
        noisydask.find_label_issues(DATA.labels, LOGITS, logits=True, normalize=True)
    with pytest.raises(InputError, match="temperature belongs to logits"):
        noisydask.find_label_issues(DATA.labels, LOGITS, temperature=2)
