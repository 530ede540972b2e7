"""What a format of tables has to tell of a file, and which format a name means."""

from __future__ import annotations

import posixpath
from collections.abc import Sequence
from typing import Any, NamedTuple, Protocol

import pyarrow as pa

from noisydask.stores.locations import Location


class Piece(NamedTuple):
    """Rows of a file that are read together.

    Attributes
    ----------
    start, stop : int
        Where they lie, as the format counts: the number of a row group or record batch, a range
        of bytes.
    rows : int
        How many.
    """

    start: int
    stop: int
    rows: int


class Look(NamedTuple):
    """A file before it is read: its columns, and its pieces in order."""

    schema: pa.Schema
    pieces: Sequence[Piece]


class TableFile(NamedTuple):
    """A file that was looked at.

    Attributes
    ----------
    place : Location
        Where it lies.
    schema : Schema
        Its columns.
    kept : dict
        Where a format may keep what is costly to open, by the file's path.
    """

    place: Location
    schema: pa.Schema
    kept: dict[str, Any]


class Columns(NamedTuple):
    """Columns of a piece as they were read, and the stored bytes that this took."""

    table: pa.Table
    stored: int


class Format(Protocol):
    """A kind of files that hold tables; whether whole rows are parsed whichever columns are asked
    for.
    """

    name: str
    parses_whole_rows: bool

    def look(self, place: Location) -> Look:
        """Look at a file without reading its columns."""

    def read(self, file: TableFile, piece: Piece, columns: Sequence[str]) -> Columns:
        """Read columns of a piece."""

    def first_row(self, file: TableFile, piece: Piece, column: str) -> pa.Array:
        """Read the first row of a column of a piece."""


#: How names of tables end that are read in place, and what such a file is.
SUFFIXES = {
    ".parquet": "parquet",
    ".parq": "parquet",
    ".pq": "parquet",
    ".csv": "csv",
    ".tsv": "csv",
    ".arrow": "arrow",
    ".feather": "arrow",
    ".ipc": "arrow",
}
#: Those of files that are packed as a whole, of which no piece can be read alone.
PACKED = tuple(f"{kind}{ending}" for kind in (".csv", ".tsv") for ending in (".gz", ".bz2", ".zst"))


def format_of(path: str) -> str | None:
    """Return the format of a table by the end of its name; None where it has another.

    Examples
    --------
    >>> format_of("s3://bucket/a.CSV"), format_of("labels.zarr")
    ('csv', None)
    """
    return SUFFIXES.get(posixpath.splitext(path.lower())[1])
