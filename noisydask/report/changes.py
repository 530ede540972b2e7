"""What changed between two runs, on a terminal and for machines."""

from __future__ import annotations

import json
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table

from noisydask.report.printing import printable
from noisydask.report.runs import WHY, counted
from noisydask.runs.changes import Changes
from noisydask.runs.comparison import KINDS
from noisydask.text import significant

#: Columns of the rankings, as they are called here.
_NAMES = ("index", "id", "subset", "ann_id")
_PAIRS = {
    "rank": "rank",
    "given_label": "label",
    "label_quality": "quality",
    "metric": "EMA",
    "consensus": "consensus",
}


def show_changes(console: Console, changes: Changes) -> None:
    """Print counts, counts per class, and the first changes of each kind."""
    counts = changes.counts
    line = f"{counts.since} -> {changes.after}: {counted(counts)}"
    console.print(line, highlight=False, soft_wrap=True)
    if counts.classes:
        table = Table(box=box.SIMPLE_HEAD)
        for name in ("given label", *KINDS):
            table.add_column(name, justify="right")
        for label, numbers in counts.classes.items():
            table.add_row(str(label), *(f"{numbers[kind]:,}" for kind in KINDS))
        console.print(table)
    for kind in KINDS:
        _show_kind(console, changes, kind)


def _show_kind(console: Console, changes: Changes, kind: str) -> None:
    rows = _records(changes, kind)
    if not rows:
        return
    table = Table(title=kind, title_justify="left", box=box.SIMPLE_HEAD)
    names = [name for name in _NAMES if name in rows[0]]
    pairs = [name for name in _PAIRS if name in rows[0]]
    explained = kind == "gone" and "label_quality" in pairs
    for name in (*names, *(_PAIRS[name] for name in pairs), *(["why"] if explained else [])):
        table.add_column(name, justify="right")
    for row in rows:
        cells = [printable(row[name]) for name in names]
        more = [WHY.get(row["why"], "")] if explained else []
        table.add_row(*cells, *(_pair(row, name, kind) for name in pairs), *more)
    console.print(table)


def _pair(row: dict[str, Any], name: str, kind: str) -> str:
    """Return a value before and after, or the one of them that there is."""
    before, after = (_text(row[key]) for key in (f"{name}_before", name))
    if kind == "new" or before == after:
        return after
    if after:
        return f"{before} > {after}"
    return before


def _text(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, float):
        return significant(value)
    return str(value)


def _records(changes: Changes, kind: str) -> list[dict[str, Any]]:
    """Return rows of a kind; what is missing is None."""
    rows = changes.table[changes.table["change"] == kind]
    return json.loads(rows.to_json(orient="records", double_precision=15))


def changes_as_json(changes: Changes) -> dict[str, Any]:
    """Return all that is known of the changes, for machines."""
    counts = changes.counts.model_dump(mode="json", exclude={"since", "parts"})
    rows = {kind: _records(changes, kind) for kind in KINDS}
    return {"before": changes.counts.since, "after": changes.after, **counts, "changes": rows}
