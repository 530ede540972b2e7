"""The row kernel against plain NumPy: every column, check and sum, whatever the rows look like."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from noisydask.core import evidence
from noisydask.core.evidence import class_dtype, probability_dtype, scan_rows
from noisydask.core.row_kernel import FIXED_POINT, PROBABILITY_TOLERANCE, Problem

ALL = ("given", "top1", "top2", "p_given", "p_top1", "p_top2", "p_rest", "p_sum", "entropy")
FLOATS = (np.float16, np.float32, np.float64)
INTEGERS = (np.int8, np.uint8, np.int16, np.uint16, np.int32, np.uint32, np.int64, np.uint64)
SEEDS, DTYPES = st.integers(0, 2**32), st.sampled_from(FLOATS)
# Around 24 classes another kernel takes over; 255 and 256 need other types.
CLASSES = st.sampled_from([1, 2, 3, 4, 10, 23, 24, 25, 26, 100, 255, 256, 300])
ROWS = ("smooth", "steep", "ties", "one-hot", "zeros", "flat", "negative", "minus zero")


def make_row(rng: np.random.Generator, kind: str, classes: int) -> np.ndarray:
    """One row of probabilities of a kind that is easy to get wrong."""
    row = rng.dirichlet(np.full(classes, 0.05 if kind == "steep" else 1.0))
    if kind == "ties":
        row = rng.integers(1, 3, classes).astype(float)
    elif kind == "one-hot":
        row = np.eye(classes)[rng.integers(classes)]
    elif kind == "zeros":
        row = row * (rng.random(classes) < 0.2)
        row[rng.integers(classes)] += 0.01
    elif kind == "flat":
        row = np.ones(classes)
    row = row / row.sum()
    small = row < 1e-3
    if kind == "negative":
        row[small] = -np.minimum(9e-4, 1e-3 / classes) * rng.integers(0, 2, small.sum())
    elif kind == "minus zero":
        row[small] = -0.0
    row[row.argmax()] += 1 - row.sum()
    return row


def make_rows(rng: np.random.Generator, rows: int, classes: int, dtype: Any) -> np.ndarray:
    found = [make_row(rng, ROWS[rng.integers(len(ROWS))], classes) for _ in range(rows)]
    return np.array(found).reshape(rows, classes).astype(dtype)


def spoil(rng: np.random.Generator, probs: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Make some rows invalid in place; what is wrong with each."""
    wrong = np.full(len(probs), Problem.NONE)
    for row in np.flatnonzero(rng.random(len(probs)) < 0.4):
        wrong[row] = Problem(
            rng.integers(1, Problem.UNREADABLE)
        )  # which the scan finds, not the kernel
        column = rng.integers(probs.shape[1])
        if wrong[row] == Problem.NOT_FINITE:
            probs[row, column] = rng.choice([np.nan, np.inf, -np.inf])
        elif wrong[row] == Problem.OUT_OF_RANGE:
            probs[row, column] = rng.choice([-0.5, 1.5, -2e-3, 1.003, -3.0, 700.0])
        elif wrong[row] == Problem.ROW_SUM:
            probs[row] = rng.choice([0.0, 0.9 / probs.shape[1], 0.97 / probs.shape[1]])
        elif wrong[row] == Problem.LABEL:
            outside = [
                probs.shape[1],
                probs.shape[1] + 1,
                np.iinfo(labels.dtype).max,
                np.iinfo(labels.dtype).min,
            ]
            fitting = [
                n for n in outside if np.iinfo(labels.dtype).min <= n <= np.iinfo(labels.dtype).max
            ]
            fitting = [n for n in fitting if not 0 <= n < probs.shape[1]]
            if fitting:
                labels[row] = fitting[rng.integers(len(fitting))]
            else:  # no value of this type is outside
                wrong[row] = Problem.NONE
    return wrong


def plain(
    probs: np.ndarray, labels: np.ndarray, wrong: np.ndarray
) -> tuple[dict[str, np.ndarray], list[Any]]:
    """What the kernel must find, one stable sort a row."""
    rows, classes = probs.shape
    probs = probs.astype(probability_dtype(probs.dtype))
    refused = wrong != Problem.NONE
    exact = np.where(refused[:, None], 0, probs)
    given_label = np.where(refused, 0, labels).astype(np.int64)
    order = np.argsort(-exact, axis=1, kind="stable")
    padded = np.concatenate(
        [np.take_along_axis(exact, order, 1), np.zeros((rows, 2), probs.dtype)], axis=1
    )
    columns = {
        "given": np.where(refused, classes, given_label),
        "top1": order[:, 0],
        "top2": order[:, 1] if classes > 1 else np.zeros(rows, int),
        "p_given": exact[np.arange(rows), given_label],
        "p_top1": padded[:, 0],
        "p_top2": padded[:, 1],
        "p_rest": padded[:, 2],
    }
    wide = exact.astype(np.float64)
    # Left to right: the builtin sum compensates its rounding since Python 3.12.
    columns["p_sum"] = np.cumsum(wide, axis=1)[:, -1]
    positive = np.where(wide > 0, wide, 1.0)
    columns["entropy"] = -(positive * np.log(positive)).sum(axis=1) / (
        np.log(classes) if classes > 1 else 1.0
    )
    for name in ALL[1:]:
        columns[name] = np.where(refused, 0, columns[name])
    kept = given_label[~refused]
    counts = np.bincount(kept, minlength=classes)
    fixed = np.zeros(classes, np.int64)
    np.add.at(
        fixed,
        kept,
        (columns["p_given"][~refused].astype(np.float64) * FIXED_POINT).astype(np.int64),
    )
    return columns, [counts, fixed]


def check(probs: np.ndarray, labels: np.ndarray, wrong: np.ndarray) -> None:
    found = scan_rows(probs, labels, ALL)
    expected, (counts, fixed) = plain(probs, labels, wrong)
    np.testing.assert_array_equal(found.problems, wrong)
    for name in ALL:
        if name == "entropy":  # two libraries' logarithms
            np.testing.assert_allclose(found.columns[name], expected[name], rtol=1e-12, atol=1e-15)
        else:
            np.testing.assert_array_equal(found.columns[name], expected[name], err_msg=name)
    np.testing.assert_array_equal(found.counts, counts)
    np.testing.assert_array_equal(found.fixed, fixed)


@settings(max_examples=150)
@given(SEEDS, st.integers(0, 60), CLASSES, DTYPES, st.sampled_from(INTEGERS), st.booleans())
def test_like_plain_numpy(
    seed: int, rows: int, classes: int, dtype: Any, label_dtype: Any, invalid: bool
) -> None:
    rng = np.random.default_rng(seed)
    probs = make_rows(rng, rows, classes, dtype)
    highest = min(classes, int(np.iinfo(label_dtype).max) + 1)
    labels = rng.integers(0, highest, rows).astype(label_dtype)
    wrong = spoil(rng, probs, labels) if invalid else np.full(rows, Problem.NONE)
    check(probs, labels, wrong)


@pytest.mark.parametrize("kind", ROWS)
@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("classes", [1, 2, 3, 24, 25, 300])
def test_each_kind_of_row(kind: str, dtype: Any, classes: int) -> None:
    rng = np.random.default_rng(classes)
    probs = np.array([make_row(rng, kind, classes) for _ in range(40)]).astype(dtype)
    check(probs, rng.integers(0, classes, 40), np.full(40, Problem.NONE))


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("classes", [3, 24, 25])
def test_memory_layout_does_not_matter(dtype: Any, classes: int) -> None:
    rng = np.random.default_rng(7)
    probs = make_rows(rng, 50, classes, dtype)
    labels = rng.integers(0, classes, 50)
    wide = np.zeros((50, 2 * classes), dtype)
    wide[:, ::2] = probs
    locked = probs.copy()
    locked.flags.writeable = False
    for same in (np.asfortranarray(probs), wide[:, ::2], probs[::-1].copy()[::-1], locked):
        check(same, labels, np.full(50, Problem.NONE))
    check(probs[::2], labels[::2], np.full(25, Problem.NONE))


def test_inputs_are_left_alone() -> None:
    rng = np.random.default_rng(0)
    probs, labels = make_rows(rng, 30, 5, np.float32), rng.integers(0, 5, 30)
    before = probs.copy(), labels.copy()
    scan_rows(probs, labels, ALL)
    np.testing.assert_array_equal(probs.view(np.uint32), before[0].view(np.uint32))
    np.testing.assert_array_equal(labels, before[1])


@settings(max_examples=60)
@given(SEEDS, CLASSES, DTYPES, st.lists(st.integers(0, 80), max_size=6))
def test_rows_may_be_split_anywhere(seed: int, classes: int, dtype: Any, cuts: list[int]) -> None:
    rng = np.random.default_rng(seed)
    probs, labels = make_rows(rng, 80, classes, dtype), rng.integers(0, classes, 80)
    spoil(rng, probs, labels)
    whole = scan_rows(probs, labels, ALL)
    edges = [0, *sorted(cuts), 80]
    parts = [scan_rows(probs[a:b], labels[a:b], ALL) for a, b in pairwise(edges)]
    for name in ALL:
        together = np.concatenate([part.columns[name] for part in parts])
        assert together.tobytes() == whole.columns[name].tobytes(), name
    assert np.concatenate([part.problems for part in parts]).tobytes() == whole.problems.tobytes()
    assert sum(part.counts for part in parts).tobytes() == whole.counts.tobytes()
    assert sum(part.fixed for part in parts).tobytes() == whole.fixed.tobytes()


@pytest.mark.parametrize("classes", [3, 300])
def test_conversion_in_tiles_is_seamless(classes: int) -> None:
    # float16 is converted a cache's worth of rows at a time: several tiles here.
    rng = np.random.default_rng(1)
    rows = 3 * (1 << 18) // classes + 5
    probs = rng.dirichlet(np.ones(classes), rows).astype(np.float16)
    check(probs, rng.integers(0, classes, rows), np.full(rows, Problem.NONE))


def test_only_the_columns_asked_for() -> None:
    probs, labels = np.array([[0.7, 0.3]], np.float32), np.array([1])
    every = scan_rows(probs, labels, ALL).columns
    for size in range(len(ALL) + 1):
        names = ("given", "top1", "p_given", "p_top1", *ALL[:size])
        found = scan_rows(probs, labels, dict.fromkeys(names)).columns
        assert set(found) == set(names)
        assert all(found[name] == every[name] for name in names)


@pytest.mark.parametrize(
    ("classes", "kind"), [(2, np.uint8), (255, np.uint8), (256, np.uint16), (65536, np.uint32)]
)
def test_classes_and_the_mark_of_a_refused_row_fit(classes: int, kind: Any) -> None:
    assert class_dtype(classes) == kind
    assert np.array([classes]).astype(kind)[0] == classes


def test_too_many_rows_at_once_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(evidence, "MAX_ROWS", 4)
    with pytest.raises(ValueError, match="at most 4"):
        scan_rows(np.ones((5, 1)), np.zeros(5, int))


def test_the_sums_of_the_most_rows_stay_inside_63_bits() -> None:
    assert evidence.MAX_ROWS * (1 + PROBABILITY_TOLERANCE) * FIXED_POINT < 2**63


@pytest.mark.parametrize("dtype", FLOATS)
def test_tolerances(dtype: Any) -> None:
    rows = [[1.0005, -0.0005], [0.5, 0.5075], [0.5, 0.515], [0.99, -0.002], [1.0025, -0.0005]]
    wrong = [
        Problem.NONE,
        Problem.NONE,
        Problem.ROW_SUM,
        Problem.OUT_OF_RANGE,
        Problem.OUT_OF_RANGE,
    ]
    if dtype == np.float16:  # 1.0005 is no float16
        rows[0][0] = 1.0
    check(np.array(rows, dtype), np.zeros(5, int), np.array(wrong))


def test_what_is_wrong_with_the_values_is_said_before_the_label() -> None:
    probs = np.array([[np.nan, 1], [2, -1], [0.1, 0.1], [0.5, 0.5]])
    assert scan_rows(probs, np.array([-1, 2, 5, 2])).problems.tolist() == [1, 2, 3, 4]
