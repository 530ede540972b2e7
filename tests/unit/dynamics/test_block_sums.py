"""What is kept of a block of losses is read as it was."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from noisydask.core.curve_sums import CurveSums
from noisydask.core.ema import LIMB_BITS, NUM_LIMBS
from noisydask.dynamics.block_sums import BlockSums


@given(
    st.integers(0, 2**32),
    st.integers(0, 4),
    st.integers(1, 5),
    st.integers(0, NUM_LIMBS),
    st.sampled_from(["f2", "f4", "f8"]),
)
def test_stored_and_read(seed: int, labels: int, steps: int, limbs: int, dtype: str) -> None:
    rng = np.random.default_rng(seed)
    sums = CurveSums.zero(np.sort(rng.choice(100, labels, replace=False)), steps)
    sums.limbs[:limbs] = rng.integers(0, 1 << (LIMB_BITS + 5), (limbs, labels, steps))
    sums.counts[...] = rng.integers(0, 3, (labels, steps))
    kept = BlockSums(sums, np.arange(3), rng.random((3, steps)).astype(dtype))
    means = sums.mean(), sums.mean_per_label()
    found = BlockSums.from_bytes(kept.to_bytes())
    np.testing.assert_array_equal(found.sums.mean(), means[0])
    np.testing.assert_array_equal(found.sums.mean_per_label(), means[1])
    np.testing.assert_array_equal((found.sums + found.sums).mean_per_label(), means[1])
    np.testing.assert_array_equal(found.sums.labels, sums.labels)
    np.testing.assert_array_equal(found.sums.counts, sums.counts)
    np.testing.assert_array_equal(found.index, kept.index)
    np.testing.assert_array_equal(found.losses, kept.losses)
    assert found.losses.dtype == kept.losses.dtype


@pytest.mark.parametrize("limbs", range(1, NUM_LIMBS))
def test_small_sums_take_less_room(limbs: int) -> None:
    sizes = []
    for used in (limbs, limbs + 1):
        sums = CurveSums.zero(np.arange(10), 50)
        sums.limbs[:used] = 1
        sizes.append(len(BlockSums(sums, np.arange(0), np.empty((0, 50))).to_bytes()))
    assert sizes[1] - sizes[0] == 8 * 10 * 50
