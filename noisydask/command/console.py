"""A run of the main job on a terminal: its summary, its worst labels."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pandas as pd
from rich import box
from rich.console import Console
from rich.filesize import decimal
from rich.table import Table
from rich.text import Text

from noisydask.issues.results import LabelIssues
from noisydask.report.names import plain


def printable(value: Any) -> Text:
    r"""Text of an id or a name as it may be shown: no markup is read, no control character is passed on.

    Examples
    --------
    >>> printable("[bold]a\x1b[31m").plain
    '[bold]a�[31m'
    """
    return Text(plain(value))


def show_summary(console: Console, issues: LabelIssues) -> None:
    """Print what was found, in a few lines."""
    counts, read, seconds = (issues.manifest[key] for key in ("counts", "bytes_read", "seconds"))
    share = counts["issues"] / counts["examples"]
    lines = [
        ("label issues", f"{counts['issues']:,} of {counts['examples']:,} examples ({share:.2%})"),
        ("classes", f"{counts['classes']:,}"),
        ("invalid rows left out", f"{counts['invalid']:,}" if counts["invalid"] else ""),
        ("read", f"{decimal(read['pred_probs'])} of pred_probs" if read["pred_probs"] else ""),
        ("blocks read again", f"{counts['blocks_read_again']:,}" if counts["blocks_read_again"] else ""),
        ("time", f"{seconds['total']:.1f} s"),
        ("run", issues.run.place.shown),
    ]
    show_lines(console, lines)


def show_lines(console: Console, lines: Sequence[tuple[str, str]]) -> None:
    """Print names and what they are called; those that have nothing to say are left out."""
    table = Table.grid(padding=(0, 2))
    for name, text in lines:
        if text:
            table.add_row(Text(name, style="dim"), Text(text, overflow="fold"))
    console.print(table)


def show_top(console: Console, issues: LabelIssues, top: int) -> None:
    """Print the worst labels as a table."""
    frame = issues.to_dataframe(top)
    if frame.empty:
        console.print("no label issues")
        return
    table = Table(title=f"the {len(frame):,} labels most likely wrong", title_justify="left", box=box.SIMPLE_HEAD)
    numbers = {"label_quality": "quality", "given_prob": "P(given)", "suggested_prob": "P(suggested)"}
    # What only repeats another column takes room from the names.
    named = not frame["id"].equals(frame["index"])
    if frame["given_prob"].equals(frame["label_quality"].rename("given_prob")):
        del numbers["given_prob"]
    for name in ("rank", "index"):
        table.add_column(name, justify="right", no_wrap=True)
    for name in (*(["id"] if named else []), "given", "suggested"):
        table.add_column(name, overflow="fold")
    for name in numbers.values():
        table.add_column(name, justify="right", no_wrap=True)
    for row in frame.to_dict("records"):
        identity = [printable(row["id"])] if named else []
        labels = (printable(row.get(f"{side}_name", row[f"{side}_label"])) for side in ("given", "suggested"))
        table.add_row(str(row["rank"]), str(row["index"]), *identity, *labels, *(f"{row[name]:.4f}" for name in numbers))
    console.print(table)


def as_json(issues: LabelIssues, top: int) -> dict[str, Any]:
    """The summary and the worst labels for machines."""
    keys = ("run", "started", "finished", "seconds", "settings", "inputs", "counts", "bytes_read")
    frame: pd.DataFrame = issues.to_dataframe(top)
    return {key: issues.manifest[key] for key in keys} | {"top": frame.to_dict("records")}
