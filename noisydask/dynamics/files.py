"""Tables of recorded losses in files, cut into units that a task reads: row groups of Parquet, byte
ranges of CSV.

Where the statistics of a Parquet dataset show that no id lies in two units, examples are whole
within each unit.
"""

from __future__ import annotations

import posixpath
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import groupby
from operator import attrgetter
from typing import Any

import pandas as pd
import pyarrow.parquet as pq

from noisydask.dynamics import csv_files
from noisydask.dynamics.folders import columns_in_path, number_in_path
from noisydask.dynamics.loss_rows import LossRows, joined_rows
from noisydask.dynamics.table import (
    LossColumns,
    checked_rows,
    checked_table,
    is_text,
    row_numbers,
    written_whole,
)
from noisydask.dynamics.units import Piece, Unit, units_by_ids, units_in_order
from noisydask.errors import InputError, JobError, NoisydaskError
from noisydask.stores.failures import blame, explain, reason
from noisydask.stores.fingerprints import of_files
from noisydask.stores.hints import cannot_be_read
from noisydask.stores.listing import Listing, list_files, version
from noisydask.stores.locations import Location
from noisydask.stores.urls import PARQUET

#: Footers read at once.
_FOOTER_THREADS = 16


@dataclass(frozen=True)
class LossFiles:
    """A table in files.

    Attributes
    ----------
    place : Location
        Its file or folder.
    columns : LossColumns
        What its columns are called.
    units : tuple of Unit
        All of it, each about a block.
    whole : bool
        Whether all rows of an id lie in one unit.
    rows : int or None
        Number of rows, where that is known.
    text_ids : bool
        Whether ids are text.
    num_bytes : int
        Bytes of the rows in memory, about.
    versions : mapping of str to str or None
        Its files as they were before anything was read, each with the version that its store gives
        it.
    """

    place: Location
    columns: LossColumns
    units: tuple[Unit, ...] = field(repr=False)
    whole: bool
    rows: int | None
    text_ids: bool
    num_bytes: int
    versions: Listing = field(default_factory=dict, repr=False)

    @classmethod
    def open(cls, place: Location, columns: LossColumns, block_bytes: int) -> LossFiles:
        """Look at a file or folder.

        Raises
        ------
        InputError
            If there is no table, or without one of the columns.
        """
        try:
            listed = list_files(place)
            parquet = [name for name in listed if name.endswith(PARQUET)]
            csv = [name for name in listed if name.endswith(csv_files.SUFFIXES)]
            if bool(parquet) == bool(csv):
                if csv:
                    what = "both Parquet and CSV files"
                else:
                    what = "no Parquet or CSV file"
                raise InputError(f"the table at {place.shown} has {what}")
            if parquet:
                opened = _open_parquet(place, columns, parquet, block_bytes)
            else:
                opened = _open_csv(
                    place, columns, {name: int(listed[name]["size"]) for name in csv}, block_bytes
                )
            return replace(
                opened, versions={name: version(listed[name]) for name in [*parquet, *csv]}
            )
        except NoisydaskError:
            raise
        except Exception as error:
            raise blame(error)(explain(error, place, "table", what="table")) from error

    @property
    def stored_bytes(self) -> int:
        """Bytes of the files that are read for all units; a piece that two units share counts
        twice.
        """
        return sum(piece.stored for unit in self.units for piece in unit.pieces)

    def read(self, unit: int) -> LossRows:
        """Read rows of a unit, checked."""
        pieces = sorted(self.units[unit].pieces, key=attrgetter("order"))
        try:
            if pieces[0].rows is None:
                read = [self._csv(piece) for piece in pieces]
            else:
                read = [
                    self._parquet(file, [piece.number for piece in some])
                    for file, some in groupby(pieces, attrgetter("file"))
                ]
        except NoisydaskError:
            raise
        except Exception as error:
            why = reason(error) or cannot_be_read(error)
            raise JobError(f"table at {self.place.shown}: {why}") from error
        rows = joined_rows(read)
        if self.columns.numbered and len(rows):
            # Of CSV, whose number of rows is not known, a unit is one piece.
            numbers = row_numbers([(piece.order, piece.rows or len(rows)) for piece in pieces])
            rows = replace(rows, columns={**rows.columns, "row": numbers})
        return self.units[unit].rows_of(rows, "id")

    def describe(self) -> dict[str, Any]:
        """Return what a manifest says of this input; nothing secret."""
        files = {piece.file for unit in self.units for piece in unit.pieces}
        description = {
            "url": self.place.shown,
            "files": len(files),
            "rows": self.rows,
            "columns": self.columns.names,
        }
        return description | {"fingerprint": of_files(self.versions)}

    def _csv(self, piece: Piece) -> LossRows:
        frame = csv_files.read_rows(
            self.place, piece.file, (piece.number, piece.stop), self.columns, self.text_ids
        )
        return LossRows.of_frame(checked_rows(frame, self.columns, self.text_ids))

    def _parquet(self, file: str, groups: list[int]) -> LossRows:
        in_path = columns_in_path(self.place, file)
        names = self.columns.names.values()
        texts = (self.columns.subset, self.columns.id if self.text_ids else None)
        said = {
            name: in_path[name] if name in texts else number_in_path(in_path[name])
            for name in names
            if name in in_path
        }
        stored = [name for name in names if name not in said]
        encoded = [name for name in stored if name in texts]
        with self.place.fs.open(file, "rb") as handle:
            table = pq.ParquetFile(handle, read_dictionary=encoded).read_row_groups(
                groups, columns=stored
            )
        return checked_table(table, self.columns, self.text_ids, said)


def _open_parquet(
    place: Location, columns: LossColumns, files: Sequence[str], block_bytes: int
) -> LossFiles:
    ids_in_paths = [
        in_path[columns.id]
        for in_path in (columns_in_path(place, file) for file in files)
        if columns.id in in_path
    ]
    text_in_path = written_whole(ids_in_paths) is None
    with ThreadPoolExecutor(_FOOTER_THREADS) as pool:
        footers = list(pool.map(partial(_footer, place, columns, text_in_path), files))
    texts = {text for pieces, text in footers if pieces}
    if len(texts) > 1:
        raise InputError(f"the files of {place.shown} hold {columns.id!r} as integers and as text")
    text_ids = texts == {True}
    pieces = [piece for groups, _ in footers for piece in groups]
    pieces = [replace(piece, order=order) for order, piece in enumerate(pieces)]
    row_bytes = columns.row_bytes(text_ids)
    block_rows = max(1, block_bytes // row_bytes)
    rows = sum(piece.rows or 0 for piece in pieces)
    units = units_by_ids(pieces, block_rows)
    whole = units is not None
    if units is None:
        units = units_in_order(pieces, block_rows)
    return LossFiles(
        place, columns, units, whole or len(units) <= 1, rows, text_ids, rows * row_bytes
    )


def _footer(
    place: Location, columns: LossColumns, text_in_path: bool, file: str
) -> tuple[list[Piece], bool]:
    """Return row groups of a file that have rows, and whether its ids are text."""
    in_path = columns_in_path(place, file)
    with place.fs.open(file, "rb") as handle:
        opened = pq.ParquetFile(handle)
        names = opened.schema_arrow.names
        columns.require(
            [*names, *in_path], f"{posixpath.basename(file)} of the table at {place.shown}"
        )
        if columns.id in in_path:
            text = text_in_path
            id_text = in_path[columns.id]
            ids = (id_text if text else int(id_text),) * 2
            leaf = None
        else:
            kind = opened.schema_arrow.field(columns.id).type
            text = is_text(
                pd.Series(dtype=getattr(kind, "value_type", kind).to_pandas_dtype()).dtype,
                columns.id,
            )
            # Names of leaves are not unique: meta.id is called id too. Only a path is, and it not
            # always.
            leaves = [
                k for k in range(len(opened.schema)) if opened.schema.column(k).path == columns.id
            ]
            ids = None
            leaf = leaves[0] if len(leaves) == 1 else None
        wanted = set(columns.names.values())
        pieces = []
        for number in range(opened.num_row_groups):
            group = opened.metadata.row_group(number)
            if leaf is None:
                known = ids
            else:
                known = _bounds(group.column(leaf).statistics)
            if group.num_rows:
                stored = _stored_bytes(group, wanted)
                pieces.append(Piece(file, number, group.num_rows, known, stored=stored))
    return pieces, text


def _stored_bytes(group: Any, names: set[str]) -> int:
    """Return bytes of some columns of a row group, as they lie in the file."""
    leaves = map(group.column, range(group.num_columns))
    return sum(
        leaf.total_compressed_size
        for leaf in leaves
        if leaf.path_in_schema.partition(".")[0] in names
    )


def _bounds(statistics: Any) -> tuple[Any, Any] | None:
    if statistics is None or not statistics.has_min_max:
        return None
    low = statistics.min
    high = statistics.max
    if type(low) is type(high) and isinstance(low, int | str):
        return (low, high)
    return None


def _open_csv(
    place: Location, columns: LossColumns, sizes: dict[str, int], block_bytes: int
) -> LossFiles:
    units: list[Unit] = []
    texts = set()
    num_bytes = 0
    for file, size in sizes.items():
        ids = csv_files.first_ids(place, file, columns)
        if ids is None:
            continue
        texts.add(written_whole(ids) is None)
        if file.endswith(csv_files.PACKED):
            units.append(Unit((Piece(file, order=len(units), stored=size),)))
            num_bytes += csv_files.UNPACKED * size
        else:  # a row takes about as many bytes as text as it does as numbers
            num_bytes += size
            for low in range(0, size, block_bytes):
                stop = min(low + block_bytes, size)
                piece = Piece(file, low, stop=stop, order=len(units), stored=stop - low)
                units.append(Unit((piece,)))
    text_ids = True in texts  # of files that differ, those with text decide
    return LossFiles(place, columns, tuple(units), len(units) == 1, None, text_ids, num_bytes)
