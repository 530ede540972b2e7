"""What runs of all jobs have in common: lock and publish, tell failures, time the phases, plan
tasks, begin the manifest.
"""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from functools import cache
from importlib.metadata import version
from platform import python_version
from traceback import walk_tb
from typing import TYPE_CHECKING, Any, ClassVar, Generic, TypeVar

from noisydask.core import compiled
from noisydask.core.blocks import BLOCKS_IN_MEMORY, DEFAULT_BLOCK_BYTES, plan_tasks
from noisydask.core.settings import PublishSettings
from noisydask.errors import InputError, JobError, NoisydaskError
from noisydask.lazily import Lazy
from noisydask.running import graph
from noisydask.running.beginning import begin
from noisydask.running.progress import Reporter, logger
from noisydask.running.publish import Publication, publishing
from noisydask.storage.chunks import StoredObject
from noisydask.storage.locations import Location, is_full, reason
from noisydask.storage.store import FORMAT_VERSION, Output, RunStore, storage_error

if TYPE_CHECKING:
    from distributed import system
else:
    system = Lazy("distributed.system")

Found = TypeVar("Found")


@dataclass(kw_only=True)
class Job(ABC, Generic[Found]):
    """One run of a job; :meth:`run` is the whole of it.

    Attributes
    ----------
    name : str
        The job, as its manifest and the command call it.
    reporter : Reporter
        Shows progress.
    publish : PublishSettings
        How the run is locked, published and kept.
    objects : list of StoredObject
        What was written so far.
    timings : dict
        Seconds of each phase that is over.
    """

    name: ClassVar[str]
    reporter: Reporter
    publish: PublishSettings = field(default_factory=PublishSettings)
    objects: list[StoredObject] = field(default_factory=list)
    timings: dict[str, float] = field(default_factory=dict)
    _last: float = field(default_factory=time.monotonic)

    @property
    @abstractmethod
    def size(self) -> int | None:
        """Bytes that the job reads, in memory; None where nobody knows before."""

    @property
    @abstractmethod
    def packages(self) -> frozenset[str]:
        """Packages, beside those that noisydask requires, that its inputs need."""

    def begin(self, packages: frozenset[str] = frozenset()) -> None:
        """Have workers ready that have these packages and those of the inputs."""
        begin(self.size, self.packages | packages, self.reporter.phase)

    def run(self, output: Output) -> Found:
        """Do the job while the output is locked; what it found is published then."""
        started = datetime.now(UTC)
        if compiled.not_kept:
            logger.warning(
                "kernels are compiled anew by each process, which takes seconds: no folder for "
                "Numba's cache can be written; set NUMBA_CACHE_DIR to one that can"
            )
        with failures_told(output.place):
            self.begin(output.place.packages)
        with (
            failures_told(output.place),
            publishing(output, self.publish, self.reporter) as publication,
        ):
            self.reporter = publication.reporter
            self._refuse_other_jobs(publication)
            return self._run(publication, started)

    def _refuse_other_jobs(self, publication: Publication) -> None:
        """An output's pointer names the runs of one job: readers, comparisons and gates rely on
        it.
        """
        found = (
            publication.previous[1].get("job") if publication.previous is not None else self.name
        )
        if found != self.name:
            raise InputError(
                f"{publication.output.place.shown} holds runs of the job {found!r}; give this "
                "one an out of its own"
            )

    @abstractmethod
    def _run(self, publication: Publication, started: datetime) -> Found:
        """Do the job and publish it."""

    def _timed(self, phase: str) -> None:
        now = time.monotonic()
        self.timings[phase] = round(now - self._last, 4)
        self._last = now


def blocks_told(why: Mapping[str, int], total: int, rebuilt: str | None) -> dict[str, Any]:
    """How many blocks were read and why, and why what an earlier run kept was not used, if so."""
    scanned = sum(why.values())
    told = {str(reason): count for reason, count in sorted(why.items())}
    return {
        "scanned": scanned,
        "reused": total - scanned,
        "why": told,
        "evidence_not_used": rebuilt,
    }


def common_manifest(
    run: RunStore, started: datetime, timings: Mapping[str, float], objects: Iterable[StoredObject]
) -> dict[str, Any]:
    """What a manifest says of a run of any job."""
    finished = datetime.now(UTC)
    return {
        "format_version": FORMAT_VERSION,
        "run": run.run,
        "started": started.isoformat(),
        "finished": finished.isoformat(),
        "seconds": {**timings, "total": round((finished - started).total_seconds(), 4)},
        "threads": graph.slots(),
        "versions": dict(_versions()),
        "objects": [asdict(stored) for stored in sorted(objects)],
    }


@cache
def _versions() -> Mapping[str, str]:
    """The versions of what the result depends on; looking them up takes longer than a small job's
    passes do.
    """
    packages = (
        "noisydask",
        "dask",
        "distributed",
        "numpy",
        "numba",
        "zarr",
        "pandas",
        "pyarrow",
        "fsspec",
    )
    return {"python": python_version()} | {name: version(name) for name in packages}


@contextmanager
def failures_told(place: Location) -> Iterator[None]:
    """Failures of the cluster and of the output's store become errors that are told in one
    sentence.
    """
    try:
        yield
    except NoisydaskError:
        raise
    except Exception as error:
        if isinstance(error, MemoryError):
            raise JobError(f"a worker failed: {reason(error)}") from error
        if _in_a_shuffle(error):
            raise JobError(
                f"a disk is full on which Dask keeps rows while they are sorted. {_SCRATCH}"
            ) from error
        if _from(error, "tempfile"):
            raise JobError(f"no folder for temporary files can be written. {_SCRATCH}") from error
        if (
            type(error).__name__ == "P2PConsistencyError"
        ):  # what other workers say of one that failed
            raise JobError(
                "the cluster failed while workers exchanged rows to be sorted: did one die, or "
                f"is a disk full? {_SCRATCH}"
            ) from error
        if getattr(error, "reason", None) == "scheduler-connection-lost" or _from(
            error, "distributed.comm"
        ):
            raise JobError(
                "the cluster failed: the connection to its scheduler was lost; run the job again"
            ) from error
        if isinstance(error, OSError) or reason(error) is not None:
            raise storage_error(error, place) from error
        if type(error).__module__.startswith("distributed"):
            raise JobError(f"the cluster failed: {type(error).__name__}: {error}") from error
        raise


#: Where Dask shuffles.
_SCRATCH = (
    "It is that of the workers' local directory, or of the folder that DASK_TEMPORARY_DIRECTORY "
    "names; free some space there,"
    " or give another place"
)


def _in_a_shuffle(error: Exception) -> bool:
    """Whether the disk was full that Dask shuffles on: that of a worker, or of this process by the
    package partd.
    """
    if type(error).__name__ == "P2POutOfDiskError":
        return True
    return is_full(error) and _from(error, "partd.file")


def _from(error: Exception, module: str) -> bool:
    """Whether an error of the system was raised in a package's module, or one below it."""
    names = (str(frame.f_globals.get("__name__")) for frame, _ in walk_tb(error.__traceback__))
    return isinstance(error, OSError) and any(f"{name}.".startswith(f"{module}.") for name in names)


#: Tasks of a thread: of the scan, as many as there are blocks for up to this; of the passes over
#: evidence.
SCAN_TASKS, EVIDENCE_TASKS = 32, 2


def tasks_of(num_blocks: int, per_slot: int, alone: bool = False) -> tuple[int, ...]:
    """How many blocks each task takes; one, where it is handed a block of a Dask graph."""
    return (1,) * num_blocks if alone else plan_tasks(num_blocks, graph.slots(), per_slot)


def run_over_all(name: str, task: Any, blocks: Sequence[Any]) -> Any:
    """A pass over all blocks that reads no inputs."""
    return graph.run_pass(
        name, task, graph.block_numbers(blocks, tasks_of(len(blocks), EVIDENCE_TASKS))
    )


def check_memory(block_bytes: int) -> None:
    """Refuse a plan that does not fit the workers, before the first task."""
    client = graph.active_client()
    if client is None:
        # What the usual block needs any machine has; to ask takes importing all of distributed.
        if block_bytes > DEFAULT_BLOCK_BYTES and block_bytes > system.MEMORY_LIMIT:
            raise InputError(
                f"a block of {block_bytes:,} bytes does not fit this machine's memory, "
                f"{system.MEMORY_LIMIT:,} bytes"
            )
        return
    for worker in client.scheduler_info(n_workers=-1)["workers"].values():
        limit, threads = worker["memory_limit"], worker["nthreads"]
        need = threads * block_bytes * BLOCKS_IN_MEMORY
        if limit and need > 0.6 * limit:
            fits = int(0.6 * limit / threads / BLOCKS_IN_MEMORY)
            raise InputError(
                f"blocks of {block_bytes:,} bytes need {need:,} bytes on a worker of {threads} "
                f"threads and {limit:,} bytes;"
                f" at most {fits:,} fit: lower block_bytes, rewrite the array with smaller "
                "chunks, or use larger workers"
            )
