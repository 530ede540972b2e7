"""Tables of recorded losses in CSV: what their first rows tell, and ranges of bytes as rows."""

from __future__ import annotations

import posixpath
from io import BytesIO
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa
from fsspec.utils import read_block

from noisydask.dynamics.table import LossColumns, is_text, written_whole
from noisydask.errors import InputError
from noisydask.stores.locations import Location

#: How names of compressed files end, and of all.
PACKED = (".csv.gz", ".csv.bz2", ".csv.zst", ".csv.xz")
SUFFIXES = (".csv", *PACKED)
#: Bytes of CSV in a byte of such a file, about: 2 to 17 were measured, and too many parts cost less
#: than too few.
UNPACKED = 10
#: Bytes by which the first rows are looked at.
_HEAD = 1 << 16
#: How an empty cell of a number is written.
_EMPTY = ["", "nan", "NaN", "NAN", "NA", "null", "NULL", "None"]

#: Text as Arrow has it, which pandas parses several times as fast as its own.
_TEXT = pd.ArrowDtype(pa.large_string())


def first_ids(place: Location, file: str, columns: LossColumns) -> pd.Series[Any] | None:
    """Return ids of the first rows of a file, as they are written; None where the file is empty."""
    with place.fs.open(file, "rb", compression="infer") as handle:
        head = handle.read(_HEAD)
    if not head.strip():
        return None
    if len(head) == _HEAD:
        lines = head[: head.rfind(b"\n") + 1]
    else:
        lines = head
    first = pd.read_csv(BytesIO(lines), keep_default_na=False)
    columns.require(
        list(first.columns), f"{posixpath.basename(file)} of the table at {place.shown}"
    )
    is_text(first[columns.id].dtype, columns.id)  # refuses what is neither
    return pd.read_csv(BytesIO(lines), keep_default_na=False, usecols=[columns.id], dtype=str)[
        columns.id
    ]


def read_rows(
    place: Location, file: str, span: tuple[int, int | None], columns: LossColumns, text_ids: bool
) -> pd.DataFrame:
    """Read rows of a file that begin in a range of bytes; all of it where the range has no end."""
    start, stop = span
    with place.fs.open(file, "rb", compression="infer") as handle:
        if stop is None:
            return _parse(handle, columns, text_ids)
        rows = read_block(handle, start, stop - start, b"\n")
        if start:
            handle.seek(0)
            rows = handle.readline() + rows
    return _parse(BytesIO(rows), columns, text_ids)


def _parse(source: Any, columns: LossColumns, text_ids: bool) -> pd.DataFrame:
    """Parse CSV as a table; only a loss may be empty."""
    texts = {name: _TEXT for name in (columns.id, columns.subset) if name is not None}
    names = list(columns.names.values())
    empty = {columns.loss: _EMPTY}
    frame = pd.read_csv(source, usecols=names, dtype=texts, keep_default_na=False, na_values=empty)
    frame = frame.assign(**{name: frame[name].mask(frame[name] == "") for name in texts})
    if (
        text_ids or frame[columns.id].isna().any()
    ):  # empty cells are refused with those of other columns
        return frame
    return frame.assign(**{columns.id: _whole_ids(frame[columns.id])})


def _whole_ids(ids: pd.Series[Any]) -> npt.NDArray[np.int64]:
    """Return ids as integers, where the first rows of all files have such."""
    numbers = written_whole(ids)
    if numbers is not None:
        return numbers
    while len(ids) > 1:  # search for the first that is not an integer
        half = ids[: len(ids) // 2]
        ids = half if written_whole(half) is None else ids[len(half) :]
    raise InputError(
        f"column {ids.name!r} of the table holds {ids.iloc[0]!r}, but integers in the first "
        "rows of its files, which say what"
        " ids are: put a row with such an id first in one of them, or give the table as Parquet"
    )
