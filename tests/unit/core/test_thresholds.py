"""Class totals and thresholds: exact means, the same in any order."""

from __future__ import annotations

from fractions import Fraction
from functools import reduce
from itertools import pairwise
from operator import add
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from noisydask.core.blocks import MAX_ROWS
from noisydask.core.evidence import scan_rows
from noisydask.core.row_kernel import FIXED_POINT
from noisydask.core.thresholds import LOWER_BOUND, NEVER, ClassTotals, confident_thresholds

DTYPES = st.sampled_from([np.float16, np.float32, np.float64])


def totals_of(probs: np.ndarray, labels: np.ndarray) -> ClassTotals:
    found = scan_rows(probs, labels, ("given", "top1", "p_given", "p_top1"))
    return ClassTotals.of(found.counts, found.fixed)


@settings(max_examples=100)
@given(st.integers(0, 2**32), st.integers(1, 40), st.integers(1, 200), DTYPES)
def test_thresholds_are_class_means(seed: int, classes: int, rows: int, dtype: Any) -> None:
    rng = np.random.default_rng(seed)
    probs = rng.dirichlet(np.ones(classes), rows).astype(dtype)
    labels = rng.integers(0, classes, rows)
    thresholds = confident_thresholds(totals_of(probs, labels))
    for label in range(classes):
        own = probs[labels == label, label].astype(np.float64)
        expected = max(own.mean(), LOWER_BOUND) if len(own) else NEVER
        # Each probability loses less than one unit of the fixed point.
        assert abs(thresholds[label] - expected) <= 1 / FIXED_POINT + 1e-15
    assert thresholds.dtype == np.float64


@settings(max_examples=50)
@given(
    st.integers(0, 2**32),
    st.integers(1, 30),
    st.lists(st.integers(0, 100), max_size=12),
    st.randoms(),
)
def test_any_chunking_and_order_gives_the_same_bits(
    seed: int, classes: int, cuts: list[int], random: Any
) -> None:
    rng = np.random.default_rng(seed)
    probs, labels = rng.dirichlet(np.ones(classes), 100), rng.integers(0, classes, 100)
    edges = [0, *sorted(cuts), 100]
    parts = [totals_of(probs[a:b], labels[a:b]) for a, b in pairwise(edges)]
    random.shuffle(parts)
    while len(parts) > 1:  # a tree of any shape
        parts.append(
            parts.pop(random.randrange(len(parts))) + parts.pop(random.randrange(len(parts)))
        )
    whole = totals_of(probs, labels)
    assert confident_thresholds(parts[0]).tobytes() == confident_thresholds(whole).tobytes()
    np.testing.assert_array_equal(parts[0].counts, whole.counts)


@given(st.lists(st.integers(-(2**62), 2**62), min_size=1, max_size=20))
def test_no_sum_is_too_large(sums: list[int]) -> None:
    parts = [ClassTotals.of(np.array([1]), np.array([n])) for n in sums]
    total = reduce(add, parts, ClassTotals.zero(1))
    assert total.sums() == [sum(sums)]
    again = ClassTotals.from_sums(3, np.array([1]), [len(sums)], total.sums())
    assert (again.counts.tolist(), again.sums()) == ([0, len(sums), 0], [0, sum(sums), 0])


def test_totals_of_a_trillion_examples_are_exact() -> None:
    full = ClassTotals.of(np.array([MAX_ROWS]), np.array([int(0.7 * FIXED_POINT) * MAX_ROWS]))
    times = 1 << 18
    total = ClassTotals(full.counts * times, full.high * times, full.low * times)
    expected = Fraction(int(0.7 * FIXED_POINT), int(FIXED_POINT))
    assert confident_thresholds(total)[0] == float(expected)


@pytest.mark.parametrize("absent", [NEVER, LOWER_BOUND])
def test_classes_without_examples(absent: float) -> None:
    totals = totals_of(np.array([[0.25, 0.5, 0.25]]), np.array([0]))
    assert confident_thresholds(totals, absent).tolist() == [0.25, absent, absent]
    assert confident_thresholds(ClassTotals.zero(2), absent).tolist() == [absent, absent]


@pytest.mark.parametrize("own", [0.0, 1e-7, -0.0005])
def test_clipped_from_below(own: float) -> None:
    totals = totals_of(np.array([[own, 1 - own]]), np.array([0]))
    assert confident_thresholds(totals)[0] == LOWER_BOUND
