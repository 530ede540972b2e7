"""Tables in Arrow's own formats, read by record batches: files (Feather 2), and streams such as
Hugging Face's ``datasets`` keeps.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pyarrow as pa

from noisydask.errors import InputError
from noisydask.stores.arrow_sources import open_source
from noisydask.stores.locations import Location
from noisydask.stores.tables.formats import Columns, Look, Piece, TableFile

_FILE, _FEATHER_1 = b"ARROW1", b"FEA1"


class ArrowFiles:
    """Arrow files, Feather files, and streams."""

    name = "arrow"
    parses_whole_rows = False

    def look(self, place: Location) -> Look:
        """Look at the record batches; of a file one column of each, of a stream its place."""
        with open_source(place) as source:
            magic = source.read(6)
            source.seek(0)
            if magic.startswith(_FEATHER_1):
                raise InputError(
                    f"{place.shown} is in the first version of Feather; write it again by "
                    "pyarrow.feather.write_feather"
                )
            if magic == _FILE:
                return _look_at_file(source)
            return _look_at_stream(source, place)

    def read(self, file: TableFile, piece: Piece, columns: Sequence[str]) -> Columns:
        """Read columns of a record batch."""
        with open_source(file.place) as source:
            if piece.stop > piece.start + 1:  # a range of bytes: of a stream
                source.seek(piece.start)
                batch = pa.ipc.read_record_batch(pa.ipc.read_message(source), file.schema)
                table = pa.Table.from_batches([batch]).select(list(columns))
                return Columns(table, piece.stop - piece.start)
            fields = [file.schema.get_field_index(name) for name in columns]
            options = pa.ipc.IpcReadOptions(included_fields=fields, use_threads=False)
            batch = pa.ipc.open_file(source, options=options).get_batch(piece.start)
            table = pa.Table.from_batches([batch]).select(list(columns))
            return Columns(table, table.nbytes)

    def first_row(self, file: TableFile, piece: Piece, column: str) -> pa.Array:
        """Read the first row of a column of a record batch."""
        return self.read(file, piece, [column]).table.column(0).chunk(0)[:1]


def _look_at_file(source: Any) -> Look:
    options = pa.ipc.IpcReadOptions(included_fields=[0], use_threads=False)
    reader = pa.ipc.open_file(source, options=options)
    batches = range(reader.num_record_batches)
    pieces = [Piece(k, k + 1, reader.get_batch(k).num_rows) for k in batches]
    source.seek(0)
    return Look(pa.ipc.open_file(source).schema, pieces)


def _look_at_stream(source: Any, place: Location) -> Look:
    reader = pa.ipc.open_stream(source)
    if any(pa.types.is_dictionary(field.type) for field in reader.schema):
        raise InputError(
            f"{place.shown} is a stream with dictionaries, of which no batch can be read alone; "
            "write it as an Arrow file or as Parquet"
        )
    pieces: list[Piece] = []
    while True:
        start = source.tell()
        try:
            batch = reader.read_next_batch()
        except StopIteration:
            return Look(reader.schema, pieces)
        pieces.append(Piece(start, source.tell(), batch.num_rows))
