"""A run of the main job on a terminal: its summary, its worst labels."""

from __future__ import annotations

from typing import Any

import pandas as pd
from rich.console import Console
from rich.filesize import decimal

from noisydask.command.printing import Column, printable, show_columns, show_lines
from noisydask.issues.results import LabelIssues
from noisydask.report.numbers import percent, significant


def show_summary(console: Console, issues: LabelIssues) -> None:
    """Print what was found, in a few lines."""
    counts, read, seconds = (issues.manifest[key] for key in ("counts", "bytes_read", "seconds"))
    share = percent(counts["issues"] / counts["examples"])
    lines = [
        ("label issues", f"{counts['issues']:,} of {counts['examples']:,} examples ({share})"),
        ("classes", f"{counts['classes']:,}"),
        ("invalid rows left out", f"{counts['invalid']:,}" if counts["invalid"] else ""),
        ("read", f"{decimal(read['pred_probs'])} of pred_probs" if read["pred_probs"] else ""),
        (
            "blocks read again",
            f"{counts['blocks_read_again']:,}" if counts["blocks_read_again"] else "",
        ),
        ("time", f"{seconds['total']:.1f} s"),
        ("run", issues.run.place.shown),
    ]
    show_lines(console, lines)


def show_top(console: Console, issues: LabelIssues, top: int) -> None:
    """Print the worst labels as a table."""
    frame = issues.to_dataframe(top)
    if frame.empty:
        console.print("no label issues")
        return
    # What only repeats another column takes room from the names.
    named = not frame["id"].equals(frame["index"])
    numbers = {
        "label_quality": "quality",
        "given_prob": "P(given)",
        "suggested_prob": "P(suggested)",
    }
    if frame["given_prob"].equals(frame["label_quality"].rename("given_prob")):
        del numbers["given_prob"]
    columns = [Column(name, frame[name].map(str)) for name in ("rank", "index")]
    columns += [Column("id", frame["id"].map(printable), text=True)] if named else []
    for side in ("given", "suggested"):
        called = frame.get(f"{side}_name", frame[f"{side}_label"])
        columns.append(Column(side, called.map(printable), text=True))
    kept = len(columns)
    columns += [Column(called, frame[name].map(significant)) for name, called in numbers.items()]
    show_columns(console, f"the {len(frame):,} labels most likely wrong", columns, kept)


def as_json(issues: LabelIssues, top: int) -> dict[str, Any]:
    """The summary and the worst labels for machines."""
    keys = ("run", "started", "finished", "seconds", "settings", "inputs", "counts", "bytes_read")
    frame: pd.DataFrame = issues.to_dataframe(top)
    return {key: issues.manifest[key] for key in keys} | {"top": frame.to_dict("records")}
