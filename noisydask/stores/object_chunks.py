"""Chunks of Zarr arrays in buckets, fetched and decoded by threads.

Each thread fetches a chunk by a plain call and decodes it where it is wanted: neither holds
Python's lock, nor waits for an event loop.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from noisydask.stores.chunk_codecs import ChunkCodec
from noisydask.stores.counting import ByteCount
from noisydask.stores.locations import Location
from noisydask.stores.rows import Chunk
from noisydask.stores.threads import at_once

Array = npt.NDArray[Any]


@dataclass(frozen=True)
class ObjectChunks:
    """The chunks of an array in a bucket.

    Attributes
    ----------
    place : Location
        The array.
    codec : ChunkCodec
        How its chunks are decoded.
    fill : object
        What rows are whose chunk is not stored.
    fetched : ByteCount
        Counts the bytes fetched.
    """

    place: Location
    codec: ChunkCodec
    fill: Any
    fetched: ByteCount = field(repr=False)

    def read(self, chunks: Sequence[Chunk], rows: tuple[int, int], columns: slice) -> Array:
        """Read rows that lie in chunks.

        Parameters
        ----------
        chunks : sequence of Chunk
            All that hold any of the rows.
        rows : tuple of int
            The first row and the one after the last.
        columns : slice
            Columns that are wanted, of an array that has columns.
        """
        start, stop = rows
        width = () if len(self.codec.shape) == 1 else (columns.stop - columns.start,)
        out = np.empty((stop - start, *width), self.codec.dtype)

        def put(chunk: Chunk) -> None:
            self._put(chunk, out[chunk.start - start : chunk.stop - start], columns)

        at_once(put, chunks)
        return out

    def _put(self, chunk: Chunk, out: Array, columns: slice) -> None:
        """Put what a chunk holds of the rows where they are wanted."""
        whole = out.shape == self.codec.shape
        part = out
        first = 0
        if chunk.rest:
            held = chunk.rest[0]
            low, high = max(held.start, columns.start), min(held.stop, columns.stop)
            part = out[:, low - columns.start : high - columns.start]
            first = low - held.start
        try:
            content = self.place.fs.cat_file(f"{self.place.path}/{chunk.key}")
        except FileNotFoundError:
            part[...] = 0 if self.fill is None else self.fill  # as Zarr reads it
            return
        self.fetched.add(len(content))
        decoded = self.codec.decode(content, out if whole else None)
        if decoded is out:
            return
        offset = chunk.start % self.codec.shape[0]
        decoded = decoded[offset : offset + len(part)]
        part[...] = decoded[:, first : first + part.shape[1]] if chunk.rest else decoded
