"""The evidence of the mean of several models, from what is kept of each, against the rows."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from noisydask.core.evidence import scan_rows
from noisydask.core.mean_rows import (
    MEAN_COLUMNS,
    ModelRows,
    evidence_of_means,
    mean_evidence,
    mean_rows,
)
from noisydask.core.union import at_classes, largest_classes, union_slots

Array = np.ndarray[Any, Any]


def make(rng: np.random.Generator, rows: int, classes: int, models: int, ties: bool) -> list[Array]:
    truth = rng.integers(0, classes, rows)
    found = []
    for _ in range(models):
        logits = rng.normal(size=(rows, classes)) * 1.5
        logits[np.arange(rows), truth] += 2
        probs = np.exp(logits)
        if ties:
            probs = np.ceil(4 * probs / probs.sum(axis=1, keepdims=True))
        found.append(probs / probs.sum(axis=1, keepdims=True))
    return found


def kept(
    models: list[Array], labels: Array, tops: Array | None = None
) -> tuple[list[ModelRows], Array | None]:
    """What is kept of models that were read together, or with the tops of other days."""
    classes = models[0].shape[1]
    evidence = [scan_rows(probs, labels).columns for probs in models]
    now = np.stack([columns[top] for columns in evidence for top in ("top1", "top2")], axis=1)
    mean = mean_rows(models, np.full(len(models), 1 / len(models)))
    chosen = now.astype(np.int64) if tops is None else tops
    slots = union_slots(chosen, largest_classes(mean), classes)
    ceiling = at_classes(mean, slots).outside if tops is None else None
    found = [
        ModelRows(columns, at_classes(probs, slots))
        for columns, probs in zip(evidence, models, strict=True)
    ]
    return found, ceiling


@settings(max_examples=80)
@given(
    st.integers(0, 2**32),
    st.integers(1, 60),
    st.sampled_from([1, 2, 3, 5, 12, 40]),
    st.integers(1, 4),
    st.booleans(),
    st.sampled_from([np.float16, np.float32, np.float64]),
    st.booleans(),
)
def test_the_mean_of_rows(
    seed: int, rows: int, classes: int, models: int, ties: bool, dtype: Any, stale: bool
) -> None:
    rng = np.random.default_rng(seed)
    probs = [each.astype(dtype) for each in make(rng, rows, classes, models, ties)]
    labels = rng.integers(0, classes, rows)
    labels[rng.random(rows) < 0.1] = classes  # refused
    weights = rng.dirichlet(np.ones(models))
    tops = rng.integers(0, classes, (rows, 2 * models)) if stale else None
    models_kept, ceiling = kept(probs, labels, tops)
    columns, open_rows = mean_evidence(models_kept, weights, classes, ceiling)
    whole = scan_rows(mean_rows(probs, weights), labels, MEAN_COLUMNS).columns
    valid = labels < classes
    if classes > 1:
        for name, values in evidence_of_means(mean_rows(probs, weights)[valid]).items():
            np.testing.assert_array_equal(values, whole[name][valid], name)
    assert not open_rows[~valid].any()
    np.testing.assert_array_equal(columns["p_given"][valid], whole["p_given"][valid])
    for name in MEAN_COLUMNS[:-1]:
        np.testing.assert_array_equal(columns[name][~open_rows], whole[name][~open_rows], name)
    assert (columns["p_rest"][valid & ~open_rows] >= whole["p_rest"][valid & ~open_rows]).all()


@pytest.mark.parametrize(("classes", "most"), [(10, 0), (50, 0.002), (1000, 0.01)])
def test_few_rows_are_open(classes: int, most: float) -> None:
    rng = np.random.default_rng(4)
    rows = 1000
    common = rng.normal(size=(rows, classes)) * 2
    labels = rng.integers(0, classes, rows)
    common[np.arange(rows), labels] += 6
    noise = [rng.normal(size=(rows, classes)) * 0.6 for _ in range(5)]
    probs = [np.exp(common + each) for each in noise]
    probs = [each / each.sum(axis=1, keepdims=True) for each in probs]
    models, ceiling = kept(probs, labels)
    _, open_rows = mean_evidence(models, np.full(5, 0.2), classes, ceiling)
    assert not open_rows.any()
    _, open_rows = mean_evidence(models, np.array([0.21, 0.2, 0.2, 0.2, 0.19]), classes, ceiling)
    assert open_rows.mean() <= most


def test_classes_that_cannot_be() -> None:
    with pytest.raises(ValueError, match="slots must be 0 to 2"):
        at_classes(np.eye(3), np.full((3, 1), 3))
    with pytest.raises(ValueError, match="slots must have shape"):
        at_classes(np.eye(3), np.zeros((2, 1), int))
