"""One column of a table as rows: labels or ids, integers, text, or true and false."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from noisydask.errors import InputError
from noisydask.stores.declared import check_rows
from noisydask.stores.listing import Listing
from noisydask.stores.rows import CHANGED, Chunk, Rows
from noisydask.stores.tables.table_files import TableFiles, value_type

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
class TableColumn(Rows):
    """One column of a table in files."""

    files: TableFiles
    column: str

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
        return cls(
            url=f"{files.place.shown}#{column}",
            shape=(files.rows,),
            dtype=np.dtype(kind.to_pandas_dtype()) if files.rows else np.dtype(object),
            files=files,
            column=column,
        )

    def reopened(self) -> TableColumn:
        """Look at the files again."""
        return TableColumn.of(TableFiles.open(self.files.place), self.column)

    @property
    def packages(self) -> frozenset[str]:
        """The package that the file system is of."""
        return self.files.place.packages

    @property
    def layout(self) -> str:
        """Where the column lies."""
        return f"{self.files.place.path} {self.column}"

    def objects(self) -> Listing:
        """List the files: each has one version, whichever rows changed."""
        return self.files.objects()

    def chunks(self, start: int, stop: int) -> Iterator[Chunk]:
        """Iterate over the files that rows lie in."""
        return self.files.chunks(start, stop)

    def values(self, start: int, stop: int) -> Iterator[pa.ChunkedArray]:
        """Iterate over the values of rows as Arrow has them, a piece at a time."""
        for part in self.files.parts(start, stop):
            first, last = map(int, self.files.first_rows[part.piece : part.piece + 2])
            column = self.files.read(part.piece, [self.column]).table.column(self.column)
            if pa.types.is_dictionary(column.type):
                column = column.cast(value_type(column.type))
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
