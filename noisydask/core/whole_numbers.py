"""Whole numbers of any type become int64, or are refused. Pure."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from noisydask.errors import InputError


def whole_numbers(values: npt.NDArray[Any], name: str) -> npt.NDArray[np.int64]:
    """Return integers as int64.

    Raises
    ------
    InputError
        If one is 2 ** 63 or above, as hashes may be; ``name`` says of what.

    Examples
    --------
    >>> whole_numbers(np.array([7], np.uint64), "ids")
    array([7])
    """
    if (
        values.dtype.kind == "u"
        and values.dtype.itemsize == 8
        and values.size
        and values.max() > np.iinfo(np.int64).max
    ):
        raise InputError(
            f"{name} holds {values.max()}, above 2 ** 63 - 1: give such numbers as text"
        )
    return values.astype(np.int64, copy=False)
