"""How the command shows what a job found: to people, as one JSON document for machines, or not at
all.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from noisydask.lazily import Lazy
from noisydask.report.printing import Printer

if TYPE_CHECKING:
    from noisydask.report import consensus as console_consensus
    from noisydask.report import dynamics as console_dynamics
    from noisydask.report import issues as console
else:
    console, console_dynamics = (
        Lazy("noisydask.report.issues"),
        Lazy("noisydask.report.dynamics"),
    )
    console_consensus = Lazy("noisydask.report.consensus")

out_console = Printer()
err_console = Printer(stderr=True)
#: What shows a run, by its job.
_SHOWN: dict[str, Any] = {
    "issues": console,
    "dynamics": console_dynamics,
    "combine": console_consensus,
}


@dataclass(frozen=True)
class Form:
    """How a command prints what was done: as text, as one JSON document, or errors only."""

    quiet: bool = False
    as_json: bool = False


def show_run(found: Any, top: int, form: Form) -> Any:
    """Print the summary and the first rows of a run; the run."""
    shown = _SHOWN[found.document.job]
    if form.as_json:
        print_json(run_as_json(found, top))
    elif not form.quiet:
        shown.show_summary(out_console, found)
        if top:
            shown.show_top(out_console, found, top)
    return found


def run_as_json(found: Any, top: int) -> dict[str, Any]:
    """A run for machines."""
    told: dict[str, Any] = _SHOWN[found.document.job].as_json(found, top)
    return told


def print_json(document: Any) -> None:
    """Print a document for machines."""
    out_console.out(json.dumps(document, indent=1), highlight=False)
