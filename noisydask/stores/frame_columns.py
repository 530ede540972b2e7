"""Frames of any kind (pandas, Dask, Arrow, Polars, Hugging Face): their columns by name, and those
that are classes.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
from dask.base import is_dask_collection

from noisydask.errors import InputError
from noisydask.stores.tables.class_columns import ClassColumns
from noisydask.stores.tables.table_matrix import lists_as_rows


def columns_of(source: Any) -> list[Any] | None:
    """Return the names of the columns of a frame; None of what is no frame.

    Examples
    --------
    >>> columns_of(pd.DataFrame({"a": [1], "b": [2]})), columns_of(np.zeros(3))
    (['a', 'b'], None)
    """
    if isinstance(source, pd.DataFrame) or _is_lazy(source):
        return list(source.columns)
    if isinstance(source, pa.Table | pa.RecordBatch):
        return list(source.column_names)
    names = getattr(source, "column_names", None) or getattr(source, "columns", None)
    if hasattr(source, "features") or hasattr(source, "__arrow_c_stream__"):
        return list(names) if names is not None else None
    return None


def column_of(source: Any, name: str) -> Any:
    """Return a column of a frame; numbers that stand for the names of classes
    (``datasets.ClassLabel``) as these.
    """
    kinds = getattr(source, "features", None) or {}
    called = getattr(kinds.get(name), "names", None)
    if called is not None:
        codes = np.asarray(as_table(source).column(name).fill_null(-1))
        return np.array([*called, None], object)[codes]
    if isinstance(source, pd.DataFrame) or _is_lazy(source):
        return source[name]
    return as_table(source).column(name)


def as_table(source: Any) -> pa.Table:
    """Return a frame that is none of pandas or Dask as a table of Arrow, of the same memory where
    that is possible.
    """
    if hasattr(source, "with_format"):  # of Hugging Face's datasets
        source = source.with_format("arrow")[:]
    return source if isinstance(source, pa.Table) else pa.table(source)


def with_classes(
    source: Any, classes: ClassColumns, name: str
) -> tuple[Any, tuple[str, ...] | None]:
    """Return a frame with the columns of the classes only, and what these are called.

    Without a word about them all columns are classes; names that are 0 to K-1, in order, are none.
    """
    columns = columns_of(source) or []
    texts = [str(column) for column in columns]
    if isinstance(classes.chosen, str) and "*" not in classes.chosen:
        return _of_lists(source, classes.chosen, columns, name), classes.class_names
    if classes.chosen is None and not classes.others:
        wanted, names = tuple(texts), tuple(texts)
        if classes.class_names is not None and set(classes.class_names) == set(texts):
            wanted = names = classes.class_names
    else:
        wanted, names = classes.among(_schema(source, columns), f"the frame of {name}")
    if len(set(texts)) == len(texts):
        chosen = [columns[texts.index(column)] for column in wanted]
        source = _select(source, chosen, columns)
    told = None if names == tuple(map(str, range(len(names)))) else names
    return source, told


def _select(source: Any, chosen: Sequence[Any], columns: Sequence[Any]) -> Any:
    if isinstance(source, pd.DataFrame) or _is_lazy(source):
        return source if list(chosen) == list(columns) else source[list(chosen)]
    return as_matrix(as_table(source).select(list(chosen)))


def _of_lists(source: Any, column: str, columns: Sequence[Any], name: str) -> Any:
    """Return a column of lists, each as long as the first, as rows."""
    if column not in columns:
        told = ", ".join(map(str, columns[:20]))
        raise InputError(f"the frame of {name} has no column {column!r}; it has: {told}")
    if _is_lazy(source):
        raise InputError(f"{name}: a column of lists of a Dask frame cannot be read; store it")
    lists = column_of(source, column)
    if not isinstance(lists, pa.ChunkedArray):
        return list(lists)
    length = len(lists[0].as_py() or ()) if len(lists) else 0
    return lists_as_rows(lists, length, f"{name}, column {column!r}")


def as_matrix(table: pa.Table) -> np.ndarray[Any, np.dtype[Any]]:
    """Return numbers of a table, a row of the table a row."""
    return np.column_stack([column.to_numpy() for column in table.columns])


def _schema(source: Any, columns: Sequence[Any]) -> pa.Schema:
    """Return which columns hold what."""
    if isinstance(source, pd.DataFrame) or _is_lazy(source):
        kinds = [getattr(kind, "kind", "O") for kind in source.dtypes]
        types = [pa.float64() if kind == "f" else pa.string() for kind in kinds]
        return pa.schema(list(zip(map(str, columns), types, strict=True)))
    return as_table(source).schema


def _is_lazy(source: Any) -> bool:
    return is_dask_collection(source) and hasattr(source, "columns")
