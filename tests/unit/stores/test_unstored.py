"""Chunks that are not stored: lost, or written as nothing but the fill value."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import zarr

from noisydask.errors import JobError
from noisydask.stores.arrays import Rows, open_rows
from noisydask.stores.fingerprints import Snapshot, snapshots
from noisydask.stores.unstored import described, refuse_lost, unstored


def snapshot(folder: Path, missing: tuple[int, ...], empty: tuple[int, ...]) -> Snapshot:
    """List an array of five chunks, 10 rows each, of which some are not stored or of no bytes."""
    array = zarr.create_array(str(folder), shape=(45,), chunks=(10,), dtype="i4", fill_value=7)
    array[:] = np.arange(100, 145)
    for chunk in missing:
        (folder / f"c/{chunk}").unlink()
    for chunk in empty:
        (folder / f"c/{chunk}").write_bytes(b"")
    rows = open_rows(folder, "labels")
    assert isinstance(rows, Rows)
    return snapshots({"labels": rows})["labels"]


@pytest.mark.parametrize("missing", [(), (1,), (0, 3)])
@pytest.mark.parametrize("empty", [(), (4,), (2, 4)])
def test_which_are_lost(missing: tuple[int, ...], empty: tuple[int, ...], tmp_path: Path) -> None:
    found = snapshot(tmp_path / "a", missing, empty)
    lost, filled = (
        [{chunk.start: chunk.stop for chunk in chunks} for chunks in unstored(found, filled)]
        for filled in (False, True)
    )
    rows = [{10 * n: min(10 * n + 10, 45) for n in which} for which in (missing, empty)]
    assert lost == [rows[0] | rows[1], {}]
    assert filled == [rows[1], rows[0]]
    assert described(found, True).get("chunks_not_stored", 0) == len(missing) + len(empty)
    assert described(found, False) == described(found, True)
    assert "fingerprint" in described(found, True)


@pytest.mark.parametrize("skip", [True, False])
def test_the_first_that_is_lost_is_named(skip: bool, tmp_path: Path) -> None:
    found = snapshot(tmp_path / "a", (1,), (4,))
    lost, _ = unstored(found, filled=False)
    refuse_lost("labels", found, [])
    with pytest.raises(JobError, match=r"labels at .*/a: .*rows \d+ to \d+ .*2 chunks") as refused:
        refuse_lost("labels", found, lost, skip)
    assert ("on_unreadable='skip'" in str(refused.value)) is skip
