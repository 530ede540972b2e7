"""The ranking of the main job, run by its client: candidates in order, their positions, the ids of
all examples, and the rows that were refused.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from noisydask.core.auto_rule import AutoRule
from noisydask.core.blocks import BlockGrid
from noisydask.core.ranking import Ints
from noisydask.engine import graph
from noisydask.engine.inputs import plan_pass
from noisydask.engine.ordering import find_parts, write_parts
from noisydask.engine.parts import WrittenPart, written_by
from noisydask.engine.tasks import EVIDENCE_TASKS, run_over_all, tasks_of
from noisydask.issues import passes, ranked, result_arrays, undecided
from noisydask.issues.ensemble import Ensemble
from noisydask.issues.evidence import StoredBlock
from noisydask.runs.store import NewRun
from noisydask.stores.arrays import IDS, DaskRows, Rows, kept_ids
from noisydask.stores.chunks import ChunkedArray


@dataclass(frozen=True)
class IssueRanking:
    """The order of all examples by a score, of which the lowest are candidates.

    Attributes
    ----------
    data : IssueData
        Where the evidence lies.
    order, quality : ChunkedArray
        The scores that order all examples, and their label quality: often the same.
    stored : sequence of StoredBlock
        All blocks of the evidence.
    ids : Rows, optional
        Ids of all examples.
    class_names : sequence of str, optional
        Names of the classes.
    all_flagged : bool
        Whether all candidates are issues; else those are dropped that agree with their prediction.
    rule : AutoRule, optional
        Suggests labels; without it, the prediction is suggested.
    ensemble : Ensemble, optional
        Several models, whose agreement is told.
    """

    data: passes.IssueData
    order: ChunkedArray
    quality: ChunkedArray
    stored: Sequence[StoredBlock]
    ids: Rows | None
    class_names: Sequence[str] | None
    all_flagged: bool = False
    rule: AutoRule | None = None
    ensemble: Ensemble | None = None

    def write(self, histogram: Ints, total: int, run: NewRun) -> list[WrittenPart]:
        """Sort and write the ``total`` lowest; ``histogram`` is that of the keys of all scores."""
        rows = ranked.RankedRows(self.order, self.data)
        parts = find_parts(rows, total, histogram, self.stored)
        run.store.make_folder(ranked.FOLDER)
        selection = ranked.Selection(
            parts,
            self.order,
            self.quality,
            self.ids,
            self.all_flagged,
            self.rule,
            self.ensemble,
        )
        tasks = tasks_of(self.data.grid.num_blocks, EVIDENCE_TASKS)
        task = partial(ranked.select, data=self.data, selection=selection)
        frames = graph.over_blocks("select", task, graph.block_numbers(self.stored, tasks))
        if self.ids is not None:
            ids = self.ids.dtype
        else:
            ids = np.dtype(np.int64)
        types = self.data.dtype, self.order.dtype, self.quality.dtype, ids
        meta = partial(ranked.empty_candidates, *types, self.ensemble is not None)
        kept = None
        if len(parts) > 1 and self.all_flagged:
            kept = parts.takes
        elif len(parts) > 1:
            count = partial(ranked.kept, data=self.data, selection=selection)
            kept = run_over_all("kept", count, self.stored).tolist()
        write = ranked.Writer(run.store, self.class_names, only=kept is None)
        written = write_parts(frames, meta, parts, write, kept)
        run.record(written_by(written))
        if kept is not None:
            write_indices(written, run)
        return written


def write_indices(parts: Sequence[WrittenPart], run: NewRun) -> None:
    """Write the positions of candidates alone, chunk by chunk."""
    rows = sum(part.rows for part in parts)
    indices = ranked.index_array(run.store, rows)
    run.record([indices.create()])
    chunks = range(-(-rows // ranked.INDEX_CHUNK))
    if not chunks:  # all candidates agree with their prediction
        return
    task = partial(ranked.write_indices, parts=tuple(parts), run=run.store, indices=indices)
    numbers = graph.block_numbers(chunks, (1,) * len(chunks))
    run.record(graph.run_pass("indices", task, numbers))


def keep_ids(ids: Rows | DaskRows | None, grid: BlockGrid, run: NewRun) -> Rows | None:
    """Return ids as rows of a store: those in memory or in a Dask graph go into the run, block by
    block, for those who look up an example later.
    """
    if not isinstance(ids, DaskRows):
        return ids
    run.store.make_folder(IDS)
    planned = plan_pass({"ids": ids}, grid, range(grid.num_blocks), None)
    task = partial(ranked.write_ids, run=run.store, folder=IDS, grid=grid)
    run.record(planned.run("ids", task))
    return kept_ids(run.store.place)


def write_refused(stored: Sequence[StoredBlock], data: passes.IssueData, run: NewRun) -> None:
    """Write the positions of refused rows, chunk by chunk."""
    blocks = [block for block in stored if block.refused]
    counts = [block.refused for block in blocks]
    _write_positions("invalid", blocks, counts, partial(passes.refused, data=data), run)


def write_undecided(
    by_use: Mapping[str, Collection[int]], grid: BlockGrid, run: NewRun
) -> dict[str, int]:
    """Write the positions of rows that are undecided for any use; return how many are of each
    use, and of any.

    Parameters
    ----------
    by_use : mapping of str to collection of int
        Blocks with rows that are undecided for each use.
    grid, run
        All blocks, and the run.
    """
    uses = {use: undecided.UndecidedRows(run.store, use) for use in by_use}
    told = {}
    for use, numbers in by_use.items():
        blocks = [undecided.UndecidedBlock(number, (uses[use],)) for number in sorted(numbers)]
        told[use] = sum(_counted(blocks).values())
    numbers = sorted(set[int]().union(*by_use.values()))
    blocks = [
        undecided.UndecidedBlock(
            number, tuple(uses[use] for use in by_use if number in by_use[use])
        )
        for number in numbers
    ]
    counts = _counted(blocks)
    some = [block for block in blocks if counts[block.number]]
    task = partial(undecided.positions, grid=grid)
    _write_positions("undecided", some, [counts[block.number] for block in some], task, run)
    return told | {"any": sum(counts.values())}


def _counted(blocks: Sequence[undecided.UndecidedBlock]) -> dict[int, int]:
    if not blocks:
        return {}
    state: undecided.UndecidedCounts = run_over_all("undecided", undecided.count, blocks)
    return dict(state.blocks)


def _write_positions(
    name: str,
    blocks: Sequence[Any],
    counts: Sequence[int],
    task: Callable[..., Any],
    run: NewRun,
) -> None:
    """Write positions of rows, of which ``task(blocks)`` returns those of some blocks, chunk by
    chunk; ``counts`` says how many each block has.
    """
    shape = (sum(counts),)
    array = run.create_array(f"{name}_indices.zarr", shape, ranked.INDEX_CHUNK, np.int64)
    if not blocks:
        return
    tasks = tasks_of(len(blocks), EVIDENCE_TASKS)
    sizes = np.add.reduceat(np.array(counts, np.int64), np.cumsum((0, *tasks[:-1]))).tolist()
    numbers = graph.block_numbers(blocks, tasks)
    rows = graph.rows_of_blocks(f"{name}-rows", task, numbers, sizes, ranked.INDEX_CHUNK, np.int64)
    chunks = graph.block_numbers(range(rows.numblocks[0]), (1,) * rows.numblocks[0])
    write = partial(result_arrays.write_rows, array=array)
    run.record(graph.run_pass(name, write, chunks, rows))
