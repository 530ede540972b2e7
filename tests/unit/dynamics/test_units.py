"""Units take each row of a table once, and rows of one id are of one unit."""

from __future__ import annotations

from collections import defaultdict
from itertools import pairwise
from typing import Any

import numpy as np
import pandas as pd
from hypothesis import given
from hypothesis import strategies as st

from noisydask.dynamics.units import Piece, Unit, units_by_ids, units_in_order

IDS = st.one_of(
    st.lists(st.integers(0, 30), min_size=1, max_size=80),
    st.lists(st.sampled_from("abcdefgh"), min_size=1, max_size=80),
)
SIZES = st.lists(st.integers(1, 12), min_size=1, max_size=10)


def pieces_of(ids: list[Any], sizes: list[int]) -> list[tuple[Piece, pd.DataFrame]]:
    """Cut a table into row groups."""
    found, low = [], 0
    while low < len(ids):
        high = low + sizes[len(found) % len(sizes)]
        rows = ids[low:high]
        frame = pd.DataFrame({"id": rows, "row": np.arange(low, low + len(rows))})
        number = len(found)
        ends = (min(rows), max(rows))
        found.append((Piece("a", number, len(rows), ends, order=number), frame))
        low = high
    return found


def rows_of(unit: Unit, frames: dict[Piece, pd.DataFrame]) -> pd.DataFrame:
    return unit.rows_of(pd.concat([frames[piece] for piece in unit.pieces]), "id")


@given(IDS, SIZES, st.integers(1, 40), st.booleans())
def test_units_share_no_id(ids: list[Any], sizes: list[int], block: int, in_order: bool) -> None:
    frames = dict(pieces_of(sorted(ids) if in_order else ids, sizes))
    units = units_by_ids(list(frames), block)
    if units is None:
        return
    rows: list[int] = []
    of_id = defaultdict(set)
    for number, unit in enumerate(units):
        found = rows_of(unit, frames)
        rows += found["row"].tolist()
        for each in found["id"]:
            of_id[each].add(number)
    assert sorted(rows) == list(range(len(ids)))
    assert all(len(numbers) == 1 for numbers in of_id.values())
    assert sum(piece.rows or 0 for unit in units for piece in unit.pieces) <= 1.5 * len(ids)


@given(st.integers(1, 20), st.integers(1, 6), st.integers(6, 30))
def test_a_sorted_table_needs_no_shuffle(num: int, each: int, block: int) -> None:
    frames = dict(pieces_of(sorted(range(num * each)), [each]))
    units = units_by_ids(list(frames), block)
    assert units is not None
    assert sum(len(unit.pieces) for unit in units) == num  # nothing is read twice
    assert all(sum(piece.rows or 0 for piece in unit.pieces) <= block for unit in units)


def test_where_ids_lie_anywhere_units_are_of_no_use() -> None:
    anywhere = [Piece("a", n, 10, (0, 99)) for n in range(20)]
    assert units_by_ids(anywhere, 20) is None
    assert units_by_ids([Piece("a", 0, 10, (0, 9)), Piece("a", 1, 10)], 20) is None
    assert units_by_ids([], 20) is None


@given(st.lists(st.integers(0, 30) | st.none(), max_size=20), st.integers(1, 40))
def test_units_in_the_order_of_files(sizes: list[int | None], block: int) -> None:
    pieces = [Piece("a", number, rows) for number, rows in enumerate(sizes)]
    units = units_in_order(pieces, block)
    assert [piece for unit in units for piece in unit.pieces] == pieces
    rows = [[piece.rows or 0 for piece in unit.pieces] for unit in units]
    assert all(len(unit) == 1 or sum(unit) <= block for unit in rows)
    for unit, later in pairwise(rows):
        assert sum(unit) + later[0] > block
