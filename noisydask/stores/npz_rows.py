"""Arrays in ``.npz`` files: those that ``numpy.savez`` stored are read as ``.npy`` files are, those
that ``numpy.savez_compressed`` packed from their beginning.
"""

from __future__ import annotations

import zipfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from math import prod
from struct import unpack_from
from threading import Lock
from typing import Any

import numpy as np
import numpy.typing as npt

from noisydask.errors import InputError
from noisydask.stores.conversion import native
from noisydask.stores.listing import Listing
from noisydask.stores.locations import Location
from noisydask.stores.npy_rows import NpyRows, read_header
from noisydask.stores.rows import Chunk, Rows

Array = npt.NDArray[np.generic]

_NPY = ".npy"
#: A local header of a ZIP file, up to the name (APPNOTE 4.3.7): the lengths of name and extra field
#: are its last two numbers.
_LOCAL_HEADER = 30
#: Bytes that are unpacked at once on the way to the rows that are wanted.
_STEP = 1 << 22


def open_npz(place: Location, member: str) -> Rows:
    """Open an array of a ``.npz`` file.

    Raises
    ------
    InputError
        If there is no such array, or several and none was named.
    """
    with place.open() as file, zipfile.ZipFile(file) as archive:
        names = [name.removesuffix(_NPY) for name in archive.namelist() if name.endswith(_NPY)]
        if not member and len(names) == 1:
            member = names[0]
        if names.count(member) != 1:
            what = f"no array {member!r}" if member else f"{len(names):,} arrays"
            raise InputError(
                f"{place.shown} has {what}: name one after a #, such as "
                f"{place.shown}#{names[0] if names else 'pred_probs'}; it has: {', '.join(names)}"
            )
        info = archive.getinfo(member + _NPY)
        where = f"{place.shown}#{member}"
        with archive.open(info) as packed:
            shape, dtype, begin = read_header(packed, where)
    if info.compress_type != zipfile.ZIP_STORED:
        return PackedRows.of(place, member, shape, dtype, begin)
    head = place.read(info.header_offset, info.header_offset + _LOCAL_HEADER)
    name_length, extra_length = unpack_from("<HH", head, 26)
    offset = info.header_offset + _LOCAL_HEADER + name_length + extra_length + begin
    rows = NpyRows.at(place, shape, dtype, offset)
    rows.url = where
    return rows


@dataclass(kw_only=True)
class PackedRows(Rows):
    """Rows of an array that is packed as one: to reach some, all before them are unpacked; what
    follows on what was read last is unpacked from there.
    """

    place: Location
    member: str
    begin: int
    stored: np.dtype[Any]
    _stream: list[Any] = field(default_factory=list, init=False, repr=False)
    _reading: Any = field(default_factory=Lock, init=False, repr=False)

    @classmethod
    def of(
        cls,
        place: Location,
        member: str,
        shape: tuple[int, ...],
        dtype: np.dtype[Any],
        begin: int,
    ) -> PackedRows:
        """Return numbers in C order that begin at an offset of what is unpacked."""
        return cls(
            url=f"{place.shown}#{member}",
            shape=shape,
            dtype=native(dtype),
            place=place,
            member=member,
            begin=begin,
            stored=dtype,
        )

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_stream": [], "_reading": None}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state | {"_reading": Lock()})

    def reopened(self) -> Rows:
        """Read the header again."""
        return open_npz(self.place, self.member)

    @property
    def packages(self) -> frozenset[str]:
        """The package that the file system is of."""
        return self.place.packages

    @property
    def layout(self) -> str:
        """Which array it is."""
        return f"{self.place.path} {self.member} {self.stored.str}"

    def objects(self) -> Listing:
        """List the file, which has one version."""
        return NpyRows.at(self.place, self.shape, self.stored, 0).objects()

    def chunks(self, start: int, stop: int) -> Iterator[Chunk]:
        """Iterate over the file that rows lie in."""
        yield Chunk("", start, stop)

    def _read(self, start: int, stop: int) -> Array:
        width = prod(self.shape[1:]) * self.stored.itemsize
        self.fetched.add((stop - start) * width)
        with self._reading:
            content = self._unpacked(self.begin + start * width, (stop - start) * width)
        return np.frombuffer(content, self.stored).reshape(stop - start, *self.shape[1:])

    def _unpacked(self, offset: int, size: int) -> bytes:
        """Unpack a range of bytes."""
        if not self._stream or self._stream[1] > offset:
            self._open()
        stream, at = self._stream[:2]
        while at < offset:
            skipped = len(stream.read(min(_STEP, offset - at)))
            if not skipped:
                raise EOFError(self.url)
            at += skipped
        content: bytes = stream.read(size)
        self._stream[1] = at + len(content)
        return content

    def _close(self) -> None:
        for holder in self._stream[:1] + self._stream[2:]:
            holder.close()
        self._stream.clear()

    def __del__(self) -> None:
        self._close()

    def _open(self) -> None:
        self._close()
        file = self.place.open()
        archive = zipfile.ZipFile(file)
        self._stream[:] = [archive.open(self.member + _NPY), 0, archive, file]
