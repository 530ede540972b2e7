"""The ranking of the main job: its exact end by histograms, the parts in which it is sorted, and
what is written of it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np

from noisydask.core import ranking
from noisydask.core.blocks import BlockGrid
from noisydask.core.receipts import StoredBlock
from noisydask.engine import graph
from noisydask.issues import passes, tables
from noisydask.runs.job import EVIDENCE_TASKS, run_over_all, tasks_of
from noisydask.runs.store import RunStore
from noisydask.stores.arrays import IDS, DaskRows, Rows, kept_ids
from noisydask.stores.chunks import ChunkedArray, StoredObject


def kept(
    ids: Rows | DaskRows | None, grid: BlockGrid, run: RunStore
) -> tuple[Rows | None, tuple[StoredObject, ...]]:
    """Return ids as rows of a store, and what was written for that: ids in memory or in a Dask
    graph go into the run, block by block, for those who look up an example later.
    """
    if not isinstance(ids, DaskRows):
        return ids, ()
    run.make_folder(IDS)
    blocks = graph.block_numbers(range(grid.num_blocks), (1,) * grid.num_blocks)
    task = partial(tables.write_ids, run=run, folder=IDS)
    written = graph.run_pass("ids", task, blocks, graph.block_rows(ids.array, grid))
    return kept_ids(run.place), written


@dataclass(frozen=True)
class Ranking:
    """What is ranked: the ``scores`` of all examples, of which the evidence lies in the ``stored``
    blocks.
    """

    data: passes.Dataset
    scores: ChunkedArray
    stored: Sequence[StoredBlock]
    run: RunStore
    ids: Rows | None
    class_names: Sequence[str] | None

    def write(
        self, histogram: ranking.Ints, total: int
    ) -> tuple[list[tables.WrittenPart], list[StoredObject]]:
        """Sort and write the ``total`` lowest, in one part or several; the parts, and all that was
        written.

        ``histogram`` is that of the keys of all scores.
        """
        parts = self._parts(histogram, total)
        self.run.make_folder("issues")
        written = self._write_one(parts) if len(parts) <= 1 else self._write_many(parts)
        objects = [stored for part in written for stored in part.objects]
        return written, objects + (self._write_indices(written) if len(written) > 1 else [])

    def _parts(self, histogram: ranking.Ints, total: int) -> list[ranking.Part]:
        """Where the ranking ends, and its parts begin: bins that hold too many examples are looked
        into again.
        """
        scores, numbers = self.scores, range(self.data.grid.num_blocks)
        cut_off = ranking.CutOff(total, scores.dtype.itemsize, self.data.grid.rows)
        cut_off.add([ranking.whole_range(scores.dtype.itemsize)], histogram)
        while bins := cut_off.too_large:
            cut_off.add(
                bins,
                run_over_all("refine", partial(passes.refine, bins=bins, scores=scores), numbers),
            )
        if tied := cut_off.tied:
            cut_off.add_ties(
                tied, run_over_all("tie", partial(passes.tie, ties=tied, scores=scores), numbers)
            )
        return cut_off.parts()

    def _selected(self, parts: Sequence[ranking.Part]) -> tuple[graph.Frames, passes.Selection]:
        """The candidates of each block, and how they are selected."""
        selection = passes.Selection(tuple(parts), self.scores, self.ids)
        tasks = tasks_of(self.data.grid.num_blocks, EVIDENCE_TASKS)
        task = partial(passes.select, data=self.data, selection=selection)
        numbers = graph.block_numbers(self.stored, tasks)
        return graph.over_blocks("select", task, numbers), selection

    def _write_one(self, parts: Sequence[ranking.Part]) -> list[tables.WrittenPart]:
        """All of it in one place."""
        part = parts[0] if parts else ranking.Part(0, 0, 0, 0, 0, 0)
        finish = partial(
            tables.write_only_part, part=part, run=self.run, class_names=self.class_names
        )
        return [graph.compute(graph.gather_frames("write", self._selected(parts)[0], finish))]

    def _write_many(self, parts: Sequence[ranking.Part]) -> list[tables.WrittenPart]:
        """Part by part, after a shuffle."""
        frames, selection = self._selected(parts)
        kept = run_over_all(
            "kept", partial(passes.kept, data=self.data, selection=selection), self.stored
        )
        firsts = tuple((1 + np.cumsum([0, *kept[:-1]])).tolist())
        ids = self.ids.dtype if self.ids is not None else np.dtype(np.int64)
        meta = tables.empty_candidates(self.data.dtype, self.scores.dtype, ids)
        finish = partial(
            tables.write_shuffled_part,
            parts=tuple(parts),
            first_ranks=firsts,
            run=self.run,
            class_names=self.class_names,
        )
        table = graph.compute(graph.shuffle_frames(frames, meta, len(parts), finish))
        return sorted(table["written"], key=lambda part: part.number)

    def _write_indices(self, parts: Sequence[tables.WrittenPart]) -> list[StoredObject]:
        """The positions alone, chunk by chunk."""
        rows = sum(part.rows for part in parts)
        indices = tables.index_array(self.run, rows)
        created = indices.create()
        chunks = range(-(-rows // tables.INDEX_CHUNK))
        if not chunks:  # all candidates agree with their prediction
            return [created]
        task = partial(tables.write_indices, parts=tuple(parts), run=self.run, indices=indices)
        return [
            created,
            *graph.run_pass("indices", task, graph.block_numbers(chunks, (1,) * len(chunks))),
        ]
