"""One loss of each run of duplicates, whatever their order."""

from __future__ import annotations

from fractions import Fraction
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from noisydask.core.duplicates import one_of_each

FINITE = st.floats(-1e30, 1e30, allow_subnormal=False)
RUNS = st.lists(st.lists(FINITE, min_size=1, max_size=6), min_size=1, max_size=8)


def right(run: list[tuple[int, float]], how: str) -> float:
    values = [value for _, value in sorted(run)]
    if how == "mean":
        # The sum is rounded once, then divided.
        return float(sum(map(Fraction, values))) / len(values)
    return values[0 if how == "first" else -1]


@pytest.mark.parametrize("how", ["first", "last", "mean"])
@given(runs=RUNS, random=st.randoms(use_true_random=False))
def test_against_its_definition(how: str, runs: list[list[float]], random: Any) -> None:
    positions = list(range(sum(map(len, runs))))
    random.shuffle(positions)
    left = iter(positions)
    placed = [[(next(left), value) for value in run] for run in runs]
    expected = [right(run, how) for run in placed]
    for _ in range(2):
        flat = [pair for run in placed for pair in run]
        starts = np.cumsum([0, *map(len, placed[:-1])])
        found = one_of_each(
            np.array([value for _, value in flat]), starts, how, np.array([at for at, _ in flat])
        )
        assert found.tolist() == expected
        for run in placed:
            random.shuffle(run)
