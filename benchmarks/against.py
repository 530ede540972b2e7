"""``python -m benchmarks.against OLD_PYTHON``: this version beside an older one, on the same data.

Each version has a process of its own, with a cluster of its own; they take turns, in pairs whose
order alternates. What is said of each job is the median of the ratios, new by old, with an interval
that holds it in 95 of 100 cases, and how many files of the runs differ.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import accumulate
from math import comb
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer
from rich.console import Console

from benchmarks.data import make_data, make_losses
from benchmarks.table import make_table

OUT, ERR = Console(), Console(stderr=True)
#: What a run tells of itself, which differs from run to run.
_OF_ITSELF = ("manifest.json", "status.json", "curves.png")


@dataclass(frozen=True)
class Side:
    """A version of noisydask in a process of its own."""

    name: str
    process: subprocess.Popen[str]

    @classmethod
    def start(cls, name: str, python: Path | str, workers: int) -> Side:
        """Start its process; its package is that of the given Python."""
        script = Path(__file__).with_name("one_side.py").absolute()
        command = [str(python), "-P", str(script), str(workers)]
        process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1
        )
        side = cls(name, process)
        side._answer()
        return side

    def seconds(self, job: str, options: dict[str, Any], out: Path) -> float:
        """Run a job into an output of this side's own."""
        question = {"job": job, "options": options | {"out": str(out)}}
        assert self.process.stdin is not None
        self.process.stdin.write(json.dumps(question) + "\n")
        return float(self._answer())

    def _answer(self) -> str:
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        if not line:
            raise SystemExit(f"the {self.name} version failed")
        return line.strip()


@contextmanager
def both_sides(old_python: Path, workers: int) -> Iterator[tuple[Side, Side]]:
    """Start this version and an older one; end them with the context."""
    sides = Side.start("new", sys.executable, workers), Side.start("old", old_python, workers)
    try:
        yield sides
    finally:
        for side in sides:
            side.process.stdin.close()  # type: ignore[union-attr]
            side.process.wait(30)


def jobs_of(folder: Path, rows: int, columns: int) -> dict[str, tuple[str, dict[str, Any]]]:
    """Make the data where they are not there; return what is run."""
    make_data(folder, rows, columns, npy=False)
    make_losses(folder, rows, columns)
    stem = folder / f"{rows}x{columns}"
    probs = {"labels": f"{stem}-labels.zarr", "pred_probs": f"{stem}-pred_probs.zarr"}
    losses, table = f"{stem}-dynamics-losses.zarr", make_table(folder, 5 * rows)
    dynamics = "analyze_loss_dynamics"
    return {
        "issues": ("find_label_issues", probs),
        "dense": (dynamics, {"losses": losses}),
        "dense_top": (dynamics, {"losses": losses, "top_k": 100}),
        "table": (dynamics, {"table": str(table)}),
    }


def differing(one: Path, two: Path) -> tuple[int, int]:
    """Count the files of two published runs, and those that differ."""
    files = []
    for out in (one, two):
        run = out / "runs" / json.loads((out / "latest.json").read_text())["run"]
        paths = (path for path in run.rglob("*") if path.is_file() and path.name not in _OF_ITSELF)
        files.append({str(path.relative_to(run)): path.read_bytes() for path in paths})
    names = files[0].keys() | files[1].keys()
    return len(names), sum(files[0].get(name) != files[1].get(name) for name in names)


def interval(ratios: list[float]) -> tuple[float, float]:
    """Return an interval that holds the median in at least 95 of 100 cases, whatever the ratios'
    distribution: two of their order statistics.

    Examples
    --------
    >>> interval([float(k) for k in range(15)])
    (3.0, 11.0)
    """
    count = len(ratios)
    below = accumulate(comb(count, k) / 2**count for k in range(count))
    tail = sum(chance <= 0.025 for chance in below)
    ordered = sorted(ratios)
    return ordered[max(0, tail - 1)], ordered[min(count - 1, count - tail)]


def against(
    old_python: Annotated[Path, typer.Argument(help="A Python that has the older version.")],
    pairs: Annotated[int, typer.Option(min=1)] = 15,
    rows: Annotated[int, typer.Option(help="Examples.", min=1)] = 1_000_000,
    columns: Annotated[int, typer.Option(help="Classes, and iterations.", min=1)] = 100,
    workers: Annotated[int, typer.Option(help="Worker processes; 0 for threads.", min=0)] = 2,
    folder: Annotated[Path, typer.Option(help="Where data and outputs lie.")] = Path("bench-data"),
    only: Annotated[list[str] | None, typer.Option(help="One of the jobs; repeatable.")] = None,
) -> None:
    """Compare speed and results of this version and an older one."""
    folder.mkdir(exist_ok=True)
    jobs = jobs_of(folder.absolute(), rows, columns)
    for name in only or jobs:
        job, options = jobs[name]
        outs = {side: folder.absolute() / f"out-{side}" for side in ("new", "old")}
        with both_sides(old_python, workers) as sides:
            for side in sides:  # compile, and fill caches
                side.seconds(job, options, outs[side.name])
            ratios, seconds = [], []
            for pair in range(pairs):
                order = sides if pair % 2 else sides[::-1]
                took = {side.name: side.seconds(job, options, outs[side.name]) for side in order}
                ratios.append(took["new"] / took["old"])
                seconds.append(took["new"])
                ERR.print(f"{name}: pair {pair + 1}: {ratios[-1]:.3f}", highlight=False)
        low, high = interval(ratios)
        total, other = differing(outs["new"], outs["old"])
        OUT.print(
            f"{name}: new / old {np.median(ratios):.3f} ({low:.3f} to {high:.3f}, {pairs} pairs; "
            f"{np.median(seconds):.2f} s); {other} of {total} files differ",
            highlight=False,
        )


if __name__ == "__main__":
    typer.run(against)
