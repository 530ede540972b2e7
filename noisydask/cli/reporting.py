"""Hold workers and show progress while a command runs a job."""

from __future__ import annotations

import logging
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from noisydask.engine.config import ClusterConfig
from noisydask.lazily import Lazy
from noisydask.report.showing import Form, err_console

if TYPE_CHECKING:
    from noisydask.engine import beginning, progress
    from noisydask.engine.progress import Reporter
else:
    beginning = Lazy("noisydask.engine.beginning")
    progress = Lazy("noisydask.engine.progress")


@contextmanager
def connected(cluster: ClusterConfig, form: Form) -> Iterator[Reporter]:
    """Hold workers for the jobs that are run meanwhile, and yield what shows their progress."""
    reporter = reporter_for(form.quiet)
    with beginning.workers_of(cluster, reporter.phase):
        yield reporter


def reporter_for(quiet: bool) -> Reporter:
    """Return a bar on a terminal, plain lines elsewhere; nothing for who wants errors only."""
    if quiet:
        progress.logger.setLevel(logging.ERROR)
        return progress.Silent()
    if err_console.is_terminal:
        return progress.ProgressBar(err_console)
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(logging.Formatter("%(asctime)s %(message)s"))
    progress.logger.handlers[:] = [handler]
    progress.logger.setLevel(logging.INFO)
    return progress.ProgressLog()
