"""Graphs: building computes nothing, a tree adds what a loop adds, tasks are few, names hold no
secret."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

import dask
import dask.array as da
import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from noisydask.core.blocks import BlockGrid, plan_tasks
from noisydask.engine import graph


class Collect:
    """A state of which every block must be part exactly once."""

    def __init__(self, blocks: Sequence[int]) -> None:
        self.blocks = list(blocks)

    def __add__(self, other: Collect) -> Collect:
        return Collect(self.blocks + other.blocks)


def collect(blocks: Sequence[int], *arrays: Any) -> Collect:
    return Collect(blocks)


def refuse(blocks: Sequence[int], *arrays: Any) -> None:
    raise AssertionError("a task ran")


@given(st.integers(1, 300), st.integers(1, 8), st.integers(1, 20))
def test_every_block_is_done_once(num_blocks: int, slots: int, per_slot: int) -> None:
    numbers = graph.block_numbers(range(num_blocks), plan_tasks(num_blocks, slots, per_slot))
    with dask.config.set(scheduler="synchronous"):
        assert sorted(graph.run_pass("test", collect, numbers).blocks) == list(range(num_blocks))


def test_some_blocks_only() -> None:
    assert sorted(
        graph.run_pass("test", collect, graph.block_numbers((3, 5, 9), (1, 2))).blocks
    ) == [3, 5, 9]


@pytest.mark.parametrize("chunks", [(7, 2), (100, 100), (13, 5), ((50, 1, 49), -1)])
def test_dask_arrays_come_as_whole_rows_of_a_block(chunks: Any) -> None:
    values = np.arange(500).reshape(100, 5)
    grid = BlockGrid(rows=100, block_rows=30, row_bytes=1)

    def check(blocks: Sequence[int], rows: Any) -> int:
        start, stop = grid.bounds(blocks[0])
        np.testing.assert_array_equal(rows, values[start:stop])
        return stop - start

    rows = graph.block_rows(da.from_array(values, chunks=chunks), grid)
    assert graph.run_pass("test", check, graph.block_numbers(range(4), (1,) * 4), rows) == 100
    two = graph.block_rows(da.from_array(values, chunks=chunks), grid, (1, 3))
    assert graph.run_pass("test", check, graph.block_numbers((1, 3), (1, 1)), two) == 40


def test_building_computes_nothing() -> None:
    numbers = graph.block_numbers(range(50), (1,) * 50)
    lazy = da.map_blocks(refuse, chunks=((10,) * 50, (3,)), dtype=float, meta=np.empty((0, 0)))
    graph.optimized(graph.tree("test", graph.over_blocks("test", refuse, numbers, lazy)))


@pytest.mark.slow
def test_graph_of_a_hundred_thousand_blocks_is_small_and_soon_built() -> None:
    start = time.perf_counter()
    numbers = graph.block_numbers(range(100_000), (1,) * 100_000)
    states = graph.optimized(
        graph.tree("test", graph.over_blocks("test", collect, numbers, None, None))
    )
    assert len(dict(states.__dask_graph__())) < 3 * 100_000
    assert (
        time.perf_counter() - start < 60
    )  # the benchmark holds it to 20 s; here only a runaway must fail


def test_two_graphs_of_one_input_share_no_key() -> None:
    keys = [
        {
            str(key)
            for key in graph.tree(
                "test", graph.over_blocks("test", collect, graph.block_numbers((0,), (1,)))
            ).dask
        }
        for _ in range(2)
    ]
    assert not keys[0] & keys[1]


def test_a_tree_of_shuffled_parts_is_soon_built_and_does_each_part_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def planned(frame: pd.DataFrame, parts: int) -> Any:
        taken = graph.map_parts(
            "take", lambda rows, number: rows, graph.frame_parts(frame, len(frame) // parts)
        )
        shuffled = graph.shuffle_rows(taken, frame.iloc[:0], "id", parts)
        return graph.map_parts(
            "count", lambda rows, number: Collect([number, *rows["id"].tolist()]), shuffled
        )

    frame = pd.DataFrame({"id": np.arange(1000, 2200)})
    with dask.config.set(scheduler="synchronous"):
        found = graph.total("test", planned(frame, 20))
    assert sorted(found.blocks) == [*range(20), *range(1000, 2200)]
    monkeypatch.setattr(graph, "compute", lambda collection: len(dict(collection.__dask_graph__())))
    states = planned(frame, 400)
    start = time.process_time()
    assert graph.total("test", states) < 12 * 400
    assert (
        time.process_time() - start < 2
    )  # where each task copies the graph, it takes more than three times as long
