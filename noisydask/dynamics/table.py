"""Tables of recorded losses: what their columns are called, what is accepted, and frames of pandas
and Dask.

Tables in files are on :mod:`noisydask.dynamics.files`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa

from noisydask.core.whole_numbers import whole_numbers
from noisydask.dynamics.loss_rows import LossRows
from noisydask.errors import InputError

#: Type of a text column, as this pandas has it.
TEXT = pd.Series(["text"]).dtype
#: Bytes that a number and a text take in memory, about, with what is made of them while rows are
#: put in order.
_NUMBER_BYTES, _TEXT_BYTES = 16, 40
#: More rows than a piece of a table can have, since it is read into memory.
_PIECE_ROWS = 1 << 36


@dataclass(frozen=True)
class LossColumns:
    """What the columns of a table are called; None where there is none.

    ``numbered`` asks for one more, ``row``: the number of each row, in the order of the table.
    """

    id: str = "id"
    iteration: str = "iteration"
    loss: str = "loss"
    label: str | None = None
    subset: str | None = None
    ann_id: str | None = None
    numbered: bool = False

    def __post_init__(self) -> None:
        names = list(self.names.values())
        if len(set(names)) < len(names):
            raise InputError(f"one column cannot be two things: {', '.join(names)}")

    @property
    def names(self) -> dict[str, str]:
        """Their name of each column by ours."""
        ours = (field.name for field in fields(self) if field.name != "numbered")
        return {name: getattr(self, name) for name in ours if getattr(self, name) is not None}

    def require(self, columns: list[str], where: str) -> None:
        """Refuse a table without one of the columns."""
        twice = [name for name in self.names.values() if columns.count(name) > 1]
        if twice:
            raise InputError(f"{where} has {columns.count(twice[0])} columns {twice[0]!r}")
        missing = [name for name in self.names.values() if name not in columns]
        if missing:
            raise InputError(
                f"{where} has no column {missing[0]!r}; it has: {', '.join(map(str, columns))}"
            )

    def meta(self, text_ids: bool) -> pd.DataFrame:
        """Return a table of our names without rows."""
        kinds: Mapping[str, Any] = {
            "loss": np.float64,
            "subset": TEXT,
            "id": TEXT if text_ids else np.int64,
        }
        names = [*self.names, *(["row"] if self.numbered else [])]
        return pd.DataFrame({name: pd.Series(dtype=kinds.get(name, np.int64)) for name in names})

    def row_bytes(self, text_ids: bool) -> int:
        """Return bytes of a row in memory, about."""
        return sum(
            _TEXT_BYTES if kind == TEXT else _NUMBER_BYTES for kind in self.meta(text_ids).dtypes
        )


def is_text(kind: Any, name: str) -> bool:
    """Return whether ids of a pandas or NumPy type are text; they are integers otherwise.

    Raises
    ------
    InputError
        If they are neither.
    """
    if pd.api.types.is_integer_dtype(kind):
        return False
    if isinstance(kind, pd.CategoricalDtype):
        return is_text(kind.categories.dtype, name)
    if pd.api.types.is_string_dtype(kind) or pd.api.types.is_object_dtype(kind):
        return True
    raise InputError(f"column {name!r} holds {kind}; ids are integers or text, without empty cells")


def written_whole(texts: Any) -> npt.NDArray[np.int64] | None:
    """Return the integers of 64 bits that texts are; None where one is not written as those are:
    007 and 7 are two names.

    Examples
    --------
    >>> written_whole(["7", "-12"]), written_whole(["7", "007"])
    (array([  7, -12]), None)
    """
    column = pa.array(texts, pa.large_string(), from_pandas=True)
    try:
        numbers = column.cast(pa.int64())
    except pa.ArrowInvalid:
        return None
    same = not column.null_count and numbers.cast(column.type).equals(column)
    if same:
        return np.asarray(numbers)
    return None


def checked_rows(frame: pd.DataFrame, columns: LossColumns, text_ids: bool) -> pd.DataFrame:
    """Return rows by our names and types, checked.

    Raises
    ------
    InputError
        If a column holds something else, or has empty cells.
    """
    columns.require(list(frame.columns), "the table")
    if not len(frame):  # a column without values has any type
        return columns.meta(text_ids)
    typed = {}
    for ours, theirs in columns.names.items():
        column = frame[theirs]
        if ours == "loss":
            typed[ours] = _losses(column, theirs)
            continue
        if column.isna().any():
            raise InputError(
                f"column {theirs!r} of the table has {column.isna().sum():,} empty cells"
            )
        text = ours == "subset" or (ours == "id" and is_text(column.dtype, theirs))
        if ours == "id" and text != text_ids and len(column):
            raise InputError(
                f"column {theirs!r} of the table holds integers in one place and text in another"
            )
        if text:
            typed[ours] = _texts(column, theirs)
        else:
            typed[ours] = _whole(column, theirs)
    return pd.DataFrame({name: np.asarray(values) for name, values in typed.items()}).astype(
        {name: TEXT for name in typed if typed[name].dtype.kind not in "if"}
    )


def checked_table(
    table: pa.Table, columns: LossColumns, text_ids: bool, said: Mapping[str, Any]
) -> LossRows:
    """Return rows of a table of Arrow by our names and types, checked; ``said`` are columns of one
    value.

    What is as it should be is taken as it is; all else becomes a frame and is looked at closely.

    Raises
    ------
    InputError
        If a column holds something else, or has empty cells.
    """
    plain = len(table) and not said and len(set(table.column_names)) == table.num_columns
    if plain and all(
        _is_plain(table.column(theirs), ours, text_ids) for ours, theirs in columns.names.items()
    ):
        names = {ours: table.column(theirs) for ours, theirs in columns.names.items()}
        return LossRows.of_arrow(pa.table(names))
    frame = table.to_pandas(ignore_metadata=True).assign(**said)
    return LossRows.of_frame(checked_rows(frame, columns, text_ids))


def _is_plain(column: pa.ChunkedArray, ours: str, text_ids: bool) -> bool:
    """Return whether a column of Arrow needs no closer look."""
    kind = column.type
    if ours == "loss":  # an empty cell is NaN
        return bool(pa.types.is_float32(kind) or pa.types.is_float64(kind))
    if ours == "subset" or (ours == "id" and text_ids):
        if pa.types.is_dictionary(kind):
            whole = not any(chunk.dictionary.null_count for chunk in column.chunks)
            kind = kind.value_type
        else:
            whole = True
        text = pa.types.is_string(kind) or pa.types.is_large_string(kind)
        return bool(text and whole and not column.null_count)
    whole = pa.types.is_integer(kind) and kind != pa.uint64()
    return bool(whole and not column.null_count)


def row_numbers(pieces: Sequence[tuple[int, int]]) -> npt.NDArray[np.int64]:
    """Number rows in the order of the table: ``pieces`` says of which piece of the table they are,
    and how many of each.
    """
    return np.concatenate([piece * _PIECE_ROWS + np.arange(length) for piece, length in pieces])


def _losses(column: pd.Series[Any], name: str) -> Any:
    if not pd.api.types.is_numeric_dtype(column.dtype) or pd.api.types.is_bool_dtype(column.dtype):
        raise InputError(f"column {name!r} of the table holds {column.dtype}; losses are numbers")
    return column.to_numpy(dtype=np.float64, na_value=np.nan)


def _texts(column: pd.Series[Any], name: str) -> Any:
    values = column.astype(object).to_numpy()
    if not all(isinstance(value, str) for value in values):
        raise InputError(
            f"column {name!r} of the table holds {type(values[0]).__name__} and the like; it "
            "must be text"
        )
    return values


def _whole(column: pd.Series[Any], name: str) -> Any:
    if isinstance(column.dtype, pd.CategoricalDtype):
        column = column.astype(column.cat.categories.dtype)
    if not pd.api.types.is_integer_dtype(column.dtype) and len(column):
        raise InputError(f"column {name!r} of the table holds {column.dtype}; it must be integers")
    return whole_numbers(column.to_numpy(), f"column {name!r} of the table")
