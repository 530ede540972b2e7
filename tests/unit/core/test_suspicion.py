"""Labels and predictions that look as if they do not belong together are warned of."""

from __future__ import annotations

import json
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import dask.array as da
import numpy as np
import pandas as pd
import pytest
from conftest import Place
from distributed import LocalCluster
from hypothesis import given, settings
from hypothesis import strategies as st
from layouts import make, write_zarr

import noisydask
from noisydask.cli.app import main
from noisydask.engine.progress import Silent
from noisydask.errors import GateError, InputError, LabelWarning

DATA = make(rows=1030, classes=7, noise=0.1)
SHIFTED = (DATA.labels + 1) % 7


@contextmanager
def warned(*, once: bool) -> Iterator[None]:
    """Expect one warning, or none."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        yield
    assert [each.category for each in caught] == [LabelWarning] * once
    assert all(Path(each.filename) == Path(__file__) for each in caught)


def is_suspicious(labels: Any, pred_probs: Any, issues: int) -> bool:
    """The definition."""
    rows, commonest = len(labels), np.bincount(labels).max()
    agreeing = int((pred_probs.argmax(1) == labels).sum())
    return bool(rows >= 100 and commonest < rows and (agreeing <= commonest or 2 * issues > rows))


@pytest.mark.parametrize("block_bytes", [1 << 27, 3000])
def test_shifted_labels_are_published_with_a_warning(block_bytes: int, tmp_path: Path) -> None:
    with warned(once=True):
        found = noisydask.find_label_issues(
            SHIFTED, DATA.pred_probs, out=tmp_path / "out", block_bytes=block_bytes
        )
    agreeing, commonest = (DATA.pred_probs.argmax(1) == SHIFTED).sum(), np.bincount(SHIFTED).max()
    (text,) = found.warnings
    assert f"{agreeing} of 1,030 examples" in text
    assert f"({commonest})" in text
    assert f"{found.num_issues:,} of 1,030 examples are issues" in text
    again = noisydask.open_run(tmp_path / "out")
    assert again.warnings == found.warnings == tuple(again.manifest["warnings"])
    status = json.loads((tmp_path / "out/runs" / found.run.run / "status.json").read_text())
    assert status["warnings"] == [text]


def test_a_run_that_reads_nothing_warns_all_the_same(tmp_path: Path) -> None:
    stored = write_zarr(Place(str(tmp_path)) / "p.zarr", DATA.pred_probs)
    for _ in range(2):
        with warned(once=True):
            found = noisydask.find_label_issues(SHIFTED, stored, out=tmp_path / "out")
    assert found.manifest["blocks"]["scanned"] == 0


@pytest.mark.parametrize("source", ["shuffled rows", "a Dask array", "the compatible function"])
def test_rows_in_another_order(source: str) -> None:
    order = np.random.default_rng(0).permutation(1030)
    labels: Any = DATA.labels[order]
    with warned(once=True):
        if source == "the compatible function":
            noisydask.find_label_issues_batched(labels, DATA.pred_probs, verbose=False)
        else:
            labels = da.from_array(labels, chunks=100) if source == "a Dask array" else labels
            noisydask.find_label_issues(labels, DATA.pred_probs)


@settings(max_examples=15)
@given(st.integers(80, 300), st.integers(1, 4), st.integers(0, 10**6), st.floats(0, 1))
def test_warned_exactly_by_the_definition(rows: int, classes: int, seed: int, noise: float) -> None:
    data = make(rows, classes, seed, noise)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        found = noisydask.find_label_issues(data.labels, data.pred_probs)
    expected = is_suspicious(data.labels, data.pred_probs, found.num_issues)
    assert len(found.warnings) == len(caught) == expected


def test_most_are_issues_though_labels_agree_more_often_than_the_commonest_class() -> None:
    labels = np.where(np.arange(1030) % 10 < 6, SHIFTED, DATA.labels)
    with warned(once=True):
        found = noisydask.find_label_issues(labels, DATA.pred_probs)
    assert (DATA.pred_probs.argmax(1) == labels).sum() > np.bincount(labels).max()
    assert "always predicted" not in found.warnings[0]


def test_what_is_no_sign_of_anything() -> None:
    probs = DATA.pred_probs
    for labels, rows in (
        (DATA.labels, probs),
        (SHIFTED[:99], probs[:99]),  # too few to tell
        (np.zeros(300, int), probs[:300]),  # one class
        (np.zeros(300, int), np.ones((300, 1), np.float32)),
    ):
        with warned(once=False):
            assert noisydask.find_label_issues(labels, rows).warnings == ()
    broken = probs.copy()
    broken[:950] = np.nan  # of 1,030 examples 80 are left
    with warned(once=False):
        noisydask.find_label_issues(SHIFTED, broken, on_invalid="skip")


def test_who_shows_progress_shows_warnings() -> None:
    class Listener(Silent):
        def __init__(self) -> None:
            self.texts: list[str] = []

        def warning(self, text: str) -> None:
            self.texts.append(text)

    listener = Listener()
    with warned(once=False):
        found = noisydask.find_label_issues(SHIFTED, DATA.pred_probs, reporter=listener)
    assert tuple(listener.texts) == found.warnings != ()


def test_gates_and_warnings_as_errors_leave_the_run_published(tmp_path: Path) -> None:
    with warned(once=True), pytest.raises(GateError) as caught:
        noisydask.find_label_issues(SHIFTED, DATA.pred_probs, fail_above=0.5)
    assert caught.value.issues.warnings
    with pytest.raises(LabelWarning):
        noisydask.find_label_issues(SHIFTED, DATA.pred_probs, out=tmp_path / "out")
    assert noisydask.open_run(tmp_path / "out").warnings


def test_one_line_on_the_terminal(
    tmp_path: Path, one_worker: LocalCluster, capfd: pytest.CaptureFixture[str]
) -> None:
    place, out = Place(str(tmp_path)), str(tmp_path / "out")
    labels, probs = (
        write_zarr(place / "l.zarr", SHIFTED),
        write_zarr(place / "p.zarr", DATA.pred_probs),
    )
    command = ["issues", "--labels", labels, "--pred-probs", probs, "--out", out]
    for more, status in (([], 0), (["--fail-above", "0.5"], 3)):
        assert main([*command, *more, "--scheduler", one_worker.scheduler_address]) == status
        seen = capfd.readouterr()
        assert sum("warning: labels agree" in line for line in seen.err.splitlines()) == 1
        assert "warning" not in seen.out
    assert main(["show", out, "--top", "1"]) == 0
    assert capfd.readouterr().err.count("warning: labels agree") == 1
    assert main(["show", out, "--top", "1", "--json"]) == 0
    seen = capfd.readouterr()
    assert json.loads(seen.out)["warnings"] == list(noisydask.open_run(out).warnings)
    assert seen.err == ""


# --- labels that count from 1


@pytest.mark.parametrize("block_bytes", [1 << 27, 3000])
@pytest.mark.parametrize("ordered", [False, True])
def test_labels_from_1_to_k(block_bytes: int, ordered: bool) -> None:
    labels = np.sort(DATA.labels) if ordered else DATA.labels
    hint = "do they count from 1"

    def message(given: Any) -> str:
        with pytest.raises(InputError, match="labels outside 0 to K-1") as caught:
            noisydask.find_label_issues(given, DATA.pred_probs, block_bytes=block_bytes)
        return str(caught.value)

    assert "count from 1? Correct them" in message(labels + 1)
    assert hint in message((labels + 1).astype(np.uint8))
    changes = ((labels == 0, 0), (labels == 6, 8), (labels == 0, 2), (labels == 0, -1))
    for chosen, value in changes:
        assert hint not in message(np.where(chosen, value, labels + 1))
    few = np.where(labels == 6, 7, labels)  # of a model with one class too few
    assert hint not in message(few)


def test_labels_from_1_that_an_earlier_run_left_out(tmp_path: Path) -> None:
    place, out = Place(str(tmp_path)), tmp_path / "out"
    stored = write_zarr(place / "p.zarr", DATA.pred_probs)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        found = noisydask.find_label_issues(DATA.labels + 1, stored, out=out, on_invalid="skip")
    assert len(caught) == len(found.warnings) == 2
    assert "count from 1" in found.warnings[0]
    with pytest.raises(InputError, match="count from 1"):
        noisydask.find_label_issues(DATA.labels + 1, stored, out=out)


# --- pandas


def test_indexes_that_differ() -> None:
    labels, probs = pd.Series(DATA.labels), pd.DataFrame(DATA.pred_probs)
    other = pd.Index(np.arange(1030)[::-1])
    with warned(once=False):
        noisydask.find_label_issues(labels, probs, ids=pd.Series(np.arange(1030)))
        noisydask.find_label_issues(labels.set_axis(other), probs.set_axis(other))
        noisydask.find_label_issues(labels.set_axis(other), DATA.pred_probs)
    for how in (
        {"labels": labels.set_axis(other), "pred_probs": probs},
        {"labels": labels, "pred_probs": probs.set_axis(other)},
        {"labels": labels, "pred_probs": DATA.pred_probs, "ids": pd.Series(other, other)},
    ):
        with warned(once=True):
            found = noisydask.find_label_issues(**how)
        assert "indexes of labels and " in found.warnings[0]


def test_indexes_of_losses_that_differ() -> None:
    losses, labels = pd.DataFrame(np.ones((4, 2))), pd.Series([0, 1, 0, 1])
    with warned(once=False):
        noisydask.analyze_loss_dynamics(losses, labels=labels)
    with warned(once=True):
        found = noisydask.analyze_loss_dynamics(losses, labels=labels.set_axis([3, 2, 1, 0]))
    assert found.warnings == tuple(found.manifest["warnings"]) != ()


@pytest.mark.parametrize("names", [range(7), "abcdefg", [f"c{k}" for k in range(7)]])
def test_columns_in_another_order(names: Any) -> None:
    """Columns that have the names of the classes are taken by them."""
    names, order = [str(name) for name in names], [1, 0, *range(2, 7)]
    probs = pd.DataFrame(DATA.pred_probs, columns=names)
    given_names = None if names[0] == "0" else names
    wanted = noisydask.find_label_issues(DATA.labels, DATA.pred_probs)
    for columns in (range(7), order):
        with warned(once=False):
            found = noisydask.find_label_issues(
                DATA.labels, probs.iloc[:, list(columns)], class_names=given_names
            )
        np.testing.assert_array_equal(found.indices, wanted.indices)
    with warned(once=False):  # names that are others tell nothing
        noisydask.find_label_issues(DATA.labels, probs.add_prefix("p_"), class_names=given_names)
