"""Counts, joint and scores from the evidence against cleanlab's from whole rows."""

from __future__ import annotations

import warnings
from functools import reduce
from itertools import pairwise
from operator import add
from typing import Any, get_args

import numpy as np
import pytest
from cleanlab.count import _reduce_issues, compute_confident_joint
from cleanlab.rank import _compute_label_quality_scores
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import xlogy

from noisydask.core import confident
from noisydask.core.choices import QualityScore
from noisydask.core.confident import (
    IssueCounts,
    count_issues,
    nearly_unresolved,
    num_issues,
    resolve_joint,
)
from noisydask.core.evidence import class_dtype, scan_rows
from noisydask.core.kept_rows import MARGIN, MOST, KeptRows
from noisydask.core.label_quality import agrees, label_quality
from noisydask.core.scores import SCORES
from noisydask.core.sparse_counts import SparseCounts
from noisydask.core.thresholds import (
    FLOATING_POINT_COMPARISON,
    NEVER,
    ClassTotals,
    confident_thresholds,
)

ALL = ("given", "top1", "top2", "p_given", "p_top1", "p_top2", "p_rest", "p_sum", "entropy")
SEEDS = st.integers(0, 2**32)
CLASSES = st.sampled_from([2, 3, 4, 7, 25, 60])
DTYPES = st.sampled_from([np.float16, np.float32, np.float64])
EVIDENCE = st.sampled_from([ALL, tuple(name for name in ALL if name != "p_rest")])


def make(
    seed: int, classes: int, dtype: Any, rows: int = 150
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Labels, rows from flat to steep with many ties, and thresholds of which some are low, some
    never reached."""
    rng = np.random.default_rng(seed)
    steepness = rng.choice([0.05, 1.0, 30.0], rows)
    probs = np.array([rng.dirichlet(np.full(classes, a)) for a in steepness])
    ties = rng.random(rows) < 0.3
    probs[ties] = rng.integers(1, 4, (ties.sum(), classes))
    probs = (probs / probs.sum(axis=1, keepdims=True)).astype(dtype)
    thresholds = np.maximum(rng.random(classes) * rng.choice([0.2, 1.0, 2.0 / classes]), 2e-6)
    thresholds[rng.random(classes) < 0.2] = NEVER
    exact = (
        rng.random(classes) < 0.2
    )  # rows that reach their threshold exactly, or miss it by a hair
    thresholds[exact] = probs[rng.integers(rows), exact].astype(np.float64) + rng.choice(
        [0.0, 1e-6, 1.1e-6]
    )
    return rng.integers(0, classes, rows), probs, np.maximum(thresholds, 2e-6)


def evidence_of(
    probs: np.ndarray, labels: np.ndarray, names: tuple[str, ...] = ALL
) -> dict[str, np.ndarray]:
    found = scan_rows(probs, labels, names)
    assert not found.problems.any()
    return found.columns


def dense(joint: SparseCounts, classes: int) -> np.ndarray:
    full = np.zeros(classes * classes, np.int64)
    full[joint.pairs] = joint.counts
    return full.reshape(classes, classes)


def with_diagonal(joint: np.ndarray) -> np.ndarray:
    """Cleanlab puts at least 1 on the diagonal."""
    np.fill_diagonal(joint, joint.diagonal().clip(min=1))
    return joint


def cleanlab_joint(labels: np.ndarray, probs: np.ndarray, thresholds: np.ndarray) -> np.ndarray:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # scikit-learn's, of classes that do not occur
        return compute_confident_joint(labels, probs, thresholds=thresholds, calibrate=False)


@pytest.mark.parametrize("in_place", [True, pytest.param(False, marks=pytest.mark.slow)])
@settings(max_examples=60)
@given(SEEDS, CLASSES, DTYPES, EVIDENCE)
def test_confident_joint_is_cleanlabs(
    in_place: bool, seed: int, classes: int, dtype: Any, names: Any
) -> None:
    labels, probs, thresholds = make(seed, classes, dtype)
    columns = evidence_of(probs, labels, names)
    with pytest.MonkeyPatch.context() as patch:
        if not in_place:
            patch.setattr(confident, "_DENSE", 0)
        counts, unresolved = count_issues(columns, thresholds, True, probs)
        known, _ = count_issues(columns, thresholds)
    expected = cleanlab_joint(labels, probs, thresholds)
    np.testing.assert_array_equal(with_diagonal(dense(counts.joint, classes)), expected)
    # Without the rows, all but the unresolved are in their places.
    rest = cleanlab_joint(labels[~unresolved], probs[~unresolved], thresholds)
    np.testing.assert_array_equal(with_diagonal(dense(known.joint, classes)), rest)


@settings(max_examples=60)
@given(SEEDS, CLASSES, DTYPES)
def test_rows_are_unresolved_only_where_more_than_two_classes_could_count(
    seed: int, classes: int, dtype: Any
) -> None:
    labels, probs, thresholds = make(seed, classes, dtype)
    _, unresolved = count_issues(evidence_of(probs, labels), thresholds)
    limits = thresholds - FLOATING_POINT_COMPARISON
    best = probs.argmax(axis=1)
    reached = probs[np.arange(len(probs)), best] >= limits[best]
    third = np.sort(probs, axis=1)[:, -3] if classes > 2 else np.full(len(probs), -1.0)
    np.testing.assert_array_equal(unresolved, ~reached & (third >= limits.min()))


@settings(max_examples=100)
@given(SEEDS, CLASSES, DTYPES, EVIDENCE)
def test_rows_near_those_are_all_that_thresholds_can_open(
    seed: int, classes: int, dtype: Any, names: Any
) -> None:
    labels, probs, thresholds = make(seed, classes, dtype)
    columns = evidence_of(probs, labels, names)
    near = nearly_unresolved(columns, thresholds, MARGIN)
    for moved in (
        np.random.default_rng(seed).uniform(1 - 0.99 * MARGIN, 1 + 0.99 * MARGIN, (5, classes))
        * thresholds
    ):
        _, unresolved = count_issues(columns, moved)
        assert not (unresolved & ~near).any()
        wide = np.concatenate(
            [near, np.zeros(4 * len(near), bool)]
        )  # of a larger block these are few
        kept = KeptRows.of(wide, np.concatenate([probs] * 5))
        kept = KeptRows.from_bytes(kept.to_bytes(), np.dtype((dtype, (classes,))))
        assert kept.cover(unresolved)
        assert not kept.cover(~near) or near.all()
        again, whole = (resolve_joint(unresolved, labels, moved, rows) for rows in (kept, probs))
        np.testing.assert_array_equal(dense(again, classes), dense(whole, classes))


def test_rows_are_kept_up_to_a_share_of_the_block() -> None:
    most = int(100 * MOST)
    assert [
        len(KeptRows.of(np.arange(100) < some, np.eye(100)).positions)
        for some in (0, most, most + 1)
    ] == [0, most, 0]


@settings(max_examples=100)
@given(SEEDS, CLASSES, DTYPES, st.booleans())
def test_counts_are_brute_force(seed: int, classes: int, dtype: Any, joint: bool) -> None:
    labels, probs, thresholds = make(seed, classes, dtype)
    counts, _ = count_issues(evidence_of(probs, labels), thresholds, joint)
    confident_counts, off_diagonal = np.zeros(classes, int), np.zeros(classes, int)
    for label, row in zip(labels, probs, strict=True):
        best = row.argmax()
        if float(row[best]) >= thresholds[best] - 1e-6:
            confident_counts[label] += 1
            off_diagonal[label] += best != label
    np.testing.assert_array_equal(counts.confident, confident_counts)
    np.testing.assert_array_equal(counts.off_diagonal, off_diagonal)
    assert joint or not len(counts.joint.pairs)
    assert (
        num_issues(counts, np.bincount(labels, minlength=classes), "off_diagonal")
        == off_diagonal.sum()
    )
    share = off_diagonal / np.maximum(confident_counts, 1e-6)
    calibrated = num_issues(
        counts, np.bincount(labels, minlength=classes), "off_diagonal_calibrated"
    )
    assert abs(calibrated - (share * np.bincount(labels, minlength=classes)).sum()) <= 0.5 + 1e-9


@settings(max_examples=30)
@given(SEEDS, CLASSES, st.lists(st.integers(0, 150), max_size=6))
def test_counts_add_up_over_any_blocks(seed: int, classes: int, cuts: list[int]) -> None:
    labels, probs, thresholds = make(seed, classes, np.float32)
    whole = count_issues(evidence_of(probs, labels), thresholds, True, probs)[0]
    edges = [0, *sorted(cuts), 150]
    parts = [
        count_issues(evidence_of(probs[a:b], labels[a:b]), thresholds, True, probs[a:b])[0]
        for a, b in pairwise(edges)
    ]
    total = reduce(add, parts[::-1], IssueCounts.zero(classes))
    for name in ("confident", "off_diagonal"):
        np.testing.assert_array_equal(getattr(total, name), getattr(whole, name))
    np.testing.assert_array_equal(dense(total.joint, classes), dense(whole.joint, classes))
    assert (np.diff(total.joint.pairs) > 0).all()


def test_refused_rows_count_nowhere_and_have_no_score() -> None:
    probs = np.array([[0.1, 0.9, 0.0], [np.nan, 1.0, 0.0], [0.0, 0.2, 0.8]], np.float32)
    columns = scan_rows(probs, np.array([0, 0, 3]), ALL).columns
    thresholds = np.array([0.1, 0.5, 0.5])
    counts, unresolved = count_issues(columns, thresholds)
    assert (counts.off_diagonal.tolist(), counts.confident.tolist()) == ([1, 0, 0], [1, 0, 0])
    assert (counts.joint.pairs.tolist(), counts.joint.counts.tolist()) == ([1], [1])
    assert not unresolved.any()
    for score in get_args(QualityScore):
        for adjust in (False, True)[: 1 + SCORES[score].adjustable]:
            scores, open_scores = label_quality(columns, thresholds, score, adjust)
            assert np.isnan(scores).tolist() == [False, True, True]
            assert not open_scores.any()


@settings(max_examples=100)
@given(SEEDS, CLASSES, DTYPES)
def test_agreement_is_cleanlabs(seed: int, classes: int, dtype: Any) -> None:
    rng = np.random.default_rng(seed)
    labels, probs, _ = make(seed, classes, np.float64)
    rows = np.flatnonzero(rng.random(len(probs)) < 0.6)
    # Within a few 1e-6 of the prediction, where it is decided by the last bits of the input's type.
    probs[rows, labels[rows]] = probs[rows].max(axis=1) - rng.choice(
        [0, 5e-7, 1e-6, 1.02e-6, 2e-6, -1e-6], len(rows)
    )
    probs = probs.astype(dtype)
    found = scan_rows(probs, labels)
    valid = found.problems == 0
    ours = agrees({name: column[valid] for name, column in found.columns.items()}, dtype)
    np.testing.assert_array_equal(
        ours, _reduce_issues(pred_probs=probs[valid], labels=labels[valid])
    )


@settings(max_examples=100)
@given(SEEDS, CLASSES, DTYPES)
def test_plain_scores_are_cleanlabs(seed: int, classes: int, dtype: Any) -> None:
    labels, probs, thresholds = make(seed, classes, dtype)
    columns = evidence_of(probs, labels)
    # float16 is widened before anything is computed.
    wide = probs.astype(np.float64 if dtype == np.float64 else np.float32)
    for score in ("self_confidence", "normalized_margin"):
        scores, unresolved = label_quality(columns, thresholds, score)
        np.testing.assert_array_equal(
            scores, _compute_label_quality_scores(labels, wide, method=score)
        )
        assert scores.dtype == wide.dtype
        assert not unresolved.any()


@settings(max_examples=100)
@given(SEEDS, CLASSES, DTYPES)
def test_entropy_score_is_cleanlabs_where_that_has_digits(
    seed: int, classes: int, dtype: Any
) -> None:
    labels, probs, thresholds = make(seed, classes, dtype)
    scores, _ = label_quality(evidence_of(probs, labels), thresholds, "confidence_weighted_entropy")
    wide = probs.astype(np.float64)
    theirs = _compute_label_quality_scores(labels, wide, method="confidence_weighted_entropy")
    own = wide[np.arange(len(wide)), labels]
    ratio = -xlogy(wide, wide).sum(axis=1) / np.log(classes) / np.maximum(own, 1e-6)
    # Below 1e-6 cleanlab divides by 1e-6 instead, and its score falls to the worst where it should
    # rise to 1.
    fine = ratio > 1e-6
    np.testing.assert_allclose(
        scores[fine], theirs[fine], rtol=1e-6 if dtype != np.float64 else 1e-9
    )
    np.testing.assert_allclose(scores[~fine], 1.0, atol=1e-6)


@pytest.mark.parametrize("score", ["self_confidence", "normalized_margin"])
@settings(max_examples=100)
@given(SEEDS, CLASSES, DTYPES, EVIDENCE)
def test_adjusted_scores_are_cleanlabs(
    score: str, seed: int, classes: int, dtype: Any, names: Any
) -> None:
    labels, probs, thresholds = make(seed, classes, dtype)
    columns = evidence_of(probs, labels, names)
    theirs = _compute_label_quality_scores(
        labels, probs, method=score, adjust_pred_probs=True, confident_thresholds=thresholds
    )
    scores, unresolved = label_quality(columns, thresholds, score, True, probs)
    np.testing.assert_allclose(scores, theirs, rtol=1e-9, atol=1e-12)
    known, again = label_quality(columns, thresholds, score, True)
    np.testing.assert_array_equal(again, unresolved)
    np.testing.assert_array_equal(known[~unresolved], scores[~unresolved])


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
@pytest.mark.parametrize("classes", [2, 3])
def test_adjusted_margin_of_a_probability_a_little_below_zero(dtype: Any, classes: int) -> None:
    probs = np.array([[1.0, -0.0005, 0.0], [0.0, 1.0, -0.0005]], dtype)[:, :classes]
    labels, thresholds = np.array([0, 1]), np.array([0.25, 0.75, 0.75])[:classes]
    theirs = _compute_label_quality_scores(
        labels,
        probs,
        method="normalized_margin",
        adjust_pred_probs=True,
        confident_thresholds=thresholds,
    )
    scores, _ = label_quality(
        evidence_of(probs, labels), thresholds, "normalized_margin", True, probs
    )
    np.testing.assert_allclose(scores, theirs, rtol=1e-9)


def test_one_class_is_never_an_issue() -> None:
    columns = evidence_of(np.ones((3, 1)), np.zeros(3, int))
    thresholds = confident_thresholds(ClassTotals.of(np.array([3]), np.array([3 << 40])))
    counts, _ = count_issues(columns, thresholds)
    assert (num_issues(counts, np.array([3]), "off_diagonal"), dense(counts.joint, 1).tolist()) == (
        0,
        [[3]],
    )
    cleanlabs = ("self_confidence", "normalized_margin", "confidence_weighted_entropy")
    for score in cleanlabs:
        for adjust in (False, True)[: 1 + SCORES[score].adjustable]:
            assert label_quality(columns, thresholds, score, adjust)[0].tolist() == [1, 1, 1]


def test_joint_of_very_many_classes() -> None:
    classes = 70_000
    labels = np.array([69_999, 3, 69_999])
    columns = {
        "given": labels.astype(class_dtype(classes)),
        "top1": np.array([5, 3, 5]),
        "top2": np.array([0, 0, 0]),
        "p_given": np.zeros(3),
        "p_top1": np.full(3, 0.9),
        "p_top2": np.full(3, 0.1),
        "p_rest": np.zeros(3),
    }
    counts, _ = count_issues(columns, np.full(classes, 0.5))
    assert counts.joint.pairs.tolist() == [3 * classes + 3, 69_999 * classes + 5]
    assert counts.joint.counts.tolist() == [1, 2]
