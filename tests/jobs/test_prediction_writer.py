"""Predictions that processes write in any order are the arrays that were meant."""

from __future__ import annotations

import multiprocessing
import os
import pickle
import signal
import subprocess
import sys
import time
import warnings
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
    small_blocks(monkeypatch)
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


def by_id(place: Place, ids: Any, order: Any, step: int, **how: Any) -> Any:
    """Write rows in an order by two writers in turns, and put them in place."""
    how = {"storage_options": place.options, "flush_bytes": 4000} | how
    with (
        noisydask.PredictionWriter(f"{place.url}/w", **how) as one,
        noisydask.PredictionWriter(f"{place.url}/w", **how) as other,
    ):
        for number, low in enumerate(range(0, len(order), step)):
            rows = order[low : low + step]
            (one, other)[number % 2].write(ids[rows], DATA.pred_probs[rows], DATA.labels[rows])
    return noisydask.finish_predictions(f"{place.url}/w", storage_options=place.options)


def small_blocks(patch: pytest.MonkeyPatch) -> None:
    """Blocks of 300 rows in chunks of 100, in files of batches of 20."""
    patch.setattr("noisydask.stores.array_draft.CHUNK_BYTES", 28 * 100)
    patch.setattr("noisydask.predictions.planning.BLOCK_BYTES", 68 * 300)
    patch.setattr("noisydask.predictions.written_files._BATCH_BYTES", 28 * 20)


@pytest.mark.parametrize("kind", ["number", "text"])
def test_rows_by_id_are_in_ascending_order_whoever_wrote_them(
    kind: str, place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    small_blocks(monkeypatch)
    if kind == "number":
        ids = np.arange(1030) * 7 - 500
    else:
        ids = np.array(sorted(f"{'aé🙂'[n % 3]}/{n}" for n in range(1030)), object)
    order = np.random.default_rng(1).permutation(1030)
    done = by_id(place, ids, np.concatenate([order, order[:300], order[:9]]), 97)
    assert done.num_examples == 1030
    assert read(done.ids, place).tolist() == ids.tolist()
    np.testing.assert_array_equal(read(done.pred_probs, place), DATA.pred_probs)
    np.testing.assert_array_equal(read(done.labels, place), DATA.labels)
    options = dict.fromkeys(("labels", "pred_probs", "ids"), place.options)
    found = noisydask.find_label_issues(
        done.labels, done.pred_probs, ids=done.ids, storage_options=options
    )
    wanted = noisydask.find_label_issues(DATA.labels, DATA.pred_probs, ids=ids)
    columns = ["id", "given_label", "suggested_label", "label_quality"]
    pd.testing.assert_frame_equal(found.to_dataframe()[columns], wanted.to_dataframe()[columns])


@given(data=st.data())
@settings(max_examples=60, deadline=None)
def test_any_ids_in_any_files_and_blocks(
    data: st.DataObject, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """Blocks, ranges and batches of a few rows each meet in every way."""
    text = st.text(st.characters(exclude_categories=["Cs"]), max_size=3)
    names = st.lists(st.integers(-(2**63), 2**63 - 1) | st.integers(-9, 9), min_size=1, max_size=70)
    if data.draw(st.booleans()):
        names = st.lists(text, min_size=1, max_size=70)
    written = data.draw(names)
    distinct = sorted(set(written))
    rows = np.array([distinct.index(name) for name in written])
    kind = object if isinstance(distinct[0], str) else np.int64
    place = Place(str(tmp_path_factory.mktemp("w")))
    with pytest.MonkeyPatch.context() as patch:
        small_blocks(patch)
        size = data.draw(st.integers(1, 9))
        patch.setattr("noisydask.predictions.planning.BLOCK_BYTES", 68 * size)
        patch.setattr("noisydask.stores.array_draft.CHUNK_BYTES", 28 * data.draw(st.integers(1, 3)))
        patch.setattr("noisydask.predictions.written_files._BATCH_BYTES", 28 * 2)
        flush_bytes = data.draw(st.integers(1, 700))
        step = data.draw(st.integers(1, 30))
        done = by_id(place, np.array(distinct, kind), rows, step, flush_bytes=flush_bytes)
    assert read(done.ids).tolist() == distinct
    np.testing.assert_array_equal(read(done.pred_probs), DATA.pred_probs[: len(distinct)])
    np.testing.assert_array_equal(read(done.labels), DATA.labels[: len(distinct)])


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
@pytest.mark.parametrize("flush", [True, False])
def test_rows_that_differ(by: str, flush: bool, tmp_path: Path) -> None:
    how: dict[str, Any] = {"num_examples": 3} if by == "position" else {}
    names: list[Any] = [0, 1, 2] if by == "position" else ["x", "y", "z"]
    with noisydask.PredictionWriter(tmp_path, **how) as writer:
        writer.write(names, [[1, 0], [0.5, 0.5], [0, 1.0]], [0, 1, 1])
        if flush:
            writer.flush()
        writer.write(names[1:2], [[0.25, 0.75]], [1])
        said = f"1 row written several times with different numbers; the first are {names[1]!r}"
        with pytest.raises(InputError, match=rf"{said}\. .*'last'"):
            writer.finish()
        writer.write(names[2:], [[0, 1.0]], [0])
        said = f"1 row written several times with different labels; the first are {names[2]!r}"
        with pytest.raises(InputError, match=said):
            writer.finish()
        done = writer.finish(on_duplicate="last")
    assert read(done.pred_probs)[:, 0].tolist() == [1, 0.25, 0]
    assert read(done.labels).tolist() == [0, 1, 0]
    assert done.num_examples == 3


def test_the_last_is_that_of_the_writer_that_began_last(tmp_path: Path) -> None:
    for number in range(5):
        with noisydask.PredictionWriter(tmp_path, num_examples=1) as writer:
            writer.write([0], [[number / 4]])
    done = noisydask.finish_predictions(tmp_path, on_duplicate="last")
    assert read(done.pred_probs).tolist() == [[1.0]]


@pytest.mark.parametrize("how", [{"num_examples": 1}, {}])
def test_one_row_that_is_written_very_often(how: dict[str, Any], tmp_path: Path) -> None:
    with noisydask.PredictionWriter(tmp_path, **how) as writer:
        for _ in range(3):
            writer.write(np.zeros(2000, int), np.repeat(DATA.pred_probs[:1], 2000, 0))
        done = writer.finish()
    np.testing.assert_array_equal(read(done.pred_probs), DATA.pred_probs[:1])


def test_a_job_that_ran_twice_by_id(tmp_path: Path) -> None:
    """No work is done for each row that is there twice."""
    rows = 100_000
    probs = np.random.default_rng(0).random((rows, 2), np.float32)
    for part in (slice(None), slice(None, None, -1)):
        with noisydask.PredictionWriter(tmp_path) as writer:
            writer.write(np.arange(rows)[part], probs[part])
    began = time.monotonic()
    done = noisydask.finish_predictions(tmp_path)
    assert time.monotonic() - began < 20  # it takes a fraction of a second
    np.testing.assert_array_equal(read(done.pred_probs), probs)


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
    done = noisydask.finish_predictions(url)
    np.testing.assert_array_equal(read(done.pred_probs), DATA.pred_probs)


def fork() -> int:
    """Fork although there are threads, of which Python warns from 3.12 on."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        return os.fork()


def test_a_process_that_is_killed_loses_its_buffer(tmp_path: Path) -> None:
    child = fork()
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
    child = fork()
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


def test_what_cannot_be_written_is_kept(tmp_path: Path) -> None:
    writer = noisydask.PredictionWriter(tmp_path / "w", num_examples=3)
    (tmp_path / "w" / FOLDER).rmdir()
    writer.write([0], [[1.0, 0.0]])
    with pytest.raises(JobError, match="predictions cannot be written to"):
        writer.flush()
    (tmp_path / "w" / FOLDER).mkdir()
    writer.write([1, 2], [[1.0, 0.0], [0.5, 0.5]])
    np.testing.assert_array_equal(read(writer.finish().pred_probs)[:, 0], [1, 1, 0.5])
    writer.close()
    with pytest.raises(JobError, match="closed, and takes no more predictions"):
        writer.write([0], [[1.0, 0.0]])


LEFT = """
import sys, noisydask
writer = noisydask.PredictionWriter(sys.argv[1], num_examples=1)
writer.write([0], [[0.5, 0.5]])
"""


def test_what_a_program_leaves_is_written(tmp_path: Path) -> None:
    subprocess.run([sys.executable, "-c", LEFT, str(tmp_path)], check=True)
    assert noisydask.finish_predictions(tmp_path).num_examples == 1


def test_a_writer_that_travels_has_files_of_its_own(tmp_path: Path) -> None:
    """As in containers, where all processes have one number."""
    writer = noisydask.PredictionWriter(tmp_path, num_examples=4, class_names=["a", "b"])
    for rows in ([0, 1], [2, 3]):
        with pickle.loads(pickle.dumps(writer)) as other:
            other.write(rows, [[0.5, 0.5]] * 2, ["a", "b"])
    assert read(writer.finish().labels).tolist() == [0, 1, 0, 1]


def test_finishing_knows_what_writers_were_told(tmp_path: Path) -> None:
    with noisydask.PredictionWriter(tmp_path, num_examples=3, class_names=["a", "b"]) as writer:
        writer.write([0, 1], [[0.5, 0.5]] * 2, ["a", "b"])
    with pytest.raises(InputError, match="1 of 3 rows were not written; the first are 2"):
        noisydask.finish_predictions(tmp_path)
    with noisydask.PredictionWriter(tmp_path, num_examples=3, class_names=["b", "a"]) as writer:
        writer.write([2], [[0.5, 0.5]], ["a"])
    with pytest.raises(InputError, match=r"column 0 is called 'a' in .*, but 'b' in"):
        noisydask.finish_predictions(tmp_path)


def test_files_of_another_version_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr("noisydask.predictions.written_files.VERSION", 9)
        with noisydask.PredictionWriter(tmp_path, num_examples=1) as writer:
            writer.write([0], [[0.5, 0.5]])
    with pytest.raises(InputError, match="is of version 9 of this format, not 1"):
        noisydask.finish_predictions(tmp_path)


FINISH = """
import sys, noisydask
from noisydask.stores import array_draft
from noisydask.predictions import planning
array_draft.CHUNK_BYTES, planning.BLOCK_BYTES = 28 * 5, 68 * 5
noisydask.finish_predictions(sys.argv[1])
"""


def test_finishing_again_after_a_kill_gives_the_same_bytes(tmp_path: Path) -> None:
    for name in ("killed", "whole"):
        write_all(Place(str(tmp_path / name)), np.arange(1030)[::-1], 100).flush()
    command = [sys.executable, "-c", FINISH]
    subprocess.run([*command, str(tmp_path / "whole/w")], check=True)
    killed = tmp_path / "killed/w"
    process = subprocess.Popen([*command, str(killed)])
    while process.poll() is None and len(list(killed.glob("pred_probs.zarr/c/*"))) < 20:
        time.sleep(0.001)
    process.kill()
    process.wait()
    assert not (killed / "pred_probs.zarr/zarr.json").exists()
    subprocess.run([*command, str(killed)], check=True)
    for name in ("pred_probs.zarr", "labels.zarr"):
        found, wanted = (
            Place(str(tmp_path / which / "w" / name)).objects() for which in ("killed", "whole")
        )
        assert found == wanted


@pytest.mark.parametrize("finished", [True, False])
def test_a_chunk_that_a_kill_left_half_written_is_no_hindrance(
    finished: bool, tmp_path: Path
) -> None:
    """Zarr writes a chunk beside its place, and renames it."""
    writer = write_all(Place(str(tmp_path)), np.arange(1030), 100)
    if finished:
        writer.finish()
    for number, name in enumerate(("pred_probs.zarr", "labels.zarr")):
        folder = tmp_path / "w" / name / "c" / "0"[: 1 - number]
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f"0.{'0123456789abcdef' * 2}.partial").write_bytes(b"half")
    np.testing.assert_array_equal(read(writer.finish().pred_probs), DATA.pred_probs)
    assert not list((tmp_path / "w").rglob("*.partial"))
    (tmp_path / "w/labels.zarr/c/notes.partial").write_bytes(b"mine")
    with pytest.raises(InputError, match=r"holds 'c/notes\.partial', which is no part"):
        writer.finish()


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_types_are_kept(dtype: Any, tmp_path: Path) -> None:
    probs = DATA.pred_probs[:50].astype(dtype)
    with noisydask.PredictionWriter(tmp_path, num_examples=50) as writer:
        writer.write(range(50), probs)
        found = read(writer.finish().pred_probs)
    assert found.dtype == dtype
    np.testing.assert_array_equal(found, probs)


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
        ([0], np.zeros((1, 0)), None, "pred_probs has no columns"),
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
    said = "different kinds of predictions .* 2 classes of float64, .*; .* 3 classes of float64"
    with pytest.raises(InputError, match=said):
        writer.finish()
    with pytest.raises(InputError, match="num_examples must be above 0"):
        noisydask.PredictionWriter(tmp_path, num_examples=0)
