"""Tables in CSV, read by ranges of bytes that hold whole rows."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from io import BytesIO
from itertools import islice
from typing import Any

import pyarrow as pa
import pyarrow.compute as compute
import pyarrow.csv as pc

from noisydask.errors import InputError
from noisydask.stores.locations import Location
from noisydask.stores.tables.csv_lines import Range, count_lines, header_bytes, whole_rows
from noisydask.stores.tables.formats import Columns, Look, Piece, TableFile

#: Bytes of a piece, about.
PIECE_BYTES = 16 * 1024**2
#: Bytes by which the types of columns are found.
_HEAD_BYTES = 1 << 20
#: Bytes that are parsed at once: they stay in the cache.
_PARSED_BYTES = 1 << 20
#: Bytes of which lines are counted at once.
_COUNTED_BYTES = 1 << 18
_THREADS = 4
_TABS = (".tsv",)
#: How an empty cell may be written.
_EMPTY = ["", "nan", "NaN", "NAN", "NA", "N/A", "null", "NULL", "None"]


class Csv:
    """CSV files with a line of names; ``.tsv`` has tabs between cells."""

    name = "csv"
    parses_whole_rows = True

    def look(self, place: Location) -> Look:
        """Count the rows of a file, by reading it once."""
        size = place.fs.size(place.path)
        schema, begin = _header(place, size)
        ranges = _counted(place, begin, size)
        found = whole_rows(ranges, begin, size, PIECE_BYTES)
        return Look(schema, [Piece(rows.start, rows.stop, rows.rows) for rows in found])

    def read(self, file: TableFile, piece: Piece, columns: Sequence[str]) -> Columns:
        """Read columns of whole rows, as the types that the first rows of the file have."""
        place, schema = file.place, file.schema
        content = place.read(piece.start, piece.stop)
        wrong: list[pc.InvalidRow] = []

        def refuse(row: pc.InvalidRow) -> str:
            wrong.append(row)
            return "skip"

        parse = _parsing(place, b'"' in content, refuse)
        convert = _converting({name: schema.field(name).type for name in columns}, columns)
        read = pc.ReadOptions(
            column_names=schema.names,
            use_threads=False,
            block_size=max(_PARSED_BYTES, 8 * len(content) // piece.rows),
        )
        try:
            table = pc.read_csv(pa.BufferReader(content), read, parse, convert)
        except pa.ArrowInvalid:  # where one row is far longer than the others, for one
            wrong.clear()
            read.block_size = len(content) + 1
            table = pc.read_csv(pa.BufferReader(content), read, parse, convert)
        if wrong:
            raise InputError(
                f"{place.shown}: {len(wrong):,} rows do not have the {len(schema):,} cells of the "
                f"header; the first of them has {wrong[0].actual_columns:,}"
            )
        return Columns(table, len(content))

    def first_row(self, file: TableFile, piece: Piece, column: str) -> pa.Array:
        """Read the first row of a column."""
        return self.read(file, piece, [column]).table.column(0).chunk(0)[:1]


def _header(place: Location, size: int) -> tuple[pa.Schema, int]:
    """Return the columns, with the types that the first rows have, and where these begin."""
    head = place.read(0, min(size, _HEAD_BYTES)) if size else b""
    if not head.strip():
        raise InputError(f"{place.shown} is empty: the first line of CSV names its columns")
    if len(head) < size:
        head = head[: head.rfind(b"\n") + 1] or head
    parse = _parsing(place, b'"' in head, lambda _: "skip")
    read = pc.ReadOptions(use_threads=False, block_size=len(head) + 1)
    found = pc.read_csv(BytesIO(head), read, parse, _converting({})).schema
    texts = {field.name: pa.string() for field in found if pa.types.is_integer(field.type)}
    whole = pc.read_csv(BytesIO(head), read, parse, _converting(texts, [*texts])) if texts else {}
    return pa.schema([_as_read(field, whole) for field in found]), header_bytes(head)


def _as_read(field: pa.Field, whole: Any) -> pa.Field:
    """Return a column as it is read: numbers as float32, which keeps those that were float32; what
    looks like a number and is none (``007``) as text.
    """
    kind = field.type
    if pa.types.is_floating(kind):
        return field.with_type(pa.float32())
    if pa.types.is_integer(kind):
        padded = compute.match_substring_regex(whole[field.name], r"^\s*[+-]?0\d")
        return field.with_type(pa.string()) if compute.any(padded).as_py() else field
    if pa.types.is_boolean(kind):
        return field
    return field.with_type(pa.string())


def _parsing(place: Location, quoted: bool, wrong: Any) -> pc.ParseOptions:
    return pc.ParseOptions(
        delimiter="\t" if place.path.lower().endswith(_TABS) else ",",
        newlines_in_values=quoted,
        invalid_row_handler=wrong,
    )


def _converting(
    types: dict[str, pa.DataType], columns: Sequence[str] | None = None
) -> pc.ConvertOptions:
    return pc.ConvertOptions(
        column_types=types,
        include_columns=list(columns or ()),
        null_values=_EMPTY,
        strings_can_be_null=True,
        quoted_strings_can_be_null=False,
    )


def _counted(place: Location, begin: int, size: int) -> Iterator[Range]:
    """Count the lines of the rows of a file, range by range, a few of them at once."""
    starts = iter(range(begin, size, PIECE_BYTES))
    count = partial(_count, place, size)
    with ThreadPoolExecutor(_THREADS, thread_name_prefix="noisydask-lines") as pool:
        begun = [pool.submit(count, start) for start in islice(starts, _THREADS)]
        while begun:
            done = begun.pop(0).result()
            begun.extend(pool.submit(count, start) for start in islice(starts, 1))
            yield from done


def _count(place: Location, size: int, start: int) -> list[Range]:
    """Count the lines of a piece, in ranges that stay in the cache."""
    content = memoryview(place.read(start, min(start + PIECE_BYTES, size)))
    lows = range(0, len(content), _COUNTED_BYTES)
    return [count_lines(content[low : low + _COUNTED_BYTES], start + low) for low in lows]
