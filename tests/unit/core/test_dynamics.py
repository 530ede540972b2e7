"""The kernels against a plain loop, pandas, and themselves on other cuts: bit for bit where that is
promised."""

from __future__ import annotations

import math
from fractions import Fraction
from itertools import pairwise
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from noisydask.core.curve_sums import MOST_CELLS, CurveSums
from noisydask.core.dynamics import (
    LARGEST_LOSS,
    ExampleStates,
    LossProblem,
    advance,
    advance_table,
    crossings,
    ema_curves,
    label_codes,
)

Array = npt.NDArray[Any]


def made(
    rows: int, width: int, gaps: float, seed: int, dtype: Any = np.float32
) -> tuple[Array, Array]:
    """Losses of many sizes with gaps, -0.0 and rows without any, and labels."""
    rng = np.random.default_rng(seed)
    losses = rng.exponential(1.0, (rows, width)) * 10.0 ** rng.integers(-3, 3, (rows, 1))
    losses[rng.random((rows, width)) < gaps] = np.nan
    if rows > 3 and gaps:
        losses[rng.integers(rows)], losses[rng.integers(rows), ::2] = np.nan, -0.0
    return losses.astype(dtype), rng.integers(-2, 3, rows) * 3


def loop(losses: Array, alpha: float) -> list[dict[str, Any]]:
    """The definition, a number at a time."""
    found = []
    for row in losses.astype(np.float64):
        ema, curve, values = 0.0, [], []
        for loss in row:
            if not math.isnan(loss):
                ema = (1 - alpha) * ema + alpha * loss
                values.append(float(loss))
            curve.append(math.nan if math.isnan(loss) else ema)
        found.append({"ema": ema, "curve": curve, "losses": values})
    return found


def whole(losses: Array, labels: Array, alpha: float) -> tuple[ExampleStates, CurveSums]:
    """All in one call."""
    values, codes = label_codes(labels)
    states, sums = (
        ExampleStates.empty(len(losses), losses.dtype),
        CurveSums.zero(values, losses.shape[1]),
    )
    assert not advance(states, losses, alpha, sums, codes).any()
    return states, sums


def same(one: tuple[ExampleStates, CurveSums], other: tuple[ExampleStates, CurveSums]) -> None:
    for name, column in one[0].columns().items():
        some = slice(None) if name == "count" else one[0].count > 0
        assert column[some].tobytes() == other[0].columns()[name][some].tobytes(), name
    assert one[1].labels.tolist() == other[1].labels.tolist()
    assert one[1].counts.tolist() == other[1].counts.tolist()
    assert one[1].mean().tobytes() == other[1].mean().tobytes()
    assert one[1].mean_per_label().tobytes() == other[1].mean_per_label().tobytes()


@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.float16])
@pytest.mark.parametrize("gaps", [0.0, 0.3])
@pytest.mark.parametrize("alpha", [0.001, 0.5, 1.0])
def test_against_the_definition(dtype: Any, gaps: float, alpha: float) -> None:
    losses, labels = made(150, 37, gaps, 1, dtype)
    states, sums = whole(losses, labels, alpha)
    expected = loop(losses, alpha)
    assert [e["ema"] if e["losses"] else None for e in expected] == [
        None if math.isnan(v) else v for v in states.metric.tolist()
    ]
    curves = np.array([e["curve"] for e in expected])
    np.testing.assert_array_equal(ema_curves(losses, alpha), curves)
    stats = states.statistics()
    for row, e in enumerate(expected):
        values = e["losses"]
        assert stats["num_losses"][row] == len(values)
        if values:
            exact = [Fraction(v) for v in values]
            mean = sum(exact) / len(exact)
            variance = sum((v - mean) ** 2 for v in exact) / len(exact)
            assert stats["mean_loss"][row] == pytest.approx(float(mean), rel=1e-12)
            assert stats["variance"][row] == pytest.approx(float(variance), rel=1e-9, abs=1e-300)
            assert (stats["min_loss"][row], stats["last_loss"][row]) == (min(values), values[-1])
    check_means(sums, curves, labels)


def check_means(sums: CurveSums, curves: Array, labels: Array) -> None:
    """The mean is the exact sum of the EMA, each rounded to 2 ** -60, rounded once."""
    for step, mean in enumerate(sums.mean()):
        there = [
            Fraction(round(Fraction(v) * 2**60), 2**60)
            for v in curves[:, step]
            if not math.isnan(v)
        ]
        if there:
            assert mean == float(sum(there) / len(there))
        else:
            assert math.isnan(mean)
    for row, label in enumerate(sums.labels):
        here = pd.DataFrame(curves[labels == label]).mean()
        np.testing.assert_allclose(sums.mean_per_label()[row], here, rtol=1e-9)


def test_against_pandas() -> None:
    losses, labels = made(20, 200, 0.4, 2, np.float64)
    states, _ = whole(losses, labels, 0.01)
    for row, values in enumerate(losses):
        values = values[~np.isnan(values)]
        if len(values):
            series = pd.Series([0.0, *values]).ewm(alpha=0.01, adjust=False).mean()
            assert states.metric[row] == pytest.approx(series.iloc[-1], rel=1e-12)


@given(
    rows=st.integers(1, 200),
    width=st.integers(1, 70),
    gaps=st.sampled_from([0.0, 0.02, 0.5, 0.97]),
    seed=st.integers(0, 10**6),
    huge=st.booleans(),
    data=st.data(),
)
@settings(max_examples=60)
def test_any_cut_has_the_same_bits(
    rows: int, width: int, gaps: float, seed: int, huge: bool, data: Any
) -> None:
    losses, labels = made(rows, width, gaps, seed)
    if huge:
        losses[seed % rows] *= np.float32(1e30)
    expected = whole(losses, labels, 0.1)
    cuts = st.lists(st.integers(0, 10**6), max_size=4)
    row_cuts = sorted({0, rows, *(c % rows for c in data.draw(cuts))})
    column_cuts = sorted({0, width, *(c % width for c in data.draw(cuts))})
    parts, states = [], []
    for low, high in pairwise(row_cuts):
        values, codes = label_codes(labels[low:high])
        part, sums = ExampleStates.empty(high - low, "f4"), CurveSums.zero(values, 0)
        for start, stop in pairwise(column_cuts):
            more = CurveSums.zero(values, stop - start)
            advance(part, losses[low:high, start:stop], 0.1, more, codes)
            sums = sums.then(more)
        parts.append(sums)
        states.append(part)
    columns = {
        name: np.concatenate([s.columns()[name] for s in states]) for name in states[0].columns()
    }
    total = parts[-1]
    for part in parts[:-1]:
        total = total + part
    same((ExampleStates(**columns), total), expected)


@given(
    rows=st.integers(1, 100),
    width=st.integers(1, 40),
    gaps=st.sampled_from([0.0, 0.3, 0.9]),
    seed=st.integers(0, 10**6),
    large=st.booleans(),
)
@settings(max_examples=40)
def test_a_table_has_the_same_bits(
    rows: int, width: int, gaps: float, seed: int, large: bool
) -> None:
    losses, labels = made(rows, width, gaps, seed)
    if large:
        losses[seed % rows] *= np.float32(1e34)
    values, codes = label_codes(labels)
    there = ~np.isnan(losses)
    starts = np.concatenate([[0], np.cumsum(there.sum(1))])
    steps = np.nonzero(there)[1].astype(np.int32)
    states, sums = ExampleStates.empty(rows, "f4"), CurveSums.zero(values, width)
    assert not advance_table(states, starts, losses[there], steps, 0.1, sums, codes).any()
    same((states, sums), whole(losses, labels, 0.1))


def test_sums_do_not_overflow() -> None:
    losses = np.full((5, 3), LARGEST_LOSS)
    sums = CurveSums.zero(np.array([0]), 3)
    advance(ExampleStates.empty(5, "f8"), losses, 1.0, sums)
    total = sums
    for _ in range(31):
        total = total + total
    assert total.mean().tolist() == [LARGEST_LOSS] * 3


@pytest.mark.parametrize("width", [1, 9, 100])
def test_refused_losses_are_named_and_change_nothing(width: int) -> None:
    losses, _ = made(100, width, 0.0, 3, np.float64)
    clean = losses.copy()
    for row, bad in ((3, -1e-9), (50, np.inf), (99, 1e300), (98, -np.inf)):
        losses[row, width // 2], clean[row, width // 2] = bad, np.nan
    states, sums = ExampleStates.empty(100, "f8"), CurveSums.zero(np.array([0]), width)
    problems = advance(states, losses, 0.3, sums)
    kinds = {
        3: LossProblem.NEGATIVE,
        50: LossProblem.TOO_LARGE,
        99: LossProblem.TOO_LARGE,
        98: LossProblem.NEGATIVE,
    }
    assert {int(row): problems[row] for row in np.flatnonzero(problems)} == kinds
    same((states, sums), whole(clean, np.zeros(100, np.int64), 0.3))


def test_crossings() -> None:
    losses = np.array([[1, 1, 9, 9], [2, np.nan, 0, 0], [np.nan, 0, 0, 9]], np.float32)
    mean = np.array([0.75, 0.5, 1.0, 2.0])
    assert crossings(losses, 0.5, mean).tolist() == [1, 0, 3]
    assert crossings(losses, 0.5, mean + 9).tolist() == [-1] * 3


@given(st.lists(st.one_of(st.integers(-5, 5), st.integers(-(2**62), 2**62)), max_size=30))
def test_label_codes(labels: list[int]) -> None:
    values, codes = label_codes(np.array(labels, np.int64))
    assert values.tolist() == sorted(set(labels))
    assert values[codes].tolist() == labels


@pytest.mark.parametrize("dtype", [np.int8, np.uint8, np.uint64, np.int32])
def test_label_codes_of_any_type(dtype: Any) -> None:
    labels = np.array([np.iinfo(dtype).min, 5, np.iinfo(dtype).max // 2, 5], dtype)
    values, codes = label_codes(labels)
    assert values[codes].tolist() == labels.tolist()


def test_the_sums_of_a_reduction_fit_a_worker_of_8_gib() -> None:
    most = CurveSums.zero(np.zeros(1, np.int64), MOST_CELLS)
    assert 10 * (most.limbs.nbytes + most.counts.nbytes) < 0.6 * 8 * 1024**3
