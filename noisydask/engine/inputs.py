"""Inputs of a pass as its tasks read them: one interface, whether they lie in a store, in memory or
in a Dask graph.

Rows in a store are read by the tasks themselves. Rows in memory or in a Dask graph are handed to
the tasks, a block to each; there they are read as if they lay in a store.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy.typing as npt

from noisydask.core.blocks import BlockGrid
from noisydask.engine import graph
from noisydask.engine.deaths import deadly
from noisydask.engine.tasks import tasks_of
from noisydask.lazily import Lazy
from noisydask.stores.arrays import DaskRows
from noisydask.stores.rows import Rows
from noisydask.stores.task_rows import HandedRows, TaskRows

if TYPE_CHECKING:
    from dask.layers import ArrayValuesDep
    from distributed import scheduler
else:
    scheduler = Lazy("distributed.scheduler")

Array = npt.NDArray[Any]


@dataclass(frozen=True)
class BlockPass:
    """A pass over some blocks of inputs: which blocks each task takes, and what it reads.

    Attributes
    ----------
    numbers : ArrayValuesDep
        The blocks of each task.
    """

    numbers: ArrayValuesDep
    _grid: BlockGrid
    _stored: Mapping[str, Rows]
    _handed: Mapping[str, graph.LazyArray]

    def run(self, name: str, task: Callable[..., Any]) -> Any:
        """Do ``task(blocks, inputs)`` for all and return the sum of what it returned."""
        return graph.run_pass(name, self._reading(task), self.numbers, *self._handed.values())

    def run_reading(
        self,
        name: str,
        task: Callable[..., Any],
        source: Rows | DaskRows,
        stands: Callable[[Any], bool],
    ) -> Any:
        """Do a pass as :meth:`run` does; where it kills its workers, the error names a block.

        Parameters
        ----------
        source : Rows or DaskRows
            The input that the blocks are mostly read of.
        stands : callable
            Tells of a block whether it is complete, and so not to blame.
        """
        try:
            return self.run(name, task)
        except scheduler.KilledWorker as error:
            blocks = graph.task_of(error, self.numbers)
            open_blocks = (number_of(block) for block in blocks if not stands(block))
            bounds = next((self._grid.bounds(number) for number in open_blocks), None)
            raise deadly(error, bounds, source) from error

    def frames(self, name: str, task: Callable[..., Any]) -> graph.Frames:
        """Return the frames that ``task(blocks, inputs)`` will return, as an array."""
        return graph.over_blocks(name, self._reading(task), self.numbers, *self._handed.values())

    def _reading(self, task: Callable[..., Any]) -> Callable[..., Any]:
        return _Reading(task, self._grid, self._stored, tuple(self._handed))


@dataclass(frozen=True)
class _Reading:
    """A task over blocks that is given its inputs by name."""

    task: Callable[..., Any]
    grid: BlockGrid
    stored: Mapping[str, Rows]
    handed: tuple[str, ...]

    def __call__(self, blocks: Sequence[Any], *arrays: Array) -> Any:
        inputs: dict[str, TaskRows] = dict(self.stored)
        for name, array in zip(self.handed, arrays, strict=True):
            first, _ = self.grid.bounds(number_of(blocks[0]))
            inputs[name] = HandedRows(name, array, first)
        return self.task(blocks, inputs)


def plan_pass(
    inputs: Mapping[str, Rows | DaskRows],
    grid: BlockGrid,
    blocks: Sequence[Any],
    per_slot: int | None,
) -> BlockPass:
    """Plan a pass over some blocks.

    Parameters
    ----------
    inputs : mapping of str to Rows or DaskRows
        What the tasks read.
    grid : BlockGrid
        All blocks.
    blocks : sequence
        The blocks of the pass: their numbers, or what has one as ``number``.
    per_slot : int, optional
        Tasks for each thread of the cluster, where they read by themselves; without it each task
        takes one block.
    """
    numbers = [number_of(block) for block in blocks]
    if numbers == list(range(grid.num_blocks)):
        some = None
    else:
        some = numbers
    handed = {
        name: graph.block_rows(rows.array, grid, some)
        for name, rows in inputs.items()
        if isinstance(rows, DaskRows)
    }
    stored = {name: rows for name, rows in inputs.items() if isinstance(rows, Rows)}
    tasks = (1,) * len(blocks)
    if per_slot is not None and not handed:
        tasks = tasks_of(len(blocks), per_slot)
    return BlockPass(graph.block_numbers(blocks, tasks), grid, stored, handed)


def number_of(block: Any) -> int:
    """Return the number of a block that is known by it, or holds it."""
    if isinstance(block, int):
        return block
    return int(block.number)
