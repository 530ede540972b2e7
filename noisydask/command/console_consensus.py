"""A consensus of both jobs on a terminal."""

from __future__ import annotations

from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table

from noisydask.combined.consensus import Consensus
from noisydask.command.console import printable, show_lines

_NUMBERS = {"consensus": "consensus", "label_quality": "quality", "metric": "EMA of loss"}


def show_summary(console: Console, found: Consensus) -> None:
    """Print what was joined, in a few lines."""
    counts, inputs = found.manifest["counts"], found.manifest["inputs"]
    known = f"{counts['common']:,} of {counts['examples']:,} examples, by {found.manifest['settings']['on']}"
    show_lines(console, [
        ("known to both jobs", known),
        ("label issues", inputs["issues"]["url"]),
        ("loss dynamics", inputs["dynamics"]["url"]),
        ("time", f"{found.manifest['seconds']['total']:.1f} s"),
        ("run", found.run.place.shown),
    ])  # fmt: skip


def show_top(console: Console, found: Consensus, top: int) -> None:
    """Print the worst labels as a table."""
    frame = found.to_dataframe(top)
    table = Table(title=f"the {len(frame):,} labels most likely wrong", title_justify="left", box=box.SIMPLE_HEAD)
    named = not frame["id"].equals(frame["index"].rename("id"))
    labels = [side for side in ("given", "suggested") if f"{side}_label" in frame]
    for name in ("rank", "index"):
        table.add_column(name, justify="right", no_wrap=True)
    for name in (*(["id"] if named else []), *labels):
        table.add_column(name, overflow="fold")
    for name in _NUMBERS.values():
        table.add_column(name, justify="right", no_wrap=True)
    for row in frame.to_dict("records"):
        identity = [printable(row["id"])] if named else []
        called = (printable(row.get(f"{side}_name", row[f"{side}_label"])) for side in labels)
        numbers = (f"{row[name]:.4g}" for name in _NUMBERS)
        table.add_row(str(row["rank"]), str(row["index"]), *identity, *called, *numbers)
    console.print(table)


def as_json(found: Consensus, top: int) -> dict[str, Any]:
    """The summary and the worst labels for machines."""
    keys = ("run", "started", "finished", "seconds", "settings", "inputs", "counts")
    return {key: found.manifest[key] for key in keys} | {"top": found.to_dataframe(top).to_dict("records")}
