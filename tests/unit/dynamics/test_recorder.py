"""What a training loop records arrives as a table: whole files, from any process, with all rows but
the last unwritten."""

from __future__ import annotations

import io
import json
import linecache
import os
import pickle
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from conftest import Place

from noisydask import InputError, JobError, LossRecorder

pytestmark = pytest.mark.thorough

GONE = r"losses cannot be written to .*: FileNotFoundError"


def table(place: Place) -> pd.DataFrame:
    """All rows of a place, in the order of the files' names."""
    objects = {
        name: content for name, content in place.objects().items() if not name.startswith(".")
    }
    assert all(name.endswith(".parquet") for name in objects)
    return pd.concat(
        [pd.read_parquet(io.BytesIO(objects[name])) for name in sorted(objects)], ignore_index=True
    )


def recorder(place: Place, **how: Any) -> LossRecorder:
    return LossRecorder(place.url, place.options, **how)


def script(code: str, place: Place, *arguments: str) -> list[str]:
    """A command that runs ``code`` with a ``recorder`` on a place."""
    head = (
        "import sys, os, numpy as np; from noisydask import LossRecorder; options = "
        f"{place.options!r}; url = {place.url!r}\n"
    )
    return [sys.executable, "-c", head + code, *arguments]


def test_what_is_recorded_is_there(place: Place) -> None:
    rng = np.random.default_rng(0)
    expected = []
    with recorder(place, flush_rows=250) as to:
        for iteration in range(20):
            ids, losses = rng.permutation(60), rng.random(60, np.float32)
            to.record(iteration, ids, losses, labels=ids % 3)
            expected.append(
                pd.DataFrame({"id": ids, "iteration": iteration, "loss": losses, "label": ids % 3})
            )
            ids[:], losses[:] = 0, 0  # the caller may use its arrays again
    found = table(place)
    pd.testing.assert_frame_equal(found, pd.concat(expected, ignore_index=True))
    assert len(place.objects()) == 4  # of 300 rows: the first five iterations fill 250
    assert found["loss"].dtype == np.float32


def test_rows_are_written_after_some_seconds(tmp_path: Path) -> None:
    place = Place(str(tmp_path))
    with recorder(place, flush_seconds=0.05) as to:
        to.record(0, ["a", "b"], [1, 2])
        deadline = time.monotonic() + 30
        while not list(tmp_path.glob("*.parquet")) and time.monotonic() < deadline:
            time.sleep(0.01)
        assert table(place)["id"].tolist() == ["a", "b"]


def test_flush_writes_all_at_once(tmp_path: Path) -> None:
    place = Place(str(tmp_path))
    with recorder(place) as to:
        for iteration in range(3):
            to.record(iteration, [7], [0.5])
            to.flush()
            assert table(place)["iteration"].tolist() == list(range(iteration + 1))
        to.flush()
    assert len(place.objects()) == 3


def test_tensors(tmp_path: Path) -> None:
    torch = pytest.importorskip("torch")
    place = Place(str(tmp_path))
    losses = torch.tensor([0.5, 1.5], requires_grad=True) * 2
    with recorder(place) as to:
        to.record(3, torch.tensor([4, 5]), losses, torch.tensor([0, 1]))
        to.record(4, torch.tensor([4, 5]), losses.to(torch.bfloat16), torch.tensor([0, 1]))
    assert table(place).values.tolist() == [[4, 3, 1, 0], [5, 3, 3, 1], [4, 4, 1, 0], [5, 4, 3, 1]]


def test_half_precision(tmp_path: Path) -> None:
    place = Place(str(tmp_path))
    with recorder(place) as to:
        to.record(0, np.array([1], np.uint8), np.array([0.25], np.float16))
        to.record(1, np.array([1], np.int32), np.array([0.1]))
    assert table(place)["loss"].tolist() == [0.25, 0.1]


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (([1, 2], [0.5]), "same length"),
        (([[1]], [[0.5]]), "one dimension"),
        (([0.5], [0.5]), "integers or text"),
        (([1], ["x"]), "losses must be numbers"),
        (([1], [0.5], [0.5]), "labels must be integers"),
        (([1], [0.5], [1]), "one recorder writes one kind of table"),
        ((["a"], [0.5]), "one recorder writes one kind of table"),
        ((["a\udcff.png"], [0.5]), "text that no file can"),
        (([[1], [1, 2]], [0.5, 0.5]), "its rows differ in length"),
        ((np.array([1, 2**63], np.uint64), [0.5, 0.5]), "ids holds 9223372036854775808"),
        (([1], [0.5], np.array([2**64 - 1], np.uint64)), "labels holds 18446744073709551615"),
    ],
)
def test_what_does_not_fit_is_refused(given: tuple[Any, ...], said: str, tmp_path: Path) -> None:
    with recorder(Place(str(tmp_path))) as to:
        to.record(0, [1], [0.5])
        with pytest.raises(InputError, match=said):
            to.record(1, *given)
    assert len(table(Place(str(tmp_path)))) == 1


@pytest.mark.parametrize("iteration", [2**63, -(2**63) - 1, None, 1.7, "1"])
@pytest.mark.parametrize("first", [True, False])
def test_an_iteration_is_an_integer_and_nothing_else_stops_the_recorder(
    iteration: Any, first: bool, tmp_path: Path
) -> None:
    with recorder(Place(str(tmp_path))) as to:
        if not first:
            to.record(-(2**63), [1], [0.5])
        with pytest.raises(InputError, match="the iteration must be an integer"):
            to.record(iteration, [1], [0.5])
        to.record(np.int64(2**63 - 1), [1], [0.5])
    assert len(table(Place(str(tmp_path)))) == 1 + (not first)


def test_nothing_may_be_recorded(tmp_path: Path) -> None:
    with recorder(Place(str(tmp_path))) as to:
        to.record(0, [], [])
        to.record(0, [1], [0.5], [2])
        to.record(1, [], [], [])
        to.record(1, np.zeros(0, np.int64), np.zeros(0))
        to.record(1, [1], [0.25], [2])
        with pytest.raises(InputError, match="same length"):
            to.record(2, [], [0.5])
    assert table(Place(str(tmp_path)))["loss"].tolist() == [0.5, 0.25]
    with pytest.raises(JobError, match="closed"):
        to.record(2, [], [])


def test_closed_and_unusable(tmp_path: Path) -> None:
    to = recorder(Place(str(tmp_path)))
    to.close()
    to.close()
    with pytest.raises(JobError, match="closed"):
        to.record(0, [1], [0.5])
    with pytest.raises(InputError, match="above 0"):
        recorder(Place(str(tmp_path)), flush_rows=0)
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match="losses cannot be written to"):
        recorder(Place(str(tmp_path / "file/folder")))


def test_failures_are_told_and_no_row_is_lost_or_doubled(tmp_path: Path) -> None:
    place = Place(str(tmp_path / "losses"))
    to = recorder(place)
    to.record(0, [1, 2], [0.5, 0.25])
    shutil.rmtree(place.url)
    with pytest.raises(JobError, match=GONE):
        to.flush()
    os.mkdir(place.url)
    to.record(1, [1, 2], [0.5, 0.25])
    to.flush()
    assert table(place)["iteration"].tolist() == [0, 0, 1, 1]
    shutil.rmtree(place.url)
    to.record(2, [1], [0.5])
    with pytest.raises(JobError, match=GONE):
        to.close()


def test_training_waits_for_a_store_that_is_slow_and_hears_of_one_that_fails(
    tmp_path: Path,
) -> None:
    place = Place(str(tmp_path / "losses"))
    to = recorder(place, flush_rows=1)
    shutil.rmtree(place.url)

    def train() -> None:
        for iteration in range(10**6):
            to.record(iteration, [1], [0.5])

    with pytest.raises(JobError, match=GONE):
        train()
    os.mkdir(place.url)
    to.close()
    found = table(place)["iteration"].tolist()
    assert found == list(range(len(found)))
    assert found


KILLED = """
recorder = LossRecorder(url, options, flush_rows=500)
for iteration in range(10**6):
    recorder.record(iteration, np.arange(100), np.full(100, iteration, np.float32))
    if iteration % 7 == 0:
        recorder.flush()
        print(iteration, flush=True)
"""


def test_a_killed_process_loses_only_what_was_not_written(place: Place) -> None:
    process = subprocess.Popen(script(KILLED, place), stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    lines = [process.stdout.readline() for _ in range(4)]
    process.send_signal(signal.SIGKILL)
    lines += process.stdout.readlines()
    process.wait()
    process.stdout.close()
    written = [int(line) for line in lines if line.endswith("\n")][-1]
    iterations = table(place)["iteration"].to_numpy()
    assert iterations.max() >= written
    np.testing.assert_array_equal(iterations, np.repeat(np.arange(iterations.max() + 1), 100))


TWO = """
with LossRecorder(url, options, flush_rows=200) as recorder:
    first = int(sys.argv[1])
    for iteration in range(10):
        recorder.record(iteration, np.arange(first, first + 50), np.random.rand(50))
"""


@pytest.mark.slow
def test_several_processes_record_to_one_place(place: Place) -> None:
    processes = [subprocess.Popen(script(TWO, place, str(first))) for first in (0, 50)]
    assert [process.wait() for process in processes] == [0, 0]
    found = table(place).sort_values(["iteration", "id"], ignore_index=True)
    assert found["id"].tolist() == list(range(100)) * 10
    assert not found.duplicated(["id", "iteration"]).any()


def test_a_closed_recorder_has_nothing_to_write(tmp_path: Path) -> None:
    with LossRecorder(tmp_path) as to:
        to.record(0, [1], [0.5])
    to.flush()
    to.close()


@pytest.mark.slow
def test_what_is_not_closed_is_written_at_the_end_of_the_program(place: Place) -> None:
    subprocess.run(
        script(
            "recorder = LossRecorder(url, options); recorder.record(0, [1, 2], [0.5, 0.25])", place
        ),
        check=True,
    )
    assert table(place)["id"].tolist() == [1, 2]


FORKED = """
import warnings; warnings.simplefilter("ignore")
recorder = LossRecorder(url, options)
recorder.record(0, [1], [0.5])
child = os.fork()
if child == 0:
    recorder.flush()
    recorder.record(0, [2], [0.25])
    recorder.close()
    os._exit(0)
assert os.waitpid(child, 0)[1] == 0
recorder.record(1, [1], [0.75])
"""


@pytest.mark.slow
def test_a_forked_process_has_files_of_its_own_and_what_is_not_closed_is_written_at_exit(
    tmp_path: Path,
) -> None:
    place = Place(str(tmp_path))
    subprocess.run(script(FORKED, place), check=True)
    found = table(place).sort_values(["id", "iteration"])
    assert found[["id", "iteration"]].values.tolist() == [[1, 0], [1, 1], [2, 0]]


def test_a_recorder_travels_to_another_process(place: Place) -> None:
    with recorder(place, flush_rows=5) as to, pickle.loads(pickle.dumps(to)) as other:
        to.record(0, [1], [0.5])
        other.record(0, [2], [0.5])
    assert sorted(table(place)["id"]) == [1, 2]
    assert len(place.objects()) == 2
    assert json.dumps(place.options) not in repr(to)


def test_a_call_that_a_signal_ends_records_all_or_nothing_and_the_others_are_whole(
    tmp_path: Path,
) -> None:
    """The signal comes before each line of recording in turn."""

    def end_at(line: int) -> Any:
        seen = 0

        def trace(frame: Any, event: str, _: Any) -> Any:
            nonlocal seen
            if frame.f_code.co_name not in ("record", "add"):
                return None
            statement = linecache.getline(frame.f_code.co_filename, frame.f_lineno).strip()
            # No signal is looked at between the end of a block and that of its lock.
            if event != "line" or statement.startswith("with "):
                return trace
            seen += 1
            if seen == line:
                raise KeyboardInterrupt
            return trace

        return trace

    ended = 0
    for line in range(1, 45):
        place = Place(str(tmp_path / str(line)))
        with recorder(place, flush_rows=5) as to:
            to.record(0, [1, 2], [0.5, 0.25])
            before = sys.gettrace()
            try:
                sys.settrace(end_at(line))
                to.record(1, [3, 4, 5], [1.0, 2.0, 3.0])
            except KeyboardInterrupt:
                ended += 1
            finally:
                sys.settrace(before)
            to.record(2, [6], [4.0])
        rows = sorted(table(place)[["iteration", "id", "loss"]].itertuples(index=False, name=None))
        others = [(0, 1, 0.5), (0, 2, 0.25), (2, 6, 4.0)]
        assert rows in (others, sorted([*others, (1, 3, 1.0), (1, 4, 2.0), (1, 5, 3.0)])), line
    assert ended > 10
