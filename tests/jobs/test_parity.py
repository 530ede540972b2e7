"""The same issues as cleanlab 2.9.0, from the native function and from cleanlab's names over our
kernels.

Two runs are the same (:func:`assert_same`) if every difference is explained: an example whose
comparison lies within 1e-6 of a threshold may count or not, and then the cut-off moves by that;
examples whose scores tie at the cut-off may be exchanged. Nothing else may differ."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import dask
import dask.array as da
import numpy as np
import pytest
import zarr
from cleanlab.count import _reduce_issues
from cleanlab.experimental import label_issues_batched as cleanlab
from cleanlab.rank import _compute_label_quality_scores
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from scipy.special import xlogy

import noisydask
from noisydask import InputError
from noisydask.compat import LabelInspector, cleanlab_batched, find_label_issues_batched
from noisydask.compat import cleanlab as compat
from noisydask.core.thresholds import NEVER

# Data of hypothesis have labels that fit the predictions by chance alone.
pytestmark = pytest.mark.filterwarnings("ignore::noisydask.LabelWarning")
REAL = Path(__file__).resolve().parents[3] / "shared" / "data"
SEEDS = st.integers(0, 2**32)
DTYPES = st.sampled_from([np.float16, np.float32, np.float64])
METHODS = ("off_diagonal", "off_diagonal_calibrated")
SCORES = (
    ("self_confidence", False),
    ("self_confidence", True),
    ("normalized_margin", False),
    ("normalized_margin", True),
    ("confidence_weighted_entropy", False),
)
NEAR = 1e-6 * (1 + 1e-6)


@pytest.fixture(autouse=True, scope="module")
def _threads() -> Iterator[None]:
    with dask.config.set(scheduler="threads"):
        yield


@dataclass(frozen=True)
class Options:
    score: str = "self_confidence"
    adjust: bool = False
    method: str = "off_diagonal"

    @property
    def kwargs(self) -> dict[str, Any]:
        """As cleanlab's names take them."""
        quality = {"method": self.score, "adjust_pred_probs": self.adjust}
        return {
            "quality_score_kwargs": quality,
            "num_issue_kwargs": {"estimation_method": self.method},
            "verbose": False,
        }

    @property
    def score_tolerance(self) -> float:
        """How far scores may be apart that are the same: the plain ones come from the same bits."""
        return 1e-6 if self.adjust or self.score == "confidence_weighted_entropy" else 0.0

    def cleanlabs_input(self, probs: np.ndarray) -> np.ndarray:
        """Where cleanlab would compute more than comparisons in the input's few bits, the same
        numbers in more."""
        if self.score == "confidence_weighted_entropy" or (
            self.adjust and probs.dtype == np.float16
        ):
            return probs.astype(np.float64)
        return probs


@dataclass(frozen=True)
class Run:
    """What a program found."""

    flagged: np.ndarray
    total: int
    thresholds: np.ndarray
    scores: np.ndarray


def native(labels: Any, probs: np.ndarray, options: Options, **more: Any) -> Run:
    found = noisydask.find_label_issues(
        labels,
        probs,
        quality_score=options.score,
        adjust_pred_probs=options.adjust,
        estimation_method=options.method,
        **more,
    )
    thresholds = np.where(np.isnan(found.confident_thresholds), NEVER, found.confident_thresholds)
    scores = found.label_quality.compute()
    total = found.manifest["counts"]["estimated_issues"]
    check_order(found.indices, labels, probs, scores, total)
    return Run(found.mask, total, thresholds, scores)


def inspect(module: Any, labels: np.ndarray, probs: np.ndarray, options: Options) -> Any:
    inspector = module.LabelInspector(num_class=probs.shape[1], **options.kwargs)
    inspector.update_confident_thresholds(labels, probs)
    inspector.score_label_quality(labels, probs)
    return inspector


def compatible(labels: np.ndarray, probs: np.ndarray, options: Options) -> Run:
    indices = find_label_issues_batched(labels, probs, **options.kwargs)
    inspector = inspect(compat, labels, probs, options)
    scores, total = inspector.get_quality_scores(), inspector.get_num_issues()
    check_order(indices, labels, probs, scores, total)
    mask = np.zeros(len(labels), bool)
    mask[indices] = True
    return Run(mask, total, inspector.get_confident_thresholds(), scores)


def cleanlabs(labels: np.ndarray, probs: np.ndarray, options: Options) -> Run:
    probs = options.cleanlabs_input(probs)
    whole = {"batch_size": len(labels), "return_mask": True}
    found = cleanlab.find_label_issues_batched(labels, probs, **whole, **options.kwargs)
    inspector = inspect(cleanlab, labels, probs, options)
    total, thresholds = inspector.get_num_issues(), inspector.get_confident_thresholds()
    return Run(found, total, thresholds, inspector.get_quality_scores())


def plain(labels: np.ndarray, probs: np.ndarray, options: Options) -> Run:
    """The same by the definitions, where classes without examples are never confident."""
    own = probs.astype(np.float64)[np.arange(len(labels)), labels]
    means = [
        own[labels == k].mean() if (labels == k).any() else NEVER for k in range(probs.shape[1])
    ]
    thresholds = np.maximum(means, 2e-6)
    total = round(estimate(labels, *confident(probs, thresholds), options.method))
    scores = _compute_label_quality_scores(
        labels,
        options.cleanlabs_input(probs),
        method=options.score,
        adjust_pred_probs=options.adjust,
        confident_thresholds=thresholds,
    )
    flagged = np.zeros(len(labels), bool)
    flagged[np.argsort(scores, kind="stable")[:total]] = True
    return Run(flagged & ~_reduce_issues(probs, labels), total, thresholds, scores)


def confident(probs: np.ndarray, thresholds: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Predicted classes, and whether they reach their threshold."""
    best = probs.argmax(axis=1)
    return best, probs[np.arange(len(probs)), best].astype(np.float64) >= thresholds[best] - 1e-6


def estimate(labels: np.ndarray, best: np.ndarray, reached: np.ndarray, method: str) -> float:
    """Number of issues before rounding, given which predictions count."""
    if method == "off_diagonal":
        return float((reached & (best != labels)).sum())
    classes = np.arange(max(labels.max(), best.max()) + 1)
    of_class = labels[:, None] == classes
    off, on = (
        (of_class & (reached & (best != labels))[:, None]).sum(0),
        (of_class & reached[:, None]).sum(0),
    )
    return float((off / np.maximum(on, 1e-6) * of_class.sum(0)).sum())


def check_order(
    indices: np.ndarray, labels: Any, probs: np.ndarray, scores: np.ndarray, total: int
) -> None:
    """Issues are exactly the lowest scores in the order of score, probability of the prediction
    and index, less those that agree."""
    lowest = np.lexsort((np.arange(len(scores)), -probs.max(axis=1), scores))[:total]
    agreeing = _reduce_issues(pred_probs=probs, labels=np.asarray(labels))
    np.testing.assert_array_equal(indices, lowest[~agreeing[lowest]])
    assert indices.dtype == np.int64


def assert_same(
    ours: Run, theirs: Run, labels: np.ndarray, probs: np.ndarray, options: Options
) -> None:
    """Every difference is explained (see the top of this page)."""
    rows = np.arange(len(labels))
    best, counted = confident(probs, ours.thresholds)
    _, counted_theirs = confident(probs, theirs.thresholds)
    value = probs[rows, best].astype(np.float64)
    near = np.zeros(len(labels), bool)
    for thresholds in (ours.thresholds, theirs.thresholds):
        near |= abs(value - (thresholds[best] - 1e-6)) <= NEAR
    np.testing.assert_array_equal(counted[~near], counted_theirs[~near])
    # Each total is that of its own comparisons, whatever the last bit of a sum that ends in .5.
    for run, reached in ((ours, counted), (theirs, counted_theirs)):
        assert abs(run.total - estimate(labels, best, reached, options.method)) <= 0.5 + 1e-9
    if options.method == "off_diagonal":
        assert abs(ours.total - theirs.total) <= (near & (best != labels)).sum()

    fewer, more = sorted((ours.total, theirs.total))
    moved = np.zeros(len(labels), bool)
    moved[np.lexsort((rows, -probs.max(axis=1), ours.scores))[fewer:more]] = True
    tied = np.zeros(len(labels), bool)
    if theirs.total:
        cut_off = np.sort(theirs.scores)[theirs.total - 1]
        tied = abs(theirs.scores - cut_off) <= options.score_tolerance
    # What agrees with the prediction by less than the input's type can tell differs if they were
    # given a wider type.
    agreeing, theirs_agreeing = (
        _reduce_issues(p, labels) for p in (probs, options.cleanlabs_input(probs))
    )
    unexplained = (ours.flagged != theirs.flagged) & ~moved & ~tied & (agreeing == theirs_agreeing)
    assert not unexplained.any(), np.flatnonzero(unexplained)


def comparable(
    labels: np.ndarray, probs: np.ndarray, options: Options
) -> tuple[np.ndarray, np.ndarray]:
    """Leave out rows whose entropy score has no digits in cleanlab, which would take the places of
    real issues.

    That is x below 1e-6, not 1e-8 alone: there cleanlab divides ``log(1 + x)`` by 1e-6 instead of
    x."""
    if options.score != "confidence_weighted_entropy":
        return labels, probs
    wide = probs.astype(np.float64)
    own = np.maximum(wide[np.arange(len(wide)), labels], 1e-6)
    fine = -xlogy(wide, wide).sum(axis=1) / np.log(probs.shape[1]) / own > 1e-6
    return labels[fine], probs[fine]


def make(
    seed: int, rows: int, classes: int, dtype: Any, all_classes: bool
) -> tuple[np.ndarray, np.ndarray]:
    """A noisy dataset with ties; unless ``all_classes``, some have no example."""
    rng = np.random.default_rng(seed)
    probs = np.array(
        [rng.dirichlet(np.full(classes, a)) for a in rng.choice([0.05, 0.3, 5.0], rows)]
    )
    coarse = rng.random(rows) < 0.3
    probs[coarse] = rng.integers(0, 4, (coarse.sum(), classes))
    probs[coarse, rng.integers(0, classes, coarse.sum())] += 1
    probs = (probs / probs.sum(axis=1, keepdims=True)).astype(dtype)
    labels = np.where(rng.random(rows) < 0.7, probs.argmax(axis=1), rng.integers(0, classes, rows))
    if all_classes:
        labels[:classes] = np.arange(classes)
    else:
        labels[labels == rng.integers(classes)] = rng.integers(classes)
    return labels.astype(rng.choice(["u2", "i4", "i8"])), probs


def options_of(number: int) -> Options:
    score, adjust = SCORES[number % len(SCORES)]
    return Options(score, adjust, METHODS[number // len(SCORES)])


SLOW = pytest.mark.slow
EVERY = [options_of(number) for number in range(len(SCORES) * len(METHODS))]
OPTIONS = st.sampled_from(EVERY)
CLASSES = st.sampled_from([2, 3, 10, 24, 25, 300])


def real(name: str, dtype: Any, folder: str = "label_errors") -> tuple[np.ndarray, np.ndarray]:
    if not (REAL / folder / f"{name}_labels.npy").exists():
        pytest.skip("needs the real data")
    labels, probs = (
        np.load(REAL / folder / f"{name}_{what}.npy") for what in ("labels", "pred_probs")
    )
    return labels, probs.astype(dtype)


@pytest.mark.parametrize("options", EVERY, ids=str)
@pytest.mark.parametrize("name", ["mnist", "cifar10"])
def test_real_data(name: str, options: Options) -> None:
    labels, probs = comparable(*real(name, np.float32), options)
    theirs = cleanlabs(labels, probs, options)
    assert theirs.flagged.any()
    assert_same(native(labels, probs, options), theirs, labels, probs, options)
    assert_same(compatible(labels, probs, options), theirs, labels, probs, options)


@pytest.mark.parametrize("dtype", [np.float16, np.float64])
@pytest.mark.parametrize("name", ["mnist", "cifar10"])
@pytest.mark.parametrize("method", METHODS)
def test_real_data_of_other_types(name: str, dtype: Any, method: str) -> None:
    labels, probs = real(name, dtype)
    options = Options(method=method)
    theirs = cleanlabs(labels, probs, options)
    assert_same(native(labels, probs, options, block_bytes=50_000), theirs, labels, probs, options)
    assert_same(compatible(labels, probs, options), theirs, labels, probs, options)


@SLOW
@pytest.mark.parametrize("options", EVERY, ids=str)
def test_real_data_of_much_noise(options: Options) -> None:
    data = real("cifar10_sparsity0.2_noise0.4", np.float16, "confident_learning")
    labels, probs = comparable(*data, options)
    theirs = cleanlabs(labels, probs, options)
    assert_same(native(labels, probs, options), theirs, labels, probs, options)
    assert_same(compatible(labels, probs, options), theirs, labels, probs, options)


@pytest.mark.parametrize(
    ("name", "plainly", "calibrated"), [("mnist", 15, 16), ("cifar10", 244, 283)]
)
def test_figures_measured_with_cleanlab(name: str, plainly: int, calibrated: int) -> None:
    labels, probs = real(name, np.float32)
    assert len(find_label_issues_batched(labels, probs, verbose=False)) == plainly
    chosen = {"estimation_method": "off_diagonal_calibrated"}
    assert (
        len(find_label_issues_batched(labels, probs, verbose=False, num_issue_kwargs=chosen))
        == calibrated
    )


@pytest.mark.slow
@settings(max_examples=25)
@given(SEEDS, st.integers(1, 300), CLASSES, DTYPES, OPTIONS)
def test_compatible_names_on_any_data(
    seed: int, rows: int, classes: int, dtype: Any, options: Options
) -> None:
    labels, probs = comparable(*make(seed, rows, classes, dtype, all_classes=False), options)
    assume(len(labels))
    theirs = cleanlabs(labels, probs, options)
    assert_same(compatible(labels, probs, options), theirs, labels, probs, options)


@SLOW
@settings(max_examples=20)
@given(SEEDS, st.integers(1, 300), CLASSES, DTYPES, OPTIONS, st.sampled_from([9000, 99_999]))
def test_native_on_data_with_all_classes(
    seed: int, rows: int, classes: int, dtype: Any, options: Options, block_bytes: int
) -> None:
    labels, probs = comparable(
        *make(seed, classes + rows, classes, dtype, all_classes=True), options
    )
    assume(len(np.unique(labels)) == classes)
    theirs = cleanlabs(labels, probs, options)
    assert_same(
        native(labels, probs, options, block_bytes=block_bytes), theirs, labels, probs, options
    )


@pytest.mark.slow
@settings(max_examples=20)
@given(SEEDS, st.integers(1, 200), CLASSES, DTYPES, OPTIONS)
def test_native_on_any_data(
    seed: int, rows: int, classes: int, dtype: Any, options: Options
) -> None:
    labels, probs = comparable(*make(seed, rows, classes, dtype, all_classes=False), options)
    assume(len(labels))
    expected = plain(labels, probs, options)
    assert_same(native(labels, probs, options), expected, labels, probs, options)


@settings(max_examples=6)
@given(SEEDS, st.integers(1, 25), st.integers(2, 6), OPTIONS)
def test_blocks_of_one_row(seed: int, rows: int, classes: int, options: Options) -> None:
    labels, probs = comparable(
        *make(seed, classes + rows, classes, np.float32, all_classes=True), options
    )
    assume(len(np.unique(labels)) == classes)
    found = native(labels, probs, options, block_bytes=1)
    assert_same(found, cleanlabs(labels, probs, options), labels, probs, options)


@pytest.mark.parametrize("options", EVERY[::3], ids=str)
@pytest.mark.parametrize(
    "dtype",
    [np.float32, pytest.param(np.float16, marks=SLOW), pytest.param(np.float64, marks=SLOW)],
)
def test_blocks_of_more_than_5000_rows(dtype: Any, options: Options) -> None:
    labels, probs = comparable(*make(5, 14_000, 12, dtype, all_classes=True), options)
    rows = 6001 * (probs.itemsize * 12 + 40)
    theirs = cleanlabs(labels, probs, options)
    assert_same(native(labels, probs, options, block_bytes=rows), theirs, labels, probs, options)
    assert_same(compatible(labels, probs, options), theirs, labels, probs, options)


@pytest.mark.parametrize("options", EVERY, ids=str)
def test_the_comparison_itself_sees_a_difference(options: Options) -> None:
    labels, probs = comparable(*make(11, 500, 6, np.float32, all_classes=True), options)
    theirs = cleanlabs(labels, probs, options)
    ours = compatible(labels, probs, options)
    cut_off = np.sort(ours.scores)[ours.total - 1]
    for row in np.flatnonzero(abs(ours.scores - cut_off) > 1e-5)[::17]:
        flagged = ours.flagged.copy()
        flagged[row] = not flagged[row]
        with pytest.raises(AssertionError):
            assert_same(replace(ours, flagged=flagged), theirs, labels, probs, options)
    for wrong in (
        replace(ours, total=ours.total + 1),
        replace(ours, thresholds=ours.thresholds + 0.05),
    ):
        with pytest.raises(AssertionError):
            assert_same(wrong, theirs, labels, probs, options)


def is_near(probs: np.ndarray, thresholds: np.ndarray, within: float) -> bool:
    best, _ = confident(probs, thresholds)
    return bool(
        (abs(probs[np.arange(len(probs)), best] - (thresholds[best] - 1e-6)) <= within).any()
    )


@settings(max_examples=40)
@given(
    SEEDS,
    st.sampled_from([2, 3, 10, 25, 100]),
    OPTIONS,
    st.lists(st.integers(1, 299), max_size=5, unique=True),
)
def test_inspector_after_every_batch(
    seed: int, classes: int, options: Options, cuts: list[int]
) -> None:
    rng = np.random.default_rng(seed)
    probs = rng.dirichlet(np.full(classes, 0.7), 300)
    labels = np.where(rng.random(300) < 0.6, probs.argmax(axis=1), rng.integers(0, classes, 300))
    # Each of cleanlab's batches clips its means at 2e-6, ours only the mean of all: so much may
    # they be apart.
    ours, theirs = (
        m.LabelInspector(num_class=classes, **options.kwargs) for m in (compat, cleanlab)
    )
    edges = [0, *sorted(cuts), 300]
    batches = [slice(a, b) for a, b in pairwise(edges)]
    for batch in batches:
        for inspector in (ours, theirs):
            inspector.update_confident_thresholds(labels[batch], probs[batch])
        np.testing.assert_allclose(
            ours.get_confident_thresholds(), theirs.get_confident_thresholds(), atol=2e-6
        )
        np.testing.assert_array_equal(ours.examples_per_class, theirs.examples_per_class)
        assert ours.examples_processed_thresh == theirs.examples_processed_thresh == batch.stop
    assume(not is_near(probs, ours.get_confident_thresholds(), 5e-6))
    for batch in batches:
        counting = bool(rng.random() < 0.8)
        scores, expected = (
            inspector.score_label_quality(labels[batch], probs[batch], update_num_issues=counting)
            for inspector in (ours, theirs)
        )
        np.testing.assert_allclose(scores, expected, atol=1e-5)
        np.testing.assert_allclose(
            ours.get_quality_scores(), theirs.get_quality_scores(), atol=1e-5
        )
        assert ours.examples_processed_quality == theirs.examples_processed_quality == batch.stop
        # A calibrated sum that ends in .5 is rounded by its last bit, which depends on the order of
        # adding.
        exact = (ours.prune_counts * ours.class_counts / np.maximum(ours.normalization, 1e-6)).sum()
        assume(options.method == METHODS[0] or abs(exact % 1 - 0.5) > 1e-9)
        assert ours.get_num_issues() == theirs.get_num_issues()
        kept = theirs.get_quality_scores()
        issues = [kept[inspector.get_label_issues()] for inspector in (ours, theirs)]
        np.testing.assert_allclose(*issues, atol=1e-5)
        names = (
            ("class_counts", "prune_counts", "normalization")
            if options.method == METHODS[1]
            else ("prune_count",)
        )
        for name in names:
            np.testing.assert_array_equal(getattr(ours, name), getattr(theirs, name))


def test_inspector_returns_the_lowest_scores_whether_or_not_they_agree() -> None:
    labels, probs = make(3, 400, 5, np.float64, all_classes=True)
    ours, theirs = (inspect(module, labels, probs, Options()) for module in (compat, cleanlab))
    kept = ours.get_quality_scores()
    found = ours.get_label_issues()
    np.testing.assert_array_equal(found, np.argsort(kept, kind="stable")[: ours.get_num_issues()])
    np.testing.assert_array_equal(
        kept[found], theirs.get_quality_scores()[theirs.get_label_issues()]
    )


def kinds_of_array(
    labels: np.ndarray, probs: np.ndarray, folder: Path
) -> Iterator[tuple[Any, Any]]:
    """The same data as everything that is accepted."""
    yield labels.tolist(), probs.tolist()
    for name, array in (("labels", labels), ("probs", probs)):
        np.save(folder / f"{name}.npy", array)
    yield (
        np.load(folder / "labels.npy", mmap_mode="r"),
        np.load(folder / "probs.npy", mmap_mode="r"),
    )
    for version in (2, 3):
        stored, stored_probs = (
            zarr.create_array({}, data=a, chunks=(40, *a.shape[1:]), zarr_format=version)
            for a in (labels, probs)
        )
        yield stored, stored_probs
        yield labels, stored_probs
    sharded = zarr.create_array(
        {}, data=probs, chunks=(15, probs.shape[1]), shards=(30, probs.shape[1])
    )
    yield da.from_array(labels, chunks=11), sharded
    yield labels, da.from_array(probs, chunks=(13, 2))


def test_every_kind_of_array_gives_the_same(tmp_path: Path) -> None:
    labels, probs = make(1, 100, 4, np.float64, all_classes=True)
    expected = inspect(compat, labels, probs, Options())
    issues = find_label_issues_batched(labels, probs, verbose=False)
    assert len(issues) > 3
    for some_labels, some_probs in kinds_of_array(labels, probs, tmp_path):
        found = (
            inspect(compat, some_labels, some_probs, Options())
            if not isinstance(some_probs, list)
            else expected
        )
        assert (
            found.get_confident_thresholds().tobytes()
            == expected.get_confident_thresholds().tobytes()
        )
        assert found.get_label_issues().tolist() == expected.get_label_issues().tolist()
        assert (
            find_label_issues_batched(some_labels, some_probs, verbose=False).tolist()
            == issues.tolist()
        )
    files = {
        "labels_file": str(tmp_path / "labels.npy"),
        "pred_probs_file": str(tmp_path / "probs.npy"),
    }
    assert find_label_issues_batched(**files, verbose=False).tolist() == issues.tolist()
    batch = LabelInspector(num_class=4, verbose=False)
    batch.update_confident_thresholds(labels.tolist(), probs.tolist())
    assert (
        batch.get_confident_thresholds().tobytes() == expected.get_confident_thresholds().tobytes()
    )


def test_batch_size_and_jobs_change_nothing() -> None:
    labels, probs = make(2, 200, 4, np.float32, all_classes=True)
    whole = find_label_issues_batched(labels, probs, verbose=False)
    assert (
        find_label_issues_batched(labels, probs, verbose=False, batch_size=1, n_jobs=None).tolist()
        == whole.tolist()
    )
    mask = find_label_issues_batched(
        labels, probs, verbose=False, batch_size=10**9, n_jobs=4, return_mask=True
    )
    assert np.flatnonzero(mask).tolist() == sorted(whole)
    assert mask.dtype == bool


def test_batches_larger_than_the_kernel_takes_are_split(monkeypatch: pytest.MonkeyPatch) -> None:
    labels, probs = make(4, 103, 4, np.float32, all_classes=True)
    whole = inspect(compat, labels, probs, Options("normalized_margin", True))
    monkeypatch.setattr(cleanlab_batched, "MAX_ROWS", 10)
    split = inspect(compat, labels, probs, Options("normalized_margin", True))
    assert split.get_confident_thresholds().tobytes() == whole.get_confident_thresholds().tobytes()
    assert split.get_quality_scores().tobytes() == whole.get_quality_scores().tobytes()
    assert split.get_num_issues() == whole.get_num_issues()


def test_verbose_says_something_and_silence_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    labels, probs = make(1, 50, 3, np.float32, all_classes=True)
    for verbose in (True, False):
        find_label_issues_batched(labels, probs, verbose=verbose)
        assert bool(capsys.readouterr().out) is verbose
        inspector = LabelInspector(num_class=3, verbose=verbose)
        inspector.update_confident_thresholds(labels, probs)
        inspector.score_label_quality(labels, probs)
        inspector.get_confident_thresholds(silent=True), inspector.get_num_issues(silent=True)
        assert not capsys.readouterr().out
        inspector.get_label_issues()
        assert bool(capsys.readouterr().out) is verbose


def state_of(inspector: Any) -> tuple[Any, ...]:
    seen = (
        inspector.examples_processed_thresh,
        inspector.examples_processed_quality,
        inspector.examples_per_class.sum(),
    )
    thresholds, scores = inspector.get_confident_thresholds(), inspector.get_quality_scores()
    return (
        *seen,
        thresholds.tobytes(),
        scores.tobytes(),
        inspector.get_num_issues(),
        inspector.class_counts.sum(),
    )


@pytest.mark.parametrize("split", [False, True])
def test_a_batch_with_invalid_rows_changes_nothing(
    split: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    labels, probs = make(1, 60, 4, np.float64, all_classes=True)
    if split:
        monkeypatch.setattr(cleanlab_batched, "MAX_ROWS", 7)
    inspector = inspect(compat, labels, probs, Options())
    before = state_of(inspector)
    wrong, wrong_labels = probs.copy(), labels.astype(np.int64)
    wrong[[50, 55], 0], wrong_labels[58] = np.nan, -1
    for method in (inspector.update_confident_thresholds, inspector.score_label_quality):
        with pytest.raises(InputError, match=r"3 of 60 rows.*110, 115, 118"):
            method(wrong_labels, wrong)
    assert state_of(inspector) == before


def test_a_file_and_an_array_or_neither_are_refused(tmp_path: Path) -> None:
    labels, probs = make(1, 20, 3, np.float64, all_classes=True)
    np.save(tmp_path / "labels.npy", labels)
    path = str(tmp_path / "labels.npy")
    for wrong in (
        {"labels": labels},
        {"pred_probs": probs},
        {},
        {"labels": labels, "labels_file": path, "pred_probs": probs},
        {"labels_file": tmp_path / "labels.npy", "pred_probs": probs},
        {"labels": labels, "pred_probs_file": 3},
        {"labels": labels, "pred_probs": probs, "pred_probs_file": path},
        {"labels": labels[:5], "pred_probs": probs},
        {"labels_file": path + "x", "pred_probs": probs},
    ):
        with pytest.raises(ValueError, match=r"labels|pred_probs"):
            find_label_issues_batched(**wrong, verbose=False)


@pytest.mark.parametrize(
    "wrong",
    [
        {"quality_score_kwargs": {"method": "entropy"}},
        {"quality_score_kwargs": {"confident_thresholds": None}},
        {
            "quality_score_kwargs": {
                "method": "confidence_weighted_entropy",
                "adjust_pred_probs": True,
            }
        },
        {"num_issue_kwargs": {"estimation_method": "off_diagonal_custom"}},
        {"num_issue_kwargs": {"multi_label": True}},
        {"n_jobs": 0},
    ],
)
def test_options_that_do_not_exist_are_refused(wrong: dict[str, Any]) -> None:
    labels, probs = make(1, 20, 3, np.float64, all_classes=True)
    with pytest.raises(InputError):
        find_label_issues_batched(labels, probs, verbose=False, **wrong)
    with pytest.raises(InputError):
        LabelInspector(num_class=3, **wrong)


@pytest.mark.parametrize("size", [0, -1, 2.5, "8"])
def test_sizes_are_whole_numbers(size: Any) -> None:
    labels, probs = make(1, 20, 3, np.float64, all_classes=True)
    with pytest.raises(InputError, match="batch_size"):
        find_label_issues_batched(labels, probs, verbose=False, batch_size=size)
    with pytest.raises(InputError, match="num_class"):
        LabelInspector(num_class=size)


def test_the_inspector_says_what_must_come_first() -> None:
    labels, probs = make(1, 20, 3, np.float64, all_classes=True)
    inspector = LabelInspector(num_class=3, verbose=False)
    for too_early in (
        inspector.get_confident_thresholds,
        inspector.get_num_issues,
        inspector.get_label_issues,
        lambda: inspector.score_label_quality(labels, probs),
    ):
        with pytest.raises(ValueError, match="first"):
            too_early()
    assert len(inspector.get_quality_scores()) == 0
    for wrong in (
        (labels[:3], probs),
        (labels, probs[:, :2]),
        (labels, probs[:, 0]),
        (labels + 0.5, probs),
        ([], []),
    ):
        with pytest.raises(ValueError, match=r"labels|pred_probs"):
            inspector.update_confident_thresholds(*wrong)


def test_an_inspector_that_keeps_no_scores() -> None:
    labels, probs = make(1, 40, 3, np.float64, all_classes=True)
    inspector = LabelInspector(num_class=3, verbose=False, store_results=False)
    inspector.update_confident_thresholds(labels, probs)
    scores = inspector.score_label_quality(labels, probs)
    np.testing.assert_array_equal(scores, probs[np.arange(40), labels])
    for method in (inspector.get_quality_scores, inspector.get_label_issues):
        with pytest.raises(ValueError, match="store_results"):
            method()
    assert inspector.get_num_issues() == inspect(compat, labels, probs, Options()).get_num_issues()
