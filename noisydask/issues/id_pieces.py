"""Labels and predictions in different orders are brought together by their ids: what tasks do.

Rows move twice. A task over blocks sorts its ids by a hash into parts, and writes a file with a
record batch a part. A task over parts has all rows of its ids from both sides, matches them, and
writes the label of each position, in order. A task over ranges of positions then puts the labels in
place. Each reads of a file only what it needs.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import reduce
from io import BytesIO
from itertools import pairwise
from operator import add
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa

from noisydask.core.blocks import BlockGrid
from noisydask.core.ranking import Ints
from noisydask.core.whole_numbers import whole_numbers
from noisydask.stores.arrow_sources import open_source
from noisydask.stores.chunks import ChunkedArray
from noisydask.stores.label_codes import NO_CLASS
from noisydask.stores.locations import Location
from noisydask.stores.task_rows import TaskRows

Array = npt.NDArray[Any]

#: Ids that are named of each kind.
FIRST = 5
_SIDES = ("ids", "labels")


@dataclass(frozen=True)
class Matched:
    """Ids that do not match one to one: how many there are of each kind, and the first of each.
    Kinds are ids that occur twice among the predictions, and among the labels; ids of predictions
    without a label; ids of labels without a prediction.
    """

    counts: tuple[int, int, int, int] = (0, 0, 0, 0)
    first: tuple[tuple[Any, ...], ...] = ((), (), (), ())

    def __add__(self, other: Matched) -> Matched:
        counts = tuple(map(add, self.counts, other.counts))
        pairs = zip(self.first, other.first, strict=True)
        first = tuple(tuple(sorted(mine + theirs)[:FIRST]) for mine, theirs in pairs)
        return Matched(counts, first)


@dataclass(frozen=True)
class IdPieces:
    """The files of a join.

    Attributes
    ----------
    folder : Location
        Where they lie.
    parts : int
        Number of parts, and of ranges of positions.
    range_rows : int
        Positions of a range.
    grids : mapping of str to BlockGrid
        Blocks of the predictions' ids, ``ids``, and of the labels, ``labels``.
    """

    folder: Location
    parts: int
    range_rows: int
    grids: Mapping[str, BlockGrid]

    def split(self, blocks: Sequence[int], inputs: Mapping[str, TaskRows], side: str) -> int:
        """Sort rows of blocks into parts: of ``ids`` the positions, of ``labels`` the codes."""
        for block in blocks:
            start, stop = self.grids[side].bounds(block)
            names = _plain(inputs["ids" if side == "ids" else "label_ids"].read(start, stop))
            values: Array = np.arange(start, stop)
            if side == "labels":
                values = inputs["labels"].read(start, stop).astype(np.int64)
            parts = pd.util.hash_array(names, categorize=False) % self.parts
            order = np.argsort(parts, kind="stable")
            bounds = np.searchsorted(parts[order], np.arange(self.parts + 1))
            table = pa.table({"id": pa.array(names[order]), "value": pa.array(values[order])})
            buffer = BytesIO()
            with pa.ipc.new_file(buffer, table.schema) as writer:
                for low, high in pairwise(bounds):
                    rows = table.slice(low, high - low).combine_chunks()
                    writer.write_batch(
                        pa.RecordBatch.from_arrays(
                            [_whole(column) for column in rows.columns], schema=table.schema
                        )
                    )
            (self.folder / f"{side}-{block:08d}.arrow").write(buffer.getvalue())
        return len(blocks)

    def match(self, parts: Sequence[int]) -> Matched:
        """Match the rows of parts."""
        return reduce(add, map(self._match, parts))

    def _match(self, part: int) -> Matched:
        (ids, positions), (label_ids, codes) = (self._read(side, part) for side in _SIDES)
        own, other = pd.Index(ids, dtype=ids.dtype), pd.Index(label_ids, dtype=label_ids.dtype)
        again = own.duplicated(), other.duplicated()
        twice = own[again[0]].unique(), other[again[1]].unique()
        other, codes = other[~again[1]], codes[~again[1]]
        where = other.get_indexer(own)
        matched = np.where(where >= 0, codes[where] if len(codes) else 0, NO_CLASS)
        unused = np.ones(len(other), bool)
        unused[where[where >= 0]] = False
        order = np.argsort(positions)
        positions, matched = positions[order], matched[order]
        edges = np.arange(self.parts + 1) * self.range_rows
        bounds = np.searchsorted(positions, edges).astype(np.int64)
        content = np.concatenate([bounds, positions, matched.astype(np.int64)])
        (self.folder / f"matched-{part:08d}.bin").write(content.tobytes())
        found = (*twice, own[where < 0].unique(), other[unused])
        plain = [sorted(names.tolist())[:FIRST] for names in found]
        return Matched(tuple(map(len, found)), tuple(map(tuple, plain)))  # type: ignore[arg-type]

    def _read(self, side: str, part: int) -> tuple[Array, Ints]:
        """Read all rows of a part from the files of a side."""
        batches = []
        for block in range(self.grids[side].num_blocks):
            with open_source(self.folder / f"{side}-{block:08d}.arrow") as source:
                batches.append(pa.ipc.open_file(source).get_batch(part))
        table = pa.Table.from_batches(batches)
        return table.column("id").to_numpy(), table.column("value").to_numpy()

    def place(self, ranges: Sequence[int], labels: ChunkedArray) -> int:
        """Put the labels of ranges of positions in place, as whole chunks."""
        for number in ranges:
            start = number * self.range_rows
            stop = max(start, min(start + self.range_rows, labels.shape[0]))
            codes = np.full(stop - start, NO_CLASS, np.int64)
            for part in range(self.parts):
                positions, matched = self._of_range(part, number)
                codes[positions - start] = matched
            for low in range(start, stop, labels.chunk_rows):
                chunk = codes[low - start : low - start + labels.chunk_rows]
                labels.write(low // labels.chunk_rows, chunk)
        return len(ranges)

    def _of_range(self, part: int, number: int) -> tuple[Ints, Ints]:
        """Read the positions of a range, and their labels, from the file of a part."""
        place = self.folder / f"matched-{part:08d}.bin"
        head = np.frombuffer(place.read(0, 8 * (self.parts + 1)), np.int64)
        low, high, rows = int(head[number]), int(head[number + 1]), int(head[-1])
        if low == high:
            return np.zeros(0, np.int64), np.zeros(0, np.int64)
        first = 8 * (self.parts + 1)
        spans = ((first + 8 * (low + skip), first + 8 * (high + skip)) for skip in (0, rows))
        positions, codes = (np.frombuffer(place.read(*span), np.int64) for span in spans)
        return positions, codes


def _plain(names: Array) -> Array:
    """Return ids as integers of one width, or as text."""
    return whole_numbers(names, "ids") if names.dtype.kind in "iu" else names.astype(object)


def _whole(column: pa.ChunkedArray) -> pa.Array:
    """Return a column of one chunk at most as an array."""
    return column.chunk(0) if column.num_chunks else pa.array([], column.type)
