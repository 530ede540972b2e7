"""The output: evidence, runs, manifest, and the pointer that makes a run visible. The only module that writes.

``OUT/evidence`` holds the evidence of all rows. A run is a folder of its own under ``OUT/runs``; every object written into
it is recorded with its size and checksum, the manifest that names them all is written last, and ``OUT/latest.json`` is
replaced after that, in one step.
"""

from __future__ import annotations

import json
import secrets
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, cast

import google_crc32c
import numpy as np
import numpy.typing as npt
import zarr
from fsspec.implementations.local import LocalFileSystem
from zarr.abc.store import Store
from zarr.storage import StorePath, WrapperStore

from noisydask.arrays import zarr_store
from noisydask.blocks import BlockGrid
from noisydask.errors import InputError, JobError
from noisydask.locations import Location, explain

Array = npt.NDArray[np.generic]

FORMAT_VERSION = 1
LATEST = "latest.json"


@dataclass(frozen=True, order=True)
class StoredObject:
    """An object of a run: its path in the run, its bytes, and the CRC-32C of its content in hexadecimal."""

    path: str
    size: int
    crc32c: str

    @classmethod
    def of(cls, path: str, content: bytes) -> StoredObject:
        """Describe an object by its content."""
        return cls(path, len(content), f"{google_crc32c.value(content):08x}")


class RecordingStore(WrapperStore[Store]):
    """A Zarr store that remembers what was written through it, by paths that begin with ``prefix``."""

    def __init__(self, store: Store, prefix: str = "") -> None:
        super().__init__(store)
        self.prefix = prefix
        self.written: dict[str, StoredObject] = {}

    def _with_store(self, store: Store) -> RecordingStore:
        return type(self)(store, self.prefix)

    async def set(self, key: str, value: Any) -> None:
        """Write a value and remember it."""
        await self._store.set(key, value)
        self._remember(key, value)

    def set_sync(self, key: str, value: Any) -> None:
        """Write a value and remember it (zarr 3.4 and later)."""
        cast(Any, self._store).set_sync(key, value)
        self._remember(key, value)

    def _remember(self, key: str, value: Any) -> None:
        path = f"{self.prefix}/{key}"
        self.written[path] = StoredObject.of(path, value.to_bytes())

    def take(self) -> tuple[StoredObject, ...]:
        """What was written since the last call."""
        taken = []
        while self.written:  # item by item: other threads write at the same time
            taken.append(self.written.popitem()[1])
        return tuple(sorted(taken))


@dataclass(frozen=True)
class EvidenceStore:
    """The evidence on disk: one Zarr array a column, one chunk a block."""

    grid: BlockGrid
    arrays: Mapping[str, zarr.Array[Any]] = field(repr=False)

    def write(self, block: int, columns: Mapping[str, Array]) -> None:
        """Store a block; doing it twice leaves what doing it once does."""
        start, stop = self.grid.bounds(block)
        for name, column in columns.items():
            self.arrays[name][start:stop] = column

    def read(self, block: int, names: Iterable[str]) -> dict[str, Array]:
        """Fetch columns of a block."""
        start, stop = self.grid.bounds(block)
        return {name: cast(Array, self.arrays[name][start:stop]) for name in names}


@dataclass(frozen=True)
class RunStore:
    """One run's folder: arrays and objects go in, each recorded."""

    place: Location
    run: str

    def create_array(
        self, name: str, shape: tuple[int, ...], chunks: tuple[int, ...], dtype: npt.DTypeLike
    ) -> zarr.Array[Any]:
        """Create an uncompressed array whose chunks are recorded as they are written."""
        store = RecordingStore(zarr_store(self.place / name), name)
        return zarr.create_array(
            StorePath(store), shape=shape, chunks=tuple(max(1, n) for n in chunks), dtype=dtype, compressors=None,
            fill_value=0, config={"write_empty_chunks": True},
        )  # fmt: skip

    def write_array(self, name: str, values: Array) -> tuple[StoredObject, ...]:
        """Write a small array in one chunk."""
        array = self.create_array(name, values.shape, values.shape, values.dtype)
        if values.size:
            array[...] = values
        return written_to(array)

    def write(self, path: str, content: bytes) -> StoredObject:
        """Write an object."""
        self.place.fs.pipe_file((self.place / path).path, content)
        return StoredObject.of(path, content)

    def make_folder(self, path: str) -> None:
        """Make a folder where the file system has such."""
        self.place.fs.makedirs((self.place / path).path, exist_ok=True)


def written_to(array: zarr.Array[Any]) -> tuple[StoredObject, ...]:
    """What was written through an array of :meth:`RunStore.create_array` in this process since the last call."""
    return cast(RecordingStore, array.store).take()


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
        try:
            group = zarr.create_group(zarr_store(self.place / "evidence"), overwrite=True)
            group.attrs.update({"format_version": FORMAT_VERSION, **asdict(grid)})
            arrays = {
                name: group.create_array(
                    name, shape=(grid.rows,), chunks=(min(grid.block_rows, grid.rows),), dtype=dtype, compressors=None,
                    config={"write_empty_chunks": True},
                )
                for name, dtype in dtypes.items()
            }  # fmt: skip
        except Exception as error:
            raise InputError(_writing(error, self.place)) from error
        return EvidenceStore(grid, arrays)

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
            run = RunStore(self.place / "runs" / latest["run"], latest["run"])
            manifest = json.loads(run.place.fs.cat_file((run.place / "manifest.json").path))
        except FileNotFoundError as error:
            raise InputError(f"no finished run at {self.place.shown}; is it the --out of a job?") from error
        except Exception as error:
            raise InputError(explain(error, self.place, "out")) from error
        if manifest["format_version"] != FORMAT_VERSION:
            found = manifest["format_version"]
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
        path = (self.place / LATEST).path
        try:
            return int(json.loads(self.place.fs.cat_file(path))["generation"])
        except FileNotFoundError:
            return 0

    def _replace(self, name: str, content: bytes) -> None:
        """Replace an object in one step: a PUT is one; a local file is renamed into place."""
        path = (self.place / name).path
        if isinstance(self.place.fs, LocalFileSystem):
            with self.place.fs.open(path, "wb", autocommit=False) as file:
                file.write(content)
            file.commit()
        else:
            self.place.fs.pipe_file(path, content)


def _writing(error: BaseException, place: Location) -> str:
    return explain(error, place, "out").replace("cannot be read", "cannot be written")


def storage_error(error: OSError, place: Location) -> JobError:
    """A failure to write in the middle of a job."""
    return JobError(_writing(error, place))
