"""Rows that are kept of a block are those of the block, and survive being stored."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from noisydask.core.kept_rows import MOST, KeptRows

BLOCK = np.random.default_rng(0).random((40, 3))
FEW = st.sets(st.integers(0, 39), max_size=int(40 * MOST))


def mask(rows: set[int]) -> np.ndarray:
    return np.isin(np.arange(40), list(rows))


@given(FEW, st.sampled_from(["f2", "f4", "f8", ">f4", ">f8"]))
def test_stored_and_read(rows: set[int], dtype: str) -> None:
    block = BLOCK.astype(dtype)
    kept = KeptRows.of(mask(rows), block)
    assert kept.positions.tolist() == sorted(rows)
    again = KeptRows.from_bytes(kept.to_bytes(), np.dtype((dtype, (3,))))
    for found in (kept, again):
        wanted = np.array(sorted(rows)[::2], np.intp)
        np.testing.assert_array_equal(found[wanted], block[wanted])
        np.testing.assert_array_equal(found.positions, kept.positions)
        np.testing.assert_array_equal(found.pred_probs, block[sorted(rows)])
    assert again.pred_probs.dtype.newbyteorder("=") == block.dtype.newbyteorder("=")


@given(FEW, st.sets(st.integers(0, 39)))
def test_which_rows_are_covered(rows: set[int], wanted: set[int]) -> None:
    assert KeptRows.of(mask(rows), BLOCK).cover(mask(wanted)) is (wanted <= rows)


@pytest.mark.parametrize(("wanted", "kept"), [(0, 0), (10, 10), (11, 0), (40, 0)])
def test_too_many_are_not_kept(wanted: int, kept: int) -> None:
    assert len(KeptRows.of(mask(set(range(wanted))), BLOCK).positions) == kept


def test_rows_are_trimmed_to_those_that_are_wanted() -> None:
    rows = np.arange(40, dtype="f4").reshape(20, 2)
    wanted = np.arange(20) % 2 == 0
    kept = KeptRows.all_of(wanted, rows)
    assert kept.positions.tolist() == list(range(0, 20, 2))
    assert not len(KeptRows.of(wanted, rows).positions)  # half of the block is too much
    fewer = kept.only(np.arange(20) < 5)
    assert fewer.positions.tolist() == [0, 2, 4]
    np.testing.assert_array_equal(fewer[np.array([2])], rows[[2]])
    assert not len(kept.only(np.ones(20, bool)).positions)
    assert np.flatnonzero(kept.among(np.arange(20) < 4)).tolist() == [0, 2]
