"""The ranking of dense losses, run by its client: all losses of the first candidates, and the parts
of the order.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt

from noisydask.core.dynamics import crossings
from noisydask.dynamics import candidate_parts, candidates
from noisydask.dynamics.candidate_parts import DensePart
from noisydask.dynamics.dense_data import Descending, LossData, Top
from noisydask.dynamics.inputs import LossInputs
from noisydask.dynamics.loss_blocks import LossSource
from noisydask.engine.inputs import BlockPass, plan_pass
from noisydask.engine.ordering import find_parts, write_parts
from noisydask.engine.parts import ScoredRows
from noisydask.engine.tasks import EVIDENCE_TASKS
from noisydask.runs.store import RunStore

Array = npt.NDArray[Any]
Floats = npt.NDArray[np.float64]


def plan_inputs(
    inputs: LossInputs,
    data: LossData,
    blocks: Sequence[int | LossSource],
    per_slot: int,
    *names: str,
) -> BlockPass:
    """Plan a pass over blocks of some inputs, as far as these are given."""
    some = {name: rows for name, rows in inputs.opened.items() if name in names}
    return plan_pass(some, data.grid, blocks, per_slot)


@dataclass(frozen=True)
class DenseRanking:
    """The ranking of a scan.

    Attributes
    ----------
    data : LossData
        What the scan left.
    inputs : LossInputs
        What is read again.
    sources : sequence of LossSource
        All blocks.
    run : RunStore
        Where parts are written.
    mean : ndarray, (T,)
        The mean curve.
    class_names : tuple of str, optional
        Names of the labels.
    """

    data: LossData
    inputs: LossInputs
    sources: Sequence[LossSource]
    run: RunStore
    mean: Floats
    class_names: tuple[str, ...] | None

    def rows_of(self, top: Top) -> tuple[Array, int]:
        """Return all losses of a few candidates, in the order of the ranking, and the bytes read
        for those that were not kept.
        """
        states = self.data.states
        losses = top.losses.copy()
        blocks = (top.index // self.data.grid.block_rows).tolist()
        sources = [self.sources[block].fingerprint or "" for block in blocks]
        names = list(zip(top.index.tolist(), sources, strict=True))
        lacking = np.flatnonzero(top.since)
        kept = states.kept_rows() if states and len(lacking) else {}
        for place in (place for place in lacking if names[place] in kept):
            losses[place] = kept[names[place]]
        lacking = np.array([place for place in lacking if names[place] not in kept], np.int64)
        if not len(lacking):
            return losses, 0
        index = np.sort(top.index[lacking])
        last = int(top.since[lacking].max())
        task = partial(candidates.chosen_rows, data=self.data, index=index, last=last)
        chosen = self._planned(self._blocks_of(index), "losses").run("rows", task)
        losses[lacking, :last] = [chosen.losses[row] for row in top.index[lacking].tolist()]
        if states and self.sources[0].fingerprint is not None:
            states.keep_rows(names, losses)
        return losses, chosen.bytes_read

    def write_top(self, top: Top, rows: Array) -> list[DensePart]:
        """Write the few candidates that the scan found, of whom ``rows`` are all losses."""
        order = np.argsort(top.index)
        index = top.index[order]
        task = partial(candidates.details, data=self.data, index=index)
        table = self._planned(self._blocks_of(index), "labels", "ids").run("details", task)
        details = table.rows.sort_values("index", ignore_index=True)
        crossed = crossings(rows[order], self.data.alpha, self.mean)
        frame = candidates.candidates(
            top.states.part(order), details.assign(crossed=crossed, again=0)
        )
        return [self._writer()(frame, number=0, take=len(frame), first_rank=1)]

    def write(self, histogram: Any, total: int) -> list[DensePart]:
        """Find the parts of a long ranking, sort and write each."""
        rows = ScoredRows(Descending(**vars(self.data.metric)))
        parts = find_parts(rows, total, histogram)
        task = partial(candidates.select, data=self.data, mean=self.mean, parts=parts)
        frames = self._planned(self.sources, "losses", "labels", "ids").frames("select", task)
        if self.inputs.ids is not None:
            ids = self.inputs.ids.dtype
        else:
            ids = np.dtype(np.int64)
        meta = partial(candidates.empty_selection, self.data, ids)
        return write_parts(frames, meta, parts, self._writer())

    def _planned(self, blocks: Sequence[int | LossSource], *names: str) -> BlockPass:
        return plan_inputs(self.inputs, self.data, blocks, EVIDENCE_TASKS, *names)

    def _blocks_of(self, index: npt.NDArray[np.int64]) -> tuple[int, ...]:
        return tuple(np.unique(index // self.data.grid.block_rows).tolist())

    def _writer(self) -> candidate_parts.Writer:
        self.run.make_folder(candidate_parts.FOLDER)
        return candidate_parts.Writer(self.run, self.inputs.iterations, self.class_names)
