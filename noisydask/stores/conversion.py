"""Whatever holds numbers or text becomes a NumPy array: tensors, frames and columns of pandas,
Arrow, lists.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
from pandas.api.extensions import ExtensionDtype

from noisydask.errors import InputError

Array = npt.NDArray[Any]


def native(dtype: npt.DTypeLike) -> np.dtype[Any]:
    """Return a type in the byte order of this machine; text of any length is kept as Python's."""
    kind = np.dtype(dtype)
    if kind.kind == "T":
        return np.dtype(object)
    return kind.newbyteorder("=")


def as_array(values: Any, name: str) -> Array:
    """Convert to a NumPy array in the byte order of this machine; a view where that is possible.

    Parameters
    ----------
    values : array-like
        A tensor may be on any device, need gradients, or be of a type that NumPy lacks (bfloat16
        becomes float32). Columns of pandas may be backed by Arrow or hold ``pd.NA``, which becomes
        NaN among floats.
    name : str
        What errors call it.

    Raises
    ------
    InputError
        If it is not an array, or masked, or has empty cells that its type cannot hold.

    Examples
    --------
    >>> as_array(pd.Series([0.5, None], dtype="Float32"), "losses")
    array([0.5, nan], dtype=float32)
    """
    if np.ma.is_masked(values):
        raise InputError(f"{name} is a masked array; fill it first")
    try:
        array = np.asarray(_unwrapped(values))
        if (
            array.dtype.kind == "V" and not array.dtype.fields
        ):  # bfloat16 and its like, of ml_dtypes
            array = array.astype(np.float32)
    except (TypeError, ValueError, RuntimeError) as error:
        ragged = "inhomogeneous" in str(error)
        if ragged:
            why = "its rows differ in length"
        else:
            why = str(error).partition("\n")[0]
        raise InputError(f"{name} cannot be converted to an array: {why}") from error
    return array.astype(native(array.dtype), copy=False)


def _unwrapped(values: Any) -> Any:
    """Return what NumPy alone would not convert, or would to Python objects."""
    if hasattr(values, "detach"):  # a tensor
        values = values.detach().cpu()
        try:
            return values.numpy()
        except TypeError:
            return values.float().numpy()
    if hasattr(values, "__dlpack__") and not hasattr(values, "__array__"):
        return np.from_dlpack(values)
    if isinstance(values, pd.DataFrame | pd.Series | pd.Index):
        if isinstance(values, pd.DataFrame):
            kinds = set(values.dtypes)
        else:
            kinds = {values.dtype}
        if any(isinstance(kind, ExtensionDtype) for kind in kinds):
            plain = np.result_type(*(np.asarray(pd.Series([], dtype=kind)) for kind in kinds))
            if plain.kind == "f":
                return values.to_numpy(plain, na_value=np.nan)
            empty = np.count_nonzero(values.isna())
            if empty:
                raise ValueError(f"it has {empty:,} empty cells")
            return values.to_numpy(plain)
    return values


def as_rows(values: Any, name: str, may_lack: bool = False) -> Array:
    """Do the same as :func:`as_array` for numbers or of text that can be stored; where text
    ``may_lack``, empty cells are None.

    Raises
    ------
    InputError
        If there is anything else in it.
    """
    array = _texts(values, name) if may_lack else as_array(values, name)
    if may_lack and array.dtype.hasobject:
        there = np.array([value is not None for value in array.flat], bool)
        as_rows(array[there], name)
        return array
    if array.dtype.hasobject and not all(isinstance(value, str) for value in array.flat):
        raise InputError(
            f"{name} holds Python objects or empty cells; give an array of numbers or of text"
        )
    if not _is_unicode(array):
        raise InputError(
            f"{name} holds text that no file can: names of files that were not decoded; encode "
            "them otherwise"
        )
    return array


def _texts(values: Any, name: str) -> Array:
    """Return values as an array, of which those that are missing are None where others are text."""
    is_series = isinstance(values, pd.Series)
    if is_series and not pd.api.types.is_numeric_dtype(values.dtype) and values.isna().any():
        return values.astype(object).where(values.notna(), None).to_numpy()
    array = as_array(values, name)
    if array.dtype.hasobject and array.ndim == 1:
        array = array.copy()
        array[pd.isna(array)] = None
    return array


def _is_unicode(array: Array) -> bool:
    """Return whether all text of an array can be stored."""
    if array.dtype.kind == "U" and array.dtype.itemsize:
        letters = np.ascontiguousarray(array).view(np.uint32)
        return not ((letters & 0xFFFFF800) == 0xD800).any()
    return array.dtype.kind != "O" or all(map(is_unicode, array.flat))


def is_unicode(text: str) -> bool:
    """Return whether text can be stored: Python keeps bytes of a name that are not text as halves
    of a character.
    """
    return text.isascii() or not any("\ud800" <= letter <= "\udfff" for letter in text)
