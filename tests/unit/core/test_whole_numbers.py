"""Whole numbers become int64 without a change, or are refused."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from noisydask.core.whole_numbers import whole_numbers
from noisydask.errors import InputError


@pytest.mark.parametrize("dtype", ["i1", "u1", "i2", "u2", "i4", "u4", "i8", "u8", "<i8", ">u4"])
@given(values=st.lists(st.integers(0, 127), max_size=5))
def test_of_any_type(dtype: str, values: list[int]) -> None:
    found = whole_numbers(np.array(values, dtype), "ids")
    assert found.dtype == np.int64
    assert found.tolist() == values


@pytest.mark.parametrize("dtype", ["i1", "u1", "i4", "u4", "i8"])
def test_the_ends_of_a_type(dtype: str) -> None:
    ends = [np.iinfo(dtype).min, np.iinfo(dtype).max]
    assert whole_numbers(np.array(ends, dtype), "ids").tolist() == ends


def test_what_int64_cannot_hold() -> None:
    assert whole_numbers(np.array([2**63 - 1], np.uint64), "ids").tolist() == [2**63 - 1]
    with pytest.raises(InputError, match=f"labels .*{2**63 + 5}"):
        whole_numbers(np.array([1, 2**63 + 5, 2**63], np.uint64), "labels")
