"""Uncompressed Zarr arrays written and read a chunk at a time, each chunk one object.

What the passes keep (evidence, scores, indices) is one contiguous piece of numbers a block. Such a
chunk of an uncompressed Zarr array is those bytes and nothing else, so it is written and read
without a codec, and its checksum is that of what was written. Everyone else reads the arrays with
Zarr.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import google_crc32c
import numpy as np
import numpy.typing as npt

from noisydask.lazily import Lazy
from noisydask.stores.locations import Location
from noisydask.stores.zarr_metadata import METADATA, array_metadata

if TYPE_CHECKING:
    import zarr

    from noisydask.stores import zarr_stores
else:
    zarr = Lazy("zarr")
    zarr_stores = Lazy("noisydask.stores.zarr_stores")

Array = npt.NDArray[np.generic]


@dataclass(frozen=True, order=True)
class StoredObject:
    """An object of a run: its path in the run, its bytes, and the CRC-32C of its content in
    hexadecimal.
    """

    path: str
    size: int
    crc32c: str

    @classmethod
    def of(cls, path: str, content: bytes) -> StoredObject:
        """Describe an object by its content."""
        return cls(path, len(content), checksum(content))


def checksum(content: bytes | Array) -> str:
    """Return CRC-32C in hexadecimal."""
    return f"{google_crc32c.value(content):08x}"


@dataclass(frozen=True)
class ChunkedArray:
    """An uncompressed Zarr array (format 3), chunked along its first axis only.

    Attributes
    ----------
    root : Location
        The folder that ``name`` is in; it and the array's folder exist once :meth:`create` was
        called.
    name : str
        Path of the array.
    shape : tuple of int
        Its shape.
    chunk_rows : int
        Rows of a chunk; the last may be used in part.
    dtype : dtype
        Its type.
    """

    root: Location
    name: str
    shape: tuple[int, ...]
    chunk_rows: int
    dtype: np.dtype[Any]

    def create(self) -> StoredObject:
        """Write the metadata, in place of those of any array that was there."""
        place = self.root / self.name
        place.make_folder()
        chunks = (max(1, self.chunk_rows), *(max(1, n) for n in self.shape[1:]))
        content = array_metadata(self.shape, chunks, self.dtype)
        (place / METADATA).write(content)
        return StoredObject.of(f"{self.name}/{METADATA}", content)

    def chunk_name(self, chunk: int) -> str:
        """Return path of a chunk's object below :attr:`root`."""
        return f"{self.name}/" + ".".join([str(chunk), *("0" for _ in self.shape[1:])])

    def bounds(self, chunk: int) -> tuple[int, int]:
        """Return the first row of a chunk and the row after its last."""
        start = chunk * self.chunk_rows
        return start, min(start + self.chunk_rows, self.shape[0])

    def resize(self, shape: tuple[int, ...]) -> None:
        """Give an array that is there another length; chunks beyond it go, the others stay."""
        zarr.open_array(zarr_stores.zarr_store(self.root / self.name), mode="r+").resize(shape)

    def write(self, chunk: int, values: Array) -> str:
        """Write a chunk and return its CRC-32C; doing it twice leaves what doing it once does."""
        whole = self._whole(values)
        (self.root / self.chunk_name(chunk)).write(whole.data)
        return checksum(whole)

    def write_recorded(self, chunk: int, values: Array) -> StoredObject:
        """Write a chunk and describe its object."""
        content = self._whole(values).tobytes()
        (self.root / self.chunk_name(chunk)).write(content)
        return StoredObject.of(self.chunk_name(chunk), content)

    def read_checked(self, chunk: int, crc32c: str) -> Array | None:
        """Read a chunk's rows, or None where it is not what was written: gone, cut short, or
        altered.
        """
        try:
            whole = self._read_whole(chunk)
        except (FileNotFoundError, ValueError):  # a file or object of another size
            return None
        start, stop = self.bounds(chunk)
        if checksum(whole) == crc32c:
            return whole[: stop - start]
        return None

    def read(self, chunk: int) -> Array:
        """Read a chunk's rows."""
        start, stop = self.bounds(chunk)
        return self._read_whole(chunk)[: stop - start]

    def _read_whole(self, chunk: int) -> Array:
        place = self.root / self.chunk_name(chunk)
        shape = (self.chunk_rows, *self.shape[1:])
        if place.is_local:
            return np.memmap(place.path, self.dtype, "r", shape=shape)
        return np.frombuffer(place.read(), self.dtype).reshape(shape)

    def _whole(self, values: Array) -> Array:
        """Return the rows as the store wants them: little-endian, and as many as a chunk has."""
        values = np.ascontiguousarray(values, self.dtype.newbyteorder("<"))
        if len(values) == self.chunk_rows:
            return values
        padded = np.zeros((self.chunk_rows, *self.shape[1:]), values.dtype)
        padded[: len(values)] = values
        return padded
