"""The benchmark beside Datumaro: the time of an example, of 5,000 with 50 recorded losses each.

Datumaro wants an older NumPy, so it is timed in a Python of its own, where one is given; else the
figures stand that were recorded once, on another machine of the kind.
"""

from __future__ import annotations

import json
import subprocess
import time
from array import array
from collections.abc import Callable
from pathlib import Path
from statistics import median
from types import SimpleNamespace
from typing import Any

import numpy as np
from rich.console import Console

from benchmarks.data import losses_of
from noisydask.compat.datumaro import LossDynamicsAnalyzer
from noisydask.dynamics.analyze import analyze_loss_dynamics

EXAMPLES, ITERATIONS, LABELS = 5_000, 50, 10
#: Examples of which the cost of a run itself is no longer seen.
MANY = 1_000_000
#: Microseconds an example of Datumaro 1.10, from fastest to slowest.
RECORDED = (755, 1070)
_ALONE = Path(__file__).with_name("datumaro_alone.py")


class _Dataset(list[Any]):
    """Items as Datumaro has them in memory, from a file of its format."""

    def __init__(self, file: Path) -> None:
        content = json.loads(file.read_text(encoding="utf-8"))
        self._infos, self._labels = content["infos"], content["categories"]["label"]["labels"]
        for item in content["items"]:
            found = [
                SimpleNamespace(id=a["id"], label=a["label_id"], attributes=a["attributes"])
                for a in item["annotations"]
            ]
            self.append(SimpleNamespace(id=item["id"], subset=file.stem, annotations=found))

    def infos(self) -> Any:
        return self._infos

    def categories(self) -> dict[str, Any]:
        labels = [
            SimpleNamespace(name=label["name"], parent="", attributes=()) for label in self._labels
        ]
        return {"label": SimpleNamespace(items=labels)}


def make_dataset(folder: Path) -> Path:
    """Write the losses of the benchmark in Datumaro's format, once."""
    file = folder / "datumaro/annotations/train.json"
    if not file.exists():
        file.parent.mkdir(parents=True, exist_ok=True)
        iters, labels = (
            list(range(ITERATIONS)),
            [{"name": f"label {k}", "parent": ""} for k in range(LABELS)],
        )
        items = [
            {
                "id": f"{k:05d}",
                "annotations": [
                    {
                        "id": 0,
                        "type": "label",
                        "group": 0,
                        "label_id": k % LABELS,
                        "attributes": {"iters": iters, "loss_dynamics": losses.tolist()},
                    }
                ],
            }
            for k, losses in enumerate(losses_of(0, EXAMPLES, ITERATIONS))
        ]
        infos = {"purpose": "noisy_label_detection", "task": "OTX-MultiClassCls"}
        content = {
            "infos": infos,
            "categories": {"label": {"labels": labels, "attributes": []}},
            "items": items,
        }
        file.write_text(json.dumps(content), encoding="utf-8")
    return file


def measure_datumaro(
    folder: Path, python: Path | None, rounds: int, console: Console
) -> dict[str, Any]:
    """Time our analyzer of Datumaro's name, the native job on the same losses, and Datumaro:
    microseconds an example.
    """
    file = make_dataset(folder)
    dataset = _Dataset(file)
    losses, labels = losses_of(0, EXAMPLES, ITERATIONS), np.arange(EXAMPLES) % LABELS
    many = losses_of(0, MANY, ITERATIONS)
    theirs = _datumaro(python, file.parents[1], rounds) if python else None
    figure: dict[str, Any] = {
        "examples": EXAMPLES,
        "iterations": ITERATIONS,
        "analyzer_us": _microseconds(
            lambda: LossDynamicsAnalyzer(dataset).get_top_k_cands(20), rounds
        ),
        "lists_us": _microseconds(lambda: _read_lists(dataset), rounds),
        "job_us": _microseconds(
            lambda: analyze_loss_dynamics(losses, labels=labels, top_k=20), rounds
        ),
        "job_many_us": _microseconds(lambda: analyze_loss_dynamics(many, top_k=20), rounds, MANY),
        "datumaro_us": [theirs] if theirs else list(RECORDED),
        "datumaro_measured": theirs is not None,
    }
    figure["times_faster"] = [round(t / figure["analyzer_us"]) for t in figure["datumaro_us"]]
    how = "measured here" if theirs else "as recorded once; --datumaro-python measures it"
    console.print(
        f"losses of {EXAMPLES:,} x {ITERATIONS} in a Datumaro dataset, microseconds an example:\n"
        f"  LossDynamicsAnalyzer {figure['analyzer_us']:.2f}, of which {figure['lists_us']:.2f} "
        "are the reading of the lists\n"
        f"  analyze_loss_dynamics of the same as an array {figure['job_us']:.1f}, as any run "
        "costs a part of a second;"
        f" {figure['job_many_us']:.2f} of {MANY:,} examples\n"
        f"  Datumaro {' to '.join(f'{t:,.0f}' for t in figure['datumaro_us'])} ({how}): "
        "LossDynamicsAnalyzer is"
        f" {' to '.join(map(str, figure['times_faster']))} times as fast",
        highlight=False,
        soft_wrap=True,
    )
    return figure


def _datumaro(python: Path, folder: Path, rounds: int) -> float:
    """Time Datumaro 1.10."""
    done = subprocess.run(
        [str(python), str(_ALONE), str(folder), str(rounds)],
        check=True,
        capture_output=True,
        text=True,
    )
    return median(json.loads(done.stdout.splitlines()[-1])) / EXAMPLES * 1e6


def _read_lists(dataset: _Dataset) -> None:
    """Bring the losses from lists of Python numbers into an array, which no program can do
    without.
    """
    losses = array("d")
    for item in dataset:
        for annotation in item.annotations:
            losses.fromlist(annotation.attributes["loss_dynamics"])


def _microseconds(call: Callable[[], object], rounds: int, examples: int = EXAMPLES) -> float:
    call()  # compiles
    seconds = []
    for _ in range(rounds):
        start = time.perf_counter()
        call()
        seconds.append(time.perf_counter() - start)
    return median(seconds) / examples * 1e6
