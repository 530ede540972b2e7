"""Predictions that processes write in any order are the arrays that were meant."""

from __future__ import annotations

import multiprocessing
import os
import signal
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import zarr
from conftest import Place
from distributed import Client
from hypothesis import given, settings
from hypothesis import strategies as st
from layouts import make
from sklearn.datasets import load_digits
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import KFold

import noisydask
from noisydask.errors import InputError, JobError
from noisydask.predictions.written_files import FOLDER

DATA = make(rows=1030, classes=7)
NAMES = [*"gfedcba"]


def read(url: str | None, place: Place | None = None) -> Any:
    assert url is not None
    options = place.options if place is not None else None
    return zarr.open_array(url, mode="r", storage_options=options or None)[...]


def write_all(place: Place, order: Any, step: int, **how: Any) -> Any:
    """Write rows in an order, some at a time, by writers in turns."""
    how = {"num_examples": 1030, "storage_options": place.options, "flush_bytes": 4000} | how
    writers = [noisydask.PredictionWriter(f"{place.url}/w", **how) for _ in range(3)]
    for number, low in enumerate(range(0, len(order), step)):
        rows = order[low : low + step]
        writers[number % 3].write(rows, DATA.pred_probs[rows], DATA.labels[rows])
    for writer in writers[1:]:
        writer.flush()
    return writers[0]


def test_rows_in_any_order_are_put_in_place(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("noisydask.stores.array_draft.CHUNK_BYTES", 28 * 100)
    monkeypatch.setattr("noisydask.core.blocks.DEFAULT_BLOCK_BYTES", 68 * 300)
    order = np.random.default_rng(0).permutation(1030)
    done = write_all(place, order, 64, class_names=NAMES).finish()
    assert done.num_examples == 1030
    np.testing.assert_array_equal(read(done.pred_probs, place), DATA.pred_probs)
    np.testing.assert_array_equal(read(done.labels, place), DATA.labels)
    options = dict.fromkeys(("labels", "pred_probs"), place.options)
    found = noisydask.find_label_issues(done.labels, done.pred_probs, storage_options=options)
    wanted = noisydask.find_label_issues(DATA.labels, DATA.pred_probs)
    np.testing.assert_array_equal(found.indices, wanted.indices)
    assert list(found.class_names) == NAMES


def test_finishing_on_workers(tmp_path: Path, client: Client) -> None:
    done = write_all(Place(str(tmp_path)), np.arange(1030)[::-1], 100).finish()
    np.testing.assert_array_equal(read(done.pred_probs), DATA.pred_probs)


@pytest.mark.parametrize("kind", ["number", "text"])
def test_rows_by_id(kind: str, place: Place) -> None:
    ids = (
        np.arange(1030) * 7 + 5
        if kind == "number"
        else np.array([f"é/{n}" for n in range(1030)], object)
    )
    order = np.random.default_rng(1).permutation(1030)
    with noisydask.PredictionWriter(
        f"{place.url}/w", storage_options=place.options, flush_bytes=4000
    ) as writer:
        for low in range(0, 1030, 97):
            rows = order[low : low + 97]
            writer.write(ids[rows], DATA.pred_probs[rows], DATA.labels[rows])
        writer.write(ids[order[:9]], DATA.pred_probs[order[:9]], DATA.labels[order[:9]])
        done = writer.finish()
    assert done.num_examples == 1030
    options = dict.fromkeys(("labels", "pred_probs", "ids"), place.options)
    found = noisydask.find_label_issues(
        done.labels, done.pred_probs, ids=done.ids, storage_options=options
    )
    wanted = noisydask.find_label_issues(DATA.labels, DATA.pred_probs, ids=ids)
    columns = ["id", "given_label", "suggested_label", "label_quality"]
    pd.testing.assert_frame_equal(
        found.to_dataframe()[columns].sort_values("id", ignore_index=True),
        wanted.to_dataframe()[columns].sort_values("id", ignore_index=True),
    )


@given(data=st.data())
@settings(max_examples=30, deadline=None)
def test_missing_and_repeated_rows_are_named(
    data: st.DataObject, tmp_path_factory: pytest.TempPathFactory
) -> None:
    place = Place(str(tmp_path_factory.mktemp("w")))
    rows = np.array(data.draw(st.lists(st.integers(0, 19), min_size=1, max_size=60)))
    step = data.draw(st.integers(1, 30))
    how = {"num_examples": 20, "flush_bytes": data.draw(st.integers(1, 400))}
    writer = write_all(place, rows, step, **how)
    missing = sorted(set(range(20)) - set(rows.tolist()))
    if not missing:
        done = writer.finish()
        np.testing.assert_array_equal(read(done.pred_probs), DATA.pred_probs[:20])
        return
    first = ", ".join(map(str, missing[:5]))
    with pytest.raises(
        InputError, match=f"{len(missing)} of 20 rows were not .* first are {first}"
    ):
        writer.finish()
    assert not Path(place.url, "w", "pred_probs.zarr", "zarr.json").exists()
    writer.write(missing, DATA.pred_probs[missing], DATA.labels[missing])  # then it is whole
    np.testing.assert_array_equal(read(writer.finish().pred_probs), DATA.pred_probs[:20])


@pytest.mark.parametrize("by", ["position", "id"])
def test_rows_that_differ(by: str, tmp_path: Path) -> None:
    how: dict[str, Any] = {"num_examples": 3} if by == "position" else {}
    with noisydask.PredictionWriter(tmp_path, **how) as writer:
        writer.write([0, 1, 2], [[1, 0], [0.5, 0.5], [0, 1.0]])
        writer.flush()
        writer.write([1], [[0.25, 0.75]])
        with pytest.raises(InputError, match=r"different numbers; the first are 1\. .*'last'"):
            writer.finish()
        done = writer.finish(on_duplicate="last")
    assert sorted(read(done.pred_probs)[:, 0].tolist()) == [0, 0.25, 1]
    assert done.num_examples == 3


def write_part(url: str, number: int) -> None:
    with noisydask.PredictionWriter(url, num_examples=1030, flush_bytes=3000) as writer:
        for low in range(number * 50, 1030, 100):
            rows = np.arange(low, min(low + 50, 1030))
            writer.write(rows, DATA.pred_probs[rows], DATA.labels[rows])


def test_two_processes_at_once(tmp_path: Path) -> None:
    context = multiprocessing.get_context("spawn")
    url = str(tmp_path / "w")
    processes = [context.Process(target=write_part, args=(url, number)) for number in range(2)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
        assert process.exitcode == 0
    done = noisydask.finish_predictions(url, num_examples=1030)
    np.testing.assert_array_equal(read(done.pred_probs), DATA.pred_probs)


def test_a_process_that_is_killed_loses_its_buffer(tmp_path: Path) -> None:
    child = os.fork()
    if not child:
        writer = noisydask.PredictionWriter(tmp_path / "w", num_examples=30)
        writer.write(range(20), DATA.pred_probs[:20])
        writer.flush()
        writer.write(range(20, 30), DATA.pred_probs[20:30])
        os.kill(os.getpid(), signal.SIGKILL)
    os.waitpid(child, 0)
    writer = noisydask.PredictionWriter(tmp_path / "w", num_examples=30)
    with pytest.raises(InputError, match="10 of 30 rows were not written; the first are 20, 21"):
        writer.finish()
    writer.write(range(10, 30), DATA.pred_probs[10:30])
    np.testing.assert_array_equal(read(writer.finish().pred_probs), DATA.pred_probs[:30])


def test_a_forked_process_has_a_buffer_of_its_own(tmp_path: Path) -> None:
    writer = noisydask.PredictionWriter(tmp_path / "w", num_examples=30)
    writer.write(range(10), DATA.pred_probs[:10])
    child = os.fork()
    if not child:
        status = 1
        try:
            writer.write(range(10, 30), DATA.pred_probs[10:30])
            writer.flush()
            status = 0
        finally:
            os._exit(status)
    assert os.waitpid(child, 0)[1] == 0
    np.testing.assert_array_equal(read(writer.finish().pred_probs), DATA.pred_probs[:30])
    assert len(list((tmp_path / "w" / FOLDER).iterdir())) == 2


def test_what_cannot_be_written_is_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    writer = noisydask.PredictionWriter(tmp_path / "w", num_examples=3, flush_bytes=1)
    with monkeypatch.context() as patch:

        def full(*_: Any) -> None:
            raise OSError(28, "No space left on device")

        patch.setattr("noisydask.predictions.writer.write_whole", full)
        with pytest.raises(JobError, match="no space left"):
            writer.write([0], [[1.0, 0.0]])
    writer.write([1, 2], [[1.0, 0.0], [0.5, 0.5]])
    np.testing.assert_array_equal(read(writer.finish().pred_probs)[:, 0], [1, 1, 0.5])


def test_folds_of_a_cross_validation_fill_one_array(tmp_path: Path) -> None:
    images, labels = load_digits(return_X_y=True)
    images, labels = images[:600] / 16, labels[:600]
    names = [f"digit {number}" for number in range(10)]
    whole = np.zeros((600, 10), np.float32)
    with noisydask.PredictionWriter(tmp_path, num_examples=600, class_names=names) as writer:
        for train, test in KFold(3, shuffle=True, random_state=0).split(images):
            model = LogisticRegression(max_iter=200).fit(images[train], labels[train])
            whole[test] = model.predict_proba(images[test])
            writer.write(test, whole[test], np.array(names)[labels[test]])
        done = writer.finish()
    np.testing.assert_array_equal(read(done.pred_probs), whole)
    np.testing.assert_array_equal(read(done.labels), labels)


def test_what_is_refused(tmp_path: Path) -> None:
    writer = noisydask.PredictionWriter(tmp_path, num_examples=3, class_names=["a", "b"])
    for rows, probs, labels, said in (
        ([3], [[0.5, 0.5]], None, "positions must be 0 to 2, not 3"),
        (["a"], [[0.5, 0.5]], None, "positions must be integers"),
        ([0], [[0.5, 0.25, 0.25]], None, "3 columns for 2 class names"),
        ([0, 1], [[0.5, 0.5]], None, "must have the same length"),
        ([0], [[1, 0]], None, "pred_probs must be floats"),
        ([0], [[0.5, 0.5]], ["c"], "no class is called 'c'"),
    ):
        with pytest.raises(InputError, match=said):
            writer.write(rows, probs, labels)
    with pytest.raises(InputError, match="there are no predictions in"):
        writer.finish()
    writer.write([0], [[0.5, 0.5]])
    with pytest.raises(InputError, match="not like those before"):
        writer.write([1], [[0.5, 0.5]], [1])
    other = noisydask.PredictionWriter(tmp_path, num_examples=3)
    other.write([1, 2], [[0.5, 0.25, 0.25]] * 2)
    other.flush()
    with pytest.raises(InputError, match="different kinds of predictions"):
        writer.finish()
