"""The output: evidence and runs.

``OUT/evidence`` holds the evidence of all rows. A run is a folder of its own under ``OUT/runs``;
every object written into it is recorded with its size and checksum. A run that came out as the one
before refers to the files of that one. :mod:`noisydask.runs.publish` makes a run visible.
"""

from __future__ import annotations

import json
import re
import secrets
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from noisydask.errors import InputError, JobError, NoisydaskError
from noisydask.runs.kinds import JOBS
from noisydask.runs.manifest import FORMAT_VERSION, Manifest
from noisydask.runs.overlap import WRITTEN
from noisydask.stores.chunks import ChunkedArray, StoredObject
from noisydask.stores.failures import blame, cannot_write, explain
from noisydask.stores.listing import names_in
from noisydask.stores.locations import Location

Array = npt.NDArray[np.generic]

LATEST, MANIFEST, RUNS = "latest.json", "manifest.json", "runs"
#: Names of runs: the time and a random tail.
RUN_NAME = re.compile(r"\d{8}T\d{6}Z-[0-9a-f]{8}")


class NoRunError(InputError):
    """There is no finished run, or what tells of it is damaged."""


@dataclass(frozen=True)
class RunStore:
    """One run's folder.

    Attributes
    ----------
    place : Location
        Where its files lie; those of a run that repeats another lie in the folder of that one.
    run : str
        Its name.
    """

    place: Location
    run: str

    @property
    def shown(self) -> str:
        """The folder of the run itself, without anything secret."""
        return f"{self.place.shown.rpartition('/')[0]}/{self.run}"

    def array(
        self, name: str, shape: tuple[int, ...], chunk_rows: int, dtype: npt.DTypeLike
    ) -> ChunkedArray:
        """Return an array of the run, not yet created."""
        return ChunkedArray(
            self.place, name, shape, max(1, min(chunk_rows, shape[0])), np.dtype(dtype)
        )

    def write(self, path: str, content: bytes) -> StoredObject:
        """Write an object."""
        (self.place / path).write(content)
        return StoredObject.of(path, content)

    def write_table(self, path: str, table: pa.Table, **how: Any) -> StoredObject:
        """Write a table as a Parquet file; ``how`` goes to :func:`pyarrow.parquet.write_table`."""
        buffer = BytesIO()
        pq.write_table(table, buffer, **{"compression": "snappy", "use_dictionary": False} | how)
        return self.write(path, buffer.getvalue())

    def read_table(self, path: str, columns: Sequence[str] | None = None) -> pa.Table:
        """Read a Parquet file, or some of its columns."""
        with (self.place / path).open() as file:
            return pq.read_table(file, columns=None if columns is None else list(columns))

    def make_folder(self, path: str | None = None) -> None:
        """Make a folder of the run, or the run's own, where the file system has such."""
        (self.place / path if path else self.place).make_folder()

    def remove_folder(self, path: str) -> None:
        """Remove a folder and all that is in it."""
        (self.place / path).remove_all()


@dataclass(frozen=True)
class NewRun:
    """A run that is being made. Whatever is written into it is recorded, for its manifest.

    Tasks write by :attr:`store` and return what they wrote, to be recorded by :meth:`record`.

    Attributes
    ----------
    store : RunStore
        Its folder.
    written : dict of str to StoredObject
        What was written so far, by path.
    """

    store: RunStore
    written: dict[str, StoredObject] = field(default_factory=dict)

    def record(self, objects: Iterable[StoredObject]) -> None:
        """Record what tasks wrote."""
        self.written.update({stored.path: stored for stored in objects})

    def write(self, path: str, content: bytes) -> None:
        """Write an object."""
        self.record([self.store.write(path, content)])

    def write_array(self, name: str, values: Array) -> None:
        """Write a small array in one chunk."""
        array = self.create_array(name, values.shape, len(values), values.dtype)
        if values.size:
            self.record([array.write_recorded(0, values)])

    def create_array(
        self, name: str, shape: tuple[int, ...], chunk_rows: int, dtype: npt.DTypeLike
    ) -> ChunkedArray:
        """Create an array, whose chunks tasks write."""
        array = self.store.array(name, shape, chunk_rows, dtype)
        self.record([array.create()])
        return array


@dataclass(frozen=True)
class FinishedRun:
    """A run that came to its end: its folder and its manifest."""

    store: RunStore
    manifest: Manifest


@dataclass(frozen=True)
class Output:
    """The place of all runs of one dataset."""

    place: Location

    @classmethod
    def at(cls, url: str | Path, storage_options: Mapping[str, Any] | None = None) -> Output:
        """Name an output; nothing is touched."""
        return cls(Location.of(str(url), storage_options, "out"))

    def refuse_foreign(self) -> None:
        """Refuse a folder that holds files of others and no sign of ours, between which the files
        of runs would lie.

        Hidden files do not count: many a tool puts one into an empty folder.
        """
        try:
            names = {name.removesuffix(".new") for name in names_in(self.place)}
            foreign = sorted(name for name in names.difference(WRITTEN) if not name.startswith("."))
            signs = ("lock.json", LATEST)
            ours = not foreign or any(
                sign in names or self.place.fs.exists((self.place / sign).path) for sign in signs
            )
        except Exception as error:
            raise cannot_write(error, self.place) from error
        if not ours:
            raise InputError(
                f"out at {self.place.shown} holds {foreign[0]!r}, which noisydask did not make; "
                "give a folder that is empty or one that noisydask made"
            )

    def checkpoint(self, job: str) -> Location:
        """Return the folder in which a job that has a checkpoint keeps it."""
        return self.place / str(JOBS[job].checkpoint)

    def start_run(self) -> NewRun:
        """Return a new run: its name is the time and a random tail, so that no two meet."""
        run = f"{datetime.now(UTC):%Y%m%dT%H%M%SZ}-{secrets.token_hex(4)}"
        return NewRun(RunStore(self.place / RUNS / run, run))

    def run_store(self, run: Any, repeats: Any = None) -> RunStore:
        """Return a run with the folder of its files, of another run where it ``repeats`` one;
        ValueError if that cannot be a run's name.
        """
        for name in (run, repeats or run):
            if not isinstance(name, str) or not RUN_NAME.fullmatch(name):
                raise ValueError(f"no run is called {name!r}")
        return RunStore(self.place / RUNS / (repeats or run), run)

    def open_run(self, name: str | None = None) -> FinishedRun:
        """Open a finished run: the published one, or another by its name.

        Raises
        ------
        InputError
            If there is none.
        """
        if name is not None and not RUN_NAME.fullmatch(name):
            raise InputError(
                f"{name!r} is not the name of a run, which is like 20260131T020000Z-0123abcd"
            )
        try:
            run = self.run_store(name or json.loads((self.place / LATEST).read())["run"])
            document = json.loads((run.place / MANIFEST).read())
            version = document.get("format_version")
            if version not in range(1, FORMAT_VERSION + 1):
                raise InputError(
                    f"{self.place.shown} has format {version}, this noisydask reads 1 to "
                    f"{FORMAT_VERSION}"
                )
            manifest = Manifest.of_run(run.run, document)
            return FinishedRun(self.run_store(run.run, manifest.repeats), manifest)
        except FileNotFoundError as error:
            which = f"no finished run {name or ''}".rstrip()
            raise NoRunError(f"{which} at {self.place.shown}; is it the out of a job?") from error
        except NoisydaskError:
            raise
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
            raise NoRunError(
                f"{self.place.shown}: {LATEST} or the manifest that it names is damaged"
            ) from error
        except Exception as error:
            raise blame(error)(explain(error, self.place, "out")) from error


def storage_error(error: BaseException, place: Location) -> JobError:
    """Return a failure to write in the middle of a job."""
    return JobError(str(cannot_write(error, place)))
