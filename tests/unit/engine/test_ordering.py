"""The first rows of many groups, found block by block, against one sort of everything."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from noisydask.core import group_cuts
from noisydask.engine.ordering import find_cuts

Array = np.ndarray[Any, Any]


@dataclass(frozen=True)
class Rows:
    """Rows in memory, in blocks of a few."""

    groups: Array
    keys: Array
    block_rows: int

    @property
    def num_rows(self) -> int:
        return len(self.keys)

    @property
    def num_blocks(self) -> int:
        return -(-len(self.keys) // self.block_rows)

    @property
    def itemsize(self) -> int:
        return self.keys.dtype.itemsize

    def grouped(self, block: int) -> tuple[Array, Array, Array]:
        some = slice(block * self.block_rows, (block + 1) * self.block_rows)
        return self.groups[some], self.keys[some], np.arange(len(self.keys))[some]


def sorted_whole(rows: Rows, takes: Array) -> Array:
    """Which rows are taken, by a sort of each group."""
    taken = np.zeros(len(rows.keys), bool)
    for group, take in enumerate(takes):
        here = np.flatnonzero(rows.groups == group)
        taken[here[np.argsort(rows.keys[here], kind="stable")][:take]] = True
    return taken


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 2**32),
    num_groups=st.integers(1, 12),
    block_rows=st.integers(1, 200),
    dtype=st.sampled_from([np.uint32, np.uint64]),
    distinct=st.sampled_from([1, 3, 1 << 10, 1 << 31]),
)
def test_groups_take_their_first_rows(
    seed: int, num_groups: int, block_rows: int, dtype: Any, distinct: int
) -> None:
    rng = np.random.default_rng(seed)
    size = int(rng.integers(1, 400))
    scale = (np.iinfo(dtype).max // distinct) if rng.random() < 0.5 else 1
    keys = rng.integers(0, distinct, size, dtype=np.uint64) * np.uint64(scale)
    groups = rng.integers(-1, num_groups, size)
    takes = rng.integers(0, 60, num_groups)
    rows = Rows(groups, keys.astype(dtype), block_rows)
    cuts = find_cuts(rows, takes)
    found = cuts.taken(groups, rows.keys, np.arange(size))
    np.testing.assert_array_equal(found, sorted_whole(rows, takes))


def test_many_groups_are_searched_by_few_bits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(group_cuts, "_MOST_BINS", 1 << 8)
    rng = np.random.default_rng(3)
    keys = rng.integers(0, 1 << 63, 3000).astype(np.uint64)
    rows = Rows(rng.integers(0, 100, 3000), keys, 700)
    takes = np.arange(100)
    found = find_cuts(rows, takes).taken(rows.groups, keys, np.arange(3000))
    np.testing.assert_array_equal(found, sorted_whole(rows, takes))
