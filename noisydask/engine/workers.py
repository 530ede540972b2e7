"""The workers of a cluster: that there are some, and that they have what a job needs, when it
begins and as long as it runs.
"""

from __future__ import annotations

import operator
import threading
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from functools import cache
from importlib.metadata import requires
from typing import Any

from packaging.requirements import Requirement

from noisydask.errors import InputError, JobError, NoisydaskError

#: Seconds that a cluster has to get its first worker, and between two words to who waits.
WORKER_SECONDS, WAIT_SECONDS = 120, 10
#: Seconds between two looks at the workers of a running cluster.
LOOK_SECONDS = 5
#: What must be the same everywhere, since tasks and results travel as these packages write them.
_SAME = ("python", "dask", "distributed", "numpy", "pandas", "zarr", "noisydask")


def await_workers(client: Any, say: Callable[[str], None]) -> None:
    """Wait until a cluster has a worker; one that adapts to its work starts some for a first task.

    Raises
    ------
    JobError
        If it gets none.
    """
    if client.scheduler_info(n_workers=1)["workers"]:
        return
    demand = client.submit(operator.truth, True, pure=False)
    start = time.monotonic()
    while (waited := time.monotonic() - start) < WORKER_SECONDS:
        say(f"waiting for workers: {waited:.0f} s of at most {WORKER_SECONDS}")
        try:
            demand.result(timeout=min(WAIT_SECONDS, WORKER_SECONDS - waited))
            return
        except TimeoutError:
            continue
    raise _deserted(client)


def check_workers(client: Any, needed: Collection[str]) -> None:
    """Compare what is installed on the scheduler and on all workers with what is installed here.

    Parameters
    ----------
    client : Client
        The client.
    needed : collection of str
        Packages that the inputs and outputs need, beside those that noisydask requires.

    Raises
    ------
    InputError
        If versions differ that must not, or a package is missing there.
    """
    needed = sorted({*needed} - {*_SAME, *_required()})
    versions = client.get_versions(packages=[*_SAME[1:], *_required(), *needed])
    here = versions["client"]
    workers = versions["workers"]
    others = {"the scheduler": versions["scheduler"], **workers}  # it unpickles graphs
    if differing := list(_differing(here, others)):
        raise InputError(
            f"the cluster at {client.scheduler.address} runs other versions than this client: "
            f"{'; '.join(differing)}; install the same ones on the cluster"
        )
    missing = [*_missing(here, others, _required()), *_missing(here, workers, needed)]
    if missing:
        raise InputError(
            f"the cluster at {client.scheduler.address} lacks packages that this job needs: "
            f"{'; '.join(missing)}; install them on all workers"
        )


class Watch:
    """Ends the work of a client whose cluster has had no workers for long, since its scheduler may
    wait for ever, or has got workers that are not like the client.
    """

    def __init__(self, client: Any, needed: Collection[str]) -> None:
        self.client = client
        self.needed = needed
        self.failure: NoisydaskError | None = None
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._look, name="noisydask-workers", daemon=True)

    def __enter__(self) -> None:
        self._thread.start()

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def _look(self) -> None:
        seen = time.monotonic()
        known = set[str]()
        while not self._stop.wait(LOOK_SECONDS):
            try:
                there = set(self.client.nthreads())
                if there - known:
                    check_workers(self.client, self.needed)
            except NoisydaskError as error:
                self.failure = error
            except Exception:
                if self.client.status != "running":  # the scheduler is gone: the client says so
                    return
                continue
            if there:
                seen = time.monotonic()
                known = there
            elif time.monotonic() - seen > WORKER_SECONDS:
                self.failure = _deserted(self.client)
            if self.failure is not None:
                self.client.close()
                return


def _deserted(client: Any) -> JobError:
    """Return the error of a cluster without workers."""
    where = client.scheduler.address
    return JobError(
        f"the scheduler at {where} has had no workers for {WORKER_SECONDS} s; start some (dask "
        f"worker {where}), or see why the cluster starts none, and run the job again"
    )


@cache
def _required() -> tuple[str, ...]:
    """Return what noisydask cannot do without."""
    requirements = map(Requirement, requires("noisydask") or ())
    return tuple(one.name for one in requirements if one.marker is None and one.name not in _SAME)


def _differing(here: Mapping[str, Any], others: Mapping[str, Any]) -> Iterator[str]:
    """Iterate over what differs, a phrase a package."""
    for package in _SAME:
        mine = _version(here, package)
        for where, versions in others.items():
            if (there := _version(versions, package)) != mine:
                yield f"{package} {mine} here, {there or 'missing'} on {where}"
                break


def _missing(
    here: Mapping[str, Any], others: Mapping[str, Any], needed: Iterable[str]
) -> Iterator[str]:
    """Iterate over what is installed here and not there, a phrase a package."""
    for package in needed:
        lacking = [where for where, found in others.items() if not _version(found, package)]
        if lacking and (version := _version(here, package)):
            more = f" and {len(lacking) - 1} more" if len(lacking) > 1 else ""
            yield f"{package} ({version} here) on {lacking[0]}{more}"


def _version(versions: Mapping[str, Any], package: str) -> str | None:
    if package == "python":
        return ".".join(str(versions["host"]["python"]).split(".")[:2])
    version: str | None = versions["packages"].get(package)
    return version
