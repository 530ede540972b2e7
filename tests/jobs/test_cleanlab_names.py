"""The compatible names of ``cleanlab.count``, ``rank``, ``dataset`` and ``filter`` against the real
cleanlab, and the native results that they come from.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from typing import Any

import dask
import numpy as np
import pandas as pd
import pytest
from cleanlab import count, dataset, rank
from cleanlab import filter as filters
from hypothesis import assume, given, settings
from hypothesis import strategies as st

import noisydask
from noisydask.compat import cleanlab as ours

Array = np.ndarray[Any, Any]
SEEDS = st.integers(0, 2**32)
CLASSES = st.sampled_from([2, 3, 8])
pytestmark = pytest.mark.filterwarnings("ignore::noisydask.LabelWarning")


@pytest.fixture(autouse=True, scope="module")
def _threads() -> Iterator[None]:
    with dask.config.set(scheduler="threads"):
        yield


def make(seed: int, classes: int, rows: int = 300) -> tuple[Array, Array]:
    rng = np.random.default_rng(seed)
    truth = rng.integers(0, classes, rows)
    logits = rng.normal(size=(rows, classes))
    logits[np.arange(rows), truth] += 2
    probs = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    labels = np.where(rng.random(rows) < 0.2, rng.integers(0, classes, rows), truth)
    labels[:classes] = np.arange(classes)
    return labels, probs


def same_rounding(labels: Array, probs: Array) -> None:
    """Leave out data where the rounding of the joint is free."""
    joint = count.compute_confident_joint(labels, probs, calibrate=False)
    expected = count.calibrate_confident_joint(joint, labels)
    assume((ours.calibrate_confident_joint(joint, labels) == expected).all())


@settings(max_examples=15)
@given(SEEDS, CLASSES)
def test_counts(seed: int, classes: int) -> None:
    labels, probs = make(seed, classes)
    same_rounding(labels, probs)
    for name in ("get_confident_thresholds", "estimate_joint"):
        expected = getattr(count, name)(labels, probs)
        np.testing.assert_allclose(getattr(ours, name)(labels, probs), expected, rtol=1e-9)
    limits = np.full(classes, 0.4)
    for options in ({}, {"calibrate": False}, {"thresholds": limits, "calibrate": False}):
        expected = count.compute_confident_joint(labels, probs, **options)
        np.testing.assert_array_equal(
            ours.compute_confident_joint(labels, probs, **options), expected
        )
    pair = {"return_indices_of_off_diagonals": True}
    joint, indices = ours.compute_confident_joint(labels, probs, **pair)
    expected, expected_indices = count.compute_confident_joint(labels, probs, **pair)
    np.testing.assert_array_equal(joint, expected)
    np.testing.assert_array_equal(indices, np.sort(expected_indices))
    for method in ("off_diagonal", "off_diagonal_calibrated", "off_diagonal_custom"):
        more = {"confident_joint": joint} if method == "off_diagonal_custom" else {}
        options = {"estimation_method": method, **more}
        found = ours.num_label_issues(labels, probs, **options)
        assert found == count.num_label_issues(labels, probs, **options)


@settings(max_examples=10)
@given(SEEDS, CLASSES, st.booleans(), st.sampled_from(["cnt", "eqn", "marginal", "marginal_ps"]))
def test_latent_estimates(seed: int, classes: int, converge: bool, method: str) -> None:
    labels, probs = make(seed, classes)
    same_rounding(labels, probs)
    options = {"converge_latent_estimates": converge, "py_method": method}
    function = "estimate_py_and_noise_matrices_from_probabilities"
    expected = getattr(count, function)(labels, probs, **options)
    for found, known in zip(
        getattr(ours, function)(labels, probs, **options), expected, strict=True
    ):
        np.testing.assert_allclose(found, known, rtol=1e-9, atol=1e-12)
    native = noisydask.find_label_issues(labels, probs)
    joint = native.calibrated_joint
    plain = count.estimate_latent(joint, labels)
    for name, known in zip(("prior", "noise_matrix", "inverse_noise_matrix"), plain, strict=True):
        np.testing.assert_allclose(getattr(native, name), known, rtol=1e-9, atol=1e-12)
        if name != "prior":
            entries = getattr(native, f"{name}_entries")
            assert (
                entries.values.tolist() == entries.dense()[entries.rows, entries.columns].tolist()
            )


METHODS = ("self_confidence", "normalized_margin", "confidence_weighted_entropy")


@settings(max_examples=10)
@given(SEEDS, CLASSES, st.sampled_from(METHODS), st.booleans())
def test_scores(seed: int, classes: int, method: str, adjust: bool) -> None:
    labels, probs = make(seed, classes)
    adjust = adjust and method != "confidence_weighted_entropy"
    options = {"method": method, "adjust_pred_probs": adjust}
    expected = rank.get_label_quality_scores(labels, probs, **options)
    scores = ours.get_label_quality_scores(labels, probs, **options)
    np.testing.assert_allclose(scores, expected, rtol=1e-9)
    plain = getattr(ours, f"get_{method}_for_each_label")(labels, probs)
    np.testing.assert_allclose(plain, getattr(rank, f"get_{method}_for_each_label")(labels, probs))
    mask = labels != probs.argmax(axis=1)
    how = {"rank_by": method, "rank_by_kwargs": {"adjust_pred_probs": adjust}}
    order = ours.order_label_issues(mask, labels, probs, **how)
    np.testing.assert_array_equal(scores[order], np.sort(scores[mask]))
    ranked = {"return_indices_ranked_by": method, "rank_by_kwargs": how["rank_by_kwargs"]}
    for by in ("confident_learning", "predicted_neq_given", "low_self_confidence"):
        found = ours.find_label_issues(labels, probs, filter_by=by, **ranked)
        known = filters.find_label_issues(labels, probs, filter_by=by, n_jobs=1, **ranked)
        np.testing.assert_array_equal(np.sort(found), np.sort(known))
        np.testing.assert_allclose(scores[found], scores[known], rtol=1e-9)
    np.testing.assert_array_equal(
        ours.find_predicted_neq_given(labels, probs), probs.argmax(axis=1) != labels
    )


def ordered(frame: pd.DataFrame, columns: list[str]) -> pd.DataFrame:
    return frame.sort_values(columns).reset_index(drop=True)


@settings(max_examples=10)
@given(SEEDS, CLASSES, st.booleans(), st.booleans())
def test_health(seed: int, classes: int, asymmetric: bool, named: bool) -> None:
    labels, probs = make(seed, classes)
    same_rounding(labels, probs)
    names = [f"class {k}" for k in range(classes)] if named else None
    options: dict[str, Any] = {
        "asymmetric": asymmetric,
        "class_names": names,
        "verbose": False,
    }
    found = ours.health_summary(labels, probs, **options)
    known = dataset.health_summary(labels, probs, **options)
    assert found["overall_label_health_score"] == known["overall_label_health_score"]
    np.testing.assert_allclose(found["joint"], known["joint"], rtol=1e-12)
    quality, pairs = "classes_by_label_quality", "overlapping_classes"
    assert found[quality]["Label Quality Score"].is_monotonic_increasing
    assert found[pairs]["Joint Probability"].is_monotonic_decreasing
    columns = ["Class Index A", "Class Index B"]
    overlapping = known[pairs][known[pairs]["Joint Probability"] > 0]
    for ours_, theirs, by in (
        (found[quality], known[quality], ["Class Index"]),
        (found[pairs], overlapping, columns),
    ):
        pd.testing.assert_frame_equal(ordered(ours_, by), ordered(theirs, by), rtol=1e-12)
    native = noisydask.find_label_issues(labels, probs, class_names=names).health()
    assert native.score == known["overall_label_health_score"]
    assert native.classes["class"].tolist() == found[quality]["Class Index"].tolist()
    assert native.classes["label_issues"].tolist() == found[quality]["Label Issues"].tolist()
    score = ours.overall_label_health_score(joint=known["joint"], num_examples=300, verbose=False)
    assert score == pytest.approx(known["joint"].trace(), abs=1e-12)
    joint = ours.compute_confident_joint(labels, probs)
    for name in ("rank_classes_by_label_quality", "find_overlapping_classes"):
        one = getattr(ours, name)(labels, probs)
        other = getattr(ours, name)(labels, confident_joint=joint)
        pd.testing.assert_frame_equal(one, other)


def test_health_of_rare_and_absent_classes() -> None:
    labels = np.r_[np.zeros(90, int), np.ones(60, int), 2]
    probs = np.full((151, 5), 0.01)
    probs[np.arange(151), np.minimum(labels, 1)] = 0.96
    found = noisydask.find_label_issues(labels, probs).health()
    assert (found.rare, found.never_given, found.never_predicted) == ((2,), (3, 4), (2, 3, 4))
    assert found.classes.set_index("class")["given"].sort_index().tolist() == [90, 60, 1, 0, 0]


@pytest.mark.parametrize(
    ("call", "said"),
    [
        (lambda y, p: ours.find_label_issues(y, p, multi_label=True), "multi_label"),
        (lambda y, p: ours.find_label_issues(y, p, filter_by="cut"), "filter_by must be one of"),
        (
            lambda y, p: ours.find_label_issues(
                y, p, filter_by="auto", num_to_remove_per_class=[1, 1, 1]
            ),
            "not supported",
        ),
        (
            lambda y, p: ours.find_label_issues(y, p, confident_joint=np.ones((2, 2))),
            "must have shape",
        ),
        (
            lambda y, p: ours.num_label_issues(y, p, estimation_method="off_diagonal_custom"),
            "is needed",
        ),
        (lambda y, _: ours.estimate_latent(np.eye(3), y, py_method="x"), "should be one of"),
        (lambda y, _: ours.calibrate_confident_joint(np.eye(2), y), "labels must be"),
        (lambda y, _: ours.rank_classes_by_label_quality(y), "give labels and pred_probs"),
        (lambda _, __: ours.find_overlapping_classes(joint=np.eye(3)), "num_examples"),
    ],
)
def test_what_does_not_fit_is_told(call: Any, said: str) -> None:
    labels, probs = make(1, 3)
    with pytest.raises(noisydask.InputError, match=said):
        call(labels, probs)


def test_what_has_no_effect_is_told() -> None:
    labels, probs = make(1, 3)
    with pytest.warns(UserWarning, match="frac_noise has no effect"):
        ours.find_label_issues(labels, probs, filter_by="auto", frac_noise=0.5)
    with pytest.warns(UserWarning, match="confident_joint has no effect"):
        ours.find_label_issues(
            labels, probs, filter_by="predicted_neq_given", confident_joint=np.eye(3)
        )
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        remove = ours.find_label_issues(
            labels, probs, filter_by="prune_by_class", num_to_remove_per_class=5
        )
    assert 0 < remove.sum() <= 15
