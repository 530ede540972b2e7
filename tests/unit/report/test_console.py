"""The dynamics job on a terminal: the real job's run, with hostile names."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from layouts import make

import noisydask
from noisydask.cli.app import main
from noisydask.report import showing
from noisydask.report.printing import Printer
from noisydask.report.sparkline import sparkline


def wide(columns: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the terminal be so wide."""
    monkeypatch.setenv("COLUMNS", str(columns))
    monkeypatch.setattr(showing, "out_console", Printer())


def test_candidates_are_shown_with_their_curves(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    wide(120, monkeypatch)
    losses = np.abs(np.random.default_rng(0).normal(1, 1, (50, 12))).astype(np.float32)
    losses[3], losses[4, ::2] = np.nan, np.nan
    ids = np.array([f"[red]{k}\x1b" for k in range(50)])
    found = noisydask.analyze_loss_dynamics(
        losses, ids=ids, labels=np.arange(50) % 3, alpha=0.3, out=tmp_path / "d"
    )
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


@pytest.fixture(scope="module")
def shown_run(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A run of the main job with long names."""
    data = make(rows=300, classes=3)
    out = tmp_path_factory.mktemp("shown") / "out"
    ids = np.array([f"picture-{k:06d}" for k in range(300)])
    noisydask.find_label_issues(
        data.labels, data.pred_probs, ids=ids, class_names=["cat", "dog", "élan"], out=out
    )
    return str(out)


@pytest.mark.parametrize("columns", [40, 60, 120])
def test_a_narrow_terminal_keeps_the_names(
    shown_run: str, columns: int, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    wide(columns, monkeypatch)
    assert main(["show", shown_run, "--top", "3"]) == 0
    shown = capfd.readouterr().out
    table = shown.partition("most likely wrong")[2]
    assert max(map(len, table.splitlines())) <= columns
    assert ("P(suggested)" in table) is (columns == 120)
    first = noisydask.open_run(shown_run).to_dataframe(1).loc[0]
    assert "pict" in table
    assert first["given_name"] in table
    assert first["suggested_name"] in table
    # The run's name is one word in a log, however long.
    assert noisydask.open_run(shown_run).run.place.shown in shown


def show(run: str, stdout: Any, **environment: str) -> tuple[int, str]:
    command = [sys.executable, "-m", "noisydask", "show", run, "--top", "200"]
    done = subprocess.run(
        command,
        stdout=stdout,
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | environment,
        check=False,
        timeout=60,
    )
    return done.returncode, done.stderr


@pytest.mark.slow
def test_a_reader_who_leaves_a_full_disk_and_an_old_terminal(
    shown_run: str, tmp_path: Path
) -> None:
    reads, writes = os.pipe()
    os.close(reads)
    assert show(shown_run, writes) == (0, "")
    os.close(writes)
    with open("/dev/full", "w") as full:
        status, said = show(shown_run, full)
    assert status == 1
    assert re.fullmatch("error: cannot print: No space left on device\n", said)
    with (tmp_path / "ascii").open("w+") as file:
        assert show(shown_run, file, PYTHONIOENCODING="ascii") == (0, "")
        file.seek(0)
        assert "?lan" in file.read()
