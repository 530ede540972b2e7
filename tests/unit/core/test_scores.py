"""Scores and statistics are declared once: options and columns follow from them."""

from __future__ import annotations

from typing import get_args

import numpy as np
import pytest

from noisydask.core.choices import QualityScore
from noisydask.core.curve_sums import CurveSums
from noisydask.core.dynamics import advance
from noisydask.core.evidence import columns_for, scan_rows
from noisydask.core.label_quality import label_quality
from noisydask.core.scores import SCORES, Score
from noisydask.core.statistics import STATISTICS, ExampleStates


def test_every_score_is_an_option() -> None:
    assert set(SCORES) == set(get_args(QualityScore))


def test_a_score_that_is_declared_is_computed(monkeypatch: pytest.MonkeyPatch) -> None:
    ratio = Score("ratio", lambda own, other: own / (own + other), "other")
    monkeypatch.setitem(SCORES, "ratio", ratio)
    rows = np.random.default_rng(0).dirichlet(np.ones(5), 40)
    labels = np.arange(40) % 5
    columns = columns_for(5, rows.dtype, "ratio", False, joint=False)
    evidence = scan_rows(rows, labels, columns)
    scores, unresolved = label_quality(evidence.columns, np.zeros(5), "ratio")
    own = rows[np.arange(40), labels]
    others = np.where(np.arange(5) == labels[:, None], -1.0, rows).max(axis=1)
    np.testing.assert_array_equal(scores, own / (own + others))
    assert not unresolved.any()


def logarithm(value: float) -> float:
    """Return a logarithm as the scores round it."""
    return round(np.log(max(value, 1e-9)) * 2**20) / 2**20


def margin_of(row: np.ndarray, label: int, thresholds: np.ndarray) -> float:
    """Return ``threshold_margin`` by its definition."""
    best = sorted(range(len(row)), key=lambda k: (-row[k], k))[:2]
    others = [logarithm(row[k]) - logarithm(thresholds[k]) for k in best if k != label]
    return logarithm(row[label]) - logarithm(thresholds[label]) - max(others)


@pytest.mark.parametrize("dtype", ["f4", "f8"])
@pytest.mark.parametrize("classes", [2, 3, 30])
@pytest.mark.parametrize("name", ["log_margin", "threshold_margin", "threshold_ratio"])
def test_own_scores_are_as_defined(dtype: str, classes: int, name: str) -> None:
    rng = np.random.default_rng(classes)
    rows = rng.dirichlet(np.full(classes, 0.1), 200).astype(dtype)
    rows /= rows.sum(axis=1, keepdims=True)
    labels = rng.integers(0, classes, 200)
    thresholds = rng.uniform(0.1, 0.9, classes)
    columns = columns_for(classes, rows.dtype, name, False, joint=False)
    evidence = scan_rows(rows, labels, columns)
    scores, unresolved = label_quality(evidence.columns, thresholds, name)
    assert scores.dtype == dtype
    assert not unresolved.any()
    for row, label, score in zip(rows.astype(float), labels, scores, strict=True):
        others = np.delete(row, label)
        expected = {
            "log_margin": logarithm(row[label]) - logarithm(others.max()),
            "threshold_margin": margin_of(row, label, thresholds),
            "threshold_ratio": row[label] / thresholds[label],
        }
        assert score == np.dtype(dtype).type(expected[name])


def test_scores_of_one_class_and_of_refused_rows() -> None:
    for name in SCORES:
        columns = columns_for(1, np.dtype("f4"), name, False, joint=False)
        evidence = scan_rows(np.ones((3, 1), "f4"), np.array([0, 0, 5]), columns)
        scores, _ = label_quality(evidence.columns, np.array([0.5]), name)
        assert np.isfinite(scores).tolist() == [True, True, False], name


@pytest.mark.parametrize("dtype", ["f4", "f8"])
def test_statistics_are_those_of_numpy(dtype: str) -> None:
    rng = np.random.default_rng(1)
    losses = rng.exponential(2, (50, 12)).astype(dtype)
    losses[rng.random(losses.shape) < 0.4] = np.nan
    losses[7] = np.nan
    states = ExampleStates.empty(50, dtype)
    advance(states, losses, 0.25, CurveSums.zero(np.array([0]), 12))
    statistics = states.statistics()
    assert list(statistics) == [statistic.name for statistic in STATISTICS]
    for row, recorded in enumerate(line[~np.isnan(line)].astype(float) for line in losses):
        assert statistics["num_losses"][row] == len(recorded)
        if not len(recorded):
            floats = [statistics[each.name][row] for each in STATISTICS if each.dtype is np.float64]
            assert np.isnan(floats).all()
            continue
        ema = 0.0
        for loss in recorded:
            ema = 0.75 * ema + 0.25 * loss
        expected = {
            "metric": ema,
            "mean_loss": recorded.mean(),
            "variance": recorded.var(),
            "min_loss": recorded.min(),
            "last_loss": recorded[-1],
        }
        for name, value in expected.items():
            assert statistics[name][row] == pytest.approx(value, rel=1e-12, abs=1e-12)
