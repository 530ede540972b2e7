"""Which files hold rows of which block of the arrays.

Positions say so themselves. Ids become ranks: they are cut into ranges of about a block each, at
ids that batches of the files begin with; once the distinct ids of each range are counted, it is
known which ranges hold the ids of a block.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import numpy as np
import numpy.typing as npt

from noisydask.core.blocks import DEFAULT_BLOCK_BYTES, BlockGrid, plan_blocks
from noisydask.engine.tasks import run_over_all
from noisydask.predictions.placing import Block, CountIds
from noisydask.predictions.written_files import Kind, Range, WrittenFile
from noisydask.stores.array_draft import suitable_chunk
from noisydask.stores.locations import Location

#: Bytes of a block, decoded.
BLOCK_BYTES = DEFAULT_BLOCK_BYTES


def plan(folder: Location, files: Sequence[WrittenFile]) -> tuple[BlockGrid, list[Block]]:
    """Return the grid of blocks, and the blocks; ids are counted for that, on Dask.

    What it holds is a few names for each file and each block.
    """
    kind, spans = files[0].kind, _Spans(files)
    if kind.num_examples is not None:
        grid = _grid(kind, kind.num_examples)
        bounds = map(grid.bounds, range(grid.num_blocks))
        return grid, [Block(start, stop, spans.touching(start, stop - 1)) for start, stop in bounds]
    most = sum(file.rows for file in files)
    ranges = _ranges(files, _grid(kind, most).num_blocks)
    touching = [spans.touching(ids.low, ids.high) for ids in ranges]
    numbered = list(zip(range(len(ranges)), ranges, touching, strict=True))
    counts = dict(run_over_all("count-ids", CountIds(folder).run, numbered))
    ends = np.cumsum([0, *(counts[number] for number in range(len(ranges)))])
    grid = _grid(kind, int(ends[-1]))
    return grid, [
        _by_id(*grid.bounds(block), ranges, ends, spans) for block in range(grid.num_blocks)
    ]


def _by_id(
    start: int, stop: int, ranges: Sequence[Range], ends: npt.NDArray[Any], spans: _Spans
) -> Block:
    first = int(np.searchsorted(ends, start, "right")) - 1
    after = int(np.searchsorted(ends, stop, "left"))
    own = tuple(ranges[first:after])
    return Block(start, stop, spans.touching(own[0].low, own[-1].high), own, int(ends[first]))


def _grid(kind: Kind, rows: int) -> BlockGrid:
    """Return blocks of whole chunks."""
    dtype = np.dtype(kind.dtype)
    chunk = suitable_chunk((rows, kind.num_classes), dtype)
    return plan_blocks(rows, kind.num_classes * dtype.itemsize, chunk, BLOCK_BYTES)


def _ranges(files: Sequence[WrittenFile], wanted: int) -> list[Range]:
    """Cut ids into about so many ranges, of about as many rows."""
    firsts: list[Any] = sorted(first for file in files for first in file.firsts)
    largest: Any = max(files, key=_high).high
    cuts = [firsts[len(firsts) * k // wanted] for k in range(wanted)]
    ends = [*dict.fromkeys(cuts), largest]
    pairs = list(pairwise(ends))
    return [Range(low, high, k == len(pairs) - 1) for k, (low, high) in enumerate(pairs)]


def _high(file: WrittenFile) -> Any:
    return file.high


class _Spans:
    """The spans of positions or ids that files hold."""

    def __init__(self, files: Sequence[WrittenFile]) -> None:
        kind = object if files[0].kind.rows == "text" else np.int64
        self._names = [file.name for file in files]
        self._lows = np.array([file.low for file in files], kind)
        self._highs = np.array([file.high for file in files], kind)

    def touching(self, low: Any, high: Any) -> tuple[str, ...]:
        """Return the files that may hold positions or ids from ``low`` to ``high``."""
        found = np.flatnonzero((self._lows <= high) & (self._highs >= low))
        return tuple(self._names[number] for number in found)
