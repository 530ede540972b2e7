"""Rows handed to a task are read as if they lay in a store."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from noisydask.stores.arrays import Rows, open_rows
from noisydask.stores.task_rows import HandedRows

VALUES = np.arange(60, dtype="f4").reshape(20, 3)


@pytest.mark.parametrize(("start", "stop"), [(5, 15), (5, 6), (14, 15), (8, 8), (7, 12)])
def test_the_same_rows_as_in_a_store(start: int, stop: int, tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", VALUES)
    stored = open_rows(tmp_path / "a.npy", "a")
    assert isinstance(stored, Rows)
    handed = HandedRows("a", VALUES[5:15], first=5)
    for rows in (stored, handed):
        np.testing.assert_array_equal(rows.read(start, stop), VALUES[start:stop])
        found, unread = rows.read_or_skip(start, stop, skip=True)
        np.testing.assert_array_equal(found, VALUES[start:stop])
        assert unread == ()
        assert rows.dtype == VALUES.dtype
        assert rows.shape[1:] == (3,)
    assert handed.take_bytes_read() == 0


def test_a_block_is_read_at_once() -> None:
    assert HandedRows("a", VALUES, first=0).chunk_rows == 20
    assert HandedRows("a", VALUES[:0], first=0).chunk_rows == 1
    assert "59" not in repr(HandedRows("a", VALUES, first=0))
