"""A run of any job: lock and publish, tell failures, time the phases, begin the manifest."""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from functools import cache, partial
from importlib import metadata
from platform import python_version
from traceback import walk_tb
from typing import Any, ClassVar, Generic, TypeVar

from noisydask.checkpoint.checkpoint import RECEIPTS
from noisydask.core import compiled
from noisydask.engine import graph
from noisydask.engine.beginning import begin
from noisydask.engine.progress import Reporter, logger
from noisydask.errors import InputError, JobError, NoisydaskError
from noisydask.runs.changes import since
from noisydask.runs.comparison import DamagedRunError
from noisydask.runs.kinds import JOBS
from noisydask.runs.manifest import FORMAT_VERSION, ChangeCounts, Manifest
from noisydask.runs.options import PublishSettings
from noisydask.runs.publish import Publication, publishing
from noisydask.runs.repeats import identity_of, is_same, is_whole, repeated
from noisydask.runs.store import FinishedRun, Output, RunStore, storage_error
from noisydask.stores.failures import is_full, reason
from noisydask.stores.fingerprints import Snapshot, check_unchanged, digest
from noisydask.stores.listing import list_files, version
from noisydask.stores.locations import Location
from noisydask.stores.rows import Rows

Found = TypeVar("Found")
#: The inputs that lie in stores as they were listed before anything was read, by name.
Listed = Mapping[str, Snapshot]


@dataclass(frozen=True)
class Outcome:
    """What a job leaves for its manifest, and for what is done with a run of any job.

    Attributes
    ----------
    fields : dict
        Fields of the manifest.
    check_unchanged : callable
        Lists the inputs again; raises JobError if any is not what it was.
    ids : Rows, optional
        Ids of all examples, where they can be read again.
    """

    fields: dict[str, Any]
    check_unchanged: Callable[[], None]
    ids: Rows | None = None


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
    full : bool
        Do everything again, though nothing changed since the run before.
    timings : dict
        Seconds of each phase that is over.
    """

    name: ClassVar[str]
    reporter: Reporter
    publish: PublishSettings = field(default_factory=PublishSettings)
    full: bool = False
    timings: dict[str, float] = field(default_factory=dict)
    _last: float = field(default_factory=time.monotonic)
    _begun: bool = False

    @property
    @abstractmethod
    def size(self) -> int | None:
        """Bytes that the job reads, in memory; None where that is not known before."""

    @property
    @abstractmethod
    def packages(self) -> frozenset[str]:
        """Packages, beside those that noisydask requires, that its inputs need."""

    def begin(self, packages: frozenset[str] = frozenset()) -> None:
        """Have workers ready that have these packages and those of the inputs; once."""
        if not self._begun:
            self._begun = True
            begin(self.size, self.packages | packages, self.reporter.phase)

    def run(self, output: Output) -> Found:
        """Do the job while the output is locked; what it found is published then."""
        started = datetime.now(UTC)
        if compiled.not_kept:
            logger.warning(
                "kernels are compiled anew by each process, which takes seconds: no folder for "
                "Numba's cache can be written; set NUMBA_CACHE_DIR to one that can"
            )
        with (
            failures_told(output.place),
            publishing(output, self.publish, self.reporter) as publication,
        ):
            self.reporter = publication.reporter
            self._refuse_other_jobs(publication)
            listed = self._list_inputs()
            run = publication.run.store
            head = self._head(run, started, listed)
            outcome = self._repeat(publication, head, listed)
            if outcome is None:
                self.begin(output.place.packages)
                outcome = self._run(publication, listed)
                changes = self._compare(publication, head | outcome.fields, outcome.ids)
                more = {"threads": graph.slots(), "evidence": self._evidence(output)}
                outcome = replace(outcome, fields=outcome.fields | {"changes": changes} | more)
            outcome.check_unchanged()
            manifest = publication.publish(outcome.fields | head | self._times(started))
            return self._result(output.run_store(run.run, manifest.repeats), manifest)

    def _refuse_other_jobs(self, publication: Publication) -> None:
        """Refuse an output of another job: readers, comparisons and gates rely on a pointer that
        names the runs of one.
        """
        previous = publication.previous
        if previous is not None and previous.manifest.job != self.name:
            raise InputError(
                f"{publication.output.place.shown} holds runs of the job "
                f"{previous.manifest.job!r}; give this one an out of its own"
            )

    def _head(self, run: RunStore, started: datetime, listed: Listed) -> dict[str, Any]:
        """Return what a manifest says of a run before anything is read."""
        settings = self._settings()
        inputs = self._inputs(listed)
        return {
            "format_version": FORMAT_VERSION,
            "run": run.run,
            "started": started.isoformat(),
            "versions": dict(_versions()),
            "job": self.name,
            "settings": settings,
            "inputs": inputs,
            "identity": identity_of(settings, inputs, _versions(), *self._more()),
        }

    def _times(self, started: datetime) -> dict[str, Any]:
        finished = datetime.now(UTC)
        total = round((finished - started).total_seconds(), 4)
        return {"finished": finished.isoformat(), "seconds": {**self.timings, "total": total}}

    def _evidence(self, output: Output) -> str | None:
        """Return the fingerprint of the receipts that an output keeps for the next run."""
        if JOBS[self.name].checkpoint is None:
            return None
        try:
            receipts = list_files(output.checkpoint(self.name) / RECEIPTS)
        except FileNotFoundError:
            return None
        return digest([(name, version(info)) for name, info in receipts.items()])

    def _repeat(
        self, publication: Publication, head: Mapping[str, Any], listed: Listed
    ) -> Outcome | None:
        """Return results that are those of the run before; None where they may differ, or are not
        all there.
        """
        previous = publication.previous
        if previous is None or self.full or not is_same(previous.manifest, head["identity"]):
            return None
        before = previous.manifest
        if before.evidence != self._evidence(publication.output):
            return None  # it is of other inputs, as a run leaves that did not come to its end
        if not is_whole(previous):
            logger.warning("files of the run %s are gone or damaged: it is made anew", before.run)
            return None
        self.reporter.phase(f"nothing changed: this run repeats {before.run}")
        for text in before.warnings:
            self.reporter.warning(text)
        self._timed("look")
        return Outcome(repeated(before), partial(self._check_unchanged, listed))

    def _compare(
        self, publication: Publication, fields: Mapping[str, Any], ids: Rows | None
    ) -> ChangeCounts | None:
        """Compare with the run before and write what changed into this one; None where that is not
        known.
        """
        if publication.previous is None:
            return None
        self.reporter.phase("comparing with the run before")
        try:
            store = publication.run.store
            after = FinishedRun(store, Manifest.of_run(store.run, fields))
            changes, objects = since(publication.previous, after, ids)
        except DamagedRunError as error:  # a whole run is published all the same
            logger.warning("what changed is not known: %s", error)
            return None
        publication.run.record(objects)
        self._timed("changes")
        return changes

    @abstractmethod
    def _run(self, publication: Publication, listed: Listed) -> Outcome:
        """Do the job, of whose inputs ``listed`` are those that lie in stores."""

    @abstractmethod
    def _result(self, run: RunStore, manifest: Manifest) -> Found:
        """Return the published run, as the function of the job returns it."""

    @abstractmethod
    def _settings(self) -> dict[str, Any]:
        """Return the settings of the job."""

    @abstractmethod
    def _inputs(self, listed: Listed) -> dict[str, dict[str, Any]]:
        """Return what a manifest says of the inputs, with a fingerprint of each that has one."""

    def _more(self) -> tuple[Any, ...]:
        """Return what results follow from besides, in values of JSON."""
        return ()

    def _list_inputs(self) -> Listed:
        """List the inputs that lie in stores, where that was not done when they were opened."""
        return {}

    def _check_unchanged(self, listed: Listed) -> None:
        """List the inputs again, where nothing of them was read."""
        check_unchanged(listed)

    def _timed(self, phase: str) -> None:
        now = time.monotonic()
        self.timings[phase] = round(now - self._last, 4)
        self._last = now


@cache
def _versions() -> Mapping[str, str]:
    """Return the versions of what the result depends on; looking them up takes longer than a small
    job's passes do.
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
    known = {"python": python_version()} | {name: metadata.version(name) for name in packages}
    try:
        # An extra, which draws curves.
        return known | {"matplotlib": metadata.version("matplotlib")}
    except metadata.PackageNotFoundError:
        return known


@contextmanager
def failures_told(place: Location) -> Iterator[None]:
    """Turn failures of the cluster and of the output's store into errors that are told in one
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
    """Return whether the disk was full that Dask shuffles on: that of a worker, or of this process
    by the package partd.
    """
    if type(error).__name__ == "P2POutOfDiskError":
        return True
    return is_full(error) and _from(error, "partd.file")


def _from(error: Exception, module: str) -> bool:
    """Return whether an error of the system was raised in a package's module, or one below it."""
    names = (str(frame.f_globals.get("__name__")) for frame, _ in walk_tb(error.__traceback__))
    return isinstance(error, OSError) and any(f"{name}.".startswith(f"{module}.") for name in names)
