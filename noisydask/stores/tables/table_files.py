"""All files of a table as one sequence of rows, which lie in pieces."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from itertools import groupby
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from noisydask.errors import InputError
from noisydask.stores.listing import Listing, list_files, version
from noisydask.stores.locations import Location
from noisydask.stores.rows import Chunk
from noisydask.stores.tables.arrow_format import ArrowFiles
from noisydask.stores.tables.csv_format import Csv
from noisydask.stores.tables.formats import Columns, Format, Look, Piece, TableFile, format_of
from noisydask.stores.tables.parquet_format import Parquet

Int32s = npt.NDArray[np.int32]
Int64s = npt.NDArray[np.int64]

FORMATS: Mapping[str, Format] = {each.name: each for each in (Parquet(), Csv(), ArrowFiles())}
#: Files that are looked at at once.
_AT_ONCE = 16


class Part(NamedTuple):
    """Rows of the table that lie in one piece: the piece, and the first row and the one after the
    last.
    """

    piece: int
    start: int
    stop: int


@dataclass(frozen=True)
class TableFiles:
    """The files of a table, in the natural order of their names.

    Attributes
    ----------
    place : Location
        The file or folder.
    format : str
        What the files are.
    files : tuple of str
        Paths of the files.
    schemas : tuple of Schema
        The schemas that files have, each once.
    schema_of : ndarray of int32
        Which schema each file has.
    file_of : ndarray of int32, (P,)
        The file of each piece.
    starts, stops : ndarray of int64, (P,)
        Where each piece lies in its file.
    first_rows : ndarray of int64, (P + 1,)
        The first row of each piece, and the number of rows.
    """

    place: Location
    format: str
    files: tuple[str, ...]
    schemas: tuple[pa.Schema, ...] = field(repr=False)
    schema_of: Int32s = field(repr=False)
    file_of: Int32s = field(repr=False)
    starts: Int64s = field(repr=False)
    stops: Int64s = field(repr=False)
    first_rows: Int64s = field(repr=False)
    _kept: dict[str, Any] = field(default_factory=dict, init=False, repr=False, compare=False)
    _foreseen: dict[int, frozenset[str]] = field(
        default_factory=dict, init=False, repr=False, compare=False
    )
    _parsed: dict[int, Columns] = field(default_factory=dict, init=False, repr=False, compare=False)

    @classmethod
    def open(cls, place: Location) -> TableFiles:
        """Look at all files.

        Raises
        ------
        InputError
            If there are none, or of several formats.
        """
        infos = table_files(place)
        kinds = {format_of(file) for file in infos} - {None}
        if len(kinds) > 1:
            raise InputError(
                f"{place.shown} has files of several formats ({', '.join(sorted(map(str, kinds)))})"
            )
        name = str(kinds.pop()) if kinds else "parquet"
        files = tuple(infos)
        with ThreadPoolExecutor(_AT_ONCE) as pool:
            looks = list(pool.map(lambda file: FORMATS[name].look(_at(place, file)), files))
        return cls(place, name, files, *_joined(looks))

    @property
    def rows(self) -> int:
        """Number of rows."""
        return int(self.first_rows[-1])

    @property
    def names(self) -> list[str]:
        """Columns of the first file that has rows."""
        return list(self.schema.names)

    @property
    def schema(self) -> pa.Schema:
        """The schema of the first file that has rows; of the first where none has."""
        first = int(self.file_of[0]) if len(self.file_of) else 0
        return self.schemas[self.schema_of[first]]

    @property
    def largest_piece(self) -> int:
        """Rows of the largest piece."""
        return int(np.diff(self.first_rows).max(initial=0))

    def kind_of(self, column: str) -> pa.DataType:
        """Return the type of a column, which all files that have rows must have alike.

        Raises
        ------
        InputError
            If a file lacks it, has it twice, or has another type.
        """
        kinds: dict[str, tuple[pa.DataType, str]] = {}
        for number in np.unique(self.file_of) if len(self.file_of) else [0]:
            schema, file = self.schemas[self.schema_of[number]], self.files[number]
            times = schema.names.count(column)
            if times != 1:
                where = self.place.shown if len(self.files) == 1 else _at(self.place, file).shown
                if times:
                    raise InputError(f"{where} has {times} columns {column!r}: give each a name")
                raise InputError(f"{where} has no column {column!r}; it has: {_told(schema.names)}")
            kind = value_type(schema.field(column).type)
            kinds.setdefault(_alike(kind), (kind, _at(self.place, file).shown))
        if len(kinds) > 1:
            told = ", ".join(f"{kind} in {file}" for kind, file in kinds.values())
            raise InputError(f"the files of {self.place.shown} hold {column!r} as {told}")
        return next(iter(kinds.values()))[0]

    def parts(self, start: int, stop: int) -> Iterator[Part]:
        """Iterate over the pieces that rows lie in."""
        first = int(np.searchsorted(self.first_rows, start, "right")) - 1
        for piece in range(first, len(self.file_of)):
            low, high = map(int, self.first_rows[piece : piece + 2])
            if low >= stop:
                return
            yield Part(piece, max(low, start), min(high, stop))

    def read(self, piece: int, columns: Sequence[str]) -> Columns:
        """Read columns of a piece; what was parsed with others before is handed out once."""
        parsed = self._parsed.get(piece)
        foreseen = self._foreseen.get(piece, frozenset())
        if parsed is None and foreseen.difference(columns):
            parsed = self._read_together(piece, [*dict.fromkeys((*columns, *sorted(foreseen)))])
        if parsed is None or not {*columns} <= {*parsed.table.column_names}:
            return self._read(piece, columns)
        if foreseen == {*columns}:
            self._forget(piece)
        return Columns(parsed.table.select(columns), parsed.stored)

    def _read_together(self, piece: int, columns: Sequence[str]) -> Columns | None:
        """Parse columns that several inputs will read, and keep them. Return None if this fails:
        each input then reads its own columns, and its error names that input.
        """
        try:
            self._parsed[piece] = self._read(piece, columns)
        except Exception:
            self._forget(piece)
        return self._parsed.get(piece)

    def _read(self, piece: int, columns: Sequence[str]) -> Columns:
        return FORMATS[self.format].read(*self._piece(piece), columns)

    def foresee(self, start: int, stop: int, columns: Sequence[str]) -> None:
        """Tell that columns of rows will be read. Where a format parses whole rows whichever
        columns are asked for, they are then parsed with those that are read before.
        """
        if FORMATS[self.format].parses_whole_rows:
            names = frozenset(columns)
            self._foreseen.update((part.piece, names) for part in self.parts(start, stop))

    def forget(self, start: int, stop: int) -> None:
        """Tell that rows were read."""
        for part in self.parts(start, stop):
            if part.stop == self.first_rows[part.piece + 1]:
                self._forget(part.piece)

    def _forget(self, piece: int) -> None:
        self._foreseen.pop(piece, None)
        self._parsed.pop(piece, None)

    def first_row(self, column: str) -> pa.Array:
        """Read the first row of a column of a table that has rows."""
        return FORMATS[self.format].first_row(*self._piece(0), column)

    def _piece(self, piece: int) -> tuple[TableFile, Piece]:
        """Return the file that a piece lies in, and where."""
        number = int(self.file_of[piece])
        low, high = map(int, self.first_rows[piece : piece + 2])
        where = Piece(int(self.starts[piece]), int(self.stops[piece]), high - low)
        schema = self.schemas[self.schema_of[number]]
        return TableFile(_at(self.place, self.files[number]), schema, self._kept), where

    def chunks(self, start: int, stop: int) -> Iterator[Chunk]:
        """Iterate over the files that rows lie in, with where in them."""
        for number, parts in groupby(
            self.parts(start, stop), lambda part: self.file_of[part.piece]
        ):
            some = list(parts)
            first = int(self.first_rows[np.searchsorted(self.file_of, number)])
            low, high = some[0].start, some[-1].stop
            yield Chunk(self.files[number], low, high, within=(low - first, high - first))

    def objects(self) -> Listing:
        """List the files."""
        self.place.fs.invalidate_cache()
        return {file: version(info) for file, info in table_files(self.place).items()}

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_kept": {}, "_foreseen": {}, "_parsed": {}}


def value_type(kind: pa.DataType) -> pa.DataType:
    """Return the type of a column's values, also of a categorical column."""
    return kind.value_type if pa.types.is_dictionary(kind) else kind


def _alike(kind: pa.DataType) -> str:
    """Return what a type becomes in memory: text is the same whatever Arrow's type of it is."""
    return str(kind) if pa.types.is_nested(kind) else str(np.dtype(kind.to_pandas_dtype()))


def table_files(place: Location) -> Mapping[str, Mapping[str, Any]]:
    """Return the files of a table in a folder; a file whatever it is called."""
    files = {file: info for file, info in list_files(place).items() if format_of(file)}
    return files or {place.path: place.fs.info(place.path)}


def _at(place: Location, file: str) -> Location:
    """Return the place of a file, of which the path is known."""
    inside = file.removeprefix(place.path).strip("/")
    return place / inside if inside else place


def _told(names: Sequence[str], most: int = 20) -> str:
    """Return some names of columns, and how many there are more."""
    more = f", and {len(names) - most:,} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more


def _joined(looks: Sequence[Look]) -> tuple[Any, ...]:
    """Return what is known of all files as arrays; pieces without rows are left out."""
    schemas: list[pa.Schema] = []
    schema_of = []
    for look in looks:
        if look.schema not in schemas:
            schemas.append(look.schema)
        schema_of.append(schemas.index(look.schema))
    pieces = [(file, *piece) for file, look in enumerate(looks) for piece in look.pieces]
    found = np.array([piece for piece in pieces if piece[3]], np.int64).reshape(-1, 4)
    first_rows = np.concatenate([[0], np.cumsum(found[:, 3])]).astype(np.int64)
    arrays = np.array(schema_of, np.int32), found[:, 0].astype(np.int32)
    return (tuple(schemas), *arrays, found[:, 1].copy(), found[:, 2].copy(), first_rows)
