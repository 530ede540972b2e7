"""Losses of rows and iterations, as they are read: spans of iterations, and tiles."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import closing
from itertools import pairwise
from typing import Any, cast

import numpy.typing as npt

from noisydask.stores.rows import reads
from noisydask.stores.task_rows import TaskRows
from noisydask.stores.threads import ahead
from noisydask.stores.zarr_rows import ZarrRows

Array = npt.NDArray[Any]


def spans(first: int, last: int, width: int) -> list[tuple[int, int]]:
    """Return ranges of the iterations from ``first`` on that are read at once, in order."""
    return [(low, min(low + width, last)) for low in range(first, last, width)]


def cut_span(span: tuple[int, int], at: int) -> list[tuple[int, int]]:
    """Return a range, in two where ``at`` lies inside."""
    if span[0] < at < span[1]:
        return list(pairwise(sorted({*span, at})))
    return [span]


def tiles(
    start: int, stop: int, losses: TaskRows, wanted: Sequence[tuple[int, int]]
) -> Iterator[tuple[int, int, tuple[int, int], Array]]:
    """Iterate over losses of rows ``start`` to ``stop``: first row and the one after the last,
    iterations, values; each read once, while the one before is used.
    """
    windows = [(span, _window(losses, *span)) for span in wanted]
    pieces = [
        (low, high, span, rows) for span, rows in windows for low, high in reads(rows, start, stop)
    ]
    with closing(ahead(_read, pieces)) as values:
        for (low, high, span, _), value in zip(pieces, values, strict=True):
            yield low, high, span, value


def _read(piece: tuple[int, int, tuple[int, int], TaskRows]) -> Array:
    low, high, _, rows = piece
    return rows.read(low, high)


def _window(losses: TaskRows, first: int, last: int) -> TaskRows:
    """Return the losses of some iterations, which only Zarr arrays are read by."""
    if (first, last) == (0, losses.shape[1]):
        return losses
    return cast(ZarrRows, losses).columns(first, last)
