"""The health of a dataset on a terminal and for machines: classes, pairs of them, and what changed
since the run before.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pandas as pd
from rich.console import Console

from noisydask.issues.health import Health
from noisydask.report.printing import Column, printable, show_columns, show_lines
from noisydask.text import counted, percent

#: Classes that a line names at most.
_NAMED = 10


def show_health(console: Console, health: Health, before: Health | None, top: int) -> None:
    """Print the overall score, the worst classes, and the pairs that overlap most."""
    issues = f"{health.num_issues:,} of {health.num_examples:,} examples"
    lines = [
        ("health score", f"{health.score:.4f}{_since(health, before)}"),
        ("likely wrong", f"{issues} ({percent(health.num_issues / health.num_examples)})"),
        ("rare classes", _listed(health, health.rare)),
        ("never given", _listed(health, health.never_given)),
        ("never predicted", _listed(health, health.never_predicted)),
    ]
    show_lines(console, lines)
    if not top:
        return
    _show_classes(console, health, before, top)
    if len(health.overlapping):
        _show_pairs(console, health, top)


def _since(health: Health, before: Health | None) -> str:
    if before is None:
        return ""
    return f" ({health.score - before.score:+.4f} since the run before)"


def _listed(health: Health, classes: Sequence[int]) -> str:
    """Return some classes by name, and how many more there are."""
    if not classes:
        return ""
    names = _names(health)
    shown = ", ".join(names.get(each, str(each)) for each in classes[:_NAMED])
    more = len(classes) - _NAMED
    if more > 0:
        return f"{shown} and {counted(more, 'other')}"
    return shown


def _names(health: Health) -> dict[int, str]:
    if "name" not in health.classes:
        return {}
    return dict(zip(health.classes["class"], health.classes["name"], strict=True))


def _show_classes(console: Console, health: Health, before: Health | None, top: int) -> None:
    frame = health.classes[health.classes["given"] > 0].head(top)
    called = frame.get("name", frame["class"])
    columns = [
        Column("class", called.map(printable), text=True),
        Column("quality", frame["label_quality"].map("{:.4f}".format)),
        Column("given", frame["given"].map("{:,}".format)),
        Column("likely wrong", frame["label_issues"].map("{:,}".format)),
        Column("given another", frame["inverse_label_issues"].map("{:,}".format)),
        Column("predicted", frame["predicted"].map("{:,}".format)),
    ]
    if before is not None:
        changes = health.since(before).set_index("class")["label_quality"]
        changed = frame["class"].map(changes).map("{:+.4f}".format)
        columns.insert(2, Column("changed", changed))
    title = f"the {len(frame):,} classes with the worst labels"
    show_columns(console, title, columns, 3)


def _show_pairs(console: Console, health: Health, top: int) -> None:
    frame = health.overlapping.head(top)
    columns = [
        Column("class", frame.get("name_a", frame["class_a"]).map(printable), text=True),
        Column("and class", frame.get("name_b", frame["class_b"]).map(printable), text=True),
        Column("examples", frame["examples"].map("{:,}".format)),
        Column("share of all", frame["joint_probability"].map(percent)),
    ]
    show_columns(console, "classes that are mistaken for each other", columns, 3)


def health_as_json(health: Health, before: Health | None, top: int) -> dict[str, Any]:
    """Return the health for machines: all classes, and the first pairs."""
    document = {
        "health_score": health.score,
        "num_issues": health.num_issues,
        "num_examples": health.num_examples,
        "rare": health.rare,
        "never_given": health.never_given,
        "never_predicted": health.never_predicted,
        "classes": _records(health.classes),
        "overlapping": _records(health.overlapping.head(top)),
    }
    if before is not None:
        document["health_score_before"] = before.score
        document["changes"] = _records(health.since(before))
    return document


def _records(frame: pd.DataFrame) -> list[dict[str, Any]]:
    records: list[dict[str, Any]] = frame.to_dict("records")  # type: ignore[assignment]
    return records
