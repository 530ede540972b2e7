"""Rows of numbers that lie in a file as they lie in memory: ``.npy``."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from errno import EINVAL
from functools import cached_property
from math import prod
from typing import Any

import numpy as np
import numpy.typing as npt

from noisydask.errors import InputError
from noisydask.stores.conversion import native
from noisydask.stores.listing import Listing, file_version, version
from noisydask.stores.locations import Location
from noisydask.stores.rows import CHANGED, Chunk, Rows

Array = npt.NDArray[np.generic]


def read_header(file: Any, where: str) -> tuple[tuple[int, ...], np.dtype[Any], int]:
    """Return shape and type of the array that an open ``.npy`` file holds, and where its numbers
    begin.

    Raises
    ------
    InputError
        If they are Python objects, or not in C order.
    """
    if np.lib.format.read_magic(file) == (1, 0):
        reader = np.lib.format.read_array_header_1_0
    else:
        reader = np.lib.format.read_array_header_2_0
    shape, fortran, dtype = reader(file)
    if dtype.hasobject:
        raise InputError(
            f"{where} holds Python objects, which are never loaded; store plain numbers or text"
        )
    if fortran and len(shape) > 1:
        raise InputError(f"{where} is in Fortran order; save np.ascontiguousarray(array) instead")
    return shape, dtype, file.tell()


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
            shape, dtype, offset = read_header(file, place.shown)
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
