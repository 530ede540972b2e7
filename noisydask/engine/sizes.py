"""Sizes of memory as people write them: ``128MiB``, ``1 GB``, or a number of bytes."""

from __future__ import annotations

import re
from typing import Annotated, Any

from dask.utils import parse_bytes
from pydantic import BeforeValidator

from noisydask.errors import InputError


def _in_bytes(value: Any) -> Any:
    """The bytes of a size that is text; any other value as it is."""
    if not isinstance(value, str):
        return value
    try:
        if re.match(r"\s*\.?\d", value):  # Dask takes "MB", and no text at all, as one of that unit
            return parse_bytes(value)
    except (ValueError, OverflowError):
        pass
    raise ValueError("is not a size, such as 128MiB or 134217728")


#: A size as configurations and the command line take it.
Size = Annotated[int, BeforeValidator(_in_bytes)]


def size_in_bytes(name: str, value: int | str) -> int:
    """The bytes of a size; that a number is one of bytes is checked where it is used.

    Parameters
    ----------
    name : str
        What an error calls it.
    value : int or str
        A number of bytes, or text with a unit.

    Raises
    ------
    InputError
        If it is text and not a size.

    Examples
    --------
    >>> size_in_bytes("block_bytes", "64 MiB"), size_in_bytes("block_bytes", 1000)
    (67108864, 1000)
    >>> size_in_bytes("block_bytes", "MB")
    Traceback (most recent call last):
    noisydask.errors.InputError: block_bytes is not a size, such as 128MiB or 134217728: 'MB'
    """
    try:
        return _in_bytes(value)
    except ValueError as error:
        raise InputError(f"{name} {error}: {value!r}") from None
