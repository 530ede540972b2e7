"""What a finished run gives when it is asked later."""

from __future__ import annotations

import gc
import shutil
from pathlib import Path

import numpy as np
import pytest
from layouts import make

import noisydask
from noisydask.errors import JobError

DATA = make(rows=500)


def test_lazy_results_keep_their_run() -> None:
    """Without ``out`` a run lies in a temporary folder, which goes with the last thing that needs it."""
    expected = noisydask.find_label_issues(DATA.labels, DATA.pred_probs).label_quality.compute()
    assert expected.min() > 0
    lazy = noisydask.find_label_issues(DATA.labels, DATA.pred_probs, block_bytes=3_000).label_quality
    mean, some = lazy.mean(), lazy[::7]
    del lazy
    gc.collect()
    np.testing.assert_array_equal(some.compute(), expected[::7])
    assert mean.compute() == pytest.approx(expected.mean())
    losses = np.random.default_rng(0).random((40, 5), np.float32)
    ranking = noisydask.analyze_loss_dynamics(losses).ranking
    gc.collect()
    assert len(ranking.compute()) == 40


def test_a_run_that_was_removed_is_an_error(tmp_path: Path) -> None:
    found = noisydask.find_label_issues(DATA.labels, DATA.pred_probs, out=str(tmp_path / "out"))
    lazy = found.label_quality
    shutil.rmtree(found.run.place.path)
    with pytest.raises(JobError, match=r"label_quality\.zarr/0 is gone"):
        lazy.compute()


def test_a_run_says_which_it_is_and_what_it_found(tmp_path: Path) -> None:
    found = noisydask.find_label_issues(DATA.labels, DATA.pred_probs, out=str(tmp_path / "out"))
    assert found.run.run in repr(found)
    assert f"issues={found.num_issues}," in repr(found)
    assert "examples=500" in repr(found)
