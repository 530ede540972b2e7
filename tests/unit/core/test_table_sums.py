"""Distinct values and their codes are those of NumPy, near or far from each other."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from noisydask.core.table_sums import TableSums, distinct

VALUES = st.one_of(
    st.lists(st.integers(-5, 5), max_size=40),
    st.lists(st.integers(-1200, 1200), max_size=40),
    st.lists(st.integers(-(2**63), 2**63 - 1), max_size=40),
)


@given(VALUES)
def test_distinct(values: list[int]) -> None:
    found, codes = distinct(np.array(values, np.int64))
    assert found.tolist() == sorted(set(values))
    assert codes.dtype == np.int32
    assert found[codes].tolist() == values


@pytest.mark.parametrize("iterations", [[], [3], [1, 5, 9]])
def test_nothing_yet(iterations: list[int]) -> None:
    none = TableSums.zero(np.array([4, 7]), np.array(iterations, np.int64))
    both = none + TableSums.zero(np.array([5]), np.array([2, 5]))
    assert both.iterations.tolist() == sorted({2, 5, *iterations})
    assert both.sums.labels.tolist() == [4, 5, 7]
    assert np.isnan(both.sums.mean()).all()
