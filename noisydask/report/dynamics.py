"""A run of the dynamics job on a terminal: its summary, its candidates, each with the curve of its
EMA as a line of text.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
from rich.console import Console

from noisydask.dynamics.results import LossDynamics
from noisydask.report.printing import Column, printable, show_columns, show_lines
from noisydask.report.runs import run_as_json, run_lines
from noisydask.report.sparkline import sparkline
from noisydask.stores.arrays import open_rows
from noisydask.text import significant

_CURVE_WIDTH = 20
_NUMBERS = {
    "metric": "EMA",
    "last_loss": "last loss",
    "num_losses": "losses",
    "crossed_at": "above since",
}


def show_summary(console: Console, run: LossDynamics) -> None:
    """Print what was found, in a few lines."""
    counts = run.document.counts
    settings = run.document.settings
    losses = (
        f"{counts['losses']:,} of {counts['examples']:,} examples at "
        f"{counts['iterations']:,} iterations"
    )
    show_lines(
        console,
        [
            ("losses", losses),
            ("left out", _left_out(counts)),
            ("labels", f"{counts['labels']:,}" if counts.get("labels") else ""),
            (
                "candidates",
                f"{counts['candidates']:,}, by the EMA of their loss (alpha {settings['alpha']:g})",
            ),
            *run_lines(run),
        ],
    )


def _left_out(counts: Mapping[str, int]) -> str:
    """Return how many recorded losses were left out, and why."""
    words = {"duplicates": "duplicate", "invalid": "invalid", "nan": "NaN (not recorded)"}
    return ", ".join(f"{counts[name]:,} {word}" for name, word in words.items() if counts.get(name))


def show_top(console: Console, run: LossDynamics, top: int) -> None:
    """Print the first candidates as a table; curves are kept of the first of them only."""
    frame = run.top_k(top)
    curves = _curves(run, top)
    if frame.empty:
        console.print("no candidates")
        return
    named = "index" not in frame or not frame["id"].equals(frame["index"].rename("id"))
    texts = [
        name
        for name in ("id", "subset", "ann_id", "label")
        if name in frame and (named or name != "id")
    ]
    columns = [Column(name, frame[name].map(str)) for name in ("rank", "index") if name in frame]
    if "label_name" in frame:
        frame["label"] = frame["label_name"].astype(object).fillna(frame["label"])
    columns += [Column(name, frame[name].map(printable), text=True) for name in texts]
    kept = len(columns)
    for name, called in _NUMBERS.items():
        never = name == "crossed_at"
        columns.append(
            Column(
                called,
                ["never" if never and value < 0 else significant(value) for value in frame[name]],
            )
        )
    drawn = [
        sparkline(curves[place], _CURVE_WIDTH) if place < len(curves) else ""
        for place in range(len(frame))
    ]
    columns += [Column("curve", drawn)] if not console.options.ascii_only else []
    show_columns(console, f"the {len(frame):,} labels most likely wrong", columns, kept)


def _curves(run: LossDynamics, top: int) -> npt.NDArray[np.floating]:
    """Return EMA of the first candidates, (at most top, iterations)."""
    if not run.document.counts["candidates"]:
        return np.empty((0, 0))
    place = run.run.place / "top_curves.zarr"
    rows = open_rows(place.url, "top_curves", place.options)
    kept: Any = rows.read(0, min(top, rows.shape[0]))
    return np.asarray(kept)


def as_json(run: LossDynamics, top: int) -> dict[str, Any]:
    """Return the summary and the first candidates for machines; NaN, which JSON lacks, becomes
    null.
    """
    rows: list[dict[str, Any]] = run.top_k(top).to_dict("records")  # type: ignore[assignment]
    for row, curve in zip(rows, _curves(run, top).tolist(), strict=False):
        if "label_name" in row and not isinstance(row["label_name"], str):
            row["label_name"] = None
        row["ema"] = [None if np.isnan(value) else value for value in curve]
    return run_as_json(run, rows)
