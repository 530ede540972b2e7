"""What was found of an input, for people and for machines."""

from __future__ import annotations

from typing import Any

import numpy as np
from rich import box
from rich.filesize import decimal
from rich.table import Table
from rich.text import Text

from noisydask.issues.inspecting import Inspection, by
from noisydask.report.printing import Printer, printable
from noisydask.text import counted, plain, shortened

_MOST_COLUMNS = 6


def as_json(found: Inspection) -> dict[str, Any]:
    """Return it for machines."""
    rows, grid = found.rows, found.grid
    document: dict[str, Any] = {
        "url": found.url,
        "kind": found.kind,
        "shape": list(rows.shape),
        "dtype": str(rows.dtype),
        "chunk_rows": rows.chunk_rows,
        "chunks": found.chunks or None,
        "stored_bytes": found.stored_bytes,
        "class_names": None if rows.class_names is None else list(rows.class_names),
        "notes": found.notes,
        "wrong": found.wrong,
    }
    if grid is not None:
        document["job"] = {
            "blocks": grid.num_blocks,
            "tasks": found.num_tasks,
            "block_rows": grid.block_rows,
            "block_bytes": found.block_bytes,
            "worker_thread_bytes": found.worker_bytes,
        }
    return document


def show(console: Printer, found: Inspection) -> None:
    """Print it for people."""
    rows, grid = found.rows, found.grid
    lines = [
        ("what", found.kind),
        ("shape", f"{by(rows.shape)} {'text' if rows.dtype.kind in 'OUT' else rows.dtype}"),
        ("stored", decimal(found.stored_bytes)),
    ]
    if found.chunks:
        lines.append(("chunks", found.chunks))
    if rows.class_names is not None:
        names = ", ".join(rows.class_names[:8]) + (", ..." if len(rows.class_names) > 8 else "")
        lines.append(("classes", names))
    if grid is not None:
        blocks = f"{counted(grid.num_blocks, 'block')} of {min(grid.block_rows, grid.rows):,} rows"
        lines += [
            ("the job", f"{blocks} ({decimal(found.block_bytes)}), {_reading(found)}"),
            ("memory", f"{decimal(found.worker_bytes)} a worker thread"),
        ]
    lines += [("note", note) for note in found.notes] + [("WRONG", each) for each in found.wrong]
    summary = Table(box=None, show_header=False, padding=(0, 2, 0, 0))
    summary.add_column(style="bold", no_wrap=True)
    summary.add_column(overflow="fold")
    for name, text in lines:
        summary.add_row(name, printable(plain(text)))
    console.print(printable(plain(found.url)), style="bold", highlight=False, soft_wrap=True)
    console.print(summary, highlight=False)
    if found.first.size:
        console.print(_first_rows(found), highlight=False)
    if not found.wrong:
        console.print("nothing wrong in what was looked at", style="green", highlight=False)


def _reading(found: Inspection) -> str:
    return f"{counted(found.num_tasks, 'task')}; reads {decimal(found.stored_bytes)}"


def _first_rows(found: Inspection) -> Table:
    """The first rows, a few of their columns."""
    first = found.first if found.first.ndim > 1 else found.first[:, None]
    shown = first.reshape(len(first), -1)[:, :_MOST_COLUMNS]
    names = found.rows.class_names or [str(k) for k in range(shown.shape[1])]
    table = Table(box=box.SIMPLE_HEAD, padding=0, collapse_padding=True)
    table.add_column("row", justify="right")
    for name in names[: shown.shape[1]] if found.first.ndim > 1 else ["value"]:
        table.add_column(printable(shortened(plain(name), 14)), justify="right")
    more = first.reshape(len(first), -1).shape[1] > _MOST_COLUMNS
    if more:
        table.add_column("...")
    for number, values in enumerate(shown):
        cells = [_cell(value) for value in values]
        table.add_row(str(number), *cells, *(["..."] if more else []))
    return table


def _cell(value: Any) -> Text | str:
    if isinstance(value, np.floating | float):
        return f"{value:.4g}"
    return printable(shortened(plain(value), 24))
