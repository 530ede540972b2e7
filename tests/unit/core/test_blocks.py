"""The planning of blocks and tasks against brute force."""

from __future__ import annotations

from hypothesis import assume, given
from hypothesis import strategies as st

from noisydask.core.blocks import ROW_OVERHEAD, BlockGrid, plan_blocks, plan_tasks

ROWS, SIZES = st.integers(1, 3000), st.integers(1, 400)


@given(ROWS, SIZES, st.integers(1, 500), st.integers(1, 100_000))
def test_blocks_cover_every_row_once(rows: int, row_bytes: int, chunk_rows: int, size: int) -> None:
    grid = plan_blocks(rows, row_bytes, chunk_rows, size)
    covered = [row for block in range(grid.num_blocks) for row in range(*grid.bounds(block))]
    assert covered == list(range(rows))
    assert all(start < stop for start, stop in map(grid.bounds, range(grid.num_blocks)))


@given(ROWS, SIZES, st.integers(1, 500), st.integers(1, 100_000))
def test_blocks_are_the_most_whole_chunks_that_fit(
    rows: int, row_bytes: int, chunk_rows: int, size: int
) -> None:
    grid = plan_blocks(rows, row_bytes, chunk_rows, size)
    full = row_bytes + ROW_OVERHEAD
    chunks = 1
    while (chunks + 1) * chunk_rows * full <= size:
        chunks += 1
    assert grid.block_rows == chunks * chunk_rows
    assert grid.block_bytes == grid.block_rows * full
    assert grid.block_bytes <= size or grid.block_rows == chunk_rows


@given(ROWS, ROWS, SIZES, st.integers(1, 500), st.integers(1, 100_000))
def test_blocks_keep_their_place_when_data_grow(
    rows: int, more: int, row_bytes: int, chunk: int, size: int
) -> None:
    before, after = (plan_blocks(n, row_bytes, chunk, size) for n in (rows, rows + more))
    full = [before.bounds(block) for block in range(before.num_blocks - 1)]
    assert full == [after.bounds(block) for block in range(len(full))]


@given(st.integers(0, 5000), st.integers(1, 64), st.integers(1, 32))
def test_tasks_take_every_block(num_blocks: int, slots: int, per_slot: int) -> None:
    tasks = plan_tasks(num_blocks, slots, per_slot)
    assert sum(tasks) == num_blocks
    assert all(1 <= size <= 16 for size in tasks)
    assert not tasks or max(tasks) - min(tasks) <= 1


@given(st.integers(1, 5000), st.integers(1, 64), st.integers(1, 32))
def test_tasks_are_as_few_as_asked_for(num_blocks: int, slots: int, per_slot: int) -> None:
    tasks = plan_tasks(num_blocks, slots, per_slot)
    assume(-(-num_blocks // 16) <= slots * per_slot)
    assert len(tasks) <= slots * per_slot
    # All threads have as many, where there are blocks enough.
    assert len(tasks) == num_blocks or len(tasks) % slots == 0


def test_an_empty_grid_has_no_blocks() -> None:
    assert BlockGrid(rows=0, block_rows=10, row_bytes=4).num_blocks == 0
