"""Rows of a table of losses: to which part each belongs, and their order by example and iteration.

What is counted are positions among distinct values, so that nothing is compared: the time grows
with the number of rows alone. Pure.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from noisydask.core.compiled import kernel
from noisydask.core.distinct import mixed

Array = npt.NDArray[Any]
Codes = npt.NDArray[np.int32]


def parts_of_numbers(ids: npt.NDArray[np.int64], parts: int) -> Codes:
    """Return the part of each id, 0 to ``parts - 1``: the same for the same id, about as many ids
    for each part.

    Examples
    --------
    >>> parts_of_numbers(np.array([7, 8, 9, 7]), 3).tolist()
    [1, 0, 1, 1]
    """
    found = np.empty(len(ids), np.int32)
    _parts_of_numbers(ids, np.uint64(parts), found)
    return found


def parts_of_texts(starts: npt.NDArray[np.int64], letters: Array, parts: int) -> Codes:
    """Do the same as :func:`parts_of_numbers` for texts, whose bytes lie one after the other.

    Parameters
    ----------
    starts : ndarray of int64, (n + 1,)
        Where each text begins; the last where all end.
    letters : ndarray of uint8
        Their bytes.
    parts : int
        How many parts there are.
    """
    found = np.empty(len(starts) - 1, np.int32)
    _parts_of_texts(starts, letters, np.uint64(parts), found)
    return found


@kernel()
def _part(bits, parts):
    return np.int32(((bits >> np.uint64(32)) * parts) >> np.uint64(32))


@kernel()
def _parts_of_numbers(ids, parts, found):
    for i in range(ids.size):
        found[i] = _part(mixed(ids[i]), parts)


@kernel()
def _parts_of_texts(starts, letters, parts, found):
    for i in range(found.size):
        if not 0 <= starts[i] <= starts[i + 1] <= letters.size:
            raise ValueError("starts must rise within letters")
        bits = np.uint64(0xCBF29CE484222325)  # FNV-1a
        for k in range(starts[i], starts[i + 1]):
            bits = (bits ^ np.uint64(letters[k])) * np.uint64(0x100000001B3)
        found[i] = _part(mixed(bits), parts)


def order_of_rows(
    examples: Codes, steps: Codes, num_examples: int, num_steps: int
) -> tuple[Codes, npt.NDArray[np.int64]]:
    """Return the positions of rows in order of their examples, those of one example in order of
    their steps, and where the rows of each example begin; equal rows stay in their order.

    Parameters
    ----------
    examples, steps : ndarray of int32, (n,)
        0 to ``num_examples - 1``, and 0 to ``num_steps - 1``.

    Examples
    --------
    >>> examples, steps = np.array([1, 0, 1, 0], np.int32), np.array([1, 1, 0, 0], np.int32)
    >>> [found.tolist() for found in order_of_rows(examples, steps, 2, 2)]
    [[3, 1, 2, 0], [0, 2, 4]]
    """
    rows = np.zeros(0, np.int32)
    if not _rises(steps):
        rows, _ = _ordered(steps, rows, num_steps)
        examples = np.take(examples, rows)
    return _ordered(examples, rows, num_examples)


def order_of_parts(parts: Codes, num_parts: int) -> tuple[Codes, npt.NDArray[np.int64]]:
    """Return the positions of rows in order of their parts, and where each part begins.

    Examples
    --------
    >>> [found.tolist() for found in order_of_parts(np.array([1, 0, 1], np.int32), 2)]
    [[1, 0, 2], [0, 1, 3]]
    """
    return _ordered(parts, np.zeros(0, np.int32), num_parts)


@kernel()
def _rises(steps):
    ascending = True
    for i in range(1, steps.size):
        ascending &= steps[i - 1] <= steps[i]
    return ascending


@kernel()
def _ordered(codes, rows, num_codes):
    """Return rows in order of their codes, and where each code begins; those of one code stay in
    their order. ``rows`` says of which row each code is: its own where that is empty.
    """
    starts = np.zeros(num_codes + 1, np.int64)
    for i in range(codes.size):
        if codes[i] < 0 or codes[i] >= num_codes:
            raise ValueError("codes must be positions among distinct values")
        starts[codes[i] + 1] += 1
    for code in range(num_codes):
        starts[code + 1] += starts[code]
    order, filled = np.empty(codes.size, np.int32), starts[:-1].astype(np.int32)
    for i in range(codes.size):
        order[filled[codes[i]]] = rows[i] if rows.size else np.int32(i)
        filled[codes[i]] += 1
    return order, starts
