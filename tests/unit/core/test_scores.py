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
