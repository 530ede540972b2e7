"""Where a job runs is settled when it begins: its inputs are open then, and their size is known."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from contextvars import ContextVar
from typing import TYPE_CHECKING

import dask
import dask.threaded

from noisydask.core.blocks import DEFAULT_BLOCK_BYTES
from noisydask.engine import graph
from noisydask.engine.config import ClusterConfig
from noisydask.engine.workers import await_workers, check_workers
from noisydask.lazily import Lazy

if TYPE_CHECKING:
    from distributed import Client

    from noisydask.engine import cluster
else:
    cluster = Lazy("noisydask.engine.cluster")

#: What a job may read and still be done in this process: less time than processes take to start.
_SMALL_BYTES = 2 * DEFAULT_BLOCK_BYTES


class Workers:
    """Where the jobs of a command run: nothing is started before the first of them has opened its
    inputs, and nothing at all for small data.
    """

    def __init__(self, config: ClusterConfig, say: Callable[[str], None], stack: ExitStack) -> None:
        self._config = config
        self._say = say
        self._stack = stack
        self._client: Client | None = None
        self._needed: set[str] = set()
        self._said = False

    def begin(self, num_bytes: int | None, needed: Iterable[str]) -> None:
        """Start what a job needs that reads so many bytes; None means that the number is not
        known.
        """
        self._needed.update(needed)
        if self._client is not None:
            return
        small = num_bytes is not None and num_bytes <= _SMALL_BYTES
        if small and not self._config.model_fields_set:
            if not self._said:
                self._say("the data are small: done in this process; give workers to start some")
            self._said = True
            return
        try:
            self._client = self._stack.enter_context(cluster.connect(self._config, self._needed))
        except cluster.NoProcessesError as error:
            self._say(f"{error}; threads of this process do the work, which takes longer")
            return
        self._say(f"Dask dashboard: {self._client.dashboard_link}")

    @property
    def is_usable(self) -> bool:
        """Whether there is nothing yet that could be gone, or it is there."""
        return self._client is None or self._client.status == "running"


#: Those of the command that runs; a Python function has the client of who calls it.
_WORKERS: ContextVar[Workers | None] = ContextVar("noisydask-workers", default=None)


@contextmanager
def workers_of(config: ClusterConfig, say: Callable[[str], None]) -> Iterator[Workers]:
    """Hold the workers of all jobs that are run in the context; they end with it.

    Raises
    ------
    JobError
        If the scheduler does not answer or has no workers.
    InputError
        If it runs other versions.
    """
    with ExitStack() as stack:
        # The function, not its name, at which Dask imports all of distributed: that takes a while.
        stack.enter_context(dask.config.set(scheduler=dask.threaded.get))
        workers = Workers(config, say, stack)
        token = _WORKERS.set(workers)
        try:
            yield workers
        finally:
            _WORKERS.reset(token)


def is_usable() -> bool:
    """Return whether the workers of the command that runs are still there, as far as any were
    started.
    """
    workers = _WORKERS.get()
    return workers is None or workers.is_usable


def begin(num_bytes: int | None, needed: Collection[str], say: Callable[[str], None]) -> None:
    """Have a job's workers ready: those of the command that runs, or of the active client.

    Parameters
    ----------
    num_bytes : int or None
        What the job reads, in memory; None where that is not known.
    needed : collection of str
        Packages that its inputs and outputs need.
    say : callable
        Tells a person what is waited for.

    Raises
    ------
    JobError
        If there are no workers.
    InputError
        If they are not like this client.
    """
    workers = _WORKERS.get()
    if workers is not None:
        workers.begin(num_bytes, needed)
    client = graph.active_client()
    if client is not None:
        await_workers(client, say)
        check_workers(client, needed)
