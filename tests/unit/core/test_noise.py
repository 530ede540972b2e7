"""Joints, noise matrices and priors against the real cleanlab; many classes in little room."""

from __future__ import annotations

import tracemalloc
from typing import Any

import numpy as np
import pytest
from cleanlab import count as theirs
from cleanlab.filter import _keep_at_least_n_per_class
from cleanlab.internal.util import round_preserving_row_totals
from hypothesis import assume, given
from hypothesis import strategies as st

from noisydask.core.noise import (
    MOST_DENSE,
    SparseMatrix,
    calibrated_joint,
    confident_joint,
    estimate_joint,
    estimate_latent,
    num_issues_of_joint,
    rounded,
)
from noisydask.core.prune_counts import prune_counts
from noisydask.core.sparse_counts import SparseCounts
from noisydask.errors import InputError

Array = np.ndarray[Any, Any]
SEEDS = st.integers(0, 2**32)
CLASSES = st.sampled_from([1, 2, 3, 7, 20, 60])


def make(seed: int, classes: int) -> tuple[Array, Array]:
    """A confident joint, and labels of which some classes have none."""
    rng = np.random.default_rng(seed)
    joint = rng.poisson(rng.choice([0.05, 1.0, 30.0], (classes, classes)))
    joint[np.diag_indices(classes)] = np.maximum(rng.poisson(50, classes), 1)
    counts = joint.sum(axis=1) + rng.poisson(20, classes)
    counts[rng.random(classes) < 0.1] = 0
    assume(counts.sum() > 0)
    return joint, np.repeat(np.arange(classes), counts)


def counts_of(labels: Array, classes: int) -> Array:
    return np.bincount(labels, minlength=classes)


@given(SEEDS, CLASSES)
def test_calibrated_joint(seed: int, classes: int) -> None:
    joint, labels = make(seed, classes)
    counts = counts_of(labels, classes)
    ours = calibrated_joint(SparseMatrix.of_dense(joint), counts).dense()
    expected = theirs.calibrate_confident_joint(joint, labels)
    np.testing.assert_array_equal(ours.sum(axis=1), counts)
    exact = joint / joint.sum(axis=1, keepdims=True) * counts[:, np.newaxis]
    for row in np.flatnonzero((ours != expected).any(axis=1)):
        # Only among equal remainders, or where a half may be rounded either way.
        rest = (exact[row] - np.rint(exact[row]))[ours[row] != expected[row]]
        assert np.ptp(abs(rest)) < 1e-9
    again = estimate_joint(SparseMatrix.of_dense(expected)).dense()
    np.testing.assert_allclose(again, theirs.estimate_joint(labels, None, confident_joint=joint))


@given(st.lists(st.integers(0, 40), min_size=1, max_size=9), st.integers(1, 8))
def test_rounding_keeps_totals(tenths: list[int], scale: int) -> None:
    values = np.array([tenths]) / (10 * scale)
    assume(abs(values.sum() % 1 - 0.5) > 1e-9)  # which may be rounded either way
    matrix = np.zeros((len(tenths), len(tenths)))
    matrix[0] = values
    found = rounded(SparseMatrix.of_dense(matrix)).dense()[0]
    assert found.sum() == np.rint(values.sum())
    assert (abs(found - values[0]) < 1).all()


@given(SEEDS, CLASSES, st.sampled_from(["cnt", "eqn", "marginal", "marginal_ps"]))
def test_latent_estimates(seed: int, classes: int, method: Any) -> None:
    joint, labels = make(seed, classes)
    assume(method != "eqn" or np.linalg.cond(joint) < 1e6)
    counts = counts_of(labels, classes)
    found = estimate_latent(SparseMatrix.of_dense(joint), counts, method)
    prior, noise, inverse = theirs.estimate_latent(joint, labels, py_method=method)
    np.testing.assert_allclose(found.prior, prior, rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(found.noise_matrix.dense(), noise, atol=1e-12)
    np.testing.assert_allclose(found.inverse_noise_matrix.dense(), inverse, atol=1e-12)


@given(SEEDS, CLASSES, st.sampled_from([0, 1, 5, 200]), st.sampled_from([0.0, 0.3, 0.5, 1.0]))
def test_prune_counts(seed: int, classes: int, least: int, share: float) -> None:
    joint, labels = make(seed, classes)
    counts = counts_of(labels, classes)
    ours = prune_counts(SparseMatrix.of_dense(joint), counts, least, share).dense()
    expected = _keep_at_least_n_per_class(joint.T, least, frac_noise=share).T
    np.testing.assert_array_equal(ours, expected)


@given(SEEDS, st.sampled_from([2, 3, 7, 20]))
def test_numbers_to_remove(seed: int, classes: int) -> None:
    joint, labels = make(seed, classes)
    counts = counts_of(labels, classes)
    remove = np.random.default_rng(seed).integers(0, np.maximum(counts, 1))
    pruned = prune_counts(SparseMatrix.of_dense(joint), counts, 1, 1.0, remove.tolist()).dense().T
    kept = _keep_at_least_n_per_class(joint.T, 1)
    with np.errstate(all="ignore"):
        shares = kept / kept.sum(axis=1)
        scaled = (shares.T * remove / (shares.sum(axis=1) - shares.diagonal())).T
    np.fill_diagonal(scaled, counts - remove)
    usual = np.isfinite(scaled).all(axis=1)
    expected = round_preserving_row_totals(np.where(np.isfinite(scaled), scaled, 0))
    for row in np.flatnonzero(usual & (pruned != expected).any(axis=1)):
        rest = (scaled[row] - np.rint(scaled[row]))[pruned[row] != expected[row]]
        assert np.ptp(abs(rest)) < 1e-9
        assert pruned[row].sum() == expected[row].sum()
    off = ~np.eye(classes, dtype=bool)
    assert not pruned[~usual][:, :][off[~usual]].any()
    np.testing.assert_array_equal(pruned.diagonal(), counts - remove)


def test_numbers_to_remove_fit_the_classes() -> None:
    joint = SparseMatrix.of_dense(np.eye(3, dtype=int))
    with pytest.raises(InputError, match="2 numbers for 3 classes"):
        prune_counts(joint, np.ones(3, int), num_to_remove_per_class=[1, 1])


@given(SEEDS, CLASSES)
def test_number_of_issues(seed: int, classes: int) -> None:
    joint, labels = make(seed, classes)
    calibrated = SparseMatrix.of_dense(theirs.calibrate_confident_joint(joint, labels))
    found = num_issues_of_joint(estimate_joint(calibrated), len(labels))
    given_joint = theirs.estimate_joint(labels, None, confident_joint=joint)
    assert found == np.rint(len(labels) * (1 - given_joint.trace()))


@given(SEEDS, CLASSES)
def test_matrix_operations(seed: int, classes: int) -> None:
    rng = np.random.default_rng(seed)
    dense = rng.poisson(0.4, (classes, classes))
    matrix = SparseMatrix.of_dense(dense)
    np.testing.assert_array_equal(matrix.dense(), dense)
    np.testing.assert_array_equal(matrix.transposed().dense(), dense.T)
    np.testing.assert_array_equal(matrix.row_sums(), dense.sum(axis=1))
    np.testing.assert_array_equal(matrix.column_sums(), dense.sum(axis=0))
    np.testing.assert_array_equal(matrix.diagonal(), dense.diagonal())
    rows, columns = rng.integers(0, classes, (2, 30))
    np.testing.assert_array_equal(matrix.get(rows, columns), dense[rows, columns])
    assert matrix.total == dense.sum()


def test_many_classes_take_little_room() -> None:
    classes = 21_841
    rng = np.random.default_rng(0)
    pairs, counts = np.unique(rng.integers(0, classes**2, 1_000_000), return_counts=True)
    tracemalloc.start()
    joint = confident_joint(SparseCounts(pairs, counts), classes)
    totals = joint.row_sums() + 1
    calibrated = calibrated_joint(joint, totals)
    estimate_latent(calibrated, totals)
    prune_counts(calibrated, totals, 2, 0.9, [1] * classes)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 1 << 30
    np.testing.assert_array_equal(calibrated.row_sums(), totals)
    with pytest.raises(InputError, match=f"more than {MOST_DENSE:,} classes"):
        calibrated.dense()
