"""Pieces of a table in files, and units of about a block that are read together."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from operator import itemgetter
from typing import Any, TypeVar

import pandas as pd

from noisydask.dynamics.loss_rows import LossRows

Rows = TypeVar("Rows", LossRows, pd.DataFrame)

#: Rows read, of those there are, at most, where a table needs no shuffle.
_READ_TWICE = 1.5


@dataclass(frozen=True)
class Piece:
    """Rows that are read at once: a row group of a Parquet file, or a range of bytes of a CSV file
    (all of it: no stop).

    ``ids`` says between which ids its rows lie, where that is known; ``order`` which piece of the
    table it is; ``stored`` how many bytes of the file are read for it.
    """

    file: str
    number: int = 0
    rows: int | None = None
    ids: tuple[Any, Any] | None = None
    stop: int | None = None
    order: int = 0
    stored: int = 0


@dataclass(frozen=True)
class Unit:
    """Pieces that a task reads at once; of their rows it takes those of ids from ``low`` on and
    below ``high``.
    """

    pieces: tuple[Piece, ...]
    low: Any = None
    high: Any = None

    def rows_of(self, rows: Rows, column: str) -> Rows:
        """Return the rows that belong to this unit."""
        if self.low is not None:
            rows = rows[rows[column] >= self.low]
        if self.high is not None:
            rows = rows[rows[column] < self.high]
        return rows


def units_by_ids(pieces: Sequence[Piece], block_rows: int) -> tuple[Unit, ...] | None:
    """Return units of about a block that share no id; None where ids lie so that too much would be
    read twice.

    The rows of a table that is sorted by id lie in row groups of which one ends with the id that
    the next begins with: such a row group is read for both units.
    """
    if not pieces or any(piece.ids is None for piece in pieces):
        return None
    bounds = [(low, high, piece) for piece in pieces for low, high in [piece.ids or (None, None)]]
    bounds.sort(key=lambda found: found[:2])
    cuts: list[Any] = [None]
    filled = 0
    start = bounds[0][0]
    for low, _, piece in bounds:
        if filled + (piece.rows or 0) > block_rows and low != start:
            cuts.append(low)
            filled = 0
            start = low
        filled += piece.rows or 0
    units: list[Unit] = []
    first = 0
    left = _READ_TWICE * sum(piece.rows or 0 for piece in pieces)
    for low, high in pairwise([*cuts, None]):
        while low is not None and bounds[first][1] < low:
            first += 1  # it lies below all that is still to come
        if high is None:
            until = len(bounds)
        else:
            until = bisect_left(bounds, high, key=itemgetter(0))
        inside = tuple(
            piece for _, last, piece in bounds[first:until] if low is None or last >= low
        )
        rows = sum(piece.rows or 0 for piece in inside)
        left -= rows
        if left < 0 or (len(inside) > 2 and rows > 2 * block_rows):
            return None
        units.append(Unit(inside, low, high))
    return tuple(units)


def units_in_order(pieces: Sequence[Piece], block_rows: int) -> tuple[Unit, ...]:
    """Return units of about a block, in the order of the files."""
    packed: list[list[Piece]] = []
    filled = 0
    for piece in pieces:
        if packed and filled + (piece.rows or 0) <= block_rows:
            packed[-1].append(piece)
        else:
            packed.append([piece])
            filled = 0
        filled += piece.rows or 0
    return tuple(Unit(tuple(unit)) for unit in packed)
