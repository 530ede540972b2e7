"""Frames that are shuffled: each row comes to its part, however frames are joined before."""

from __future__ import annotations

from collections.abc import Sequence

import dask
import numpy as np
import pandas as pd
import pytest

from noisydask.engine import graph, shuffling


def _frame(blocks: Sequence[int]) -> pd.DataFrame:
    return pd.DataFrame({"part": np.array(blocks) % 3, "row": blocks})


def _rows(frame: pd.DataFrame) -> pd.DataFrame:
    rows = [(int(frame.index[0]), sorted(frame["row"]))] if len(frame) else []
    return pd.DataFrame({"written": pd.Series(rows, dtype=object)})


@pytest.mark.parametrize("frames", [1, 2, 5, 50])
def test_frames_that_are_joined_are_shuffled_as_they_are(
    frames: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shuffling, "_FRAMES", frames)
    monkeypatch.setattr(shuffling, "_FRAMES_PER_PART", 0)
    numbers = graph.block_numbers(range(20), (1,) * 20)
    blocks = graph.over_blocks("frames", _frame, numbers)
    with dask.config.set(scheduler="threads"):
        table = graph.compute(shuffling.shuffle_frames(blocks, _frame((0,)).iloc[:0], 3, _rows))
    parts = dict(list(table["written"]))
    assert parts == {part: list(range(part, 20, 3)) for part in range(3)}
