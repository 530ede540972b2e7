"""Rows of Zarr arrays, read by the fastest pipeline there is for their store."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from functools import cached_property
from itertools import product
from typing import Any, Self, cast

import zarr
from zarr.storage import LocalStore, StorePath, WrapperStore

from noisydask.errors import InputError
from noisydask.stores.chunk_codecs import ChunkCodec
from noisydask.stores.conversion import native
from noisydask.stores.counting import ByteCount
from noisydask.stores.listing import Listing, list_array
from noisydask.stores.locations import packages_of
from noisydask.stores.object_chunks import ObjectChunks
from noisydask.stores.rows import Array, Chunk, Rows
from noisydask.stores.zarr_arrays import OpenArray
from noisydask.stores.zarr_stores import BucketStore

#: Attribute of an array that holds what its columns are called.
CLASS_NAMES = "class_names"


@dataclass(kw_only=True)
class ZarrRows(Rows):
    """Rows of a Zarr array, format 2 or 3, chunked or sharded; of all its columns, or of a window
    of them.
    """

    source: OpenArray = field(repr=False)
    window: tuple[int, int] | None = None

    @classmethod
    def of(cls, array: zarr.Array[Any], url: str) -> ZarrRows:
        """Take an open array, to be read by the fastest pipeline, its bytes counted."""
        if not array.shape:
            raise InputError(f"{url} holds a single number, not rows")
        fetched = ByteCount()
        source = OpenArray(array, url, fetched)
        array = source.array  # opened here: what is wrong with it is said now
        return cls(
            url=url,
            shape=array.shape,
            dtype=native(array.dtype),
            chunk_rows=(array.shards or array.chunks)[0],
            chunk_columns=(array.shards or array.chunks)[1] if array.ndim > 1 else 0,
            class_names=_class_names(array),
            fetched=fetched,
            source=source,
        )

    @property
    def array(self) -> zarr.Array[Any]:
        """The array, open."""
        return self.source.array

    @property
    def packages(self) -> frozenset[str]:
        """The package that the store is of."""
        return packages_of(self.source.store)

    def columns(self, first: int, last: int) -> Self:
        """Return these rows with some of their columns only; the bytes read count here as well."""
        return replace(self, shape=(self.shape[0], last - first), window=(first, last))

    def reopened(self) -> ZarrRows:
        """Read the metadata again."""
        place = StorePath(self.source.store, self.array.path)
        now = ZarrRows.of(zarr.open_array(place, mode="r"), self.url)
        first, last = self.window or (0, now.chunk_columns)
        if self.window:
            return now.columns(first, min(last, now.shape[1]))
        return now

    @cached_property
    def _in_bucket(self) -> ObjectChunks | None:
        """The chunks, where they can be fetched and decoded past Zarr."""
        store = self.source.store
        if not isinstance(store, BucketStore) or self.array.ndim > 2:
            return None
        codec = ChunkCodec.of(self.array)
        if codec is None:
            return None
        place = store.place / self.array.path if self.array.path else store.place
        return ObjectChunks(place, codec, self.fill, self.fetched)

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in self.__dict__.items() if name != "_in_bucket"}

    def _read(self, start: int, stop: int) -> Array:
        if self._in_bucket is not None and start < stop:
            columns = slice(*(self.window or (0, self.shape[-1])))
            return self._in_bucket.read([*self.chunks(start, stop)], (start, stop), columns)
        rows = cast(
            Array,
            self.array[start:stop]
            if self.window is None
            else self.array[start:stop, slice(*self.window)],
        )
        if self.source.by_itself:
            self._count_files(start, stop)
        return rows

    @property
    def layout(self) -> str:
        """The path, and the metadata without the length and the user's attributes."""
        metadata = dict(self.array.metadata.to_dict())
        for name in ("shape", "attributes"):
            metadata.pop(name, None)
        store: Any = self.array.store
        while isinstance(store, WrapperStore):
            store = store._store
        local = isinstance(store, LocalStore)  # of which there are several spellings
        if local:
            root = os.path.realpath(store.root)
        else:
            root = getattr(store, "root", None) or getattr(store, "path", "")
        return f"{root}/{self.array.path} {json.dumps(metadata, sort_keys=True, default=str)}"

    @property
    def fill(self) -> Any:
        """The array's fill value."""
        return self.array.fill_value

    def objects(self) -> Listing | None:
        """List chunks (or shards) and metadata."""
        return list_array(self.array.store, self.array.path)

    def chunks(self, start: int, stop: int) -> Iterator[Chunk]:
        """Iterate over chunks, or shards where there are such."""
        sizes = self.array.shards or self.array.chunks
        others = [
            range(-(-n // size)) for n, size in zip(self.array.shape[1:], sizes[1:], strict=True)
        ]
        if self.window is not None:
            others[0] = range(self.window[0] // sizes[1], -(-self.window[1] // sizes[1]))
        rests = [
            (
                other,
                tuple(
                    slice(k * size, (k + 1) * size)
                    for k, size in zip(other, sizes[1:], strict=True)
                ),
            )
            for other in product(*others)
        ]
        key = self.array.metadata.encode_chunk_key
        for first in range(start // sizes[0], -(-stop // sizes[0])):
            low = max(start, first * sizes[0])
            high = min(stop, (first + 1) * sizes[0])
            for other, rest in rests:
                yield Chunk(key((first, *other)), low, high, rest)

    def _read_chunk(self, chunk: Chunk) -> Array:
        if self._in_bucket is not None:
            columns = chunk.rest[0] if chunk.rest else slice(0, 0)
            return self._in_bucket.read([chunk], (chunk.start, chunk.stop), columns)
        return cast(Array, self.array[(slice(chunk.start, chunk.stop), *chunk.rest)])

    def _count_files(self, start: int, stop: int) -> None:
        """Count what a pipeline fetched that reads files by itself."""
        root = cast(LocalStore, self.array.store).root / self.array.path
        for chunk in self.chunks(start, stop):
            try:
                self.fetched.add(os.stat(root / chunk.key).st_size)
            except FileNotFoundError:
                continue  # a chunk that is all fill value has no object


def _class_names(array: zarr.Array[Any]) -> tuple[str, ...] | None:
    """Return what an array says that its columns are called, if it says so of all; there are more
    names than columns where only the most probable classes are kept.
    """
    names = array.attrs.get(CLASS_NAMES)
    if not isinstance(names, list) or array.ndim != 2 or len(names) < array.shape[1]:
        return None
    return tuple(map(str, names))
