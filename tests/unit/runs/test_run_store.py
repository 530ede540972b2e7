"""Whatever is written into a new run is recorded as it lies there."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import google_crc32c
import numpy as np
import pyarrow as pa
import pytest
import zarr

from noisydask.errors import InputError
from noisydask.runs.store import NewRun, NoRunError, Output, RunStore
from noisydask.stores.locations import Location

NAME = "20260131T020000Z-0123abcd"


@pytest.fixture
def output(tmp_path: Path) -> Output:
    return Output(Location.of(str(tmp_path), None, "out"))


@pytest.fixture
def run(output: Output) -> NewRun:
    new = output.start_run()
    new.store.make_folder()
    return new


def recorded(run: NewRun) -> None:
    """Compare what was recorded with what lies there."""
    stored = run.store.place.list()
    assert stored.keys() == run.written.keys()
    for path, entry in run.written.items():
        content = (run.store.place / path).read()
        assert (entry.path, entry.size) == (path, len(content))
        assert entry.crc32c == f"{google_crc32c.value(content):08x}"


def test_what_is_written_is_recorded(run: NewRun) -> None:
    run.write("a.json", b"{}")
    run.write("a.json", b'{"again": 1}')
    run.store.make_folder("parts")
    table = pa.table({"index": [3, 1], "id": ["x", "y"]})
    run.record([run.store.write_table("parts/0.parquet", table)])
    run.write_array("thresholds", np.array([0.5, 0.25]))
    run.write_array("empty", np.empty((0, 3), "f4"))
    array = run.create_array("scores", (25,), 10, "f4")
    for chunk, rows in enumerate((10, 10, 5)):
        run.record([array.write_recorded(chunk, np.full(rows, chunk + 1))])
    recorded(run)
    assert run.store.read_table("parts/0.parquet").equals(table)
    assert run.store.read_table("parts/0.parquet", ["id"]).column_names == ["id"]
    folder = run.store.place.path
    assert zarr.open_array(f"{folder}/thresholds")[:].tolist() == [0.5, 0.25]
    assert zarr.open_array(f"{folder}/empty").shape == (0, 3)
    assert zarr.open_array(f"{folder}/scores")[:].tolist() == [1.0] * 10 + [2.0] * 10 + [3.0] * 5
    run.store.remove_folder("parts")
    assert "parts/0.parquet" not in run.store.place.list()


def test_names_of_runs(output: Output) -> None:
    names = {output.start_run().store.run for _ in range(50)}
    assert len(names) == 50
    for name in names:
        store = output.run_store(name)
        assert store == RunStore(output.place / "runs" / name, name)
        assert output.run_store(NAME, name).place == store.place
        assert output.run_store(NAME, name).shown == f"{output.place.shown}/runs/{NAME}"


@pytest.mark.parametrize("name", ["", "latest", "../" + NAME, NAME + "/..", NAME.upper(), 7, None])
def test_what_is_no_name_of_a_run(name: Any, output: Output) -> None:
    with pytest.raises(ValueError, match="no run"):
        output.run_store(name)
    if name:
        with pytest.raises(ValueError, match="no run"):
            output.run_store(NAME, name)
    if isinstance(name, str):
        with pytest.raises(InputError, match="not the name"):
            output.open_run(name)


@pytest.mark.parametrize(
    "latest", [None, b"", b"{}", b"[1]", b"null", b'{"run": 1}', b'{"run": "../x"}', b"[" * 10**5]
)
def test_no_run_is_published(latest: bytes | None, output: Output) -> None:
    if latest is not None:
        (output.place / "latest.json").write(latest)
    with pytest.raises(NoRunError):
        output.open_run()
    with pytest.raises(NoRunError, match=NAME):
        output.open_run(NAME)
