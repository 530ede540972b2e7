"""Rows that are undecided, of rows of which only the most probable classes are known: kept in a run
by the passes that find them, and listed at its end.

What a task does; storage is handed in, Dask is not known here.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from noisydask.core.blocks import BlockGrid
from noisydask.issues.grouped import SCRATCH
from noisydask.runs.store import RunStore


@dataclass(frozen=True)
class UndecidedRows:
    """Rows that are undecided for one use.

    Attributes
    ----------
    run : RunStore
        The run, which holds what only its own passes read.
    use : {"joint", "pairs"}
        What they are undecided for: their place in the confident joint, or the pairs of classes by
        which a filter prunes.
    """

    run: RunStore
    use: str

    def _name(self, block: int) -> str:
        return f"{SCRATCH}/undecided-{self.use}-{block:05d}.parquet"

    def write(self, block: int, rows: npt.NDArray[np.bool_]) -> None:
        """Keep which rows of a block are undecided."""
        self.run.write_table(self._name(block), pa.table({"row": np.flatnonzero(rows)}))

    def read(self, block: int) -> npt.NDArray[Any]:
        """Read positions in a block, ascending."""
        rows: npt.NDArray[Any] = self.run.read_table(self._name(block)).column("row").to_numpy()
        return rows


@dataclass(frozen=True)
class UndecidedBlock:
    """A block with rows that are undecided, for some uses."""

    number: int
    uses: tuple[UndecidedRows, ...]

    def rows(self) -> npt.NDArray[Any]:
        """Read positions in the block, ascending, each once."""
        return np.unique(np.concatenate([use.read(self.number) for use in self.uses]))


@dataclass(frozen=True)
class UndecidedCounts:
    """How many rows are undecided of some blocks."""

    blocks: tuple[tuple[int, int], ...] = ()

    def __add__(self, other: UndecidedCounts) -> UndecidedCounts:
        return UndecidedCounts(self.blocks + other.blocks)


def count(blocks: Sequence[UndecidedBlock]) -> UndecidedCounts:
    """Count the rows of blocks."""
    return UndecidedCounts(tuple((block.number, len(block.rows())) for block in blocks))


def positions(blocks: Sequence[UndecidedBlock], grid: BlockGrid) -> npt.NDArray[np.int64]:
    """Return positions of the rows of blocks in the dataset, ascending."""
    return np.concatenate([block.rows() + grid.bounds(block.number)[0] for block in blocks])
