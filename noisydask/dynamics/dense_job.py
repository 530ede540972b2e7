"""One run of the job on dense losses, step by step: scan, rank, look at the candidates, write,
publish.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from noisydask.checkpoint.receipts import Why
from noisydask.core.blocks import BlockGrid, plan_blocks
from noisydask.core.curve_sums import CurveSums
from noisydask.core.dynamics import crossings, ema_curves
from noisydask.dynamics import candidates as asked
from noisydask.dynamics import dense_passes as passes
from noisydask.dynamics import tables as loss_tables
from noisydask.dynamics.dense_data import Descending, LossData, Top
from noisydask.dynamics.dense_state import open_states
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
from noisydask.dynamics.tables import DensePart
from noisydask.engine.deaths import deadly
from noisydask.engine.inputs import BlockPass, plan_pass
from noisydask.engine.ordering import find_parts, write_parts
from noisydask.engine.parts import ScoredRows, part_name, written_by
from noisydask.engine.progress import listening
from noisydask.engine.tasks import EVIDENCE_TASKS, SCAN_TASKS, check_memory
from noisydask.errors import InputError
from noisydask.lazily import Lazy
from noisydask.runs.class_names import check_labels
from noisydask.runs.job import Job
from noisydask.runs.manifest import Manifest
from noisydask.runs.publish import Publication
from noisydask.runs.repeats import blocks_told
from noisydask.runs.store import NewRun, RunStore
from noisydask.stores.arrays import all_packages
from noisydask.stores.fingerprints import check_blocks_unchanged, snapshots

if TYPE_CHECKING:
    from distributed import scheduler
else:
    scheduler = Lazy("distributed.scheduler")

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
    rebuilt: str | None = None
    data: LossData | None = None

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

    def _inputs(self) -> dict[str, dict[str, Any]]:
        more = {name: describe_losses(name, snapshot) for name, snapshot in self.snapshots.items()}
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

    def _list_inputs(self) -> None:
        self._grid()  # whose size is within bounds, before its chunks are walked
        self.snapshots = snapshots(self.inputs.opened)

    def _check_unchanged(self) -> None:
        if self.data is None or self.data.states is None:
            return super()._check_unchanged()
        forget = self.data.states.blocks.forget
        check_blocks_unchanged(self.snapshots, "losses", self.data.grid, forget)

    def _run(self, publication: Publication) -> dict[str, Any]:
        for text in self.inputs.warnings:
            self.reporter.warning(text)
        run = publication.run
        data, sources = self._plan(publication)
        self._timed("start")
        scanned = self._scan(data, sources)
        run.record(scanned.objects)
        sums = scanned.sums
        mean = scanned.sums.mean()
        check_labels(sums.labels, self.class_names)
        self._timed("scan")
        candidates = min(self.settings.top_k or scanned.recorded, scanned.recorded)
        self.reporter.phase(f"ranking {candidates:,} candidates")
        first = scanned.top.first(candidates)
        rows, again = self._rows_of(data, sources, first)
        if data.few:
            parts = self._write_top(data, first, rows, mean, run)
        else:
            parts, more = self._write_ranking(
                data, sources, scanned.histogram, candidates, mean, run
            )
            again += more
        run.record(written_by(parts))
        self._timed("rank")
        self._write_curves(rows, mean, run)
        self._write_small(run, sums, mean)
        return {
            "blocks": blocks_told(scanned.why, data.grid.num_blocks, self.rebuilt),
            "class_names": list(self.class_names) if self.class_names is not None else None,
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
            "parts": [part_name(loss_tables.FOLDER, part.number) for part in parts],
        }

    def _plan(self, publication: Publication) -> tuple[LossData, list[LossSource]]:
        """Return what the passes need, and what is known of the blocks."""
        losses = self.inputs.losses
        settings = self.settings
        rows, iterations = losses.shape
        width, grid = self._grid()
        refuse_lost_losses(self.snapshots)
        snapshot = self.snapshots.get("losses")
        if self.lasting and snapshot is not None and snapshot.identified:
            lasting = snapshot
        else:
            lasting = None
        top_k = settings.top_k
        few = (
            top_k is not None
            and top_k * (iterations * losses.dtype.itemsize + _STATE_BYTES) <= _KEPT_BYTES
        )
        keep = iterations // chunk_width(losses) * chunk_width(losses) if lasting else 0
        states = None
        receipts = set()
        fresh = self.full or lasting is None
        if lasting or not few:
            kind = {"alpha": settings.alpha, "block_bytes": settings.block_bytes}
            twice = 0 < keep < iterations
            root = publication.output.checkpoint(self.name)
            states, grid, self.rebuilt = open_states(
                root, grid, losses.dtype, kind, chunk_width(losses), twice, fresh
            )
            receipts = set() if fresh else states.blocks.receipts()
        if self.rebuilt:
            self.reporter.phase(f"the states that are there are not used: {self.rebuilt}")
        check_memory(grid.block_bytes)
        metric = publication.run.create_array("ema.zarr", (rows,), grid.block_rows, np.float64)
        self.data = data = LossData(
            grid,
            (rows, iterations),
            losses.dtype,
            settings.alpha,
            width,
            metric,
            top=top_k if few and top_k else CURVES,
            few=few,
            keep=keep,
            states=states,
            labelled=self.inputs.labels is not None,
            skip=settings.on_invalid == "skip",
        )
        why = Why.NEW if lasting or not self.lasting else Why.UNIDENTIFIED
        return data, list(
            loss_sources(lasting, grid, self.inputs.iterations, settings.alpha, receipts, why)
        )

    def _planned(
        self, data: LossData, blocks: Sequence[int | LossSource], per_slot: int, *names: str
    ) -> BlockPass:
        """Plan a pass over blocks of some inputs, as far as these are given."""
        inputs = {name: rows for name, rows in self.inputs.opened.items() if name in names}
        return plan_pass(inputs, data.grid, blocks, per_slot)

    def _scan(self, data: LossData, sources: Sequence[LossSource]) -> passes.LossScan:
        """Read what no receipt stands for."""
        rows, iterations = data.shape
        size = rows * iterations * data.dtype.itemsize
        self.reporter.phase(
            f"reading {rows:,} x {iterations:,} {data.dtype} in {len(sources):,} blocks"
        )
        with self.reporter.reading(rows, size) as advance, listening(advance) as notify:
            task = partial(passes.scan, data=replace(data, notify=notify))
            planned = self._planned(data, sources, SCAN_TASKS, "losses", "labels")
            try:
                state: passes.LossScan = planned.run("scan", task)
            except scheduler.KilledWorker as error:
                unread = (
                    source.number
                    for source in planned.blocks_of(error)
                    if not (data.states and data.states.blocks.stands(source))
                )
                bounds = next((data.grid.bounds(block) for block in unread), None)
                raise deadly(error, bounds, self.inputs.losses) from error
        if state.problems.total and not data.skip:
            refused = f"{state.problems.total:,} of {rows:,} examples are invalid"
            raise state.problems.error(refused, DENSE_KINDS)
        if not state.recorded:
            raise InputError("no loss is recorded there: there is nothing to look at")
        return state

    def _blocks_of(self, data: LossData, index: npt.NDArray[np.int64]) -> tuple[int, ...]:
        return tuple(np.unique(index // data.grid.block_rows).tolist())

    def _rows_of(
        self, data: LossData, sources: Sequence[LossSource], top: Top
    ) -> tuple[npt.NDArray[Any], int]:
        """Return all losses of a few candidates, in the order of the ranking; the bytes read for
        those that were not kept.
        """
        lacking = np.flatnonzero(top.since)
        losses = top.losses.copy()
        blocks = (top.index // data.grid.block_rows).tolist()
        sources_of = [sources[block].fingerprint or "" for block in blocks]
        names = list(zip(top.index.tolist(), sources_of, strict=True))
        kept = data.states.kept_rows() if data.states and len(lacking) else {}
        for place in (place for place in lacking if names[place] in kept):
            losses[place] = kept[names[place]]
        lacking = np.array([place for place in lacking if names[place] not in kept], np.int64)
        if not len(lacking):
            return losses, 0
        index = np.sort(top.index[lacking])
        last = int(top.since[lacking].max())
        task = partial(asked.chosen_rows, data=data, index=index, last=last)
        planned = self._planned(data, self._blocks_of(data, index), EVIDENCE_TASKS, "losses")
        found = planned.run("rows", task)
        losses[lacking, :last] = [found.losses[row] for row in top.index[lacking].tolist()]
        if data.states and sources[0].fingerprint is not None:
            data.states.keep_rows(names, losses)
        return losses, found.bytes_read

    def _write_top(
        self, data: LossData, top: Top, rows: Array, mean: Floats, run: NewRun
    ) -> list[DensePart]:
        """Write the few candidates that the scan found, of whom ``rows`` are all losses."""
        run.store.make_folder(loss_tables.FOLDER)
        order = np.argsort(top.index)
        index = top.index[order]
        task = partial(asked.details, data=data, index=index)
        blocks = self._blocks_of(data, index)
        found = self._planned(data, blocks, EVIDENCE_TASKS, "labels", "ids").run("details", task)
        told = found.rows.sort_values("index", ignore_index=True)
        told = told.assign(crossed=crossings(rows[order], data.alpha, mean), again=0)
        frame = asked.candidates(top.states.part(order), told)
        write = loss_tables.Writer(run.store, self.inputs.iterations, self.class_names)
        return [write(frame, number=0, take=len(frame), first_rank=1)]

    def _write_ranking(
        self,
        data: LossData,
        sources: Sequence[LossSource],
        histogram: Any,
        total: int,
        mean: Floats,
        run: NewRun,
    ) -> tuple[list[DensePart], int]:
        """Find the parts of a long ranking, sort and write each."""
        run.store.make_folder(loss_tables.FOLDER)
        rows = ScoredRows(Descending(**vars(data.metric)))
        parts = find_parts(rows, total, histogram)
        task = partial(asked.select, data=data, mean=mean, parts=parts)
        planned = self._planned(data, sources, EVIDENCE_TASKS, "losses", "labels", "ids")
        frames = planned.frames("select", task)
        ids = self.inputs.ids.dtype if self.inputs.ids is not None else np.dtype(np.int64)
        meta = partial(asked.empty_selection, data, ids)
        write = loss_tables.Writer(run.store, self.inputs.iterations, self.class_names)
        written = write_parts(frames, meta, parts, write)
        return written, sum(part.bytes_read for part in written)

    def _write_curves(self, rows: Array, mean: Floats, run: NewRun) -> None:
        """Write the curves of the first candidates, whose losses the first of ``rows`` are."""
        curves = ema_curves(rows[:CURVES], self.settings.alpha)
        run.write_array("top_curves.zarr", curves)
        loss_tables.write_picture(run, self.inputs.iterations, mean, curves)

    def _write_small(self, run: NewRun, sums: CurveSums, mean: Floats) -> None:
        """Write what has the size of the labels and iterations."""
        arrays = {
            "iterations": self.inputs.iterations.astype(np.int64),
            "mean_loss_dyns": mean,
            "losses_per_iteration": sums.counts.sum(axis=0),
        }
        if self.inputs.labels is not None:
            arrays |= {
                "label_values": sums.labels,
                "mean_loss_dyns_per_label": sums.mean_per_label(),
            }
        for name, values in arrays.items():
            run.write_array(f"{name}.zarr", values)
        self._timed("write")


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
