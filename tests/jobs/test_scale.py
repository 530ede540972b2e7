"""What a job costs its scheduler grows with its blocks alone: the simulation, of few blocks."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
BLOCKS = 600
#: Bytes of a graph for each block: its number or its checksums, and what describes its source.
BYTES_OF_A_BLOCK = 1_000


@pytest.mark.slow
def test_graphs_grow_with_the_blocks_alone(tmp_path: Path) -> None:
    figures = tmp_path / "figures.json"
    command = [sys.executable, "-m", "benchmarks.simulation", "--json", str(figures)]
    command += ["--blocks", str(BLOCKS), "--workers", "4"]
    subprocess.run(command, cwd=ROOT, check=True, timeout=300)
    jobs = json.loads(figures.read_text())["jobs"]
    assert jobs["first"]["blocks"]["scanned"] == BLOCKS
    assert jobs["next"]["blocks"]["scanned"] == BLOCKS // 100
    assert jobs["next"]["issues"] == jobs["first"]["issues"] > 0
    for each in jobs["first"]["passes"] + jobs["next"]["passes"]:
        assert each["sent"] < 50_000 + BYTES_OF_A_BLOCK * BLOCKS, each
        assert each["tasks"] < 1.5 * BLOCKS, each
