"""A run from its lock to its publication: one driver at a time, the manifest last, then one
conditional write of the pointer.

``OUT/latest.json`` names the run that readers use. It was read when the run began and is replaced
only if it is still the same and the lock is still ours, so a driver that slept while another
published ends without publishing.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from functools import cached_property
from typing import Any

from noisydask.engine.progress import Reporter
from noisydask.errors import InputError, JobError, LockedError
from noisydask.interrupts import raise_if_interrupted, uninterrupted
from noisydask.runs.lock import Lock
from noisydask.runs.manifest import FORMAT_VERSION, Manifest
from noisydask.runs.options import PublishSettings
from noisydask.runs.retention import clean_up
from noisydask.runs.status import StatusReporter
from noisydask.runs.store import (
    LATEST,
    MANIFEST,
    FinishedRun,
    NewRun,
    NoRunError,
    Output,
    storage_error,
)
from noisydask.stores.conditional import ConflictError, Document, Seen

logger = logging.getLogger("noisydask")


@dataclass(frozen=True)
class Publication:
    """A run that is being made, to be published at the end.

    Attributes
    ----------
    output : Output
        Where it will be published.
    run : NewRun
        What is written so far.
    reporter : StatusReporter
        Tells people and ``status.json`` how far it is.
    parent : str or None
        The run that was published when this one began.
    generation : int
        How many were published before.
    """

    output: Output
    run: NewRun
    reporter: StatusReporter
    settings: PublishSettings
    parent: str | None
    generation: int
    _lock: Lock = field(repr=False)
    _latest: Document = field(repr=False)
    _seen: Seen | None = field(repr=False)

    @cached_property
    def previous(self) -> FinishedRun | None:
        """The parent, if it is there."""
        try:
            if self.parent is not None:
                return self.output.open_run(self.parent)
            return None
        except NoRunError as error:
            logger.warning("the run before this one cannot be read: %s", error)
            return None
        except InputError as error:  # the store failed, which a moment ago took the lock
            raise JobError(str(error)) from error

    def publish(self, fields: Mapping[str, Any]) -> Manifest:
        """Write the manifest, then let readers see the run; return the manifest as written.

        Raises
        ------
        LockedError
            If another driver took the output over, or published.
        """
        self.run.record(self.reporter.finish())
        objects = [*fields.get("objects", ()), *map(asdict, self.run.written.values())]
        whole = {
            **fields,
            "parent": self.parent,
            "generation": self.generation + 1,
            "warnings": self.reporter.warnings,
            "objects": sorted(objects, key=lambda stored: stored["path"]),
        }
        manifest = Manifest.of_run(self.run.store.run, whole)
        written = self.run.store.write(MANIFEST, manifest.content())
        self._lock.confirm()
        pointer = {
            "run": self.run.store.run,
            "generation": self.generation + 1,
            "format_version": FORMAT_VERSION,
            "parent": self.parent,
            "published": datetime.now(UTC).isoformat(),
            "manifest": asdict(written),
        }
        raise_if_interrupted()
        try:
            with uninterrupted():  # a write that nobody waits for may succeed after all
                self._latest.write(pointer, self._seen)
        except ConflictError as error:
            raise LockedError(
                f"another run was published at {self.output.place.shown} while this one worked; "
                "nothing was replaced"
            ) from error
        except LockedError:
            raise
        except Exception as error:
            raise storage_error(error, self.output.place) from error
        self._clean_up()
        return manifest

    def _clean_up(self) -> None:
        """Remove what is no longer kept; the run is published, whatever happens here."""
        try:
            clean_up(self.output, self.settings)
        except Exception as error:
            logger.warning(
                "old runs of %s were not removed (%s)",
                self.output.place.shown,
                type(error).__name__,
            )


@contextmanager
def publishing(
    output: Output, settings: PublishSettings, reporter: Reporter
) -> Iterator[Publication]:
    """Hold the output's lock for a new run.

    Raises
    ------
    LockedError
        If another driver holds it.
    InputError
        If the output cannot be written, is a folder of others, or its store keeps no
        conditions.
    """
    output.refuse_foreign()
    run = output.start_run()
    with Lock(
        output.place, run.store.run, settings.lease_seconds, settings.allow_unsafe_store
    ) as lock:
        latest = Document(output.place / LATEST, unsafe=lock.unsafe)
        seen = latest.read()
        parent, generation = _published(output, seen)
        with StatusReporter(run.store, reporter, lock.check) as status:
            yield Publication(output, run, status, settings, parent, generation, lock, latest, seen)


def _published(output: Output, seen: Seen | None) -> tuple[str | None, int]:
    """Name and generation of the run that a pointer names."""
    if seen is None:
        return None, 0
    try:
        return output.run_store(seen.value["run"]).run, int(seen.value["generation"])
    except (ValueError, KeyError, TypeError) as error:
        raise JobError(
            f"{output.place.shown}: {LATEST} is damaged; move it away to publish again"
        ) from error
