"""A table of losses whose rows must move is ranked as plain loops rank it, whatever its ids are and
however it is cut."""

from __future__ import annotations

import tempfile
from collections import defaultdict
from pathlib import Path
from typing import Any

import dask
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from distributed import Client
from hypothesis import given, settings
from hypothesis import strategies as st

import noisydask
from noisydask.dynamics.pieces import FOLDER

ALPHA = 0.3
IDS: dict[str, Any] = {
    "close": st.integers(-20, 20),
    "far": st.integers(-(2**63), 2**63 - 1),
    "text": st.text(st.characters(codec="utf-8", exclude_categories=["Cc"]), max_size=4),
}
LOSSES = st.floats(0, 100, width=32)


@st.composite
def recorded(draw: st.DrawFn) -> list[tuple[Any, int, float]]:
    """Losses in any order, at most one of an example and iteration."""
    names = draw(st.lists(IDS[draw(st.sampled_from(list(IDS)))], min_size=1, max_size=20))
    steps = st.integers(-5, 5) | st.integers(-(2**63), 2**63 - 1)
    keys = st.tuples(st.sampled_from(names), steps)
    rows = draw(st.dictionaries(keys, LOSSES, min_size=1, max_size=80))
    return draw(st.permutations([(*key, loss) for key, loss in rows.items()]))


def ranked(rows: list[tuple[Any, int, float]]) -> list[tuple[Any, float, int, float]]:
    """Id, EMA, number and last of the losses of each example, by plain loops."""
    series: dict[Any, dict[int, float]] = defaultdict(dict)
    for name, iteration, loss in rows:
        series[name][iteration] = loss
    found = []
    for name, losses in series.items():
        ema = 0.0
        for iteration in sorted(losses):
            ema = (1.0 - ALPHA) * ema + ALPHA * losses[iteration]
        found.append((name, ema, len(losses), losses[max(losses)]))
    return sorted(found, key=lambda row: (-row[1], row[0]))


@settings(deadline=None, max_examples=25)
@given(recorded(), st.lists(st.integers(1, 20), min_size=1), st.integers(24, 700), st.booleans())
def test_any_order_and_cut(
    rows: list[tuple[Any, int, float]], sizes: list[int], block_bytes: int, single: bool
) -> None:
    frame = pd.DataFrame(rows, columns=["id", "iteration", "loss"])
    frame = frame.astype({"loss": "float32" if single else "float64"})
    low = number = 0
    with tempfile.TemporaryDirectory() as folder, dask.config.set(scheduler="synchronous"):
        while low < len(frame):
            size = sizes[number % len(sizes)]
            table = pa.Table.from_pandas(frame[low : low + size], preserve_index=False)
            pq.write_table(table, f"{folder}/{number:03d}.parquet")
            low, number = low + size, number + 1
        found = noisydask.analyze_loss_dynamics(table=folder, alpha=ALPHA, block_bytes=block_bytes)
    names = ["id", "metric", "num_losses", "last_loss"]
    assert list(found.top_k(100)[names].itertuples(index=False, name=None)) == ranked(rows)


@pytest.mark.parametrize("text", [False, True])
def test_nothing_is_left_of_the_way(text: bool, client: Client, tmp_path: Path) -> None:
    """The pieces are gone when the run is done, and so they are no part of it."""
    with noisydask.LossRecorder(tmp_path / "losses", flush_rows=300) as recorder:
        for epoch in range(6):
            ids = [(7 * k + epoch) % 300 for k in range(300)]
            names = [f"image {name}" for name in ids] if text else ids
            recorder.record(epoch, names, [1.0 + name for name in ids])
    found = noisydask.analyze_loss_dynamics(
        table=tmp_path / "losses", alpha=ALPHA, block_bytes=9_000, out=tmp_path / "out"
    )
    assert found.num_candidates == 300
    assert len(found.manifest["loss_parts"]) > 3
    assert not list((tmp_path / "out").rglob(f"{FOLDER}*"))
