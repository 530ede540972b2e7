"""Columns of a table as rows of numbers: a column a class, or one column of lists."""

from __future__ import annotations

from dataclasses import dataclass, field
from threading import Lock
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from noisydask.core.blocks import DEFAULT_BLOCK_BYTES
from noisydask.core.transpose import turn
from noisydask.errors import InputError
from noisydask.stores.tables.class_columns import ClassColumns
from noisydask.stores.tables.table_files import Part, TableFiles, value_type
from noisydask.stores.tables.table_rows import TableRows
from noisydask.text import counted

Array = npt.NDArray[Any]

_LISTS = pa.types.is_list, pa.types.is_large_list, pa.types.is_fixed_size_list
#: Bytes of a tile of columns that are turned into rows together, and its rows at least.
_TILE_BYTES, _LEAST_TILE = 1 << 20, 64
#: Pieces of which rows are still wanted, that stay decoded.
_PIECES_KEPT = 2


@dataclass(kw_only=True)
class TableMatrix(TableRows):
    """Numbers of a table in files, a row of the table a row.

    Attributes
    ----------
    columns : tuple of str
        A column a class, or the one of lists.
    listed : bool
        Whether it is one of lists.
    """

    columns: tuple[str, ...]
    listed: bool
    _kept: dict[int, Array] = field(default_factory=dict, init=False, repr=False)
    _changing: Any = field(default_factory=Lock, init=False, repr=False)

    @classmethod
    def of(cls, files: TableFiles, column: str, classes: ClassColumns) -> TableMatrix:
        """Take the columns of the classes.

        Parameters
        ----------
        files : TableFiles
            The table.
        column : str
            A column of lists, or a pattern of class columns; empty where they follow from
            ``classes``.
        classes : ClassColumns
            What is said of the columns.

        Raises
        ------
        InputError
            If there are no such columns, or they do not hold numbers.
        """
        where = files.place.shown
        if not column and isinstance(classes.chosen, str) and "*" not in classes.chosen:
            column = classes.chosen
        if column and "*" not in column:
            return cls._of_lists(files, column, classes)
        if column:
            classes = ClassColumns(column, classes.class_names)
        columns, names = classes.among(files.schema, where)
        kinds = {name: files.kind_of(name) for name in columns}
        for name, kind in kinds.items():
            if not (pa.types.is_floating(kind) or pa.types.is_integer(kind)):
                hint = f"; name the column by {where}#{name}" if is_list(kind) else ""
                raise InputError(f"{where} holds {name!r} as {kind}: numbers are needed{hint}")
        return cls._made(files, columns, [*kinds.values()], len(columns), names)

    @classmethod
    def _of_lists(cls, files: TableFiles, column: str, classes: ClassColumns) -> TableMatrix:
        kind = files.kind_of(column)
        if not is_list(kind) or not (
            pa.types.is_floating(kind.value_type) or pa.types.is_integer(kind.value_type)
        ):
            raise InputError(
                f"{files.place.shown} holds {column!r} as {kind}, one value a row: name a column "
                "of lists of numbers after the #, or the columns of all classes by a pattern such "
                "as '#p_*'"
            )
        if pa.types.is_fixed_size_list(kind):
            num_classes = kind.list_size
        elif files.rows:
            num_classes = len(files.first_row(column)[0].as_py() or ())
        else:
            num_classes = 0
        return cls._made(files, (column,), [kind.value_type], num_classes, classes.class_names)

    @classmethod
    def _made(
        cls,
        files: TableFiles,
        columns: tuple[str, ...],
        kinds: list[pa.DataType],
        num_classes: int,
        names: tuple[str, ...] | None,
    ) -> TableMatrix:
        dtype = np.result_type(*(np.dtype(kind.to_pandas_dtype()) for kind in kinds))
        largest = files.largest_piece
        fits = largest * num_classes * dtype.itemsize <= DEFAULT_BLOCK_BYTES // 4
        # As writers cut all pieces alike, blocks that hold whole first pieces cut none. That it is
        # the first keeps the blocks of a table that grows.
        first = int(files.first_rows[1]) if len(files.file_of) > 1 else 1
        listed = len(columns) == 1 and is_list(files.kind_of(columns[0]))
        return cls(
            url=files.place.shown + (f"#{columns[0]}" if listed else ""),
            shape=(files.rows, num_classes),
            dtype=dtype,
            chunk_rows=first if fits else largest,
            files=files,
            columns=columns,
            listed=listed,
            class_names=names,
        )

    def reopened(self) -> TableMatrix:
        """Look at the files again."""
        files = TableFiles.open(self.files.place)
        if self.listed:
            return TableMatrix.of(files, self.columns[0], ClassColumns(None, self.class_names))
        return TableMatrix.of(files, "", ClassColumns(self.columns, self.class_names))

    @property
    def layout(self) -> str:
        """Where the numbers lie: the columns by name and order."""
        return f"{self.files.place.path} {self.files.format} {self.columns!r}"

    @property
    def edges(self) -> npt.NDArray[np.int64]:
        """The first row of each piece, and the number of rows."""
        return self.files.first_rows

    @property
    def pieces_at_once(self) -> int:
        """One on a disk: the memory of one piece is used again for the next."""
        return 1 if self.files.place.is_local else 2

    def foresee(self, start: int, stop: int) -> None:
        """Tell that rows will be read."""
        self.files.foresee(start, stop, self.columns)

    def forget(self, start: int, stop: int) -> None:
        """Tell that rows were read."""
        self.files.forget(start, stop)

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_kept": {}, "_changing": None}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state | {"_changing": Lock()})

    def _read(self, start: int, stop: int) -> Array:
        parts = [*self.files.parts(start, stop)]
        if len(parts) == 1:
            return self._part(parts[0])
        out = np.empty((stop - start, self.shape[1]), self.dtype)
        for part in parts:
            out[part.start - start : part.stop - start] = self._part(part)
        return out

    def _part(self, part: Part) -> Array:
        """Return rows of a piece, which stays decoded where more of it will be wanted."""
        first, last = map(int, self.files.first_rows[part.piece : part.piece + 2])
        with self._changing:
            matrix = self._kept.pop(part.piece, None)
        if matrix is None:
            matrix = self._decode(part.piece)
        if part.stop < last:
            with self._changing:
                self._kept[part.piece] = matrix
                while len(self._kept) > _PIECES_KEPT:
                    del self._kept[min(self._kept)]
        return matrix[part.start - first : part.stop - first]

    def _decode(self, piece: int) -> Array:
        table, stored = self.files.read(piece, self.columns)
        self.fetched.add(stored)
        if self.listed:
            return self._of_list(table.column(self.columns[0]), int(self.files.first_rows[piece]))
        return self._of_columns(table)

    def _of_columns(self, table: pa.Table) -> Array:
        """Turn columns into rows, by tiles that stay in the cache."""
        columns = []
        for name in self.columns:
            column = table.column(name)
            if column.null_count and self.dtype.kind != "f":
                raise InputError(f"{self.url} has {column.null_count:,} empty cells in {name!r}")
            columns.append(column.to_numpy())
        rows = np.empty((table.num_rows, len(columns)), self.dtype)
        step = max(_LEAST_TILE, _TILE_BYTES // rows.strides[0])
        tile = np.empty((len(columns), step), self.dtype)
        bits = np.dtype(f"u{self.dtype.itemsize}")
        order = np.arange(len(columns))
        for low in range(0, len(rows), step):
            part = rows[low : low + step]
            for number, column in enumerate(columns):
                tile[number, : len(part)] = column[low : low + step]
            turn(tile.view(bits), order, 0, len(part), part.view(bits))
        return rows

    def _of_list(self, column: pa.ChunkedArray, first: int) -> Array:
        """Return lists as rows; a row that is empty becomes NaN."""
        rows = lists_as_rows(column, self.shape[1], self.url, first)
        return rows.astype(self.dtype, copy=False)


def lists_as_rows(column: pa.ChunkedArray, length: int, where: str, first: int = 0) -> Array:
    """Return lists of one length as rows, of the same memory where all are there; a row that is
    null becomes NaN.

    Raises
    ------
    InputError
        If a list has another length; ``first`` is the number of the first row.

    Examples
    --------
    >>> lists_as_rows(pa.chunked_array([[[0.5, 0.25], None]]), 2, "the column").tolist()
    [[0.5, 0.25], [nan, nan]]
    """
    values = column.combine_chunks()
    if isinstance(values, pa.ChunkedArray):  # of no chunk, or of more than one can hold
        values = pa.concat_arrays(values.chunks)
    there = values.is_valid().to_numpy(zero_copy_only=False)
    lengths = pc.list_value_length(values).fill_null(length)
    wrong = np.flatnonzero(lengths.to_numpy() != length)
    if wrong.size:
        raise InputError(
            f"{where}: {counted(wrong.size, 'row')} of a piece do not have {length:,} numbers as "
            f"the first row does; the first is row {first + int(wrong[0]):,} with "
            f"{lengths[int(wrong[0])].as_py():,}"
        )
    numbers = values.flatten().to_numpy(zero_copy_only=False)
    if there.all():
        return numbers.reshape(-1, length)
    rows = np.full((len(values), length), np.nan, np.result_type(numbers, np.float16))
    rows[there] = numbers.reshape(-1, length)
    return rows


def is_list(kind: pa.DataType) -> bool:
    """Return whether values of a type are lists."""
    return any(test(value_type(kind)) for test in _LISTS)
