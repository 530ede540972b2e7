"""Anything array-like, a path or a URL becomes rows that tasks can read: the only module that opens inputs.

Rows that live in a store (:class:`ZarrRows`, :class:`NpyRows`, :class:`ParquetColumn`) travel to the workers as a small
description and are read there. Rows that live in memory or in a Dask graph (:class:`DaskRows`) reach the tasks as blocks
of that graph.
"""

from __future__ import annotations

import os
from bisect import bisect_right
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Protocol, cast

import dask.array as da
import fsspec
import numpy as np
import numpy.typing as npt
import zarr
from fsspec.implementations.local import LocalFileSystem
from zarr.abc.store import Store
from zarr.storage import FsspecStore, LocalStore, StorePath, WrapperStore

from noisydask.errors import InputError
from noisydask.locations import Location, explain

Array = npt.NDArray[np.generic]


class Rows(Protocol):
    """Rows of an array in a store, read a range at a time."""

    @property
    def shape(self) -> tuple[int, ...]: ...
    @property
    def dtype(self) -> np.dtype[Any]: ...
    @property
    def chunk_rows(self) -> int:
        """Rows that the store keeps together."""
        ...

    def read(self, start: int, stop: int) -> Array:
        """Rows ``start`` to ``stop``."""
        ...

    def take_bytes_read(self) -> int:
        """Stored bytes fetched since the last call."""
        ...

    def describe(self) -> dict[str, Any]:
        """What a manifest says of this input; nothing secret."""
        ...


class CountingStore(WrapperStore[Store]):
    """A Zarr store that counts the bytes fetched through it."""

    def __init__(self, store: Store) -> None:
        super().__init__(store)
        self.sizes: list[int] = []  # appended and popped, which several threads may do at once

    async def get(self, *args: Any, **kwargs: Any) -> Any:
        """Fetch a value and count it."""
        return self._counted(await self._store.get(*args, **kwargs))

    def get_sync(self, *args: Any, **kwargs: Any) -> Any:
        """Fetch a value and count it (zarr 3.4 and later)."""
        return self._counted(cast(Any, self._store).get_sync(*args, **kwargs))

    async def get_partial_values(self, *args: Any, **kwargs: Any) -> Any:
        """Fetch values and count them."""
        return [self._counted(value) for value in await self._store.get_partial_values(*args, **kwargs)]

    async def get_ranges(self, *args: Any, **kwargs: Any) -> Any:
        """Fetch ranges of a value and count them (zarr 3.4 and later)."""
        async for group in cast(Any, self._store).get_ranges(*args, **kwargs):
            for _, value in group:
                self._counted(value)
            yield group

    def get_ranges_sync(self, *args: Any, **kwargs: Any) -> Any:
        """Fetch ranges of a value and count them (zarr 3.4 and later)."""
        for group in cast(Any, self._store).get_ranges_sync(*args, **kwargs):
            for _, value in group:
                self._counted(value)
            yield group

    def _counted(self, value: Any) -> Any:
        if value is not None:
            self.sizes.append(len(value))
        return value


def _drain(sizes: list[int]) -> int:
    """Take the numbers out of a list that other threads append to, and add them up."""
    total = 0
    while sizes:
        total += sizes.pop()
    return total


def _pipeline(store: Store) -> str | None:
    """The fastest codec pipeline that is right for a store, of those installed; None for zarr's default.

    Measured on two processes, zstd, float32: zarr's batched pipeline 1.2 to 1.6 GB/s, its fused one (zarr 3.4) and the
    package ``zarrs`` 1.7 to 1.9 GB/s.
    """
    if isinstance(store, LocalStore) and find_spec("zarrs"):
        return "zarrs.ZarrsCodecPipeline"
    if hasattr(zarr.core.codec_pipeline, "FusedCodecPipeline"):
        return "zarr.core.codec_pipeline.FusedCodecPipeline"
    return None


@dataclass
class ZarrRows:
    """Rows of a Zarr array, format 2 or 3, chunked or sharded."""

    array: zarr.Array[Any]
    url: str
    by_itself: bool
    sizes: list[int] = field(default_factory=list, repr=False)

    @classmethod
    def of(cls, array: zarr.Array[Any], url: str) -> ZarrRows:
        """Reopen an array for reading by the fastest pipeline, its bytes counted."""
        pipeline = _pipeline(array.store)
        by_itself = pipeline is not None and pipeline.startswith("zarrs")
        place = StorePath(array.store if by_itself else CountingStore(array.store), array.path)
        with zarr.config.set({"codec_pipeline.path": pipeline} if pipeline else {}):
            again = zarr.open_array(place, mode="r", zarr_format=array.metadata.zarr_format)
        return cls(again, url, by_itself)

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of the array."""
        return self.array.shape

    @property
    def dtype(self) -> np.dtype[Any]:
        """Type of the array."""
        return np.dtype(self.array.dtype)

    @property
    def chunk_rows(self) -> int:
        """Rows of a shard, or of a chunk where there are no shards."""
        return (self.array.shards or self.array.chunks)[0]

    def read(self, start: int, stop: int) -> Array:
        """Rows ``start`` to ``stop``, decoded."""
        rows = cast(Array, self.array[start:stop])
        if self.by_itself:
            self._count_files(start, stop)
        else:
            self.sizes.append(_drain(cast(CountingStore, self.array.store).sizes))
        return rows

    def take_bytes_read(self) -> int:
        """Stored bytes fetched since the last call."""
        return _drain(self.sizes)

    def _count_files(self, start: int, stop: int) -> None:
        """What a pipeline fetched that reads files by itself."""
        root = cast(LocalStore, self.array.store).root / self.array.path
        grid = self.array.shards or self.array.chunks
        ranges = [range(start // grid[0], -(-stop // grid[0]))]
        ranges += [range(-(-n // size)) for n, size in zip(self.shape[1:], grid[1:], strict=True)]
        for chunk in np.ndindex(*(len(r) for r in ranges)):
            key = self.array.metadata.encode_chunk_key((chunk[0] + ranges[0].start, *chunk[1:]))
            try:
                self.sizes.append(os.stat(root / key).st_size)
            except FileNotFoundError:
                continue  # a chunk that is all fill value has no object

    def describe(self) -> dict[str, Any]:
        """What a manifest says of this input."""
        return {"url": self.url, "shape": list(self.shape), "dtype": str(self.dtype), "chunk_rows": self.chunk_rows}


@dataclass
class NpyRows:
    """Rows of a ``.npy`` file, mapped where it is local, else fetched by byte ranges."""

    place: Location
    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    offset: int
    chunk_rows: int = 1
    sizes: list[int] = field(default_factory=list, repr=False)

    @classmethod
    def open(cls, place: Location) -> NpyRows:
        """Read the header of a file."""
        with place.fs.open(place.path, "rb") as file:
            version = np.lib.format.read_magic(file)
            reader = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
            shape, fortran, dtype = reader(file)
            if dtype.hasobject:
                raise InputError(f"{place.url} holds Python objects, which are never loaded; store plain numbers or text")
            if fortran and len(shape) > 1:
                raise InputError(f"{place.url} is in Fortran order; save np.ascontiguousarray(array) instead")
            return cls(place, shape, dtype, file.tell())

    @cached_property
    def _mapped(self) -> Array | None:
        if not isinstance(self.place.fs, LocalFileSystem):
            return None
        return np.memmap(self.place.path, self.dtype, "r", self.offset, self.shape) if self.shape[0] else None

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in self.__dict__.items() if name != "_mapped"}

    def read(self, start: int, stop: int) -> Array:
        """Rows ``start`` to ``stop``."""
        width = int(np.prod(self.shape[1:], dtype=np.int64)) * self.dtype.itemsize
        self.sizes.append((stop - start) * width)
        if self._mapped is not None:
            return self._mapped[start:stop]
        data = self.place.fs.cat_file(self.place.path, self.offset + start * width, self.offset + stop * width)
        return np.frombuffer(data, self.dtype).reshape(stop - start, *self.shape[1:])

    def take_bytes_read(self) -> int:
        """Bytes of rows taken since the last call."""
        return _drain(self.sizes)

    def describe(self) -> dict[str, Any]:
        """What a manifest says of this input."""
        return {"url": self.place.shown, "shape": list(self.shape), "dtype": str(self.dtype)}


@dataclass
class ParquetColumn:
    """One column of a Parquet file or a folder of them (in the order of their names), read by row groups."""

    place: Location
    column: str
    files: tuple[str, ...]
    groups: tuple[tuple[int, int], ...]
    first_rows: tuple[int, ...]
    dtype: np.dtype[Any]
    chunk_rows: int = 1

    @classmethod
    def open(cls, place: Location, column: str) -> ParquetColumn:
        """Read the footers."""
        import pyarrow.parquet as pq  # noqa: PLC0415  only jobs with such an input pay for it

        files = sorted(f for f in place.fs.find(place.path) if f.endswith((".parquet", ".pq"))) or [place.path]
        groups, first_rows, total, dtype = [], [0], 0, np.dtype(object)
        for number, file in enumerate(files):
            with place.fs.open(file, "rb") as handle:
                footer = pq.ParquetFile(handle)
                if column not in footer.schema_arrow.names:
                    names = ", ".join(footer.schema_arrow.names)
                    raise InputError(f"{place.shown} has no column {column!r}; it has: {names}")
                dtype = np.dtype(footer.schema_arrow.field(column).type.to_pandas_dtype())
                for group in range(footer.num_row_groups):
                    groups.append((number, group))
                    total += footer.metadata.row_group(group).num_rows
                    first_rows.append(total)
        return cls(place, column, tuple(files), tuple(groups), tuple(first_rows), dtype)

    @property
    def shape(self) -> tuple[int, ...]:
        """Number of rows."""
        return (self.first_rows[-1],)

    def read(self, start: int, stop: int) -> Array:
        """Values of rows ``start`` to ``stop``."""
        import pyarrow.parquet as pq  # noqa: PLC0415

        parts = []
        for where in range(bisect_right(self.first_rows, start) - 1, len(self.groups)):
            first = self.first_rows[where]
            if first >= stop:
                break
            number, group = self.groups[where]
            with self.place.fs.open(self.files[number], "rb") as handle:
                table = pq.ParquetFile(handle).read_row_group(group, columns=[self.column])
            parts.append(table.column(0).to_numpy()[max(start - first, 0) : stop - first])
        return np.concatenate(parts) if parts else np.empty(0, self.dtype)

    def take_bytes_read(self) -> int:
        """Not counted: the column is small beside the probabilities."""
        return 0

    def describe(self) -> dict[str, Any]:
        """What a manifest says of this input."""
        return {"url": self.place.shown, "column": self.column, "shape": list(self.shape), "dtype": str(self.dtype)}


@dataclass
class DaskRows:
    """Rows of an array in memory or in a Dask graph; tasks receive its blocks."""

    array: da.Array
    chunk_rows: int = 1

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of the array."""
        return self.array.shape

    @property
    def dtype(self) -> np.dtype[Any]:
        """Type of the array."""
        return self.array.dtype

    def describe(self) -> dict[str, Any]:
        """What a manifest says of this input."""
        return {"memory": True, "shape": list(self.shape), "dtype": str(self.dtype)}


def open_rows(source: Any, name: str, storage_options: Mapping[str, Any] | None = None) -> Rows | DaskRows:
    """Open an input.

    Parameters
    ----------
    source : str, Path, zarr.Array, dask.array.Array, ndarray or sequence
        A path or URL ends in ``.npy``, or names a Parquet file and column (``data.parquet#column``), or is a Zarr array.
    name : str
        What errors call it.
    storage_options : mapping, optional
        Passed to fsspec.

    Raises
    ------
    InputError
        If there is nothing, or nothing readable, in one sentence.

    Examples
    --------
    >>> open_rows([3, 1, 2], "labels").shape
    (3,)
    """
    if isinstance(source, str | Path):
        return _open_url(str(source), name, storage_options)
    if isinstance(source, zarr.Array):
        return ZarrRows.of(source, str(source.store_path))
    if isinstance(source, da.Array):
        if any(np.isnan(source.shape)):
            raise InputError(f"{name} has an unknown number of rows; call compute_chunk_sizes() on it first")
        return DaskRows(source)
    array = np.asarray(source)
    if array.dtype.hasobject and not all(isinstance(value, str) for value in array.flat):
        raise InputError(f"{name} holds Python objects; give an array of numbers")
    # The content is not hashed for a name: it may be large, and one name is as good as another here.
    return DaskRows(da.from_array(array, chunks=-1, name=False))


def _open_url(url: str, name: str, storage_options: Mapping[str, Any] | None) -> Rows:
    url, _, column = url.partition("#")
    place = Location.of(url, storage_options, name)
    with _reading(place, name):
        if place.path.endswith(".npy"):
            return NpyRows.open(place)
        if column:
            return ParquetColumn.open(place, column)
        return ZarrRows.of(zarr.open_array(zarr_store(place, read_only=True), mode="r"), place.shown)


def zarr_store(place: Location, read_only: bool = False) -> Store:
    """The Zarr store of a place."""
    if isinstance(place.fs, LocalFileSystem):
        return LocalStore(place.path, read_only=read_only)
    if place.fs.async_impl:
        fs = fsspec.filesystem(place.fs.protocol[0] if isinstance(place.fs.protocol, tuple) else place.fs.protocol,
                               asynchronous=True, **place.options)  # fmt: skip
        return FsspecStore(fs, read_only=read_only, path=place.path)
    return FsspecStore.from_url(place.url, storage_options=dict(place.options), read_only=read_only)


@contextmanager
def _reading(place: Location, name: str) -> Iterator[None]:
    """Turn what storage and formats raise into one sentence."""
    try:
        yield
    except InputError:
        raise
    except Exception as error:
        raise InputError(explain(error, place, name)) from error
