"""``python -m rig TRIALS``, which ``make faults`` calls: disturb jobs at random and say how often
something did not hold; status 1 if it ever did not.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from rig.measure import faults_table, measure_faults


def main(
    trials: int,
    cloud: Annotated[str, typer.Option(help="s3 (SeaweedFS) or azure (Azurite).")] = "s3",
    output: Annotated[Path | None, typer.Option("--json", help="Write the figures here.")] = None,
) -> None:
    """Try so many faults against a real object store."""
    figures = measure_faults(trials, Console(stderr=True), cloud)
    Console().print(faults_table(figures))
    if output is not None:
        output.write_text(json.dumps(figures, indent=1), encoding="utf-8")
    if figures["failures"]:
        raise typer.Exit(1)


if __name__ == "__main__":
    typer.run(main)
