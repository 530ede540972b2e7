"""Arrays that do not fit each other are refused before a kernel walks over them: compiled loops do
not check an index. Pure.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]


def check_shape(name: str, array: Array, shape: tuple[int, ...]) -> None:
    """Refuse an array of another shape.

    Raises
    ------
    ValueError
        If it has one.

    Examples
    --------
    >>> check_shape("labels", np.zeros(9), (10,))
    Traceback (most recent call last):
    ValueError: labels must have shape (10,), not (9,)
    """
    if array.shape != shape:
        raise ValueError(f"{name} must have shape {shape}, not {array.shape}")


def check_columns(
    columns: Mapping[str, Array], rows: int, dtypes: Mapping[str, np.dtype[Any]] | None = None
) -> None:
    """Refuse columns of another length, or of other types.

    Raises
    ------
    ValueError
        If one does not fit.
    """
    for name, column in columns.items():
        check_shape(name, column, (rows,))
        if dtypes is not None and column.dtype != dtypes[name]:
            raise ValueError(f"{name} must be {dtypes[name]}, not {column.dtype}")


def check_range(name: str, array: Array, stop: int) -> None:
    """Refuse integers that are not 0 to ``stop - 1``.

    Raises
    ------
    ValueError
        If one is not.
    """
    below = array.size and array.dtype.kind == "i" and array.min() < 0
    if below or (array.size and array.max() >= stop):
        raise ValueError(f"{name} must be 0 to {stop - 1}, not {array.min()} to {array.max()}")
