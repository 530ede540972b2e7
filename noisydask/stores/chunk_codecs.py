"""Chunks of plain numbers decoded into the array that they are wanted in, without Zarr's pipeline.

Zarr decodes a chunk into an array of its own, through an event loop that all threads of a process
share. Most arrays of probabilities are plain numbers under one compressor; such a chunk is decoded
here by that compressor straight into place.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from math import prod
from typing import Any

import numpy as np
import numpy.typing as npt
import zarr
from numcodecs import blosc, gzip, lz4, zlib, zstd
from numcodecs.abc import Codec

Array = npt.NDArray[Any]

#: Codecs of format 3 that are numcodecs' own.
_OF_FORMAT_3 = {"zstd": zstd.Zstd, "blosc": blosc.Blosc, "gzip": gzip.GZip}
#: Those of format 2.
_OF_FORMAT_2 = (zstd.Zstd, blosc.Blosc, gzip.GZip, zlib.Zlib, lz4.LZ4)
_ZSTD_MAGIC = b"\x28\xb5\x2f\xfd"


@dataclass(frozen=True)
class ChunkCodec:
    """How chunks of an array are decoded.

    Attributes
    ----------
    shape : tuple of int
        Shape of a chunk.
    dtype : dtype
        Type of the numbers as they are stored.
    compressor : Codec or None
        What they are compressed by.
    """

    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    compressor: Codec | None

    @classmethod
    def of(cls, array: zarr.Array[Any]) -> ChunkCodec | None:
        """Return how chunks of an array are decoded; None where that takes more than a
        compressor: filters, shards, numbers in the byte order of other machines.
        """
        kind = np.dtype(array.dtype)
        if array.shards or array.order != "C" or kind.kind not in "biuf":
            return None
        if array.metadata.zarr_format == 2:
            compressor = array.metadata.compressor
            known = compressor is None or isinstance(compressor, _OF_FORMAT_2)
            if array.metadata.filters or not known or not kind.isnative:
                return None
            return cls(array.chunks, kind, compressor)
        first, *others = array.metadata.codecs
        described: Any = first.to_dict()
        endian = described.get("configuration", {}).get("endian", "little")
        if described["name"] != "bytes" or endian != "little" or len(others) > 1:
            return None
        if not others:
            return cls(array.chunks, kind, None)
        name = others[0].to_dict()["name"]
        if name not in _OF_FORMAT_3:
            return None
        return cls(array.chunks, kind, _OF_FORMAT_3[name]())

    @cached_property
    def num_bytes(self) -> int:
        """Bytes of a chunk when it is decoded."""
        return prod(self.shape) * self.dtype.itemsize

    def decode(self, content: Any, into: Array | None = None) -> Array:
        """Decode a chunk.

        Parameters
        ----------
        content : buffer
            The chunk as it is stored.
        into : ndarray, optional
            Contiguous, of the shape and type of a chunk: the numbers are put there where the
            compressor can.

        Returns
        -------
        ndarray
            The numbers: ``into``, or an array of their own.

        Raises
        ------
        ValueError
            If they are not as many as a chunk has.
        RuntimeError
            If the compressor finds them damaged.
        """
        view = memoryview(content).cast("B")
        fits = into is not None and _decoded_size(self.compressor, view) == self.num_bytes
        if self.compressor is None:
            decoded = np.frombuffer(view, np.uint8)
        elif fits and into is not None:
            self.compressor.decode(view, into.reshape(-1).view(np.uint8))
            return into
        else:
            decoded = np.frombuffer(self.compressor.decode(view), np.uint8)
        if decoded.size != self.num_bytes:
            raise ValueError(f"a chunk of {decoded.size:,} bytes, not {self.num_bytes:,}")
        return decoded.view(self.dtype).reshape(self.shape)


def _decoded_size(compressor: Codec | None, content: memoryview) -> int | None:
    """Return how many bytes a chunk says it has when it is decoded; None where it does not.

    Numcodecs would leave the rest of a larger array as it is.
    """
    if isinstance(compressor, blosc.Blosc):
        return int(blosc.cbuffer_sizes(content)[0]) if len(content) >= 16 else None
    if isinstance(compressor, zstd.Zstd):
        return zstd_content_size(bytes(content[:18]))
    return None


def zstd_content_size(head: bytes) -> int | None:
    """Return the decoded bytes that the header of a zstd frame tells (RFC 8878, 3.1.1.1); None
    where it tells none.

    Examples
    --------
    >>> zstd_content_size(zstd.Zstd().encode(bytes(1000)))
    1000
    """
    if len(head) < 5 or head[:4] != _ZSTD_MAGIC:
        return None
    descriptor = head[4]
    single = descriptor >> 5 & 1
    length = (single, 2, 4, 8)[descriptor >> 6]
    begin = 5 + (1 - single) + (0, 1, 2, 4)[descriptor & 3]
    if not length or len(head) < begin + length:
        return None
    size = int.from_bytes(head[begin : begin + length], "little")
    return size + 256 if length == 2 else size
