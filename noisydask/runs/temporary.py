"""Runs without an output of their own: their results go with the returned object."""

from __future__ import annotations

import os
import shutil
from typing import TypeVar

from noisydask.engine import graph
from noisydask.errors import InputError
from noisydask.runs.job import Job
from noisydask.runs.published import PublishedRun, temporary_folder
from noisydask.runs.store import Output

Results = TypeVar("Results", bound=PublishedRun)


def run_in_temporary_folder(job: Job[Results]) -> Results:
    """Run a job whose results go with the returned object."""
    job.begin()
    folder = _shared_folder()
    try:
        results = job.run(Output.at(folder))
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)
        raise
    results.lies_in(folder)
    return results


def _shared_folder() -> str:
    """Return a folder for the results of a job without ``out``, seen by all workers."""
    folder = temporary_folder()
    client = graph.active_client()
    if client is not None and not all(client.run(os.path.isdir, folder).values()):
        os.rmdir(folder)
        raise InputError(
            "the workers run on other machines: give out=, a path or URL that all of them can write"
        )
    return folder
