"""Where rows of CSV begin: lines are counted range by range of bytes, without being parsed.

A line break inside quotes ends no row, and whether a byte lies inside quotes depends on all before
it. So a range is counted for both cases, and the ranges are put together in order. Empty lines are
no rows.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from noisydask.core.byte_counts import count_bytes

_NEWLINE, _RETURN, _QUOTE = 10, 13, 34


class Lines(NamedTuple):
    """Line breaks of a range of bytes that begins outside of quotes, or inside.

    Attributes
    ----------
    first, last : int
        Places of the first and the last line break in the file; -1 where there is none.
    after_return : bool
        Whether the first follows a carriage return.
    rows : int
        Lines that end after the first line break and are not empty.
    """

    first: int
    last: int
    after_return: bool
    rows: int


class Range(NamedTuple):
    """A range of bytes, counted.

    Attributes
    ----------
    start, stop : int
        The range.
    outside, inside : Lines
        Its line breaks where it begins outside of quotes, and inside.
    quotes : int
        How many quotes it has.
    last_byte : int
        Its last byte.
    """

    start: int
    stop: int
    outside: Lines
    inside: Lines
    quotes: int
    last_byte: int


def count_lines(content: bytes | memoryview, start: int) -> Range:
    r"""Count the lines of a range of bytes that begins at a place of its file.

    Examples
    --------
    >>> count_lines(b"a,b\n1,2\n", 0).outside
    Lines(first=3, last=7, after_return=False, rows=1)
    """
    values = np.frombuffer(content, np.uint8)
    number, empty, others = count_bytes(values)
    if number and not others:  # as most are: one pass is enough
        text = values.tobytes()
        ends = start + text.find(b"\n"), start + text.rfind(b"\n")
        found = Lines(*ends, False, number - 1 - empty)
        return Range(start, start + len(values), found, _NONE, 0, int(values[-1]))
    breaks = np.flatnonzero(values == _NEWLINE)
    quotes = np.count_nonzero(values == _QUOTE)
    if quotes:
        before = np.cumsum(values == _QUOTE, dtype=np.uint32)[breaks] & 1
        outside, inside = breaks[before == 0], breaks[before == 1]
    else:
        outside, inside = breaks, breaks[:0]
    lines = _lines(values, outside, start), _lines(values, inside, start)
    return Range(start, start + len(values), *lines, int(quotes), int(values[-1]))


#: No line breaks.
_NONE = Lines(-1, -1, False, 0)


def _lines(values: npt.NDArray[np.uint8], breaks: npt.NDArray[np.int64], start: int) -> Lines:
    if not breaks.size:
        return _NONE
    first = int(breaks[0])
    gaps = np.diff(breaks)
    empty = np.count_nonzero(gaps == 1)
    short = breaks[1:][gaps == 2]
    empty += np.count_nonzero(values[short - 1] == _RETURN)
    after_return = first > 0 and values[first - 1] == _RETURN
    return Lines(start + first, start + int(breaks[-1]), bool(after_return), len(gaps) - int(empty))


class Rows(NamedTuple):
    """Whole rows of a file: their range of bytes, how many, and whether any is quoted."""

    start: int
    stop: int
    rows: int
    quoted: bool


def header_bytes(head: bytes) -> int:
    r"""Return where the first row ends that is not empty, which names the columns.

    Examples
    --------
    >>> header_bytes(b'\na,"b\n"\n1,2\n')
    8
    """
    end = start = 0
    while 0 <= end < len(head):
        end = head.find(b"\n", end) + 1 or len(head)
        line = head[start:end]
        if not line.strip(b"\r\n"):
            start = end
        elif line.count(b'"') % 2 == 0:
            break
    return end


def whole_rows(ranges: Iterable[Range], begin: int, size: int, least: int) -> Iterator[Rows]:
    r"""Put counted ranges together, in order, of which the first begins with a row: yield ranges of
    at least so many bytes of whole rows.

    Examples
    --------
    >>> parts = [count_lines(b"0,0\n1,", 4), count_lines(b"2\n\n3,4", 10)]
    >>> list(whole_rows(parts, 4, 16, 1))
    [Rows(start=4, stop=12, rows=2, quoted=False), Rows(start=12, stop=16, rows=1, quoted=False)]
    """
    rows, last_break, odd, quoted, byte = 0, begin - 1, False, False, 0
    for each in ranges:
        lines = each.inside if odd else each.outside
        if lines.first >= 0:
            gap = lines.first - last_break
            after_return = lines.after_return or (lines.first == each.start and byte == _RETURN)
            rows += gap > 1 and not (gap == 2 and after_return)
            if lines.first + 1 - begin >= least and each.start > begin:
                yield Rows(begin, lines.first + 1, rows, quoted or bool(each.quotes))
                begin, rows, quoted = lines.first + 1, 0, False
            rows += lines.rows
            last_break = lines.last
        odd ^= bool(each.quotes & 1)
        quoted |= bool(each.quotes)
        byte = each.last_byte
    rest = size - last_break - 1
    rows += rest > 1 or (rest == 1 and byte != _RETURN)
    if rows:
        yield Rows(begin, size, rows, quoted)
