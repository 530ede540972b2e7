"""One column of a table as rows: labels or ids, integers, text, or true and false."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from noisydask.errors import InputError
from noisydask.stores.declared import check_rows
from noisydask.stores.rows import CHANGED
from noisydask.stores.tables.table_files import TableFiles, value_type
from noisydask.stores.tables.table_rows import TableRows

Array = npt.NDArray[Any]

_TESTS = (
    pa.types.is_integer,
    pa.types.is_floating,
    pa.types.is_boolean,
    pa.types.is_string,
    pa.types.is_large_string,
    pa.types.is_string_view,
)


@dataclass(kw_only=True)
class TableColumn(TableRows):
    """One column of a table in files.

    Attributes
    ----------
    column : str
        Its name.
    called : tuple of str, optional
        What its numbers stand for, where the table says so, as Hugging Face's ``ClassLabel`` does:
        values are these names then.
    """

    column: str
    called: tuple[str, ...] | None = None

    @classmethod
    def of(cls, files: TableFiles, column: str) -> TableColumn:
        """Take a column of integers, floats, booleans or text.

        Raises
        ------
        InputError
            If there is none, or of another type.
        """
        kind = files.kind_of(column)
        if files.rows and not any(test(kind) for test in _TESTS):
            raise InputError(
                f"{files.place.shown} holds {column!r} as {kind}: integers or text are needed"
            )
        called = class_label(files.schema, column) if pa.types.is_integer(kind) else None
        text = called is not None or not files.rows
        return cls(
            url=f"{files.place.shown}#{column}",
            shape=(files.rows,),
            dtype=np.dtype(object if text else kind.to_pandas_dtype()),
            files=files,
            column=column,
            called=called,
        )

    def reopened(self) -> TableColumn:
        """Look at the files again."""
        return TableColumn.of(TableFiles.open(self.files.place), self.column)

    @property
    def layout(self) -> str:
        """Where the column lies."""
        return f"{self.files.place.path} {self.column}"

    def values(self, start: int, stop: int) -> Iterator[pa.ChunkedArray]:
        """Iterate over the values of rows as Arrow has them, a piece at a time."""
        for part in self.files.parts(start, stop):
            first, last = map(int, self.files.first_rows[part.piece : part.piece + 2])
            column = self.files.read(part.piece, [self.column]).table.column(self.column)
            if pa.types.is_dictionary(column.type):
                column = column.cast(value_type(column.type))
            if self.called is not None:
                column = _named(column, self.called)
            kind = np.dtype(column.type.to_pandas_dtype())
            declared = (last - first,), self.dtype
            check_rows(((len(column),), kind), declared, self.where(first, last), CHANGED)
            yield column.slice(part.start - first, part.stop - part.start)

    def _read(self, start: int, stop: int) -> Array:
        parts = []
        for values in self.values(start, stop):
            if values.null_count:
                raise InputError(
                    f"{self.url} has empty cells, {values.null_count:,} of them in rows "
                    f"{start:,} to {stop - 1:,}"
                )
            parts.append(values.to_numpy())
        return np.concatenate(parts) if parts else np.empty(0, self.dtype)


def class_label(schema: pa.Schema, column: str) -> tuple[str, ...] | None:
    """Return the names that numbers of a column stand for, as Hugging Face's ``datasets`` keeps
    them in a schema.
    """
    try:
        kept = json.loads((schema.metadata or {}).get(b"huggingface", b"{}"))
        names = kept["info"]["features"][column]["names"]
    except (ValueError, KeyError, TypeError):
        return None
    return tuple(map(str, names)) if isinstance(names, list) else None


def _named(codes: pa.ChunkedArray, names: tuple[str, ...]) -> pa.ChunkedArray:
    """Return the names of numbers; null of those that have none."""
    known = pc.and_(pc.greater_equal(codes, 0), pc.less(codes, len(names)))
    return pa.array(names, pa.string()).take(pc.if_else(known, codes.cast(pa.int64()), None))
