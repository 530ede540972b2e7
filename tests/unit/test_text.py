"""Text for people: what cannot be printed is not, and numbers are short."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from noisydask.text import percent, plain, shortened, significant


@given(st.text())
def test_plain(text: str) -> None:
    found = plain(text)
    assert found.isprintable()
    assert len(found) == len(text)
    assert all(a == b for a, b in zip(found, text, strict=True) if b.isprintable())


@given(st.text("abcdef/", max_size=30), st.integers(1, 20))
def test_shortened(text: str, width: int) -> None:
    found = shortened(text, width)
    if len(text) <= width:
        assert found == text
    else:
        start, end = found.split("…")
        assert len(found) == width
        assert text.startswith(start)
        assert text.endswith(end)
        assert 0 <= len(start) - len(end) <= 1


@given(st.integers())
def test_integers_are_whole(value: int) -> None:
    assert significant(value) == str(value)


@given(st.floats(1e-12, 1e12))
def test_four_digits_tell_a_number(value: float) -> None:
    assert float(significant(value)) == pytest.approx(value, rel=5.1e-4)
    assert float(percent(value).removesuffix("%")) == pytest.approx(100 * value, rel=5.1e-4)


def test_numbers_of_numpy() -> None:
    assert significant(np.int64(1234567)) == "1234567"
    assert significant(np.float32(0.5)) == "0.5"
    assert percent(0) == "0%"
    assert percent(1) == "100%"
