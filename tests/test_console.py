"""The dynamics job on a terminal: the real job's run, with hostile names."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

import noisydask
from noisydask.command.cli import main
from noisydask.report.curves import sparkline


def test_candidates_are_shown_with_their_curves(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    losses = np.abs(np.random.default_rng(0).normal(1, 1, (50, 12))).astype(np.float32)
    losses[3], losses[4, ::2] = np.nan, np.nan
    ids = np.array([f"[red]{k}\x1b" for k in range(50)])
    found = noisydask.analyze_loss_dynamics(losses, ids=ids, labels=np.arange(50) % 3, alpha=0.3, out=tmp_path / "d")
    assert main(["show", str(tmp_path / "d"), "--top", "30"]) == 0
    shown = capfd.readouterr().out
    assert "\x1b" not in shown
    frame = found.top_k(30)
    lines = [line for line in shown.splitlines() if "[red]" in line]
    assert [line.split()[0] for line in lines] == [str(rank) for rank in range(1, 31)]
    curves = found.ema(frame["id"].tolist()).to_numpy()
    for line, curve in zip(lines[:20], curves, strict=False):
        assert sparkline(curve, 20).strip() in line
    assert main(["show", str(tmp_path / "d"), "--top", "3", "--json"]) == 0
    told = json.loads(capfd.readouterr().out)
    assert [row["id"] for row in told["top"]] == frame["id"][:3].tolist()
    np.testing.assert_array_equal(np.array(told["top"][0]["ema"], float), curves[0])
    assert told["counts"]["candidates"] == 49
    assert main(["show", str(tmp_path / "d"), "--top", "0"]) == 0
