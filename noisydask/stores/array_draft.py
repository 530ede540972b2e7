"""A compressed Zarr array that is written by many tasks, and is one only when it is whole.

Its metadata are written last: until then nobody takes what is there for an array, whose missing
chunks would read as its fill value.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, fields
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt
import zarr
from zarr.core.array_spec import ArrayConfig
from zarr.core.buffer import default_buffer_prototype
from zarr.storage import MemoryStore, StorePath

from noisydask.errors import InputError, JobError, NoisydaskError, Setting
from noisydask.stores.failures import cannot_write, reason
from noisydask.stores.locations import Location
from noisydask.stores.zarr_metadata import METADATA
from noisydask.stores.zarr_stores import zarr_store

#: Bytes of a chunk, decoded: large enough for a store, small enough for the cache of a machine.
CHUNK_BYTES = 16 * 1024**2
#: What a process that was killed leaves of a chunk: Zarr writes it beside its place.
_BEGUN = r"(\.[0-9a-f]{32}\.partial)?"
#: Names of chunks of a draft, and of any array, in the words of all formats.
_CHUNK = re.compile(rf"c(/\d+)+{_BEGUN}")
_ANY_CHUNK = re.compile(rf"(c/)?\d+([./]\d+)*{_BEGUN}")
#: Objects by which something is an array, and what else describes one.
_SIGNS = (METADATA, ".zarray")
_KNOWN = {*_SIGNS, ".zattrs"}


@dataclass(frozen=True)
class ArrayDraft:
    """An array that is being written.

    Attributes
    ----------
    place : Location
        Where.
    shape : tuple of int
        Its shape; chunks hold whole rows.
    dtype : dtype
        Its type, of plain numbers.
    chunk_rows, shard_rows : int
        Rows of a chunk, and of a shard, a multiple of that; 0 where there are none.
    attributes : mapping
        Attributes of the array.
    name : str
        What errors call the place.
    """

    place: Location
    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    chunk_rows: int
    shard_rows: int = 0
    attributes: Mapping[str, Any] = field(default_factory=dict)
    name: str = "url"

    @property
    def object_rows(self) -> int:
        """Rows of an object, which one task writes."""
        return self.shard_rows or self.chunk_rows

    @cached_property
    def _metadata(self) -> Any:
        rest = tuple(max(1, size) for size in self.shape[1:])
        array = zarr.create_array(
            MemoryStore(),
            shape=self.shape,
            dtype=self.dtype,
            chunks=(self.chunk_rows, *rest),
            shards=(self.shard_rows, *rest) if self.shard_rows else None,
            attributes=dict(self.attributes),
        )
        return array.metadata

    @cached_property
    def _array(self) -> zarr.Array[Any]:
        store = StorePath(zarr_store(self.place), "")
        config = ArrayConfig.from_dict({"write_empty_chunks": True})
        return zarr.Array(zarr.AsyncArray(self._metadata, store, config=config))

    def __getstate__(self) -> dict[str, Any]:
        return {each.name: self.__dict__[each.name] for each in fields(self)}

    def begin(self, overwrite: bool) -> None:
        """Make room: remove what an unfinished draft left, and with ``overwrite`` an array.

        Raises
        ------
        InputError
            If there is anything else, or nothing can be written there.
        JobError
            If the store cannot be reached.
        """
        try:
            self._make_room(overwrite)
        except NoisydaskError:
            raise
        except Exception as error:
            raise cannot_write(error, self.place, self.name) from error

    def _make_room(self, overwrite: bool) -> None:
        names = self.place.list()
        is_array = not _KNOWN.isdisjoint(names)
        chunk = _ANY_CHUNK if is_array else _CHUNK
        foreign = [name for name in names if name not in _KNOWN and not chunk.fullmatch(name)]
        if foreign:
            raise InputError(
                f"{self.place.shown} holds {foreign[0]!r}, which is no part of an array; give "
                "another place"
            )
        if is_array and not overwrite:
            raise InputError(
                f"there is an array at {self.place.shown}: have it replaced",
                Setting("overwrite", True),
            )
        # First what makes it an array: one whose chunks are gone in part would read as whole.
        for sign in _SIGNS:
            if sign in names:
                (self.place / sign).remove()
        self.place.remove_all()
        self.place.make_folder()

    def write(self, start: int, values: npt.NDArray[Any]) -> None:
        """Write whole objects; doing it twice leaves what doing it once does.

        Raises
        ------
        JobError
            If they cannot be written.
        """
        with self._told():
            self._array[start : start + len(values)] = values

    def publish(self) -> None:
        """Write the metadata: the array is whole."""
        content = self._metadata.to_buffer_dict(default_buffer_prototype())[METADATA]
        with self._told():
            (self.place / METADATA).write(content.to_bytes())

    @contextmanager
    def _told(self) -> Iterator[None]:
        """Say where it was that something could not be written."""
        try:
            yield
        except NoisydaskError:
            raise
        except Exception as error:
            why = reason(error) or getattr(error, "strerror", None) or type(error).__name__
            raise JobError(f"{self.place.shown} cannot be written: {why}") from error


def suitable_chunk(shape: tuple[int, ...], dtype: np.dtype[Any]) -> int:
    """Return rows of a chunk that suit the job.

    Examples
    --------
    >>> suitable_chunk((1_000_000, 1_000), np.dtype("f4")), suitable_chunk((50,), np.dtype("i8"))
    (4194, 50)
    """
    width = dtype.itemsize * int(np.prod(shape[1:], dtype=np.int64))
    return max(1, min(shape[0], CHUNK_BYTES // max(1, width)))
