"""The published run of an output, whichever job made it."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from noisydask.errors import InputError
from noisydask.runs.kinds import JOBS
from noisydask.runs.published import PublishedRun
from noisydask.runs.retention import runs_of
from noisydask.runs.store import Output


def open_run(
    out: str | Path, storage_options: Mapping[str, Any] | None = None, *, run: str | None = None
) -> Any:
    """Return the published run of an output, as the function of its job returned it.

    Parameters
    ----------
    out : str or Path
        Path or URL that a job was given as ``out``.
    storage_options : mapping, optional
        Passed to fsspec.
    run : str, optional
        An older run by its name, as long as it is kept.

    Returns
    -------
    LabelIssues, LossDynamics or Consensus

    Raises
    ------
    InputError
        If there is no finished run, or one of a job that this version does not know.
    """
    finished = Output.at(out, storage_options).open_run(run)
    job = finished.manifest.job
    if job not in JOBS:
        raise InputError(
            f"{finished.store.place.shown} is a run of the job {job!r}, which this noisydask does "
            "not know"
        )
    return JOBS[job].load("result")(finished.store, finished.manifest)


def list_runs(
    out: str | Path, storage_options: Mapping[str, Any] | None = None
) -> list[PublishedRun]:
    """Open all runs of an output that are finished and kept, newest first.

    Parameters
    ----------
    out : str or Path
        Path or URL that a job was given as ``out``.
    storage_options : mapping, optional
        Passed to fsspec.

    Returns
    -------
    list of LabelIssues, LossDynamics or Consensus
        As :func:`open_run` opens each. Its ``manifest`` says what it counted (``counts``), what
        changed since the run before (``changes``), what it read (``bytes_read``), and which run's
        files it refers to, if it does (``repeats``).

    Raises
    ------
    InputError
        If there is no finished run.
    """
    listed = [open_run(out, storage_options)]  # says what ails an output that has none
    for kept in runs_of(Output.at(out, storage_options).place):
        if kept.finished and kept.name != listed[0].run.run:
            # One that is damaged, was removed meanwhile, or is of a newer noisydask hides no other.
            with suppress(InputError):
                listed.append(open_run(out, storage_options, run=kept.name))
    return sorted(listed, key=lambda run: str(run.document.finished), reverse=True)
