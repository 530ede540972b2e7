"""Rows that live in files: ``.npy``, a column of Parquet."""

from __future__ import annotations

import os
from bisect import bisect_right
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from errno import EINVAL
from functools import cached_property
from math import prod
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from noisydask.errors import InputError
from noisydask.stores.conversion import native
from noisydask.stores.declared import check_rows
from noisydask.stores.listing import Listing, file_version, list_files, version
from noisydask.stores.locations import Location
from noisydask.stores.rows import CHANGED, Chunk, Rows
from noisydask.stores.urls import PARQUET

Array = npt.NDArray[np.generic]

_TEXT = pa.types.is_string, pa.types.is_large_string, pa.types.is_string_view


@dataclass(kw_only=True)
class NpyRows(Rows):
    """Rows of a ``.npy`` file, mapped where it is local, else fetched by byte ranges."""

    place: Location
    offset: int
    stored: np.dtype[Any]

    @classmethod
    def open(cls, place: Location) -> NpyRows:
        """Read the header of a file."""
        with place.open() as file:
            version = np.lib.format.read_magic(file)
            if version == (1, 0):
                reader = np.lib.format.read_array_header_1_0
            else:
                reader = np.lib.format.read_array_header_2_0
            shape, fortran, dtype = reader(file)
            offset = file.tell()
        if dtype.hasobject:
            raise InputError(
                f"{place.shown} holds Python objects, which are never loaded; store plain "
                "numbers or text"
            )
        if fortran and len(shape) > 1:
            raise InputError(
                f"{place.shown} is in Fortran order; save np.ascontiguousarray(array) instead"
            )
        size = place.fs.size(place.path)
        needed = offset + prod(shape) * dtype.itemsize
        if min(shape, default=0) < 0:
            raise InputError(f"the header of {place.shown} claims the shape {shape}")
        if size < needed:
            raise InputError(f"{place.shown} is cut short: {size:,} bytes of {needed:,}")
        return cls.at(place, shape, dtype, offset)

    @classmethod
    def at(
        cls, place: Location, shape: tuple[int, ...], dtype: np.dtype[Any], offset: int
    ) -> NpyRows:
        """Return numbers in C order that begin at an offset of a file."""
        return cls(
            url=place.shown,
            shape=shape,
            dtype=native(dtype),
            place=place,
            offset=offset,
            stored=dtype,
        )

    @cached_property
    def _mapped(self) -> Array | None:
        if not self.place.is_local:
            return None
        if self.shape[0]:
            return np.memmap(self.place.path, self.stored, "r", self.offset, self.shape)
        return None

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in self.__dict__.items() if name != "_mapped"}

    def reopened(self) -> NpyRows:
        """Read the header again."""
        return NpyRows.open(self.place)

    @property
    def packages(self) -> frozenset[str]:
        """The package that the file system is of."""
        return self.place.packages

    @property
    def layout(self) -> str:
        """Where the numbers lie and how."""
        return f"{self.place.path} {self.offset} {self.stored.str}"

    def objects(self) -> Listing:
        """List the objects: a file has one version, whichever rows changed."""
        if self.place.is_local:
            return {"": file_version(os.stat(self.place.path))}
        self.place.fs.invalidate_cache()
        return {"": version(self.place.fs.info(self.place.path))}

    def chunks(self, start: int, stop: int) -> Iterator[Chunk]:
        """Iterate over the files that rows lie in."""
        yield Chunk("", start, stop)

    def _read(self, start: int, stop: int) -> Array:
        width = int(np.prod(self.shape[1:], dtype=np.int64)) * self.stored.itemsize
        self.fetched.add((stop - start) * width)
        first = self.offset + start * width
        last = self.offset + stop * width
        if self.place.is_local:
            # To read past the end of a mapped file ends the process.
            size = os.stat(self.place.path).st_size
            if size < last:
                raise InputError(
                    f"{self.where(start, stop)}: declared to end at byte {last:,} of the file, "
                    f"which has {size:,} bytes; {CHANGED}"
                )
        if self._mapped is not None:
            return self._mapped[start:stop]
        try:
            data = self.place.read(first, last)
        except OSError as error:
            if error.errno != EINVAL:  # no such range: the file is empty, or was cut short
                raise
            data = b""
        return np.frombuffer(data, self.stored).reshape(stop - start, *self.shape[1:])


@dataclass(kw_only=True)
class ParquetColumn(Rows):
    """One column of a Parquet file or a folder of them, read by row groups.

    The files of a folder come in the natural order of their names, ``part.2`` before ``part.10``,
    as Dask reads them.
    """

    place: Location
    column: str
    files: tuple[str, ...]
    groups: tuple[tuple[int, int], ...]
    first_rows: tuple[int, ...]

    @classmethod
    def open(cls, place: Location, column: str) -> ParquetColumn:
        """Read the footers."""
        files = list(_parquet_files(place))
        groups = []
        first_rows = [0]
        types = set[np.dtype[Any]]()
        for number, file in enumerate(files):
            with place.fs.open(file, "rb") as handle:
                footer = pq.ParquetFile(handle)
                if column not in footer.schema_arrow.names:
                    names = ", ".join(footer.schema_arrow.names)
                    raise InputError(f"{place.shown} has no column {column!r}; it has: {names}")
                kind = footer.schema_arrow.field(column).type
                kind = (
                    kind.value_type if pa.types.is_dictionary(kind) else kind
                )  # of a categorical column
                if footer.metadata.num_rows:  # an empty file often has another type
                    if not any(
                        test(kind) for test in (pa.types.is_integer, pa.types.is_floating, *_TEXT)
                    ):
                        raise InputError(
                            f"{place.shown} holds {column!r} as {kind}: integers or text are needed"
                        )
                    types.add(np.dtype(kind.to_pandas_dtype()))
                for group in range(footer.num_row_groups):
                    groups.append((number, group))
                    first_rows.append(first_rows[-1] + footer.metadata.row_group(group).num_rows)
        if len(types) > 1:
            raise InputError(
                f"the files of {place.shown} hold {column!r} as "
                f"{', '.join(sorted(map(str, types)))}"
            )
        return cls(
            url=f"{place.shown}#{column}",
            shape=(first_rows[-1],),
            dtype=types.pop() if types else np.dtype(object),
            place=place,
            column=column,
            files=tuple(files),
            groups=tuple(groups),
            first_rows=tuple(first_rows),
        )

    def reopened(self) -> ParquetColumn:
        """Read the footers again."""
        return ParquetColumn.open(self.place, self.column)

    @property
    def packages(self) -> frozenset[str]:
        """The package that the file system is of."""
        return self.place.packages

    @property
    def layout(self) -> str:
        """Where the column lies."""
        return f"{self.place.path} {self.column}"

    def objects(self) -> Listing:
        """List the objects: a file has one version, whichever rows changed."""
        self.place.fs.invalidate_cache()
        return {file: version(info) for file, info in _parquet_files(self.place).items()}

    def chunks(self, start: int, stop: int) -> Iterator[Chunk]:
        """Iterate over the files that rows lie in."""
        for where in range(bisect_right(self.first_rows, start) - 1, len(self.groups)):
            low, high = self.first_rows[where : where + 2]
            if low >= stop:
                return
            yield Chunk(self.files[self.groups[where][0]], max(low, start), min(high, stop))

    def _read(self, start: int, stop: int) -> Array:
        parts = []
        for chunk in range(bisect_right(self.first_rows, start) - 1, len(self.groups)):
            first, last = self.first_rows[chunk : chunk + 2]
            if first >= stop:
                break
            if first == last:  # without rows, often of another type
                continue
            number, group = self.groups[chunk]
            with self.place.fs.open(self.files[number], "rb") as handle:
                values = (
                    pq.ParquetFile(handle)
                    .read_row_group(group, columns=[self.column])
                    .column(self.column)
                )
            if values.null_count:
                raise InputError(
                    f"{self.url} has empty cells, {values.null_count:,} of them in rows "
                    f"{first:,} and after"
                )
            rows = values.to_numpy()
            declared = (last - first,), self.dtype
            check_rows((rows.shape, rows.dtype), declared, self.where(first, last), CHANGED)
            parts.append(rows[max(start - first, 0) : stop - first])
        if parts:
            return np.concatenate(parts)
        return np.empty(0, self.dtype)


def _parquet_files(place: Location) -> Mapping[str, Mapping[str, Any]]:
    """Return the Parquet files in a folder; a file whatever it is called."""
    files = {file: info for file, info in list_files(place).items() if file.endswith(PARQUET)}
    return files or {place.path: place.fs.info(place.path)}
