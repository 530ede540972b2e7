"""Rows as they come are compared with what their input declared when it was opened."""

from __future__ import annotations

from typing import Any

import numpy as np

from noisydask.errors import InputError


def check_rows(
    found: tuple[tuple[int, ...], np.dtype[Any]],
    declared: tuple[tuple[int, ...], np.dtype[Any]],
    where: str,
    hint: str,
) -> None:
    """Compare shape and type of rows with those declared; any text is as good as any other.

    Parameters
    ----------
    found, declared : (shape, dtype)
        What came, and what should have.
    where, hint : str
        Of which input and rows, and what may be the cause.

    Raises
    ------
    InputError
        If they differ.

    Examples
    --------
    >>> kind = np.dtype("i8")
    >>> check_rows(((9,), kind), ((10,), kind), "labels, rows 0 to 9", "why?")
    Traceback (most recent call last):
    noisydask.errors.InputError: labels, rows 0 to 9: declared as 10 int64, found as 9 int64; why?
    """
    text = {found[1].kind, declared[1].kind} <= {"O", "U"}
    if found[0] != declared[0] or not (text or found[1] == declared[1]):
        raise InputError(
            f"{where}: declared as {_told(*declared)}, found as {_told(*found)}; {hint}"
        )


def _told(shape: tuple[int, ...], dtype: np.dtype[Any]) -> str:
    return f"{' x '.join(f'{size:,}' for size in shape)} {'text' if dtype.kind in 'OU' else dtype}"
