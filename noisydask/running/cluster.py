"""A configuration becomes a Dask client: of a running cluster, or of workers started here."""

from __future__ import annotations

import logging
import threading
import time
import warnings
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import dask
from distributed import Client, LocalCluster, Security

from noisydask.errors import InputError, JobError
from noisydask.interrupts import held_back
from noisydask.running.config import ClusterConfig

#: Seconds that a scheduler has to answer, or to write its file, and a cluster to get its first
#: worker.
CONNECT_SECONDS, WORKER_SECONDS = 15, 120
#: Seconds between two looks at the workers of a running cluster.
LOOK_SECONDS = 5
#: What must be the same everywhere, since tasks and results travel as these packages write them.
_SAME = ("python", "dask", "distributed", "numpy", "pandas", "zarr", "noisydask")

#: Dask has its workers give freed memory back at once, and so to fault in every page of every chunk
#: anew: reading took twice as long. A worker that holds a few blocks at most may keep them. (What
#: the environment says goes first.)
_MALLOC = {"MALLOC_TRIM_THRESHOLD_": 1 << 30, "MALLOC_MMAP_THRESHOLD_": 1 << 30}


class NoProcessesError(JobError):
    """Workers cannot be started on this machine."""


@contextmanager
def connect(config: ClusterConfig) -> Iterator[Client]:
    """A client for the time of a job; workers that were started for it go with it.

    Raises
    ------
    JobError
        If the scheduler does not answer or has no workers.
    NoProcessesError
        If this machine lets us start none.
    InputError
        If it runs other versions.
    """
    if config.scheduler or config.scheduler_file:
        with _running(config) as client:
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
        except (OSError, RuntimeError) as error:
            raise NoProcessesError(
                f"no worker processes can be started here ({_first(error)}); they need /dev/shm "
                "and a folder for temporary files, which TMPDIR may name"
            ) from error
        yield client


def _first(error: BaseException) -> BaseException:
    """The error from which another came."""
    while (before := error.__cause__ or error.__context__) is not None:
        error = before
    return error


@contextmanager
def _running(config: ClusterConfig) -> Iterator[Client]:
    """A client of a cluster that somebody else started."""
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
        try:
            client.wait_for_workers(1, timeout=WORKER_SECONDS)
        except TimeoutError as error:
            raise JobError(
                f"the scheduler at {where} has had no workers for {WORKER_SECONDS} s"
            ) from error
        differing = list(_differences(client.get_versions(packages=["noisydask", "zarr"])))
        if differing:
            raise InputError(
                f"the cluster at {where} runs other versions than this client: "
                f"{'; '.join(differing)}"
            )
        watch = _Watch(client)
        try:
            with watch:
                yield client
        except Exception as error:
            if not watch.deserted:
                raise
            raise JobError(
                f"the scheduler at {where} has had no workers for {WORKER_SECONDS} s"
            ) from error


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


class _Watch:
    """Ends the work of a client whose cluster has had no workers for long: its scheduler may wait
    for ever.
    """

    def __init__(self, client: Client) -> None:
        self.client, self.deserted = client, False
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._look, name="noisydask-workers", daemon=True)

    def __enter__(self) -> None:
        self._thread.start()

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def _look(self) -> None:
        seen = time.monotonic()
        while not self._stop.wait(LOOK_SECONDS):
            try:
                there = self.client.scheduler_info(n_workers=1)["workers"]
            except Exception:  # the scheduler is gone: the client finds out itself
                return
            if there:
                seen = time.monotonic()
            elif time.monotonic() - seen > WORKER_SECONDS:
                self.deserted = True
                self.client.close()
                return


def _security(config: ClusterConfig) -> Security | None:
    """The keys with which a cluster is spoken to, if it asks for such."""
    if config.tls_ca_file is None:
        return None
    return Security(
        require_encryption=True,
        tls_ca_file=config.tls_ca_file,
        tls_client_cert=config.tls_client_cert,
        tls_client_key=config.tls_client_key,
    )


def _differences(versions: dict[str, Any]) -> Iterator[str]:
    """What differs between the client and the scheduler or a worker, a phrase a package."""
    others = {"scheduler": versions["scheduler"], **versions["workers"]}
    for package in _SAME:
        here = _version(versions["client"], package)
        for where, found in others.items():
            there = _version(found, package)
            # A scheduler needs none of our packages; only workers do.
            if there != here and not (where == "scheduler" and there is None):
                yield f"{package} {here} here, {there or 'missing'} on {where}"
                break


def _version(found: dict[str, Any], package: str) -> str | None:
    if package == "python":
        return ".".join(str(found["host"]["python"]).split(".")[:2])
    version: str | None = found["packages"].get(package)
    return version
