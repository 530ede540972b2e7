"""Tables of recorded losses in CSV: what their first rows tell, and ranges of bytes as rows."""

from __future__ import annotations

import posixpath
from io import BytesIO
from typing import Any

import pandas as pd
from fsspec.utils import read_block

from noisydask.losses.table import LossColumns
from noisydask.storage.locations import Location

#: How names of compressed files end, and of all.
PACKED = (".csv.gz", ".csv.bz2", ".csv.zst", ".csv.xz")
SUFFIXES = (".csv", *PACKED)
#: Bytes by which the first rows are looked at.
_HEAD = 1 << 16
#: How an empty cell of a number is written.
_EMPTY = ["", "nan", "NaN", "NAN", "NA", "null", "NULL", "None"]


def first_rows(place: Location, file: str, columns: LossColumns) -> pd.DataFrame | None:
    """First rows of a file; None where it is empty."""
    with place.fs.open(file, "rb", compression="infer") as handle:
        head = handle.read(_HEAD)
    if not head.strip():
        return None
    lines = head[: head.rfind(b"\n") + 1] if len(head) == _HEAD else head
    first = pd.read_csv(BytesIO(lines), keep_default_na=False)
    columns.require(list(first.columns), f"{posixpath.basename(file)} of the table at {place.shown}")
    return first


def read_rows(place: Location, file: str, span: tuple[int, int | None], columns: LossColumns, text_ids: bool) -> pd.DataFrame:
    """Rows of a file that begin in a range of bytes; all of it where the range has no end."""
    names = list(columns.names.values())
    start, stop = span
    with place.fs.open(file, "rb", compression="infer") as handle:
        if stop is None:
            return _parse(handle, columns, text_ids, usecols=names)
        rows = read_block(handle, start, stop - start, b"\n")
        if start:
            handle.seek(0)
            rows = handle.readline() + rows
    return _parse(BytesIO(rows), columns, text_ids, usecols=names)


def _parse(source: Any, columns: LossColumns, text_ids: bool, **how: Any) -> pd.DataFrame:
    """CSV as a table; only a loss may be empty."""
    texts = [columns.subset, columns.id if text_ids else None]
    kinds = {name: str for name in texts if name is not None}
    frame = pd.read_csv(source, dtype=kinds, keep_default_na=False, na_values={columns.loss: _EMPTY}, **how)
    return frame.replace({name: {"": None} for name in kinds}) if kinds else frame
