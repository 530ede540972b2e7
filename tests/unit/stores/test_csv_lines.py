"""Rows of CSV are found by counting, as the csv module finds them."""

from __future__ import annotations

import csv
import io

import pytest
from hypothesis import given
from hypothesis import strategies as st

from noisydask.stores.tables.csv_lines import count_lines, whole_rows

CELL = st.text(st.sampled_from('a,"\n\r 1'), max_size=4)


def written(rows: list[list[str]], ending: str) -> bytes:
    text = io.StringIO(newline="")
    csv.writer(text, lineterminator=ending, quoting=csv.QUOTE_NONNUMERIC).writerows(rows)
    return text.getvalue().encode()


@given(
    st.lists(st.tuples(CELL, CELL).map(list), min_size=1, max_size=20),
    st.sampled_from(["\n", "\r\n"]),
    st.integers(1, 30),
    st.integers(1, 40),
    st.booleans(),
)
def test_pieces_are_whole_rows(
    rows: list[list[str]], ending: str, step: int, least: int, cut: bool
) -> None:
    content = written(rows, ending)
    if cut:
        content = content[: -len(ending)]
    ranges = [count_lines(content[low : low + step], low) for low in range(0, len(content), step)]
    found = list(whole_rows(ranges, 0, len(content), least))
    assert [found[0].start, *(piece.stop for piece in found)] == [
        *(piece.start for piece in found),
        len(content),
    ]
    read = []
    for piece in found:
        text = content[piece.start : piece.stop].decode()
        part = list(csv.reader(io.StringIO(text, newline="")))
        assert len(part) == piece.rows
        assert piece.quoted == ('"' in text) or piece.quoted
        read += part
    assert read == rows


@pytest.mark.parametrize("ending", [b"\n", b"\r\n"])
@pytest.mark.parametrize("step", [1, 2, 3, 5, 100])
def test_empty_lines_are_no_rows(ending: bytes, step: int) -> None:
    content = ending.join([b"a,b", b"1,2", b"", b"", b"3,4", b"", b""])
    ranges = [count_lines(content[low : low + step], low) for low in range(0, len(content), step)]
    assert sum(piece.rows for piece in whole_rows(ranges, 0, len(content), 1)) == 3


@given(st.text(st.sampled_from("a,1\n"), max_size=60), st.integers(1, 9), st.integers(1, 20))
def test_rows_without_quotes(text: str, step: int, least: int) -> None:
    content = text.encode()
    ranges = [count_lines(content[low : low + step], low) for low in range(0, len(content), step)]
    found = list(whole_rows(ranges, 0, len(content), least))
    assert sum(piece.rows for piece in found) == sum(1 for line in text.split("\n") if line)
    for piece in found:
        lines = content[piece.start : piece.stop].split(b"\n")
        assert piece.rows == sum(1 for line in lines if line)
