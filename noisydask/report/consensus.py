"""A consensus of both jobs on a terminal."""

from __future__ import annotations

from typing import Any

from rich.console import Console

from noisydask.consensus.results import Consensus
from noisydask.report.printing import Column, printable, show_columns, show_lines
from noisydask.report.runs import run_as_json, run_lines
from noisydask.text import significant

_NUMBERS = {"consensus": "consensus", "label_quality": "quality", "metric": "EMA of loss"}


def show_summary(console: Console, run: Consensus) -> None:
    """Print what was joined, in a few lines."""
    counts = run.document.counts
    inputs = run.document.inputs
    known = (
        f"{counts['common']:,} of {counts['examples']:,} examples, by {run.document.settings['on']}"
    )
    show_lines(
        console,
        [
            ("known to both jobs", known),
            ("label issues", inputs["issues"]["url"]),
            ("loss dynamics", inputs["dynamics"]["url"]),
            *run_lines(run),
        ],
    )


def show_top(console: Console, run: Consensus, top: int) -> None:
    """Print the worst labels as a table."""
    frame = run.to_dataframe(top)
    named = not frame["id"].equals(frame["index"].rename("id"))
    columns = [Column(name, frame[name].map(str)) for name in ("rank", "index")]
    columns += [Column("id", frame["id"].map(printable), text=True)] if named else []
    for side in ("given", "suggested"):
        if f"{side}_label" in frame:
            called = frame.get(f"{side}_name", frame[f"{side}_label"])
            columns.append(Column(side, called.map(printable), text=True))
    kept = len(columns)
    columns += [Column(called, frame[name].map(significant)) for name, called in _NUMBERS.items()]
    show_columns(console, f"the {len(frame):,} labels most likely wrong", columns, kept)


def as_json(run: Consensus, top: int) -> dict[str, Any]:
    """Return the summary and the worst labels for machines."""
    rows: list[dict[str, Any]] = run.to_dataframe(top).to_dict("records")  # type: ignore[assignment]
    return run_as_json(run, rows)
