"""Rows that live in a store: Zarr, ``.npy``, a Parquet column. They travel to the workers as a small description and are
read there, a range at a time.
"""

from __future__ import annotations

import os
from abc import ABC, abstractmethod
from bisect import bisect_right
from dataclasses import dataclass, field, replace
from functools import cached_property
from importlib.util import find_spec
from itertools import product
from math import prod
from typing import Any, Self, cast

import numpy as np
import numpy.typing as npt
import zarr
from fsspec.implementations.local import LocalFileSystem
from zarr.abc.store import Store
from zarr.storage import LocalStore, StorePath, WrapperStore

from noisydask.errors import InputError, JobError, NoisydaskError
from noisydask.locations import Location, reason

Array = npt.NDArray[np.generic]


class ByteCount:
    """Bytes fetched, counted by several threads at once. A copy in another process starts from nothing."""

    def __init__(self) -> None:
        self._sizes: list[int] = []  # appended and popped, each of which is one step

    def __reduce__(self) -> tuple[type[ByteCount], tuple[()]]:
        return ByteCount, ()

    def add(self, size: int) -> None:
        """Count some bytes."""
        self._sizes.append(size)

    def take(self) -> int:
        """Bytes counted since the last call."""
        total = 0
        while self._sizes:
            total += self._sizes.pop()
        return total


@dataclass(kw_only=True)
class Rows(ABC):
    """Rows of an array in a store, read a range at a time.

    Attributes
    ----------
    url : str
        Where they are, without anything secret.
    shape : tuple of int
        Shape of the array.
    dtype : dtype
        Its type, in the byte order of this machine whatever the store has.
    chunk_rows : int
        Rows that the store keeps together.
    chunk_columns : int
        Columns that it keeps together; 0 where rows are always whole.
    """

    url: str
    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    chunk_rows: int = 1
    chunk_columns: int = 0
    fetched: ByteCount = field(default_factory=ByteCount, repr=False)

    def read(self, start: int, stop: int) -> Array:
        """Rows ``start`` to ``stop``."""
        try:
            return self._read(start, stop).astype(self.dtype, copy=False)
        except NoisydaskError:
            raise
        except Exception as error:  # no InputError: the job was begun, the array was there
            why = reason(error) or f"cannot be read any more ({type(error).__name__}); is it damaged, changed or gone?"
            raise JobError(f"{self.url}: {why}") from error

    @abstractmethod
    def _read(self, start: int, stop: int) -> Array:
        """Rows as they are stored, counted in :attr:`fetched`."""

    def take_bytes_read(self) -> int:
        """Stored bytes fetched since the last call; a Parquet column, small beside the probabilities, counts none."""
        return self.fetched.take()

    def describe(self) -> dict[str, Any]:
        """What a manifest says of this input; nothing secret."""
        return {"url": self.url, "shape": list(self.shape), "dtype": str(self.dtype), "chunk_rows": self.chunk_rows}


class CountingStore(WrapperStore[Store]):
    """A Zarr store that counts the bytes fetched through it."""

    def __init__(self, store: Store, fetched: ByteCount) -> None:
        super().__init__(store)
        self.fetched = fetched

    def _with_store(self, store: Store) -> CountingStore:
        return CountingStore(store, self.fetched)

    async def get(self, *args: Any, **kwargs: Any) -> Any:
        """Fetch a value and count it."""
        return self._counted(await self._store.get(*args, **kwargs))

    def get_sync(self, *args: Any, **kwargs: Any) -> Any:
        """Fetch a value and count it (zarr 3.4 and later)."""
        return self._counted(cast(Any, self._store).get_sync(*args, **kwargs))

    async def get_partial_values(self, *args: Any, **kwargs: Any) -> Any:
        """Fetch values and count them."""
        return [self._counted(value) for value in await self._store.get_partial_values(*args, **kwargs)]

    def get_ranges(self, *args: Any, **kwargs: Any) -> Any:
        """Fetch ranges of a value by :meth:`get` (zarr 3.4 and later), as a store does that is not wrapped."""
        return cast(Any, Store).get_ranges(self, *args, **kwargs)

    def _counted(self, value: Any) -> Any:
        if value is not None:
            self.fetched.add(len(value))
        return value


def _native(dtype: npt.DTypeLike) -> np.dtype[Any]:
    return np.dtype(dtype).newbyteorder("=")


def _pipeline(array: zarr.Array[Any]) -> str | None:
    """The fastest codec pipeline that is right for an array, of those installed; None for zarr's default.

    Measured on two processes, zstd, float32: zarr's batched pipeline 1.2 to 1.6 GB/s, its fused one (zarr 3.4) and the
    package ``zarrs`` 1.7 to 1.9 GB/s.
    """
    plain = array.order == "C" and np.dtype(array.dtype).isnative  # all that the package reads
    if isinstance(array.store, LocalStore) and plain and find_spec("zarrs"):
        return "zarrs.ZarrsCodecPipeline"
    if hasattr(zarr.core.codec_pipeline, "FusedCodecPipeline"):
        return "zarr.core.codec_pipeline.FusedCodecPipeline"
    return None


@dataclass(kw_only=True)
class ZarrRows(Rows):
    """Rows of a Zarr array, format 2 or 3, chunked or sharded; of all its columns, or of a window of them."""

    array: zarr.Array[Any] = field(repr=False)
    by_itself: bool
    window: tuple[int, int] | None = None

    @classmethod
    def of(cls, array: zarr.Array[Any], url: str) -> ZarrRows:
        """Reopen an array for reading by the fastest pipeline, its bytes counted."""
        if not array.shape:
            raise InputError(f"{url} holds a single number, not rows")
        pipeline, fetched = _pipeline(array), ByteCount()
        by_itself = pipeline is not None and pipeline.startswith("zarrs")
        place = StorePath(array.store if by_itself else CountingStore(array.store, fetched), array.path)
        with zarr.config.set({"codec_pipeline.path": pipeline} if pipeline else {}):
            again = zarr.open_array(place, mode="r", zarr_format=array.metadata.zarr_format)
        fetched.take()  # the metadata is no row
        return cls(
            url=url, shape=array.shape, dtype=_native(array.dtype), chunk_rows=(array.shards or array.chunks)[0],
            chunk_columns=(array.shards or array.chunks)[1] if array.ndim > 1 else 0,
            fetched=fetched, array=again, by_itself=by_itself,
        )  # fmt: skip

    def columns(self, first: int, last: int) -> Self:
        """These rows with some of their columns only; the bytes read count here as well."""
        return replace(self, shape=(self.shape[0], last - first), window=(first, last))

    def _read(self, start: int, stop: int) -> Array:
        rows = cast(Array, self.array[start:stop] if self.window is None else self.array[start:stop, slice(*self.window)])
        if self.by_itself:
            self._count_files(start, stop)
        return rows

    def _count_files(self, start: int, stop: int) -> None:
        """What a pipeline fetched that reads files by itself."""
        root = cast(LocalStore, self.array.store).root / self.array.path
        grid = self.array.shards or self.array.chunks
        ranges = [range(start // grid[0], -(-stop // grid[0]))]
        ranges += [range(-(-n // size)) for n, size in zip(self.array.shape[1:], grid[1:], strict=True)]
        if self.window is not None:
            ranges[1] = range(self.window[0] // grid[1], -(-self.window[1] // grid[1]))
        for chunk in product(*ranges):
            key = self.array.metadata.encode_chunk_key(chunk)
            try:
                self.fetched.add(os.stat(root / key).st_size)
            except FileNotFoundError:
                continue  # a chunk that is all fill value has no object


@dataclass(kw_only=True)
class NpyRows(Rows):
    """Rows of a ``.npy`` file, mapped where it is local, else fetched by byte ranges."""

    place: Location
    offset: int
    stored: np.dtype[Any]

    @classmethod
    def open(cls, place: Location) -> NpyRows:
        """Read the header of a file."""
        with place.fs.open(place.path, "rb") as file:
            version = np.lib.format.read_magic(file)
            reader = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
            shape, fortran, dtype = reader(file)
            offset = file.tell()
        if dtype.hasobject:
            raise InputError(f"{place.shown} holds Python objects, which are never loaded; store plain numbers or text")
        if fortran and len(shape) > 1:
            raise InputError(f"{place.shown} is in Fortran order; save np.ascontiguousarray(array) instead")
        size, needed = place.fs.size(place.path), offset + prod(shape) * dtype.itemsize
        if min(shape, default=0) < 0:
            raise InputError(f"the header of {place.shown} claims the shape {shape}")
        if size < needed:
            raise InputError(f"{place.shown} is cut short: {size:,} bytes of {needed:,}")
        return cls.at(place, shape, dtype, offset)

    @classmethod
    def at(cls, place: Location, shape: tuple[int, ...], dtype: np.dtype[Any], offset: int) -> NpyRows:
        """Numbers in C order that begin at an offset of a file."""
        return cls(url=place.shown, shape=shape, dtype=_native(dtype), place=place, offset=offset, stored=dtype)

    @cached_property
    def _mapped(self) -> Array | None:
        if not isinstance(self.place.fs, LocalFileSystem):
            return None
        return np.memmap(self.place.path, self.stored, "r", self.offset, self.shape) if self.shape[0] else None

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in self.__dict__.items() if name != "_mapped"}

    def _read(self, start: int, stop: int) -> Array:
        width = int(np.prod(self.shape[1:], dtype=np.int64)) * self.stored.itemsize
        self.fetched.add((stop - start) * width)
        if self._mapped is not None:
            return self._mapped[start:stop]
        first, last = self.offset + start * width, self.offset + stop * width
        data = self.place.fs.cat_file(self.place.path, start=first, end=last) if first < last else b""
        return np.frombuffer(data, self.stored).reshape(stop - start, *self.shape[1:])


@dataclass(kw_only=True)
class ParquetColumn(Rows):
    """One column of a Parquet file or a folder of them (in the order of their names), read by row groups."""

    place: Location
    column: str
    files: tuple[str, ...]
    groups: tuple[tuple[int, int], ...]
    first_rows: tuple[int, ...]

    @classmethod
    def open(cls, place: Location, column: str) -> ParquetColumn:
        """Read the footers."""
        import pyarrow.parquet as pq  # noqa: PLC0415  only jobs with such an input pay for it

        files = sorted(f for f in place.fs.find(place.path) if f.endswith((".parquet", ".pq"))) or [place.path]
        groups, first_rows, types = [], [0], set[np.dtype[Any]]()
        for number, file in enumerate(files):
            with place.fs.open(file, "rb") as handle:
                footer = pq.ParquetFile(handle)
                if column not in footer.schema_arrow.names:
                    names = ", ".join(footer.schema_arrow.names)
                    raise InputError(f"{place.shown} has no column {column!r}; it has: {names}")
                kind = footer.schema_arrow.field(column).type
                kind = getattr(kind, "value_type", kind)  # of a categorical column, the type of its values
                if footer.metadata.num_rows:  # an empty file often has another type
                    types.add(np.dtype(kind.to_pandas_dtype()))
                for group in range(footer.num_row_groups):
                    groups.append((number, group))
                    first_rows.append(first_rows[-1] + footer.metadata.row_group(group).num_rows)
        if len(types) > 1:
            raise InputError(f"the files of {place.shown} hold {column!r} as {', '.join(sorted(map(str, types)))}")
        return cls(
            url=f"{place.shown}#{column}", shape=(first_rows[-1],), dtype=types.pop() if types else np.dtype(object),
            place=place, column=column, files=tuple(files), groups=tuple(groups), first_rows=tuple(first_rows),
        )  # fmt: skip

    def _read(self, start: int, stop: int) -> Array:
        import pyarrow.parquet as pq  # noqa: PLC0415

        parts = [np.empty(0, self.dtype)]
        for where in range(bisect_right(self.first_rows, start) - 1, len(self.groups)):
            first = self.first_rows[where]
            if first >= stop:
                break
            number, group = self.groups[where]
            with self.place.fs.open(self.files[number], "rb") as handle:
                values = pq.ParquetFile(handle).read_row_group(group, columns=[self.column]).column(0)
            if values.null_count:
                raise InputError(f"{self.url} has empty cells, {values.null_count:,} of them in rows {first:,} and after")
            parts.append(values.to_numpy()[max(start - first, 0) : stop - first])
        return np.concatenate(parts)
