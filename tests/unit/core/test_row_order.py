"""Rows are put in order and into parts as a plain sort and a plain look at each would do it."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from noisydask.core.distinct import distinct
from noisydask.core.row_order import (
    order_of_parts,
    order_of_rows,
    parts_of_numbers,
    parts_of_texts,
)

ROWS = st.lists(st.tuples(st.integers(0, 6), st.integers(0, 9)), max_size=60)
WIDE = st.integers(-(2**63), 2**63 - 1)


@given(ROWS, st.booleans())
def test_the_order_is_that_of_a_sort(rows: list[tuple[int, int]], by_step: bool) -> None:
    rows = sorted(rows, key=lambda row: row[1]) if by_step else rows
    examples, steps = np.array(rows, np.int32).reshape(-1, 2).T
    order, starts = order_of_rows(examples, steps, 7, 10)
    assert order.tolist() == np.lexsort((steps, examples)).tolist()
    assert starts.tolist() == np.searchsorted(examples[order], np.arange(8)).tolist()


@given(st.lists(WIDE, max_size=60), st.integers(1, 9))
def test_an_id_has_one_part(ids: list[int], parts: int) -> None:
    found = parts_of_numbers(np.array(ids, np.int64), parts)
    assert all(0 <= part < parts for part in found)
    each = dict(zip(ids, found.tolist(), strict=True))
    assert [each[name] for name in ids] == found.tolist()


def test_parts_are_about_as_large() -> None:
    for ids in (np.arange(8000), np.arange(8000) << 32, np.arange(8000) * 1000 - 5):
        counts = np.bincount(parts_of_numbers(ids, 8), minlength=8)
        assert counts.min() > 850
        assert counts.max() < 1150


@given(st.lists(st.text(max_size=5), max_size=40), st.integers(1, 9), st.integers(0, 3))
def test_a_text_has_one_part(texts: list[str], parts: int, skipped: int) -> None:
    """Whatever lies before it among the letters."""
    found = []
    for before in ([], ["x" * 3] * skipped):
        column = pa.array([*before, *texts], pa.large_string())
        _, starts, letters = column.buffers()
        begins = np.frombuffer(starts, np.int64)[len(before) : len(column) + 1]
        found.append(parts_of_texts(begins, np.frombuffer(letters or b"", np.uint8), parts))
    assert found[0].tolist() == found[1].tolist()
    assert all(0 <= part < parts for part in found[0])
    each = dict(zip(texts, found[0].tolist(), strict=True))
    assert [each[text] for text in texts] == found[0].tolist()


def test_many_distinct_values_far_from_each_other() -> None:
    values = np.random.default_rng(0).integers(-(2**62), 2**62, 9000)
    values = np.concatenate([values, values[::-1]])
    found, codes = distinct(values)
    assert found.tolist() == sorted(set(values.tolist()))
    assert (found[codes] == values).all()


def test_what_does_not_fit() -> None:
    for codes in (np.array([0, 2], np.int32), np.array([-1, 0], np.int32)):
        with pytest.raises(ValueError, match="positions among distinct values"):
            order_of_parts(codes, 2)
    with pytest.raises(ValueError, match="positions among distinct values"):
        order_of_rows(np.array([0, 1], np.int32), np.array([1, 9], np.int32)[::-1].copy(), 2, 2)
    for starts in ([0, 4], [-1, 2], [2, 1], [0, 5, 3]):
        with pytest.raises(ValueError, match="starts must rise within letters"):
            parts_of_texts(np.array(starts), np.zeros(3, np.uint8), 2)
