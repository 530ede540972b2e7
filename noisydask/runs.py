"""The published run of an output, whichever job made it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import noisydask
from noisydask.errors import InputError
from noisydask.storage.store import Output

#: What a job returns, by the job's name in the manifest.
_RESULTS = {"issues": "LabelIssues", "dynamics": "LossDynamics", "combine": "Consensus"}


def open_run(
    out: str | Path, storage_options: Mapping[str, Any] | None = None, *, run: str | None = None
) -> Any:
    """The published run of an output, as the function of its job returned it.

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
    found, manifest = Output.at(out, storage_options).open_run(run)
    job = manifest.get("job")
    if not isinstance(job, str) or job not in _RESULTS:
        raise InputError(
            f"{found.place.shown} is a run of the job {job!r}, which this noisydask does not know"
        )
    return getattr(noisydask, _RESULTS[job])(found, manifest)
