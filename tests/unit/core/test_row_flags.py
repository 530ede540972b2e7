"""What is wrong with recorded losses is what a plain loop finds."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from noisydask.core.ema import LARGEST_LOSS
from noisydask.core.row_flags import DUPLICATE, LABEL, NEGATIVE, TOO_LARGE, flag_rows

LOSSES = st.sampled_from([0.0, 0.5, -0.0, -1.0, LARGEST_LOSS, 2 * LARGEST_LOSS, np.inf])
ROW = st.tuples(st.integers(0, 3), LOSSES, st.integers(0, 1))


@given(st.lists(st.lists(ROW, max_size=5), max_size=6), st.booleans())
def test_flags_are_those_of_a_plain_loop(
    examples: list[list[tuple[int, float, int]]], labelled: bool
) -> None:
    rows = [row for example in examples for row in example]
    expected = []
    for example in examples:
        for k, (iteration, loss, label) in enumerate(example):
            flag = NEGATIVE * (loss < 0) + TOO_LARGE * (loss > LARGEST_LOSS)
            flag += DUPLICATE * (k > 0 and iteration == example[k - 1][0])
            expected.append(flag + LABEL * (labelled and k > 0 and label != example[k - 1][2]))
    starts = np.cumsum([0, *map(len, examples)])
    iterations, labels = (np.array([row[k] for row in rows], np.int64) for k in (0, 2))
    losses = np.array([row[1] for row in rows])
    found = flag_rows(starts, iterations, losses, labels if labelled else None)
    assert found.tolist() == expected


@pytest.mark.parametrize("starts", [[0, 4], [-1, 2], [2, 1], [0, 5, 3]])
def test_starts_outside(starts: list[int]) -> None:
    with pytest.raises(ValueError, match="starts must rise within losses"):
        flag_rows(np.array(starts), np.zeros(3, np.int64), np.zeros(3))
