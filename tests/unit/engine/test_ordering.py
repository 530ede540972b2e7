"""The first rows of many groups, found block by block, against one sort of everything."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any
from unittest.mock import patch

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from noisydask.core import group_cuts, ranking
from noisydask.engine.ordering import find_cuts, find_parts

Array = np.ndarray[Any, Any]


@dataclass(frozen=True)
class Rows:
    """Rows in memory, in blocks of a few."""

    groups: Array
    keys: Array
    seconds: Array
    block_rows: int

    @property
    def num_rows(self) -> int:
        return len(self.keys)

    @property
    def num_blocks(self) -> int:
        return -(-len(self.keys) // self.block_rows)

    @property
    def positions(self) -> Array:
        return np.arange(len(self.keys), dtype=np.uint64)

    @property
    def bits(self) -> tuple[int, ...]:
        return 8 * self.keys.dtype.itemsize, 16, 10

    def grouped(self, block: int, levels: int) -> tuple[Array, tuple[Array, ...]]:
        some = slice(block * self.block_rows, (block + 1) * self.block_rows)
        keys = (self.keys[some], self.seconds[some], self.positions[some])
        return self.groups[some], keys[:levels]


def sorted_whole(rows: Rows, takes: Array) -> Array:
    """Which rows are taken, by a sort of each group."""
    taken = np.zeros(len(rows.keys), bool)
    for group, take in enumerate(takes):
        here = np.flatnonzero(rows.groups == group)
        taken[here[np.lexsort((rows.seconds[here], rows.keys[here]))][:take]] = True
    return taken


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 2**32),
    num_groups=st.integers(1, 12),
    block_rows=st.integers(1, 200),
    dtype=st.sampled_from([np.uint32, np.uint64]),
    distinct=st.sampled_from([1, 3, 1 << 10, 1 << 31]),
    most_bins=st.sampled_from([1 << 4, 1 << 8, 1 << 22]),
)
def test_groups_take_their_first_rows(
    seed: int, num_groups: int, block_rows: int, dtype: Any, distinct: int, most_bins: int
) -> None:
    rng = np.random.default_rng(seed)
    size = int(rng.integers(1, 400))
    scale = (np.iinfo(dtype).max // distinct) if rng.random() < 0.5 else 1
    keys = rng.integers(0, distinct, size, dtype=np.uint64) * np.uint64(scale)
    groups = rng.integers(-1, num_groups, size)
    takes = rng.integers(0, 60, num_groups)
    seconds = rng.integers(0, rng.choice([1, 3, 1 << 16]), size).astype(np.uint16)
    rows = Rows(groups, keys.astype(dtype), seconds, block_rows)
    with patch.object(group_cuts, "_MOST_BINS", most_bins):
        (cuts, sizes), (again, _) = find_cuts(
            [(rows, takes), (rows, takes // 2)], range(rows.num_blocks)
        )
    found = cuts.taken(groups, rows.keys, rows.seconds, rows.positions)
    half = again.taken(groups, rows.keys, rows.seconds, rows.positions)
    np.testing.assert_array_equal(half, sorted_whole(rows, takes // 2))
    known = np.bincount(groups[groups >= 0], minlength=num_groups)
    np.testing.assert_array_equal(sizes, np.where(takes > 0, known, 0))
    np.testing.assert_array_equal(found, sorted_whole(rows, takes))


@dataclass(frozen=True)
class Named:
    """What only the tasks of a block are to know of it."""

    scores: Array


@dataclass(frozen=True)
class NamedRows:
    """Rows that know their blocks by what they are given."""

    num_blocks: int = 0
    num_rows: int = 0
    itemsize: int = 4

    def keys(self, block: Named) -> Array:
        return ranking.sort_keys(block.scores)

    def last(self, block: Named) -> Array:
        return np.arange(len(block.scores))


def test_parts_are_found_from_what_tasks_are_given_of_their_blocks() -> None:
    rng = np.random.default_rng(0)
    blocks = [Named(rng.random(100).astype(np.float32)) for _ in range(7)]
    keys = ranking.sort_keys(np.concatenate([block.scores for block in blocks]))
    histogram = ranking.histogram(keys, [ranking.whole_range(4)])
    with patch.object(ranking, "ROWS_PER_PART", 10):
        parts = find_parts(NamedRows(), 300, histogram, blocks)
    assert len(parts) > 30
    assert sum(parts.takes) == 300
    assert parts.last_key >= np.sort(keys)[299]
