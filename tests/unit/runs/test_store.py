"""A run that is being made: what is written is recorded, and where other files are is known."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

import google_crc32c
import numpy as np
import pytest
import zarr

from noisydask.errors import InputError
from noisydask.runs.kinds import JOBS
from noisydask.runs.overlap import WRITTEN, refuse_overlap
from noisydask.runs.store import Output


def test_what_is_written_is_recorded(tmp_path: Path) -> None:
    run = Output.at(tmp_path).start_run()
    run.store.make_folder()
    run.write("a.json", b"{}")
    run.write_array("values.zarr", np.arange(5))
    run.write_array("none.zarr", np.zeros(0))
    array = run.create_array("chunks.zarr", (6,), 4, "f4")
    run.record([array.write_recorded(1, np.ones(2, "f4"))])
    names = {"a.json", "values.zarr/zarr.json", "values.zarr/0", "none.zarr/zarr.json"}
    assert set(run.written) == names | {"chunks.zarr/zarr.json", "chunks.zarr/1"}
    for path, stored in run.written.items():
        content = (run.store.place / path).read()
        expected = {"path": path, "size": len(content)}
        assert asdict(stored) == expected | {"crc32c": f"{google_crc32c.value(content):08x}"}
    values = zarr.open_array((run.store.place / "values.zarr").path, mode="r")
    np.testing.assert_array_equal(values[...], np.arange(5))


def test_an_object_written_twice_is_recorded_once(tmp_path: Path) -> None:
    run = Output.at(tmp_path).start_run()
    run.store.make_folder()
    run.write("a.json", b"1")
    run.write("a.json", b"22")
    assert [stored.size for stored in run.written.values()] == [2]


def test_jobs_declare_what_they_write_below_an_output() -> None:
    checkpoints = {kind.checkpoint for kind in JOBS.values() if kind.checkpoint}
    assert checkpoints < set(WRITTEN)
    for kind in JOBS.values():
        assert set(kind.reads) <= set(JOBS)
        assert all(kind.load(part) for part in ("function", "options", "result", "view"))


@pytest.mark.parametrize("written", WRITTEN)
def test_no_input_lies_in_what_is_written(written: str) -> None:
    with pytest.raises(InputError, match="labels at out/"):
        refuse_overlap("out", {"labels": f"out/{written}/l.zarr"})
    refuse_overlap("out", {"labels": "out/l.zarr"})


def test_no_output_lies_in_an_input() -> None:
    with pytest.raises(InputError, match="would damage it"):
        refuse_overlap("a/p.zarr/out", {"pred_probs": "a/p.zarr"})
