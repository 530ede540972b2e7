"""The output: evidence, runs, manifest, and the pointer that makes a run visible. The only module that writes.

``OUT/evidence`` holds the evidence of all rows. A run is a folder of its own under ``OUT/runs``; every object written into
it is recorded with its size and checksum, the manifest that names them all is written last, and ``OUT/latest.json`` is
replaced after that, in one step.
"""

from __future__ import annotations

import json
import os
import re
import secrets
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import zarr
from fsspec.implementations.local import LocalFileSystem

from noisydask.arrays import zarr_store
from noisydask.blocks import BlockGrid
from noisydask.chunks import ChunkedArray, StoredObject
from noisydask.errors import InputError, JobError
from noisydask.locations import NO_SPACE, Location, explain

Array = npt.NDArray[np.generic]

FORMAT_VERSION = 1
LATEST = "latest.json"
_RUN = re.compile(r"\d{8}T\d{6}Z-[0-9a-f]{8}")


@dataclass(frozen=True)
class EvidenceStore:
    """The evidence on disk: one Zarr array a column, one chunk a block."""

    arrays: Mapping[str, ChunkedArray] = field(repr=False)

    def write(self, block: int, columns: Mapping[str, Array]) -> None:
        """Store a block; doing it twice leaves what doing it once does."""
        for name, column in columns.items():
            self.arrays[name].write(block, column)

    def read(self, block: int, names: Iterable[str]) -> dict[str, Array]:
        """Fetch columns of a block."""
        return {name: self.arrays[name].read(block) for name in names}


@dataclass(frozen=True)
class RunStore:
    """One run's folder."""

    place: Location
    run: str

    def array(self, name: str, shape: tuple[int, ...], chunk_rows: int, dtype: npt.DTypeLike) -> ChunkedArray:
        """An array of the run, not yet created."""
        return ChunkedArray(self.place, name, shape, max(1, min(chunk_rows, shape[0])), np.dtype(dtype))

    def write_array(self, name: str, values: Array) -> list[StoredObject]:
        """Write a small array in one chunk."""
        array = self.array(name, values.shape, len(values), values.dtype)
        return [array.create(), *([array.write_recorded(0, values)] if values.size else [])]

    def write(self, path: str, content: bytes) -> StoredObject:
        """Write an object."""
        self.place.fs.pipe_file((self.place / path).path, content)
        return StoredObject.of(path, content)

    def make_folder(self, path: str) -> None:
        """Make a folder where the file system has such."""
        self.place.fs.makedirs((self.place / path).path, exist_ok=True)


@dataclass(frozen=True)
class Output:
    """The place of all runs of one dataset."""

    place: Location

    @classmethod
    def at(cls, url: str | Path, storage_options: Mapping[str, Any] | None = None) -> Output:
        """Name an output; nothing is touched."""
        return cls(Location.of(str(url), storage_options, "out"))

    def create_evidence(self, grid: BlockGrid, dtypes: Mapping[str, np.dtype[Any]]) -> EvidenceStore:
        """Make room for the evidence of all rows, in place of what was there."""
        root = self.place / "evidence"
        arrays = {
            name: ChunkedArray(root, name, (grid.rows,), min(grid.block_rows, grid.rows), dtype)
            for name, dtype in dtypes.items()
        }
        try:
            group = zarr.create_group(zarr_store(root), overwrite=True)
            group.attrs.update({"format_version": FORMAT_VERSION, **asdict(grid)})
            for array in arrays.values():
                array.create()
        except Exception as error:
            full = isinstance(error, OSError) and error.errno in NO_SPACE
            raise (JobError if full else InputError)(_writing(error, self.place)) from error
        return EvidenceStore(arrays)

    def start_run(self) -> RunStore:
        """A new run: its name is the time and a random tail, so that no two meet."""
        run = f"{datetime.now(UTC):%Y%m%dT%H%M%SZ}-{secrets.token_hex(4)}"
        return RunStore(self.place / "runs" / run, run)

    def open_run(self) -> tuple[RunStore, dict[str, Any]]:
        """The published run and its manifest.

        Raises
        ------
        InputError
            If there is none.
        """
        try:
            latest = json.loads(self.place.fs.cat_file((self.place / LATEST).path))
            run = RunStore(self.place / "runs" / _run_name(latest["run"]), latest["run"])
            manifest = json.loads(run.place.fs.cat_file((run.place / "manifest.json").path))
        except FileNotFoundError as error:
            raise InputError(f"no finished run at {self.place.shown}; is it the --out of a job?") from error
        except (ValueError, KeyError, TypeError, RecursionError) as error:
            raise InputError(f"{self.place.shown}: {LATEST} or the manifest that it names is damaged") from error
        except Exception as error:
            raise InputError(explain(error, self.place, "out")) from error
        found = manifest.get("format_version")
        if found != FORMAT_VERSION:
            raise InputError(f"{self.place.shown} has format {found}, this noisydask reads {FORMAT_VERSION}")
        return run, manifest

    def publish(self, run: RunStore, manifest: Mapping[str, Any]) -> None:
        """Write the manifest, then let readers see the run."""
        content = json.dumps(manifest, indent=1, allow_nan=False).encode()
        written = run.write("manifest.json", content)
        pointer = {
            "run": run.run,
            "generation": self._generation() + 1,
            "format_version": FORMAT_VERSION,
            "manifest": asdict(written),
        }
        self._replace(LATEST, json.dumps(pointer, indent=1).encode())

    def _generation(self) -> int:
        """How often something was published here."""
        try:
            return int(json.loads(self.place.fs.cat_file((self.place / LATEST).path))["generation"])
        except FileNotFoundError:
            return 0
        except (ValueError, KeyError, TypeError) as error:
            raise JobError(f"{self.place.shown}: {LATEST} is damaged; move it away to publish again") from error

    def _replace(self, name: str, content: bytes) -> None:
        """Replace an object in one step: a PUT is one; a local file is written beside it and renamed."""
        path = (self.place / name).path
        if not isinstance(self.place.fs, LocalFileSystem):
            self.place.fs.pipe_file(path, content)
            return
        beside = f"{path}.{secrets.token_hex(4)}"
        try:
            with open(beside, "wb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            os.replace(beside, path)
        finally:
            if os.path.exists(beside):
                os.remove(beside)


def _run_name(value: str) -> str:
    """The name of a run, if it is one that :meth:`Output.start_run` gives."""
    if not _RUN.fullmatch(value):
        raise ValueError(f"{value!r} is not the name of a run")
    return value


def _writing(error: BaseException, place: Location) -> str:
    return explain(error, place, "out").replace("cannot be read", "cannot be written")


def storage_error(error: OSError, place: Location) -> JobError:
    """A failure to write in the middle of a job."""
    return JobError(_writing(error, place))
