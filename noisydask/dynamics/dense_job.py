"""One run of the job on dense losses, step by step: scan, rank, look at the candidates, write,
publish.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt

from noisydask.checkpoint.receipts import Why
from noisydask.core.blocks import BlockGrid, plan_blocks
from noisydask.core.dynamics import ema_curves
from noisydask.dynamics import candidate_parts
from noisydask.dynamics import dense_passes as passes
from noisydask.dynamics.dense_data import LossData
from noisydask.dynamics.dense_ranking import DenseRanking, plan_inputs
from noisydask.dynamics.dense_state import LossCheckpoint, open_states
from noisydask.dynamics.inputs import LossInputs
from noisydask.dynamics.loss_blocks import (
    LossSource,
    chunk_width,
    describe_losses,
    loss_sources,
    refuse_lost_losses,
)
from noisydask.dynamics.results import LossDynamics
from noisydask.dynamics.row_problems import DENSE_KINDS
from noisydask.dynamics.settings import LossSettings
from noisydask.engine.parts import part_name, written_by
from noisydask.engine.progress import listening
from noisydask.engine.tasks import SCAN_TASKS, check_memory
from noisydask.errors import InputError
from noisydask.runs.class_names import check_labels
from noisydask.runs.job import Job, Listed, Outcome
from noisydask.runs.manifest import Manifest
from noisydask.runs.publish import Publication
from noisydask.runs.repeats import blocks_told
from noisydask.runs.store import RunStore
from noisydask.stores.arrays import all_packages
from noisydask.stores.fingerprints import check_blocks_unchanged, check_unchanged, snapshots
from noisydask.text import counted

Array = npt.NDArray[Any]
Floats = npt.NDArray[np.float64]

#: Candidates whose curves are kept in the run.
CURVES = 20
#: Bytes of the candidates' losses that every task may keep on the way.
_KEPT_BYTES = 8 * 1024**2
#: Bytes of a candidate's state beside its losses.
_STATE_BYTES = 64


@dataclass
class DynamicsJob(Job[LossDynamics]):
    """One run on dense losses; :meth:`run` is the whole of it.

    ``lasting`` says that the output outlives the run, so that states are kept for the next.
    """

    name = "dynamics"
    inputs: LossInputs
    settings: LossSettings
    lasting: bool = True
    class_names: tuple[str, ...] | None = None

    @property
    def size(self) -> int:
        """Bytes of all losses."""
        return self.inputs.losses.num_bytes

    @property
    def packages(self) -> frozenset[str]:
        """What the inputs need that lie in stores."""
        return all_packages(self.inputs.opened.values())

    def _result(self, run: RunStore, manifest: Manifest) -> LossDynamics:
        return LossDynamics(run, manifest, self.inputs)

    def _settings(self) -> dict[str, Any]:
        return self.settings.model_dump()

    def _inputs(self, listed: Listed) -> dict[str, dict[str, Any]]:
        more = {name: describe_losses(name, snapshot) for name, snapshot in listed.items()}
        return {
            name: rows.describe() | more.get(name, {}) for name, rows in self.inputs.opened.items()
        }

    def _more(self) -> tuple[Any, ...]:
        return self.inputs.iterations.tolist(), self.class_names

    def _grid(self) -> tuple[int, BlockGrid]:
        """Plan the iterations that are read at once, and the blocks."""
        losses = self.inputs.losses
        block_bytes = self.settings.block_bytes
        width = read_width(losses, block_bytes)
        row_bytes = width * losses.dtype.itemsize
        return width, plan_blocks(losses.shape[0], row_bytes, losses.chunk_rows, block_bytes)

    def _list_inputs(self) -> Listed:
        self._grid()  # whose size is within bounds, before its chunks are walked
        return snapshots(self.inputs.opened)

    def _run(self, publication: Publication, listed: Listed) -> Outcome:
        for text in self.inputs.warnings:
            self.reporter.warning(text)
        run = publication.run
        data, sources, rebuilt = self._plan(publication, listed)
        self._timed("start")
        scanned = self._scan(data, sources)
        run.record(scanned.objects)
        sums = scanned.sums
        mean = scanned.sums.mean()
        check_labels(sums.labels, self.class_names)
        self._timed("scan")
        candidates = min(self.settings.top_k or scanned.recorded, scanned.recorded)
        self.reporter.phase(f"ranking {candidates:,} candidates")
        ranking = DenseRanking(data, self.inputs, sources, run.store, mean, self.class_names)
        first = scanned.top.first(candidates)
        rows, again = ranking.rows_of(first)
        if data.few:
            parts = ranking.write_top(first, rows)
        else:
            parts = ranking.write(scanned.histogram, candidates)
        again += sum(part.bytes_read for part in parts)
        run.record(written_by(parts))
        self._timed("rank")
        iterations = self.inputs.iterations
        labelled = self.inputs.labels is not None
        curves = ema_curves(rows[:CURVES], data.alpha)
        candidate_parts.write_curves(run, iterations, mean, curves)
        candidate_parts.write_means(run, iterations, sums, mean, labelled)
        self._timed("write")
        fields = {
            "blocks": blocks_told(scanned.why, data.grid.num_blocks, rebuilt),
            "class_names": self.class_names,
            "counts": {
                "examples": data.shape[0],
                "iterations": data.shape[1],
                "iterations_read": scanned.iterations,
                "losses": int(sums.counts.sum()),
                "labels": len(sums.labels) if self.inputs.labels is not None else 0,
                "candidates": sum(part.rows for part in parts),
                "invalid": scanned.invalid,
                "blocks": data.grid.num_blocks,
            },
            "bytes_read": {"losses": scanned.bytes_read, "losses_again": again},
            "parts": [part_name(candidate_parts.FOLDER, part.number) for part in parts],
        }
        check = partial(check_unchanged, listed)
        if data.states is not None:
            forget = data.states.blocks.forget
            check = partial(check_blocks_unchanged, listed, "losses", data.grid, forget)
        return Outcome(fields, check)

    @property
    def _are_few(self) -> bool:
        """Whether the candidates are so few that each task may keep their losses."""
        losses = self.inputs.losses
        row_bytes = losses.shape[1] * losses.dtype.itemsize + _STATE_BYTES
        top_k = self.settings.top_k
        return top_k is not None and top_k * row_bytes <= _KEPT_BYTES

    def _plan(
        self, publication: Publication, listed: Listed
    ) -> tuple[LossData, list[LossSource], str | None]:
        """Return what the passes need, what is known of the blocks, and why states that are there
        are not used, if so.
        """
        losses = self.inputs.losses
        settings = self.settings
        rows, iterations = losses.shape
        width, grid = self._grid()
        refuse_lost_losses(listed)
        snapshot = listed.get("losses")
        known = self.lasting and snapshot is not None and snapshot.identified
        lasting = snapshot if known else None
        few = self._are_few
        if lasting:
            keep = iterations // chunk_width(losses) * chunk_width(losses)
        else:
            keep = 0
        states = None
        rebuilt = None
        receipts = set()
        fresh = self.full or lasting is None
        if lasting or not few:
            kind = {"alpha": settings.alpha, "block_bytes": settings.block_bytes}
            twice = 0 < keep < iterations
            root = publication.output.checkpoint(self.name)
            states, grid, rebuilt = open_states(
                root, grid, losses.dtype, kind, chunk_width(losses), twice, fresh
            )
            receipts = set() if fresh else states.blocks.receipts()
        if rebuilt:
            self.reporter.phase(f"the states that are there are not used: {rebuilt}")
        check_memory(grid.block_bytes)
        metric = publication.run.create_array("ema.zarr", (rows,), grid.block_rows, np.float64)
        data = LossData(
            grid,
            (rows, iterations),
            losses.dtype,
            settings.alpha,
            width,
            metric,
            top=settings.top_k if few and settings.top_k else CURVES,
            few=few,
            keep=keep,
            states=states,
            labelled=self.inputs.labels is not None,
            skip=settings.on_invalid == "skip",
        )
        why = Why.NEW if lasting or not self.lasting else Why.UNIDENTIFIED
        iterations_read = self.inputs.iterations
        sources = loss_sources(lasting, grid, iterations_read, settings.alpha, receipts, why)
        return data, list(sources), rebuilt

    def _scan(self, data: LossData, sources: Sequence[LossSource]) -> passes.LossScan:
        """Read what no receipt stands for."""
        rows, iterations = data.shape
        size = rows * iterations * data.dtype.itemsize
        self.reporter.phase(
            f"reading {rows:,} x {iterations:,} {data.dtype} in {counted(len(sources), 'block')}"
        )
        with self.reporter.reading(rows, size) as advance, listening(advance) as notify:
            task = partial(passes.scan, data=replace(data, notify=notify))
            planned = plan_inputs(self.inputs, data, sources, SCAN_TASKS, "losses", "labels")
            state: passes.LossScan = planned.run_reading(
                "scan", task, self.inputs.losses, partial(_stands, data.states)
            )
        if state.problems.total and not data.skip:
            refused = f"{state.problems.total:,} of {rows:,} examples are invalid"
            raise state.problems.error(refused, DENSE_KINDS)
        if not state.recorded:
            raise InputError("no loss is recorded there: there is nothing to look at")
        return state


def _stands(states: LossCheckpoint | None, source: LossSource) -> bool:
    """Return whether a block is complete."""
    return states is not None and states.blocks.stands(source)


def read_width(losses: Any, block_bytes: int) -> int:
    """Return iterations that are read at once: all, or where chunks split them and a row of chunks
    is too large, some chunks.
    """
    iterations = losses.shape[1]
    chunk = getattr(losses, "chunk_columns", 0)
    height = losses.chunk_rows * losses.dtype.itemsize
    if not chunk or height * iterations <= block_bytes:
        return int(iterations)
    return int(min(iterations, max(chunk, block_bytes // height // chunk * chunk)))
