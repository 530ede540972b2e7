"""Every filter against the real cleanlab: the same examples, but for ties at a cut-off.

A row may differ where cleanlab chooses freely: among rows of a class whose probability, margin or
score is the same to the last bit. Which rows of a joint are rounded up is free too where remainders
are equal; then the joint that cleanlab prunes by is ours.
"""

from __future__ import annotations

import json
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import dask
import numpy as np
import pandas as pd
import pytest
import zarr
from cleanlab import filter as theirs
from cleanlab.count import (
    _reduce_issues,
    calibrate_confident_joint,
    compute_confident_joint,
)
from distributed import Client, LocalCluster
from hypothesis import assume, given, settings
from hypothesis import strategies as st

import noisydask
from noisydask.cli.app import main
from noisydask.core.filters import FILTERS
from noisydask.core.noise import SparseMatrix, calibrated_joint
from noisydask.core.prune_counts import prune_counts
from noisydask.core.scores import SCORES

Array = np.ndarray[Any, Any]
REAL = Path(__file__).resolve().parents[3] / "shared" / "data"
OURS = ("batched", "auto")
CLEANLABS = tuple(name for name in FILTERS if name not in OURS)
PRUNING = tuple(name for name in CLEANLABS if FILTERS[name].prunes)
SEEDS = st.integers(0, 2**32)
SLOW = pytest.mark.slow
# Much noise is what is looked for here.
pytestmark = pytest.mark.filterwarnings("ignore::noisydask.LabelWarning")


@pytest.fixture(autouse=True, scope="module")
def _threads() -> Iterator[None]:
    with dask.config.set(scheduler="threads"):
        yield


def make(seed: int, rows: int, classes: int, dtype: Any, ties: bool) -> tuple[Array, Array]:
    """A noisy dataset of classes of very different sizes, some of them absent."""
    rng = np.random.default_rng(seed)
    weights = rng.dirichlet(np.full(classes, 0.3)) + 0.01
    truth = rng.choice(classes, rows, p=weights / weights.sum())
    logits = rng.normal(size=(rows, classes)) * rng.choice([0.5, 1.5])
    logits[np.arange(rows), truth] += rng.choice([1.0, 3.0, 6.0])
    probs = np.exp(logits)
    if ties:
        probs = np.ceil(probs / probs.sum(axis=1, keepdims=True) * 8)
    probs = (probs / probs.sum(axis=1, keepdims=True)).astype(dtype)
    noisy = rng.random(rows) < rng.choice([0.05, 0.4])
    others = rng.permutation(classes)[truth]
    return np.where(noisy, others, truth), probs


def cleanlabs(labels: Array, probs: Array, **options: Any) -> Array:
    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore")
        return np.asarray(theirs.find_label_issues(labels, probs, n_jobs=1, **options))


def near_thresholds(labels: Array, probs: Array) -> bool:
    """Whether a probability is so near a threshold that its last bit decides."""
    counts = np.bincount(labels, minlength=probs.shape[1])
    sums = np.zeros(probs.shape[1])
    np.add.at(sums, labels, probs[np.arange(len(labels)), labels].astype(np.float64))
    means = np.maximum(sums / np.maximum(counts, 1), 2e-6)
    return bool((abs(probs - np.where(counts, means, 9) + 1e-6) < 2e-6).any())


def assert_same(ours: Array, expected: Array, labels: Array, probs: Array, by: str) -> None:
    """Every row that differs shares its number with another one, among which is chosen freely."""
    own = probs[np.arange(len(labels)), labels]
    for row in np.flatnonzero(ours != expected):
        same = labels == labels[row]
        if by.startswith("low_"):
            masked = probs.astype(probs.dtype, copy=True)
            masked[np.arange(len(labels)), labels] = -np.inf
            # Two margins may differ, and be the same score once 1 was added to both.
            margin = (own - masked.max(axis=1) + 1) / 2
            numbers = [own if by == "low_self_confidence" else margin]
            same = np.ones(len(labels), bool)
        else:
            numbers = [own] if by != "prune_by_noise_rate" else []
            if by in ("prune_by_noise_rate", "both"):
                numbers += [probs[:, k] - own for k in range(probs.shape[1]) if k != labels[row]]
        ties = [np.count_nonzero(each[same] == each[row]) > 1 for each in numbers]
        assert by not in ("predicted_neq_given", "confident_learning"), row
        assert any(ties), (row, by)


def real(name: str) -> tuple[Array, Array]:
    folder = "label_errors" if name in ("mnist", "cifar10") else "confident_learning"
    if not (REAL / folder / f"{name}_labels.npy").exists():
        pytest.skip("needs the real data")
    labels = np.load(REAL / folder / f"{name}_labels.npy").astype(np.int64)
    return labels, np.load(REAL / folder / f"{name}_pred_probs.npy").astype(np.float32)


@pytest.mark.parametrize("by", CLEANLABS)
@pytest.mark.parametrize("name", ["mnist", "cifar10", "cifar10_sparsity0.2_noise0.4"])
def test_real_data(name: str, by: str) -> None:
    labels, probs = real(name)
    found = noisydask.find_label_issues(labels, probs, filter_by=by, block_bytes=300_000)
    expected = cleanlabs(labels, probs, filter_by=by)
    assert expected.any()
    assert_same(found.mask, expected, labels, probs, by)


OPTIONS = st.fixed_dictionaries(
    {},
    optional={
        "frac_noise": st.sampled_from([0.0, 0.3, 0.5, 0.9]),
        "min_examples_per_class": st.sampled_from([0, 1, 5, 20]),
    },
)


@settings(max_examples=30)
@given(
    SEEDS,
    st.integers(2, 400),
    st.sampled_from([2, 3, 5, 10, 30]),
    st.sampled_from(CLEANLABS),
    OPTIONS,
    st.sampled_from([np.float16, np.float32, np.float64]),
    st.booleans(),
)
def test_any_data(
    seed: int,
    rows: int,
    classes: int,
    by: str,
    options: dict[str, Any],
    dtype: Any,
    ties: bool,
) -> None:
    labels, probs = make(seed, rows, classes, dtype, ties)
    assume(len(np.unique(labels)) > 1 and not near_thresholds(labels, probs))
    # What is 1e-6 more is another matter in 16 bits than in 32.
    theirs_probs = probs.astype(np.float32) if dtype == np.float16 else probs
    assume((_reduce_issues(probs, labels) == _reduce_issues(theirs_probs, labels)).all())
    if by not in PRUNING:
        options = {}
    found = noisydask.find_label_issues(labels, probs, filter_by=by, block_bytes=3000, **options)
    probs = theirs_probs
    joint = compute_confident_joint(labels, probs, calibrate=False)
    np.testing.assert_array_equal(found.confident_joint, joint)
    counts = np.bincount(labels, minlength=classes)
    calibrated = calibrated_joint(SparseMatrix.of_dense(joint), counts).dense()
    assert_rounded_alike(calibrated, joint, labels)
    if by in PRUNING:
        options["confident_joint"] = calibrated
    expected = cleanlabs(labels, probs, filter_by=by, **options)
    assert_same(found.mask, expected, labels, probs, by)


def assert_rounded_alike(calibrated: Array, joint: Array, labels: Array) -> None:
    """Rows of the calibrated joint that differ have the same total, and equal remainders."""
    expected = calibrate_confident_joint(joint, labels)
    for row in np.flatnonzero((calibrated != expected).any(axis=1)):
        exact = joint[row] / joint[row].sum() * np.count_nonzero(labels == row)
        rest = abs(exact - np.floor(exact))[calibrated[row] != expected[row]]
        assert np.ptp(rest) < 1e-9 or abs(rest - 0.5).max() < 1e-9
        assert calibrated[row].sum() == expected[row].sum()


@SLOW
@settings(max_examples=12)
@given(SEEDS, st.sampled_from([100, 300]), st.sampled_from(CLEANLABS), st.booleans())
def test_many_classes(seed: int, classes: int, by: str, ties: bool) -> None:
    labels, probs = make(seed, 3000, classes, np.float32, ties)
    assume(not near_thresholds(labels, probs))
    found = noisydask.find_label_issues(labels, probs, filter_by=by, block_bytes=300_000)
    more = {}
    if by in PRUNING:
        counts = np.bincount(labels, minlength=classes)
        joint = SparseMatrix.of_dense(found.confident_joint)
        more = {"confident_joint": calibrated_joint(joint, counts).dense()}
    expected = cleanlabs(labels, probs, filter_by=by, **more)
    assert_same(found.mask, expected, labels, probs, by)


@settings(max_examples=15)
@given(SEEDS, st.sampled_from([3, 8]), st.sampled_from(PRUNING))
def test_numbers_to_remove(seed: int, classes: int, by: str) -> None:
    rng = np.random.default_rng(seed)
    labels, probs = make(seed, 300, classes, np.float64, False)
    counts = np.bincount(labels, minlength=classes)
    assume(counts.min() > 3 and not near_thresholds(labels, probs))
    remove = [int(rng.integers(0, count)) for count in counts]
    plain = SparseMatrix.of_dense(compute_confident_joint(labels, probs, calibrate=False))
    joint = SparseMatrix.of_dense(compute_confident_joint(labels, probs))
    assume((calibrated_joint(plain, counts).dense() == joint.dense()).all())
    pruned = prune_counts(joint, counts, 1, 1.0, remove).dense()
    assume(ties_free(joint.dense(), remove, pruned))
    options: dict[str, Any] = {"filter_by": by, "num_to_remove_per_class": remove}
    found = noisydask.find_label_issues(labels, probs, block_bytes=3000, **options)
    expected = cleanlabs(labels, probs, **options)
    assert_same(found.mask, expected, labels, probs, by)


def ties_free(joint: Array, remove: list[int], pruned: Array) -> bool:
    """Whether no number that cleanlab rounds lies so near the middle of two that it may go either
    way; and ours is then the nearest, or one beside it.
    """
    kept = theirs._keep_at_least_n_per_class(joint.T, 1)
    with np.errstate(all="ignore"):
        shares = kept / kept.sum(axis=1)
        noise = shares.sum(axis=1) - shares.diagonal()
        exact = (shares.T * remove / noise).T[~np.eye(len(joint), dtype=bool)]
    if not np.isfinite(exact).all():
        return False
    assert (abs(pruned.T[~np.eye(len(joint), dtype=bool)] - exact) <= 1).all()
    return bool((abs(exact - np.floor(exact) - 0.5) > 1e-6).all())


def stored(tmp_path: Path, labels: Array, probs: Array, chunk: int) -> dict[str, str]:
    arrays = {"labels": labels, "pred_probs": probs}
    for name, values in arrays.items():
        chunks = (chunk, *values.shape[1:])
        zarr.create_array(str(tmp_path / f"{name}.zarr"), data=values, chunks=chunks)
    return {name: str(tmp_path / f"{name}.zarr") for name in arrays}


@pytest.mark.parametrize("by", FILTERS)
def test_no_probability_is_read_twice(by: str, tmp_path: Path) -> None:
    labels, probs = make(5, 6000, 10, np.float32, False)
    inputs = stored(tmp_path, labels, probs, 500)
    whole = {"out": tmp_path / "out", "block_bytes": 20_000}
    noisydask.find_label_issues(**inputs, **whole)
    opened = noisydask.find_label_issues(**inputs, **whole, filter_by=by)
    assert opened.document.bytes_read["pred_probs"] == 0
    assert opened.document.counts["blocks_read_again"] in (0, 12)
    # Open rows are kept: another night reads nothing, also for another number of issues.
    options = {"frac_noise": 0.99} if by in PRUNING else {"quality_score": "log_margin"}
    again = noisydask.find_label_issues(**inputs, **whole, filter_by=by, **options)
    assert set(again.document.bytes_read.values()) == {0}
    alone = noisydask.find_label_issues(labels, probs, filter_by=by, **options)
    np.testing.assert_array_equal(again.indices, alone.indices)
    for one, other in zip(again.to_dataframe().items(), alone.to_dataframe().items(), strict=True):
        np.testing.assert_array_equal(one[1], other[1], err_msg=str(one[0]))


@pytest.mark.parametrize("by", ["both", "confident_learning", "low_self_confidence", "auto"])
def test_same_bits_on_workers_and_in_any_blocks(by: Any, tmp_path: Path, client: Client) -> None:
    labels, probs = make(3, 2000, 12, np.float32, True)
    inputs = stored(tmp_path, labels, probs, 130)
    expected = noisydask.find_label_issues(labels, probs, filter_by=by).to_dataframe()
    for size in (1, 15_000, 10**9):
        found = noisydask.find_label_issues(**inputs, filter_by=by, block_bytes=size)
        pd.testing.assert_frame_equal(found.to_dataframe(), expected)


@settings(max_examples=15)
@given(SEEDS, st.sampled_from(list(FILTERS)), st.sampled_from([*SCORES, "auto"]), st.booleans())
def test_any_order(seed: int, by: str, rank_by: str, ties: bool) -> None:
    labels, probs = make(seed, 400, 6, np.float32, ties)
    flagged = noisydask.find_label_issues(labels, probs, filter_by=by)
    found = noisydask.find_label_issues(
        labels, probs, filter_by=by, rank_by=rank_by, block_bytes=2000
    )
    np.testing.assert_array_equal(found.mask, flagged.mask)
    np.testing.assert_array_equal(found.label_quality.compute(), flagged.label_quality.compute())
    if rank_by in SCORES:
        scored = noisydask.find_label_issues(labels, probs, quality_score=rank_by)
        scores = scored.label_quality.compute()
    else:
        ranked = noisydask.find_label_issues(labels, probs, filter_by=by, rank_by="auto")
        np.testing.assert_array_equal(found.indices, ranked.indices)
        return
    rows = np.flatnonzero(flagged.mask)
    order = np.lexsort((rows, -probs[rows].max(axis=1), scores[rows]))
    np.testing.assert_array_equal(found.indices, rows[order])


def test_overlap_of_filters(tmp_path: Path) -> None:
    labels, probs = make(7, 3000, 8, np.float32, False)
    masks = {
        name: noisydask.find_label_issues(labels, probs, filter_by=name).mask for name in FILTERS
    }
    for by in ("batched", "both"):
        found = noisydask.find_label_issues(
            labels, probs, filter_by=by, compare=True, block_bytes=9000
        )
        np.testing.assert_array_equal(found.mask, masks[by])
        overlap = found.filter_overlap()
        assert list(overlap.index) == list(overlap.columns) == list(FILTERS)
        for one, mask in masks.items():
            for other, second in masks.items():
                assert overlap.loc[one, other] == np.count_nonzero(mask & second), (one, other)


def test_columns_kept_for_later_scores(tmp_path: Path) -> None:
    labels, probs = make(5, 900, 6, np.float32, False)
    inputs = stored(tmp_path, labels, probs, 100)
    noisydask.find_label_issues(**inputs, out=tmp_path / "out", keep_columns=["entropy", "p_sum"])
    later: list[dict[str, Any]] = [
        {"quality_score": "confidence_weighted_entropy"},
        {"adjust_pred_probs": True},
        {"rank_by": "confidence_weighted_entropy"},
    ]
    for options in later:
        found = noisydask.find_label_issues(**inputs, out=tmp_path / "out", **options)
        assert found.document.bytes_read["pred_probs"] == 0
        alone = noisydask.find_label_issues(labels, probs, **options)
        np.testing.assert_array_equal(found.indices, alone.indices)


def test_on_the_command_line(
    tmp_path: Path, one_worker: LocalCluster, capsys: pytest.CaptureFixture[str]
) -> None:
    labels, probs = make(5, 900, 6, np.float32, False)
    inputs = stored(tmp_path, labels, probs, 100)
    out = str(tmp_path / "out")
    own = ["--labels", inputs["labels"], "--pred-probs", inputs["pred_probs"], "--out", out]
    pruning = ["--filter-by", "prune_by_class", "--num-to-remove-per-class", "3,0,1,2,2,0"]
    more = ["--keep-columns", "entropy,p_sum", "--compare"]
    where = ["--scheduler", one_worker.scheduler_address]
    assert main(["issues", *own, *pruning, *more, *where]) == 0
    shown = capsys.readouterr().out
    assert all(name in shown for name in FILTERS)
    found = noisydask.open_run(out)
    assert found.document.settings["num_to_remove_per_class"] == [3, 0, 1, 2, 2, 0]
    assert (
        found.num_issues
        == noisydask.find_label_issues(
            labels, probs, filter_by="prune_by_class", num_to_remove_per_class=[3, 0, 1, 2, 2, 0]
        ).num_issues
    )
    assert main(["issues", *own, *pruning[:2], "--num-to-remove-per-class", "a,b"]) == 2
    said = capsys.readouterr().err
    assert "--num-to-remove-per-class must be whole numbers separated by commas" in said
    assert main(["health", out, "--json"]) == 0
    assert len(json.loads(capsys.readouterr().out)["classes"]) == 6


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"filter_by": "both", "estimation_method": "off_diagonal_calibrated"}, "belongs to"),
        ({"frac_noise": 0.5}, "works with filter_by prune"),
        ({"filter_by": "auto", "num_to_remove_per_class": [1, 2]}, "works with filter_by prune"),
        ({"filter_by": "both", "num_to_remove_per_class": [1, 2]}, "2 numbers for 6 classes"),
        ({"filter_by": "both", "frac_noise": 1.5}, "frac_noise must be a number of 0 to 1"),
        ({"filter_by": "cut"}, "filter_by must be one of"),
        ({"rank_by": "cut"}, "rank_by must be one of"),
    ],
)
def test_options_that_do_not_fit(options: dict[str, Any], said: str) -> None:
    labels, probs = make(7, 300, 6, np.float32, False)
    with pytest.raises(noisydask.InputError, match=said):
        noisydask.find_label_issues(labels, probs, **options)


@pytest.mark.parametrize("by", FILTERS)
def test_data_of_one_class_or_one_row(by: str) -> None:
    for labels, probs in (
        (np.zeros(5, int), np.ones((5, 1))),
        (np.zeros(4, int), np.full((4, 2), 0.5)),
        (np.array([1]), np.array([[0.9, 0.1]])),
    ):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", noisydask.LabelWarning)
            found = noisydask.find_label_issues(labels, probs, filter_by=by, compare=True)
        assert found.num_issues in (0, 1)
