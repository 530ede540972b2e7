"""Mean curves are correctly rounded, and the same bits in whatever order sums meet."""

from __future__ import annotations

from fractions import Fraction
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from noisydask.core import curve_sums
from noisydask.core.curve_sums import CurveSums, carried
from noisydask.core.ema import LIMB_BITS, NUM_LIMBS, UNIT_BITS
from noisydask.core.table_sums import TableSums, distinct
from noisydask.errors import InputError

#: A label, an iteration, and an EMA in units of 2 ** -60.
CELL = st.tuples(st.integers(-2, 3), st.integers(0, 4), st.integers(0, 2**190))
CELLS = st.lists(CELL, max_size=25)
Cells = list[tuple[int, int, int]]


def put(sums: CurveSums, row: int, column: int, units: int) -> None:
    for limb in range(NUM_LIMBS):
        sums.limbs[limb, row, column] += (units >> (LIMB_BITS * limb)) & ((1 << LIMB_BITS) - 1)
    sums.counts[row, column] += 1


def sums_of(cells: Cells, iterations: int = 5) -> CurveSums:
    labels = np.unique(np.array([label for label, *_ in cells], np.int64))
    sums = CurveSums.zero(labels, iterations)
    for label, step, units in cells:
        put(sums, int(np.searchsorted(labels, label)), step, units)
    return sums


def mean_of(units: list[int]) -> float:
    return float(Fraction(sum(units), len(units) << UNIT_BITS)) if units else np.nan


def check(sums: CurveSums, cells: Cells, steps: Any) -> None:
    right = [mean_of([u for _, at, u in cells if at == step]) for step in steps]
    np.testing.assert_array_equal(sums.mean(), np.array(right, float))
    assert sums.labels.tolist() == sorted({label for label, *_ in cells})
    per_label = [
        [mean_of([u for of, at, u in cells if (of, at) == (label, step)]) for step in steps]
        for label in sums.labels.tolist()
    ]
    found = sums.mean_per_label()
    np.testing.assert_array_equal(found, np.array(per_label, float).reshape(found.shape))


@given(CELLS, CELLS, CELLS)
def test_sums_of_examples_add_up(first: Cells, second: Cells, third: Cells) -> None:
    for order in ([first, second, third], [third, first, second]):
        one, two, three = map(sums_of, order)
        check(one + (two + three), [*first, *second, *third], range(5))


@given(CELLS, CELLS)
def test_iterations_follow_each_other(first: Cells, later: Cells) -> None:
    moved = [(label, 5 + step, units) for label, step, units in later]
    both = sums_of(first).then(sums_of(later))
    check(both, [*first, *moved], range(10))
    again = both.columns(0, 5).then(both.columns(5, 10))
    np.testing.assert_array_equal(again.mean_per_label(), both.mean_per_label())


@given(CELLS, CELLS)
def test_tables_know_iterations_piece_by_piece(first: Cells, second: Cells) -> None:
    tables = []
    for cells in (first, second):
        steps, codes = distinct(np.array([10**6 * step for _, step, _ in cells], np.int64))
        renumbered = [
            (label, int(code), units) for (label, _, units), code in zip(cells, codes, strict=True)
        ]
        tables.append(TableSums(steps, sums_of(renumbered, len(steps))))
    both = tables[0] + tables[1]
    steps = sorted({step for _, step, _ in [*first, *second]})
    assert both.iterations.tolist() == [10**6 * step for step in steps]
    check(both.sums, [*first, *second], steps)


@given(st.lists(st.integers(-(2**62), 2**62), min_size=NUM_LIMBS, max_size=NUM_LIMBS))
def test_carries_change_no_sum(limbs: list[int]) -> None:
    limbs[-1] >>= 2
    found = carried(np.array(limbs).reshape(NUM_LIMBS, 1, 1)).ravel().tolist()
    assert all(0 <= limb < 1 << LIMB_BITS for limb in found[:-1])
    total, right = (sum(v << (LIMB_BITS * k) for k, v in enumerate(x)) for x in (found, limbs))
    assert total == right


def test_carries_are_passed_on_in_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(curve_sums, "ROWS_BETWEEN_CARRIES", 10)
    sums = CurveSums.zero(np.array([0]), 1)
    for _ in range(50):
        sums.room_for(4)
        for _ in range(4):
            put(sums, 0, 0, (1 << LIMB_BITS) - 1)
        assert sums.limbs[0, 0, 0] < 11 << LIMB_BITS
    assert sums.mean().tolist() == [mean_of([(1 << LIMB_BITS) - 1])]


def test_too_many_cells() -> None:
    most = curve_sums.MOST_CELLS
    with pytest.raises(InputError, match="too many"):
        CurveSums.zero(np.arange(most // 100 + 1), 100)
    with pytest.raises(InputError, match="too many"):
        CurveSums.zero(np.arange(0), most + 1)
