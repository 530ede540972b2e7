"""What a finished run gives when it is asked later."""

from __future__ import annotations

import gc
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import zarr
from layouts import make

import noisydask
from noisydask.errors import InputError, JobError

DATA = make(rows=500)


def test_lazy_results_keep_their_run() -> None:
    """Without ``out`` a run lies in a temporary folder, which goes with the last thing that needs
    it."""
    expected = noisydask.find_label_issues(DATA.labels, DATA.pred_probs).label_quality.compute()
    assert expected.min() > 0
    lazy = noisydask.find_label_issues(
        DATA.labels, DATA.pred_probs, block_bytes=3_000
    ).label_quality
    mean, some = lazy.mean(), lazy[::7]
    del lazy
    gc.collect()
    np.testing.assert_array_equal(some.compute(), expected[::7])
    assert mean.compute() == pytest.approx(expected.mean())
    losses = np.random.default_rng(0).random((40, 5), np.float32)
    ranking = noisydask.analyze_loss_dynamics(losses).ranking
    gc.collect()
    assert len(ranking.compute()) == 40
    both = noisydask.combine(
        noisydask.find_label_issues(DATA.labels[:40], DATA.pred_probs[:40]),
        noisydask.analyze_loss_dynamics(losses),
    ).ranking
    gc.collect()
    assert len(both.compute()) == 40


@pytest.mark.parametrize("top", [-1, 2.5, "x"])
def test_numbers_of_rows_that_cannot_be(top: Any) -> None:
    issues = noisydask.find_label_issues(DATA.labels, DATA.pred_probs)
    dynamics = noisydask.analyze_loss_dynamics(np.ones((len(DATA.labels), 2)))
    for ask in (
        issues.to_dataframe,
        dynamics.top_k,
        noisydask.combine(issues, dynamics).to_dataframe,
    ):
        with pytest.raises(InputError, match="must be an integer of at least 0"):
            ask(top)


def test_a_run_that_was_removed_is_an_error(tmp_path: Path) -> None:
    found = noisydask.find_label_issues(DATA.labels, DATA.pred_probs, out=str(tmp_path / "out"))
    lazy = found.label_quality
    shutil.rmtree(found.run.place.path)
    with pytest.raises(JobError, match=r"label_quality\.zarr/0 is gone"):
        lazy.compute()


@pytest.fixture
def nightly(tmp_path: Path) -> tuple[zarr.Array[Any], str]:
    """Losses as one night's run found them, and its output."""
    stored = zarr.create_array(
        str(tmp_path / "losses.zarr"), shape=(20, 6), chunks=(7, 4), dtype=np.float32
    )
    stored[...] = np.random.default_rng(0).random((20, 6))
    zarr.save_array(str(tmp_path / "labels.zarr"), np.arange(20) % 3)
    noisydask.analyze_loss_dynamics(
        str(tmp_path / "losses.zarr"),
        labels=str(tmp_path / "labels.zarr"),
        out=str(tmp_path / "out"),
    )
    return stored, str(tmp_path / "out")


def test_curves_of_a_run_whose_losses_grew_since(nightly: tuple[zarr.Array[Any], str]) -> None:
    stored, out = nightly
    before = noisydask.open_run(out).ema([3, 17])
    stored.resize((25, 9))
    stored[:, 6:] = 5
    again = noisydask.open_run(out)
    pd.testing.assert_frame_equal(again.ema([3, 17]), before)
    assert len(again.plot_ema_loss_dynamics([3], mode="label_mean").axes) == 1


@pytest.mark.parametrize("shape", [(20, 5), (19, 6), (4, 4)])
def test_curves_of_a_run_whose_losses_shrank_since(
    shape: tuple[int, int], nightly: tuple[zarr.Array[Any], str]
) -> None:
    stored, out = nightly
    stored.resize(shape)
    with pytest.raises(InputError, match=r"losses changed since this run, from shape \(20, 6\)"):
        noisydask.open_run(out).ema([3])


def test_curves_of_a_run_whose_losses_were_replaced(nightly: tuple[zarr.Array[Any], str]) -> None:
    stored, out = nightly
    stored[3, 2] += 1
    assert len(noisydask.open_run(out).ema([4])) == 1
    with pytest.raises(InputError, match="losses changed since this run"):
        noisydask.open_run(out).ema([4, 3])


LOSSES = np.random.default_rng(0).random((10, 4), np.float32)
TABLE = pd.DataFrame({"id": np.arange(10) % 5, "iteration": np.arange(10) // 5, "loss": 1.0})


@pytest.mark.parametrize(
    "ids",
    [None, np.arange(10), [f"n{k}" for k in range(10)]],
    ids=["positions", "integers", "text"],
)
def test_what_is_no_example_is_refused(ids: Any) -> None:
    found = noisydask.analyze_loss_dynamics(LOSSES, ids=ids)
    assert found.ema([]).shape == (0, 4)
    for name in ("a", 2**70, 1.5, None, "\udcff", [1], 10):
        with pytest.raises(InputError, match=r"is not a candidate of this run|there is no example"):
            found.ema([name])


def test_all_examples_that_share_an_id() -> None:
    found = noisydask.analyze_loss_dynamics(LOSSES, ids=["a", "b", "c"] * 3 + ["d"], alpha=0.5)
    positions = noisydask.analyze_loss_dynamics(LOSSES, alpha=0.5)
    curves = found.ema(["b", "d", "a"])
    assert curves.index.tolist() == ["b"] * 3 + ["d"] + ["a"] * 3
    np.testing.assert_array_equal(curves, positions.ema([1, 4, 7, 9, 0, 3, 6]))


@pytest.mark.parametrize("ids", [TABLE["id"], TABLE["id"].astype(str)], ids=["integers", "text"])
def test_no_examples_of_a_table(ids: Any) -> None:
    for more in ({}, {"subset": "train"}):
        columns = {"subset_column": "subset"} if more else {}
        found = noisydask.analyze_loss_dynamics(table=TABLE.assign(id=ids, **more), **columns)
        none, one = found.ema([]), found.ema(ids[:1])
        assert none.shape == (0, 2)
        assert none.index.names == one.index.names
        with pytest.raises(InputError, match="is not an example"):
            found.ema([1.5])


@pytest.mark.parametrize("width", [3, 3_000])
def test_losses_of_which_none_is_recorded_are_refused(width: int, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no loss is recorded"):
        noisydask.analyze_loss_dynamics(np.full((5, width), np.nan), out=str(tmp_path / "out"))
    with pytest.raises(InputError, match="no finished run"):
        noisydask.open_run(str(tmp_path / "out"))


@pytest.mark.parametrize("wrong", [{"top_k": 2.5}, {"top_k": "2"}, {"alpha": None}, {"alpha": "x"}])
def test_options_of_another_type_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(InputError, match=f"{next(iter(wrong))} must be"):
        noisydask.analyze_loss_dynamics(LOSSES, **wrong)


def test_options_may_be_numpy_numbers() -> None:
    assert (
        len(
            noisydask.analyze_loss_dynamics(LOSSES, alpha=np.float32(0.5), top_k=np.int64(3)).top_k(
                9
            )
        )
        == 3
    )


def test_a_run_says_which_it_is_and_what_it_found(tmp_path: Path) -> None:
    found = noisydask.find_label_issues(DATA.labels, DATA.pred_probs, out=str(tmp_path / "out"))
    assert found.run.run in repr(found)
    assert f"issues={found.num_issues}," in repr(found)
    assert "examples=500" in repr(found)
