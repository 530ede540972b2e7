"""A run of the main job on a terminal: its summary, its worst labels."""

from __future__ import annotations

from typing import Any

from rich.console import Console

from noisydask.issues.results import LabelIssues
from noisydask.report.printing import Column, printable, show_columns, show_lines
from noisydask.report.runs import run_as_json, run_lines
from noisydask.text import percent, significant


def show_summary(console: Console, issues: LabelIssues) -> None:
    """Print what was found, in a few lines."""
    counts = issues.document.counts
    share = percent(counts["issues"] / counts["examples"])
    lines = [
        ("label issues", f"{counts['issues']:,} of {counts['examples']:,} examples ({share})"),
        ("classes", f"{counts['classes']:,}"),
        ("invalid rows left out", f"{counts['invalid']:,}" if counts["invalid"] else ""),
        ("undecided", f"{counts['undecided']:,}" if counts.get("undecided") else ""),
        (
            "blocks read again",
            f"{counts['blocks_read_again']:,}" if counts["blocks_read_again"] else "",
        ),
        *run_lines(issues),
    ]
    show_lines(console, lines)
    if issues.document.more("filters") is not None:
        show_filters(console, issues)


def show_filters(console: Console, issues: LabelIssues) -> None:
    """Print how many examples each filter flags, and how many of them the run's own flags too."""
    overlap = issues.filter_overlap()
    own = issues.document.settings["filter_by"]
    flagged = overlap.to_numpy().diagonal()
    both = overlap[own].to_numpy()
    columns = [
        Column("filter", [printable(name) for name in overlap.index], text=True),
        Column("flags", [f"{count:,}" for count in flagged]),
        Column("both", [f"{count:,}" for count in both]),
        Column("this alone", [f"{count:,}" for count in flagged - both]),
        Column("the run alone", [f"{overlap.loc[own, own] - count:,}" for count in both]),
    ]
    title = f"what each filter flags, beside {own}, the filter of this run"
    show_columns(console, title, columns, 3)


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
    """Return the summary and the worst labels for machines."""
    rows: list[dict[str, Any]] = issues.to_dataframe(top).to_dict("records")  # type: ignore[assignment]
    document = run_as_json(issues, rows)
    filters = issues.document.more("filters")
    if filters is not None:
        document["filters"] = filters
    return document
