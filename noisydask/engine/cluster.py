"""A configuration becomes a Dask client: of a running cluster, or of workers started here."""

from __future__ import annotations

import logging
import time
import warnings
from collections.abc import Collection, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import dask
from distributed import Client, LocalCluster, Security

from noisydask.engine.config import ClusterConfig
from noisydask.engine.workers import WORKER_SECONDS, Watch
from noisydask.errors import JobError
from noisydask.interrupts import held_back

#: Seconds that a scheduler has to answer, or to write its file.
CONNECT_SECONDS = 15
#: Dask has its workers give freed memory back at once, and so to fault in every page of every chunk
#: anew: reading took twice as long. A worker that holds a few blocks at most may keep them. (What
#: the environment says goes first.)
_MALLOC = {"MALLOC_TRIM_THRESHOLD_": 1 << 30, "MALLOC_MMAP_THRESHOLD_": 1 << 30}


class NoProcessesError(JobError):
    """Workers cannot be started on this machine."""


@contextmanager
def connect(config: ClusterConfig, needed: Collection[str] = ()) -> Iterator[Client]:
    """Connect a client for the time of a job; workers that were started for it go with it.

    Parameters
    ----------
    config : ClusterConfig
        Where to run.
    needed : collection of str
        Packages that workers need which join a running cluster later.

    Raises
    ------
    JobError
        If the scheduler does not answer, or its workers go and do not come back.
    NoProcessesError
        If this machine lets us start none.
    InputError
        If workers join that are not like this client.
    """
    if config.scheduler or config.scheduler_file:
        with _running(config, needed) as client:
            yield client
        return
    spawn = dask.config.get("distributed.nanny.pre-spawn-environ")
    how = {
        "distributed.nanny.pre-spawn-environ": {**spawn, **_MALLOC},
        "distributed.scheduler.no-workers-timeout": f"{WORKER_SECONDS}s",
    }
    with ExitStack() as stack:
        try:
            with held_back(), dask.config.set(how), warnings.catch_warnings():
                warnings.filterwarnings("ignore", message=r"\s*Port .* is already in use")
                cluster = LocalCluster(
                    n_workers=config.workers,
                    threads_per_worker=config.threads_per_worker,
                    memory_limit=config.memory_limit,
                    processes=True,
                    silence_logs=logging.CRITICAL,
                )
                stack.enter_context(cluster)
            client = stack.enter_context(Client(cluster))
        except TimeoutError as error:  # an OSError, but of a machine that is slow
            raise JobError(
                "the worker processes did not start in time; run the job again, or with fewer"
            ) from error
        except (OSError, RuntimeError) as error:
            raise NoProcessesError(
                f"no worker processes can be started here ({_first(error)}); they need /dev/shm "
                "and a folder for temporary files, which TMPDIR may name"
            ) from error
        yield client


def _first(error: BaseException) -> BaseException:
    """Return the error from which another came."""
    while (before := error.__cause__ or error.__context__) is not None:
        error = before
    return error


@contextmanager
def _running(config: ClusterConfig, needed: Collection[str]) -> Iterator[Client]:
    """Return a client of a cluster that was started elsewhere."""
    where = config.scheduler or config.scheduler_file
    if config.scheduler_file is not None:
        _wait_for(Path(config.scheduler_file))
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings(
                "ignore", category=UserWarning, module="distributed"
            )  # we compare versions below
            client = Client(
                config.scheduler,
                scheduler_file=config.scheduler_file,
                timeout=CONNECT_SECONDS,
                security=_security(config),
            )
    except Exception as error:
        raise JobError(
            f"no Dask scheduler answers at {where} ({type(error).__name__}); is it running?"
        ) from error
    with _quietly(), client:  # its end is when it logs
        watch = Watch(client, needed)
        try:
            with watch:
                yield client
        except Exception as error:
            if watch.failure is None:
                raise
            raise watch.failure from error


def _wait_for(file: Path) -> None:
    """Wait until a scheduler that may just be starting has written its file; Dask's client would
    wait for ever.
    """
    end = time.monotonic() + CONNECT_SECONDS
    while not file.is_file():
        if time.monotonic() > end:
            raise JobError(
                f"no scheduler has written the file {file}: it is not there after "
                f"{CONNECT_SECONDS} s"
            )
        time.sleep(0.1)


@contextmanager
def _quietly() -> Iterator[None]:
    """Leave it to our error to say that a connection is lost: the client's log has tracebacks of
    it.
    """
    log = logging.getLogger("distributed.client")
    level = log.level
    log.setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        log.setLevel(level)


def _security(config: ClusterConfig) -> Security | None:
    """Return the keys with which a cluster is spoken to, if it asks for such."""
    if config.tls_ca_file is None:
        return None
    return Security(
        require_encryption=True,
        tls_ca_file=config.tls_ca_file,
        tls_client_cert=config.tls_client_cert,
        tls_client_key=config.tls_client_key,
    )
