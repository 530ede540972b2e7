"""How the command shows what a job found: to people, as one JSON document for machines, or not at
all.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from noisydask.report.printing import Printer
from noisydask.runs.kinds import JOBS

out_console = Printer()
err_console = Printer(stderr=True)


@dataclass(frozen=True)
class Form:
    """How a command prints what was done: as text, as one JSON document, or errors only."""

    quiet: bool = False
    as_json: bool = False


def show_run(run: Any, top: int, form: Form) -> Any:
    """Print the summary and the first rows of a run; the run."""
    if form.as_json:
        print_json(run_as_json(run, top))
    elif not form.quiet:
        view = JOBS[run.document.job].load("view")
        view.show_summary(out_console, run)
        if top:
            view.show_top(out_console, run, top)
    return run


def run_as_json(run: Any, top: int) -> dict[str, Any]:
    """Return a run for machines."""
    document: dict[str, Any] = JOBS[run.document.job].load("view").as_json(run, top)
    return document


def print_json(document: Any) -> None:
    """Print a document for machines."""
    out_console.out(json.dumps(document, indent=1), highlight=False)
