"""How models are weighed: sums that have no order, and numbers that are refused."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import log_loss

from noisydask.core import model_weights
from noisydask.core.model_weights import (
    TEMPERATURES,
    accuracy_weights,
    custom_weights,
    log_loss_total,
    mixture_totals,
    shares,
    temperature_weights,
)
from noisydask.core.row_kernel import FIXED_POINT
from noisydask.errors import InputError

Array = np.ndarray[Any, Any]


def make(seed: int, rows: int = 200, classes: int = 5) -> tuple[Array, Array]:
    rng = np.random.default_rng(seed)
    probs = rng.dirichlet(np.full(classes, 0.3), rows)
    labels = rng.integers(0, classes, rows)
    labels[:classes] = np.arange(classes)
    return labels, probs


@given(st.integers(0, 2**32), st.integers(1, 199))
def test_log_losses_add_up_to_the_same(seed: int, cut: int) -> None:
    labels, probs = make(seed)
    whole = log_loss_total(probs, labels)
    assert whole == log_loss_total(probs[:cut], labels[:cut]) + log_loss_total(
        probs[cut:], labels[cut:]
    )
    clipped = np.maximum(probs, 1e-6)
    expected = log_loss(labels, clipped / clipped.sum(axis=1, keepdims=True))
    assert whole / FIXED_POINT / 200 == pytest.approx(expected, abs=1e-11)
    refused = np.append(labels, 5)
    assert log_loss_total(np.vstack([probs, probs[:1]]), refused) == whole


@given(st.integers(0, 2**32), st.integers(1, 199))
def test_log_losses_of_mixtures(seed: int, cut: int) -> None:
    labels, one = make(seed)
    _, other = make(seed + 1)
    own = np.stack([each[np.arange(200), labels] for each in (one, other)], axis=1)
    candidates = np.array([[0.5, 0.5], [0.9, 0.1]])
    found = mixture_totals(own, candidates)
    parts = [mixture_totals(own[some], candidates) for some in (slice(cut), slice(cut, None))]
    assert found == [sum(pair) for pair in zip(*parts, strict=True)]
    for weights, total in zip(candidates, found, strict=True):
        mixture = weights[0] * one + weights[1] * other
        assert total / FIXED_POINT / 200 == pytest.approx(log_loss(labels, mixture), abs=1e-10)


def test_temperatures() -> None:
    found = temperature_weights([0.5, 1.0])
    assert found.shape == (len(TEMPERATURES), 2)
    np.testing.assert_allclose(found.sum(axis=1), 1)
    np.testing.assert_allclose(found[4], np.exp([-0.5, -1.0]) / np.exp([-0.5, -1.0]).sum())
    # All vanish: the best model counts alone.
    assert temperature_weights([5.0, 6.0])[-1].tolist() == [1.0, 0.0]


def test_weights_that_are_given() -> None:
    assert shares(custom_weights([3, 1], 2)).tolist() == [0.75, 0.25]
    assert accuracy_weights([1, 3]).tolist() == [0.25, 0.75]
    for weights in ([1.0], [1, np.nan], [1, -1], [0, 0]):
        with pytest.raises(InputError, match="weights"):
            custom_weights(weights, 2)
    with pytest.raises(InputError, match="none does"):
        accuracy_weights([0, 0])


def test_tiles_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    labels, probs = make(3)
    whole = log_loss_total(probs, labels)
    monkeypatch.setattr(model_weights, "_TILE", 7)
    assert log_loss_total(probs, labels) == whole
