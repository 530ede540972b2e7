"""Outputs and inputs that would damage each other."""

from __future__ import annotations

from collections.abc import Mapping

from noisydask.errors import InputError
from noisydask.runs.kinds import JOBS
from noisydask.stores.urls import is_inside, shown, split_column

#: What jobs write and replace below their output.
WRITTEN = (
    "latest.json",
    "lock.json",
    "runs",
    *(kind.checkpoint for kind in JOBS.values() if kind.checkpoint is not None),
    *(folder for kind in JOBS.values() for folder in kind.beside),
)


def refuse_overlap(out: str, inputs: Mapping[str, str]) -> None:
    """Refuse an output that lies in an input, or an input that lies in what a job writes and
    replaces there.

    Parameters
    ----------
    out : str
        Path or URL of the output.
    inputs : mapping of name to str
        Paths or URLs of the inputs, by what an error calls them.

    Raises
    ------
    InputError
        If the job could damage an input.
    """
    for name, (url, _) in ((name, split_column(url)) for name, url in inputs.items()):
        if is_inside(out, url):
            raise InputError(
                f"out at {shown(out)} lies in {name} at {shown(url)}, and would damage it; give "
                "another place"
            )
        if any(is_inside(url, f"{out.rstrip('/')}/{written}") for written in WRITTEN):
            raise InputError(
                f"{name} at {shown(url)} lies in what the job writes at {shown(out)}; give out "
                "another place"
            )
