"""Trials and failures: so many seeded faults against a real S3 server, by kind."""

from __future__ import annotations

from collections import Counter
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table

from rig.plans import KINDS, kind_of, run_trial, stage


def measure_faults(trials: int, console: Console, cloud: str = "s3") -> dict[str, Any]:
    """Do the trials of the seeds 0 to ``trials - 1`` on a cloud's kind of store, and count those in
    which something did not hold.
    """
    done: Counter[str] = Counter()
    failed: Counter[str] = Counter()
    errors: dict[int, str] = {}
    with stage(cloud) as (server, way):
        for seed in range(trials):
            kind = kind_of(seed)
            done[kind] += 1
            try:
                run_trial(seed, server, way)
            except Exception as error:
                failed[kind] += 1
                errors[seed] = f"{type(error).__name__}: {error}"
                console.print(f"seed {seed}, {kind}: {errors[seed]}", markup=False, highlight=False)
            else:
                console.print(f"seed {seed}, {kind}: held", markup=False, highlight=False)
    kinds = [
        {"kind": kind, "trials": done[kind], "failures": failed[kind]}
        for kind in KINDS
        if done[kind]
    ]
    return {
        "trials": trials,
        "failures": len(errors),
        "cloud": cloud,
        "kinds": kinds,
        "errors": errors,
    }


def faults_table(figures: dict[str, Any]) -> Table:
    """Trials and failures by kind."""
    shown = Table(title=f"faults, {figures['cloud']}", title_justify="left", box=box.SIMPLE_HEAD)
    shown.add_column("kind")
    shown.add_column("trials", justify="right")
    shown.add_column("failures", justify="right")
    for found in figures["kinds"]:
        shown.add_row(found["kind"], str(found["trials"]), str(found["failures"]))
    shown.add_row("all", str(figures["trials"]), str(figures["failures"]))
    return shown
