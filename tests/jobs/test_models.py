"""Several models: scores as cleanlab's, everything else as of one model whose rows are the mean;
nights on which one of them changes.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import dask
import numpy as np
import pytest
import yaml
import zarr
from cleanlab.rank import get_label_quality_ensemble_scores
from distributed import Client, LocalCluster
from hypothesis import assume, given, settings
from hypothesis import strategies as st

import noisydask
from noisydask.cli.app import main
from noisydask.compat import cleanlab as ours
from noisydask.core.filters import FILTERS

Array = np.ndarray[Any, Any]
pytestmark = [
    pytest.mark.filterwarnings("ignore::noisydask.LabelWarning"),
    pytest.mark.filterwarnings("ignore:The y_prob values do not sum to one"),
]
#: Our words for how models are weighed, and cleanlab's.
WEIGHTS: list[tuple[Any, str]] = [
    ("uniform", "uniform"),
    ("accuracy", "accuracy"),
    ("log_loss", "log_loss_search"),
    ([0.5, 0.3, 0.2], "custom"),
]


@pytest.fixture
def _threads() -> Iterator[None]:
    with dask.config.set(scheduler="threads"):
        yield


def make(
    seed: int,
    rows: int,
    classes: int,
    dtype: Any = np.float32,
    models: int = 3,
    strength: float = 3,
) -> tuple[Array, list[Array]]:
    """Models that agree more or less, and labels of which some are wrong."""
    rng = np.random.default_rng(seed)
    truth = rng.integers(0, classes, rows)
    common = rng.normal(size=(rows, classes)) * 1.5
    common[np.arange(rows), truth] += strength
    found = []
    for _ in range(models):
        probs = np.exp(common + rng.normal(size=(rows, classes)) * 0.7)
        found.append((probs / probs.sum(axis=1, keepdims=True)).astype(dtype))
    labels = np.where(rng.random(rows) < 0.2, rng.integers(0, classes, rows), truth)
    labels[:classes] = np.arange(classes)
    return labels, found


def mean(models: list[Array]) -> Array:
    total = 1 / len(models) * models[0].astype(np.float64)
    for probs in models[1:]:
        total += 1 / len(models) * probs.astype(np.float64)
    return total


@settings(max_examples=15)
@given(
    st.integers(0, 2**32),
    st.sampled_from([2, 5, 30]),
    st.sampled_from([np.float16, np.float32, np.float64]),
    st.sampled_from(WEIGHTS),
    st.sampled_from(["self_confidence", "normalized_margin", "confidence_weighted_entropy"]),
    st.booleans(),
)
@pytest.mark.usefixtures("_threads")
def test_scores_are_cleanlabs(
    seed: int, classes: int, dtype: Any, weights: Any, method: str, adjust: bool
) -> None:
    labels, models = make(seed, 200, classes, dtype)
    adjust = adjust and method != "confidence_weighted_entropy"
    own, by = weights
    custom = np.array(own) if by == "custom" else None
    options: dict[str, Any] = {
        "method": method,
        "adjust_pred_probs": adjust,
        "weight_ensemble_members_by": by,
        "custom_weights": custom,
        "verbose": False,
    }
    wide = [probs.astype(np.float64) for probs in models]
    try:
        expected = get_label_quality_ensemble_scores(labels, wide, **options)
    except ValueError as error:  # scikit-learn refuses a probability that is a bit more than 1
        assume("greater than 1" not in str(error))
        raise
    assume(np.isfinite(expected).all())
    found = noisydask.find_label_issues(
        labels,
        models,
        weights=own,
        quality_score=method,  # type: ignore[arg-type]
        adjust_pred_probs=adjust,
        block_bytes=9000,
    )
    tolerance = 1e-9 if own == "log_loss" else 1e-12
    np.testing.assert_allclose(found.label_quality.compute(), expected, rtol=0, atol=tolerance)
    compatible = ours.get_label_quality_ensemble_scores(labels, models, **options)
    np.testing.assert_array_equal(compatible, found.label_quality.compute())


@pytest.mark.parametrize("by", [*FILTERS])
@pytest.mark.parametrize("classes", [4, 40])
@pytest.mark.usefixtures("_threads")
def test_flags_are_those_of_the_mean(by: Any, classes: int) -> None:
    labels, models = make(7, 1500, classes)
    one = noisydask.find_label_issues(labels, mean(models), filter_by=by)
    found = noisydask.find_label_issues(labels, models, filter_by=by, block_bytes=60_000)
    if by != "batched":
        np.testing.assert_array_equal(found.mask, one.mask)
    for name in ("confident_joint", "confident_thresholds", "class_counts", "predicted_counts"):
        np.testing.assert_array_equal(getattr(found, name), getattr(one, name))
    frame = found.to_dataframe()
    alike = one.to_dataframe().set_index("index").reindex(frame["index"])
    shared = alike["rank"].notna().to_numpy()
    suggested = alike["suggested_label"][shared]
    np.testing.assert_array_equal(frame["suggested_label"][shared], suggested)
    np.testing.assert_array_equal(frame["suggested_prob"][shared], alike["suggested_prob"][shared])
    votes = sum(
        probs.argmax(axis=1)[frame["index"]] == frame["suggested_label"] for probs in models
    )
    np.testing.assert_allclose(frame["agreement"], votes / 3, rtol=1e-6)


def stored(folder: Path, labels: Array, models: list[Array]) -> dict[str, Any]:
    """Write inputs; each model in chunks of its own size."""
    zarr.create_array(str(folder / "labels.zarr"), data=labels, chunks=(100,))
    paths = []
    for number, probs in enumerate(models):
        paths.append(str(folder / f"model{number}.zarr"))
        chunks = ((60, 100, 300)[number % 3], probs.shape[1])
        zarr.create_array(paths[-1], data=probs, chunks=chunks)
    return {"labels": str(folder / "labels.zarr"), "pred_probs": paths}


def bits(found: noisydask.LabelIssues) -> list[bytes]:
    arrays = [np.asarray(found.indices), found.label_quality.compute(), found.confident_joint]
    return [array.tobytes() for array in arrays] + [found.to_dataframe().to_csv().encode()]


@pytest.mark.parametrize("weights", ["uniform", "accuracy"])
def test_same_bits_on_workers_and_in_any_blocks(
    weights: Any, tmp_path: Path, client: Client
) -> None:
    labels, models = make(3, 900, 30)
    inputs = stored(tmp_path, labels, models)
    how: dict[str, Any] = {"weights": weights, "filter_by": "both"}
    expected = bits(noisydask.find_label_issues(labels, models, **how))
    for size in (1, 30_000, 10**9):
        found = noisydask.find_label_issues(**inputs, **how, block_bytes=size)
        assert bits(found) == expected
    with dask.config.set(scheduler="threads"):
        assert bits(noisydask.find_label_issues(**inputs, **how, block_bytes=30_000)) == expected


@pytest.mark.usefixtures("_threads")
def test_nights_on_which_a_model_changes(tmp_path: Path) -> None:
    labels, models = make(5, 3000, 30, strength=7)
    inputs = stored(tmp_path, labels, models)
    how: dict[str, Any] = {"out": str(tmp_path / "out"), "block_bytes": 100_000}
    first = noisydask.find_label_issues(**inputs, **how)
    assert first.manifest["bytes_read"]["pred_probs_again"] == 0
    blocks = first.document.counts["blocks"]
    assert first.document.blocks.scanned == blocks  # type: ignore[union-attr]
    # Another filter, score and weights read nothing but blocks with open rows.
    other = noisydask.find_label_issues(
        **inputs, **how, filter_by="auto", quality_score="log_margin", compare=True
    )
    read = other.manifest["bytes_read"]
    assert [read[f"pred_probs[{number}]"] for number in range(3)] == [0, 0, 0]
    again = noisydask.find_label_issues(**inputs, **how, filter_by="both")
    assert set(again.manifest["bytes_read"].values()) == {0}
    # One model changes: that one is read, and of the others blocks with open rows only.
    changed = models[1][::-1].copy()
    changed[1000:] = models[1][1000:]
    array = zarr.open_array(inputs["pred_probs"][1], mode="r+")
    array[:1000] = changed[:1000]
    models[1] = changed
    night = noisydask.find_label_issues(**inputs, **how, filter_by="both")
    read = night.manifest["bytes_read"]
    assert read["pred_probs[0]"] == read["pred_probs[2]"] == 0
    assert 0 < read["pred_probs[1]"] < array.nbytes_stored()
    whole = noisydask.find_label_issues(labels, models, filter_by="both")
    assert bits(night) == bits(whole)
    quiet = noisydask.find_label_issues(**inputs, **how, filter_by="both")
    assert quiet.document.repeats == night.document.run


@pytest.mark.usefixtures("_threads")
def test_damaged_evidence_is_made_anew(tmp_path: Path) -> None:
    labels, models = make(5, 900, 30)
    inputs = stored(tmp_path, labels, models)
    how: dict[str, Any] = {"out": str(tmp_path / "out"), "block_bytes": 100_000}
    expected = bits(noisydask.find_label_issues(**inputs, **how))
    for name, score in (
        ("0/p_top1/1", "log_margin"),
        ("1/p_slots/0.0", "threshold_ratio"),
        ("2/ceiling/1", "threshold_margin"),
    ):
        chunk = tmp_path / "out/evidence-models" / name
        chunk.write_bytes(chunk.read_bytes()[:-8])
        found = noisydask.find_label_issues(**inputs, **how, quality_score=score)  # type: ignore[arg-type]
        assert "evidence damaged or missing" in found.manifest["blocks"]["why"]
    found = noisydask.find_label_issues(**inputs, **how, keep_runs=3, rank_by="self_confidence")
    assert found.document.blocks.scanned == 0  # type: ignore[union-attr]
    assert bits(found) == expected


@pytest.mark.usefixtures("_threads")
def test_rows_that_are_invalid_of_one_model(tmp_path: Path) -> None:
    labels, models = make(5, 300, 8)
    models[1][[7, 250]] = np.nan
    with pytest.raises(noisydask.InputError, match=r"2 of 300 rows of pred_probs\[1\] are invalid"):
        noisydask.find_label_issues(labels, models)
    found = noisydask.find_label_issues(labels, models, on_invalid="skip", block_bytes=9000)
    assert found.invalid_indices.tolist() == [7, 250]
    assert found.document.counts["invalid"] == 2
    assert np.flatnonzero(np.isnan(found.label_quality.compute())).tolist() == [7, 250]
    kept = np.delete(np.arange(300), [7, 250])
    fewer = noisydask.find_label_issues(labels[kept], [probs[kept] for probs in models])
    np.testing.assert_array_equal(kept[fewer.indices], found.indices)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda p: [p[0], p[1][:-1]], r"pred_probs\[1\] has shape \(299, 8\)"),
        (lambda p: [p[0], p[1], p[2][:, :-1]], r"pred_probs\[2\] has shape \(300, 7\)"),
        (lambda p: [p[0], p[1].astype(int)], r"pred_probs\[1\] must be float16"),
    ],
)
@pytest.mark.usefixtures("_threads")
def test_models_that_do_not_fit(change: Any, said: str) -> None:
    labels, models = make(5, 300, 8)
    with pytest.raises(noisydask.InputError, match=said):
        noisydask.find_label_issues(labels, change(models))


@pytest.mark.parametrize(
    ("weights", "said"),
    [
        ([0.5, 0.5], "weights has 2 numbers for 3 models"),
        ([0, 0, 0], "not all 0"),
        ([1, 1, -1], "at least 0"),
        ("best", "weights must be one of uniform, accuracy, log_loss"),
    ],
)
@pytest.mark.usefixtures("_threads")
def test_weights_that_do_not_fit(weights: Any, said: str) -> None:
    labels, models = make(5, 300, 8)
    with pytest.raises(noisydask.InputError, match=said):
        noisydask.find_label_issues(labels, models, weights=weights)


@pytest.mark.usefixtures("_threads")
def test_options_that_several_models_do_not_take() -> None:
    labels, models = make(5, 300, 8)
    with pytest.raises(noisydask.InputError, match="entropy of their mean is not kept"):
        noisydask.find_label_issues(labels, models, rank_by="confidence_weighted_entropy")
    with pytest.raises(noisydask.InputError, match="weights has 2 numbers for 1 model:"):
        noisydask.find_label_issues(labels, models[0], weights=[0.5, 0.5])


@pytest.mark.usefixtures("_threads")
def test_a_list_of_rows_is_one_model() -> None:
    rows = [[0.9, 0.1], [0.2, 0.8], [0.8, 0.2]]
    found = noisydask.find_label_issues([0, 1, 1], rows)
    assert "pred_probs" in found.document.inputs
    both = noisydask.find_label_issues([0, 1, 1], [rows, rows])
    assert "pred_probs[1]" in both.document.inputs


def test_commands_and_configurations(
    tmp_path: Path, one_worker: LocalCluster, capsys: pytest.CaptureFixture[str]
) -> None:
    labels, models = make(5, 300, 8)
    inputs = stored(tmp_path, labels, models)
    out = str(tmp_path / "out")
    given_models = [part for url in inputs["pred_probs"] for part in ("--pred-probs", url)]
    own = ["--labels", inputs["labels"], *given_models, "--out", out, "--json"]
    where = ["--scheduler", one_worker.scheduler_address]
    assert main(["issues", *own, *where, "--weights", "0.5,0.3,0.2", "--filter-by", "both"]) == 0
    shown = json.loads(capsys.readouterr().out)
    assert list(shown["inputs"])[1:] == ["pred_probs[0]", "pred_probs[1]", "pred_probs[2]"]
    assert shown["settings"]["weights"] == [0.5, 0.3, 0.2]
    config = tmp_path / "night.yaml"
    places = [{"url": inputs["pred_probs"][0]}, *inputs["pred_probs"][1:]]
    section = {"labels": inputs["labels"], "pred_probs": places, "out": out, "filter_by": "both"}
    config.write_text(yaml.safe_dump({"job": "nightly", "issues": section}))
    assert main(["run", str(config), "--json", *where]) == 0
    night = json.loads(capsys.readouterr().out)["jobs"]["issues"]
    assert night["bytes_read"]["pred_probs[1]"] == 0
    assert main(["health", out]) == 0
    assert "health score" in capsys.readouterr().out
