"""The consensus of both jobs, against brute force."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import dask
import dask.array as da
import numpy as np
import pandas as pd
import pytest
from conftest import Place
from distributed import Client, LocalCluster
from hypothesis import given, settings
from hypothesis import strategies as st
from layouts import make, write_npy

import noisydask
from noisydask.cli.app import main
from noisydask.consensus.results import Consensus
from noisydask.core import ranking
from noisydask.engine.progress import Silent
from noisydask.errors import InputError, JobError
from noisydask.issues.results import LabelIssues

SLOW = pytest.mark.slow

Array = np.ndarray[Any, Any]


def issues_of(data: Any, out: Path, **how: Any) -> LabelIssues:
    return noisydask.find_label_issues(data.labels, data.pred_probs, out=out, **how)


def dynamics_of(
    metric: Array, out: Path, ids: Any = None, dense: bool = True, top_k: int | None = None
) -> Path:
    """A run of the dynamics job that gives these metrics: of one loss each, taken as it is."""
    if dense:
        noisydask.analyze_loss_dynamics(metric[:, None], ids=ids, alpha=1.0, top_k=top_k, out=out)
    else:
        table = pd.DataFrame({"id": ids, "iteration": 0, "loss": metric})
        noisydask.analyze_loss_dynamics(table=table, alpha=1.0, top_k=top_k, out=out)
    return out


def brute_force(quality: Array, metric: Array) -> pd.DataFrame:
    """The definition, on arrays aligned by index."""
    both = [k for k in range(len(quality)) if not np.isnan(quality[k]) and not np.isnan(metric[k])]
    by_quality = sorted(both, key=lambda k: (quality[k], k))
    by_metric = sorted(both, key=lambda k: (-metric[k], k))
    last = max(len(both) - 1, 1)
    rows = pd.DataFrame({"index": both})
    rows["quality_percentile"] = [by_quality.index(k) / last for k in both]
    rows["metric_percentile"] = [by_metric.index(k) / last for k in both]
    ranks = np.array([by_quality.index(k) + by_metric.index(k) for k in both])
    rows["consensus"] = ranks / (2 * last)
    rows = rows.iloc[np.lexsort((both, ranks))].reset_index(drop=True)
    rows["label_quality"], rows["metric"] = (
        quality[rows["index"]],
        metric[rows["index"]].astype(float),
    )
    rows.insert(0, "rank", np.arange(1, len(rows) + 1))
    return rows


def check(found: Consensus, expected: pd.DataFrame) -> pd.DataFrame:
    frame = found.to_dataframe()
    pd.testing.assert_frame_equal(frame[list(expected.columns)], expected)
    return frame


def signals(rows: int, seed: int, digits: int | None) -> tuple[Any, Array]:
    """A dataset and metrics for it, with many equal ones where ``digits`` are few."""
    data = make(rows=rows, seed=seed, digits=digits)
    rng = np.random.default_rng(seed)
    given = data.pred_probs[np.arange(rows), data.labels]
    metric = np.abs(-np.log(np.clip(given, 1e-3, 1)).astype(float) + rng.normal(0, 0.5, rows))
    if digits is not None:
        metric = np.round(metric, digits - 1)
    metric[rng.random(rows) < 0.1] = np.nan
    return data, metric


@pytest.mark.parametrize("digits", [None, 2, 1])
def test_equal_to_brute_force_by_index(tmp_path: Path, digits: int | None) -> None:
    data, metric = signals(700, 1, digits)
    data.pred_probs[[3, 500]] = np.nan
    issues = issues_of(data, tmp_path / "i", on_invalid="skip", class_names=list("abcdefg"))
    found = noisydask.combine(
        tmp_path / "i", dynamics_of(metric, tmp_path / "d"), out=tmp_path / "c"
    )
    expected = brute_force(issues.label_quality.compute(), metric)
    frame = check(found, expected)
    assert 3 not in frame["index"].to_numpy()
    np.testing.assert_array_equal(frame["id"], frame["index"])
    np.testing.assert_array_equal(frame["given_label"], data.labels[frame["index"]])
    np.testing.assert_array_equal(
        frame["suggested_label"], data.pred_probs[frame["index"]].argmax(1)
    )
    assert frame["given_name"].tolist() == ["abcdefg"[k] for k in frame["given_label"]]
    assert found.manifest["counts"] == {
        "examples": 700,
        "common": len(expected),
        "ranked": len(expected),
    }
    again = noisydask.open_run(tmp_path / "c")
    assert isinstance(again, Consensus)
    pd.testing.assert_frame_equal(again.to_dataframe(), frame)
    pd.testing.assert_frame_equal(found.ranking.compute().reset_index(drop=True), frame)


def test_ids_that_changed_are_refused(tmp_path: Path) -> None:
    """Before the run, and under it: they name the examples of a dataset that the issues run did not
    see."""
    data, metric = signals(300, 2, None)
    stored = write_npy(Place(str(tmp_path)) / "ids.npy", np.arange(300))
    issues_of(data, tmp_path / "i", ids=stored)
    dynamics_of(metric, tmp_path / "d", np.arange(300))

    class Meddler(Silent):
        def phase(self, name: str) -> None:
            if name.startswith("joining"):
                write_npy(Place(str(tmp_path)) / "ids.npy", np.arange(300)[::-1])

    with pytest.raises(JobError, match=r"ids at .* changed while it was read"):
        noisydask.combine(tmp_path / "i", tmp_path / "d", out=tmp_path / "c", reporter=Meddler())
    with pytest.raises(InputError, match="are not those that the issues run was given"):
        noisydask.combine(tmp_path / "i", tmp_path / "d", out=tmp_path / "c")
    assert not (tmp_path / "c/latest.json").exists()
    assert noisydask.combine(tmp_path / "i", tmp_path / "d", ids=np.arange(300)).num_examples > 200


@pytest.mark.parametrize("kind", ["text", "integers", "in memory"])
def test_by_id_the_order_of_the_other_run_is_its_own(tmp_path: Path, kind: str) -> None:
    data, metric = signals(600, 2, None)
    rng = np.random.default_rng(0)
    ids = rng.permutation(10_000)[:600]
    ids = ids if kind == "integers" else np.array([f"$x^{k}\x1b[31m" for k in ids])
    stored = write_npy(Place(str(tmp_path)) / "ids.npy", ids)
    issues = issues_of(data, tmp_path / "i", ids=ids if kind == "in memory" else stored)
    # The other run knows them in another order, 500 of them, and 7 that nobody else knows.
    chosen = rng.permutation(600)[:500]
    strangers = np.array([20_000 + k if kind == "integers" else f"other{k}" for k in range(7)])
    others = np.concatenate([ids[chosen], strangers])
    theirs = np.concatenate([metric[chosen], rng.random(7)])
    out = dynamics_of(theirs, tmp_path / "d", others, dense=kind != "text")
    more = {"ids": ids} if kind == "in memory" else {}
    found = noisydask.combine(tmp_path / "i", out, **more)
    aligned = np.full(600, np.nan)
    aligned[chosen] = metric[chosen]
    frame = check(found, brute_force(issues.label_quality.compute(), aligned))
    np.testing.assert_array_equal(frame["id"], ids[frame["index"]])
    assert found.manifest["settings"]["on"] == "id"


def test_positions_are_the_ids_of_a_table_beside_data_without(tmp_path: Path) -> None:
    data, metric = signals(300, 3, None)
    issues = issues_of(data, tmp_path / "i")
    found = noisydask.combine(
        issues, dynamics_of(metric, tmp_path / "d", np.arange(300), dense=False)
    )
    check(found, brute_force(issues.label_quality.compute(), metric))


@SLOW
@settings(max_examples=25)
@given(
    st.integers(0, 10**6),
    st.integers(1, 40),
    st.integers(1, 3),
    st.sampled_from(["index", "id"]),
    st.integers(1, 50),
)
def test_any_small_data(
    tmp_path_factory: pytest.TempPathFactory, seed: int, rows: int, digits: int, on: str, top: int
) -> None:
    tmp_path = tmp_path_factory.mktemp("any")
    data, metric = signals(rows, seed, digits)
    metric[0] = 1.0
    with dask.config.set(scheduler="synchronous"):
        issues = issues_of(data, tmp_path / "i")
        found = noisydask.combine(issues, dynamics_of(metric, tmp_path / "d"), on=on, top=top)
    check(found, brute_force(issues.label_quality.compute(), metric).head(top))


def small_parts(monkeypatch: pytest.MonkeyPatch, rows: int = 200, tie_rows: int = 64) -> None:
    """Parts of few rows, so that all is shuffled; the search for them runs on the client."""
    monkeypatch.setattr(ranking, "ROWS_PER_PART", rows)
    monkeypatch.setattr(ranking, "TIE_ROWS", tie_rows)
    monkeypatch.setattr("noisydask.consensus.both_runs._BLOCK_ROWS", 300)


@pytest.mark.parametrize(
    ("on", "digits", "top"),
    [
        ("index", 1, None),
        ("id", None, 450),
        pytest.param("id", 1, None, marks=SLOW),
        pytest.param("id", 1, 450, marks=SLOW),
        pytest.param("index", None, None, marks=SLOW),
        pytest.param("index", None, 450, marks=SLOW),
    ],
)
def test_many_parts_are_one_ranking(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, on: str, digits: int | None, top: int | None
) -> None:
    data, metric = signals(2000, 4, digits)
    ids = np.array([f"img{k}" for k in range(2000)], object)
    issues_of(data, tmp_path / "i", ids=ids, block_bytes=20_000)
    out = dynamics_of(metric, tmp_path / "d", ids)
    whole = noisydask.combine(tmp_path / "i", out, on=on, ids=ids, top=top)
    small_parts(monkeypatch)
    given = da.from_array(ids, chunks=77) if on == "index" else ids
    found = noisydask.combine(tmp_path / "i", out, on=on, ids=given, top=top, out=tmp_path / "c")
    assert len(found.manifest["parts"]) > (1 if top else 5)
    pd.testing.assert_frame_equal(found.to_dataframe(), whole.to_dataframe())
    pd.testing.assert_frame_equal(found.to_dataframe(30), whole.to_dataframe(30))
    lazy = found.ranking.compute().reset_index(drop=True)
    pd.testing.assert_frame_equal(lazy, whole.to_dataframe(), check_dtype=False)
    written = {path.partition("/")[2] for path in Place(str(tmp_path / "c" / "runs")).objects()}
    assert written == {"manifest.json", "status.json", *found.manifest["parts"]}


@SLOW
@pytest.mark.parametrize("on", ["index", "id"])
def test_the_same_bits_on_worker_processes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, four_workers: LocalCluster, on: str
) -> None:
    data, metric = signals(2000, 5, None)
    ids = write_npy(Place(str(tmp_path)) / "ids.npy", np.arange(2000) * 7)
    issues_of(data, tmp_path / "i", ids=ids)
    out = dynamics_of(metric, tmp_path / "d", np.arange(2000) * 7)
    small_parts(monkeypatch, tie_rows=ranking.TIE_ROWS)  # workers know no other
    here = noisydask.combine(tmp_path / "i", out, on=on, out=tmp_path / "here")
    with Client(four_workers):
        there = noisydask.combine(tmp_path / "i", out, on=on, out=tmp_path / "there")
    objects = [
        [stored for stored in run.manifest["objects"] if stored["path"] != "status.json"]
        for run in (here, there)
    ]
    assert objects[0] == objects[1]
    assert len(here.manifest["parts"]) > 5


def test_one_example(tmp_path: Path) -> None:
    data, _ = signals(5, 0, None)
    issues = issues_of(data, tmp_path / "i")
    metric = np.array([np.nan, np.nan, 2.0, np.nan, np.nan])
    frame = noisydask.combine(issues, dynamics_of(metric, tmp_path / "d")).to_dataframe()
    assert frame[["index", "consensus", "quality_percentile"]].to_numpy().tolist() == [
        [2.0, 0.0, 0.0]
    ]


def test_what_cannot_be_joined(tmp_path: Path) -> None:
    data, metric = signals(50, 6, None)
    ids = np.array([f"img{k}" for k in range(50)])
    plain = issues_of(data, tmp_path / "i")
    issues_of(data, tmp_path / "named", ids=ids)
    dense = dynamics_of(metric, tmp_path / "d")
    table = dynamics_of(metric, tmp_path / "t", ids, dense=False)

    def refused(match: str, issues: Any, dynamics: Any, **how: Any) -> None:
        with pytest.raises(InputError, match=match):
            noisydask.combine(issues, dynamics, out=tmp_path / "c", **how)
        assert not (tmp_path / "c" / "latest.json").exists()

    refused("no finished run", tmp_path / "nothing", dense)
    refused("run of the job 'dynamics'", dense, dense)
    refused("run of the job 'issues'", plain, tmp_path / "i")
    refused("50 examples, the dynamics run 40", plain, dynamics_of(metric[:40], tmp_path / "short"))
    refused("made from a table", plain, table, on="index")
    refused("integers .*, those of the dynamics run text", plain, table)
    refused(
        "kept only its first 7",
        tmp_path / "named",
        dynamics_of(metric, tmp_path / "k", ids, top_k=7),
        ids=ids,
    )
    refused("on must be one of", plain, dense, on="name")
    for top in (0, 2.5, "7"):
        refused("top must be a whole number of at least 1", plain, dense, top=top)
    refused("ids has shape", plain, table, ids=ids[:7])
    refused("no example in common", plain, table, ids=np.array([f"x{k}" for k in range(50)]))
    twice = np.where(ids == "img3", "img4", ids)
    refused("issues run are not unique .'img4'", plain, table, ids=twice)
    wide = np.arange(50, dtype=np.uint64) + 2**63
    refused(
        "give such numbers as text",
        plain,
        dynamics_of(metric, tmp_path / "w", np.arange(50)),
        on="id",
        ids=wide,
    )
    metric[3] = metric[4] = 1.0
    refused(
        "dynamics run are not unique .'img4'",
        plain,
        dynamics_of(metric, tmp_path / "tw", twice),
        on="id",
        ids=ids,
    )


def test_large_runs_without_a_common_id(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ranking, "ROWS_PER_PART", 10)
    data, metric = signals(40, 8, None)
    issues = issues_of(data, tmp_path / "i", ids=np.arange(40))
    dynamics = dynamics_of(metric, tmp_path / "d", np.arange(1000, 1040))
    with pytest.raises(InputError, match="no example in common"):
        noisydask.combine(issues, dynamics, ids=np.arange(40), on="id")


@pytest.mark.parametrize("dense", [True, False])
def test_a_run_whose_top_k_leaves_nobody_out_is_joined(dense: bool, tmp_path: Path) -> None:
    data, metric = signals(40, 9, None)
    ids = np.arange(40)
    issues, metric = (
        issues_of(data, tmp_path / "i", ids=ids),
        np.where(np.isnan(metric), 0.5, metric),
    )
    whole, cut = (
        noisydask.combine(
            issues, dynamics_of(metric, tmp_path / str(top_k), ids, dense, top_k), on="id", ids=ids
        )
        for top_k in (None, 40)
    )
    pd.testing.assert_frame_equal(whole.to_dataframe(), cut.to_dataframe())


def test_evidence_of_another_run_is_not_believed(tmp_path: Path) -> None:
    data, metric = signals(50, 7, None)
    issues_of(data, tmp_path / "i")
    out = dynamics_of(metric, tmp_path / "d")
    data.pred_probs[20:] = np.nan
    with pytest.raises(InputError):
        issues_of(data, tmp_path / "i")
    with pytest.raises(InputError, match="not the evidence of the issues run"):
        noisydask.combine(tmp_path / "i", out)


@pytest.mark.parametrize(
    "how",
    [
        {"quality_score": "normalized_margin", "adjust_pred_probs": True},
        {"quality_score": "confidence_weighted_entropy"},
    ],
)
def test_labels_with_any_score(tmp_path: Path, how: dict[str, Any]) -> None:
    data, metric = signals(400, 8, 2)
    issues_of(data, tmp_path / "i", **how)
    frame = noisydask.combine(tmp_path / "i", dynamics_of(metric, tmp_path / "d")).to_dataframe()
    np.testing.assert_array_equal(frame["given_label"], data.labels[frame["index"]])


def test_the_command(
    tmp_path: Path, one_worker: LocalCluster, capfd: pytest.CaptureFixture[str]
) -> None:
    data, metric = signals(300, 9, None)
    ids = np.array([f"[red]{k}\x1b[31m" for k in range(300)])
    stored = write_npy(Place(str(tmp_path)) / "ids.npy", ids)
    issues = issues_of(data, tmp_path / "i", ids=stored)
    dynamics_of(metric, tmp_path / "d", ids, dense=False)
    where = ["--scheduler", one_worker.scheduler_address]
    given = ["combine", str(tmp_path / "i"), str(tmp_path / "d"), "--out", str(tmp_path / "c")]
    assert main([*given, "--top", "40", *where]) == 0
    shown = capfd.readouterr().out
    assert "[red]" in shown
    assert "\x1b" not in shown
    expected = brute_force(issues.label_quality.compute(), metric)
    check(noisydask.open_run(tmp_path / "c"), expected.head(40))
    assert main(["show", str(tmp_path / "c"), "--top", "4", "--json"]) == 0
    found = json.loads(capfd.readouterr().out)
    assert [row["index"] for row in found["top"]] == expected["index"][:4].tolist()
    assert found["counts"]["ranked"] == 40
    assert main([*given, "--on", "index", *where]) == 2
    assert main([*given, "--workers", "0"]) == 2
    assert "Traceback" not in capfd.readouterr().err
