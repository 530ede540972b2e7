"""Tables in Parquet, read by row groups."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from noisydask.stores.locations import Location
from noisydask.stores.tables.formats import Columns, Look, Piece, TableFile


class Parquet:
    """Parquet files."""

    name = "parquet"
    parses_whole_rows = False

    def look(self, place: Location) -> Look:
        """Read the footer."""
        with _opened(place, None) as file:
            footer = file.metadata
            groups = range(footer.num_row_groups)
            pieces = [Piece(k, k + 1, footer.row_group(k).num_rows) for k in groups]
            return Look(file.schema_arrow, pieces)

    def read(self, file: TableFile, piece: Piece, columns: Sequence[str]) -> Columns:
        """Read columns of a row group; the footer is read once."""
        path = file.place.path
        with _opened(file.place, file.kept.get(path)) as opened:
            file.kept[path] = opened.metadata
            table = opened.read_row_group(piece.start, columns=list(columns), use_threads=False)
            return Columns(table, _stored(opened.metadata.row_group(piece.start), set(columns)))

    def first_row(self, file: TableFile, piece: Piece, column: str) -> pa.Array:
        """Read the first row of a column of a row group, not the others."""
        with _opened(file.place, None) as opened:
            batches = opened.iter_batches(1, [piece.start], [column], use_threads=False)
            return next(batches).column(column)


def _stored(group: Any, columns: set[str]) -> int:
    """Return the bytes of some columns of a row group, as they lie in the file."""
    leaves = map(group.column, range(group.num_columns))
    return sum(
        leaf.total_compressed_size
        for leaf in leaves
        if leaf.path_in_schema in columns or leaf.path_in_schema.partition(".")[0] in columns
    )


@contextmanager
def _opened(place: Location, footer: Any) -> Iterator[pq.ParquetFile]:
    if place.is_local:
        with pq.ParquetFile(place.path, metadata=footer, memory_map=True) as file:
            yield file
        return
    with place.open() as handle:
        yield pq.ParquetFile(handle, metadata=footer, pre_buffer=True)
