"""One run of the job on dense losses, step by step: scan, rank, look at the candidates, write, publish."""

from __future__ import annotations

import time
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt

from noisydask import dynamics_candidates as asked
from noisydask import dynamics_passes as passes
from noisydask import graph, loss_tables, ranking
from noisydask.arrays import DaskRows
from noisydask.blocks import plan_blocks
from noisydask.chunks import StoredObject
from noisydask.dynamics import LARGEST_LOSS, CurveSums, LossProblem, crossings, ema_curves
from noisydask.dynamics_state import Earlier, Fingerprint, StateFolder, fingerprint
from noisydask.errors import InputError
from noisydask.fingerprints import Snapshot, check_unchanged, snapshots
from noisydask.job import EVIDENCE_TASKS, SCAN_TASKS, check_memory, common_manifest, failures_told, tasks_of
from noisydask.loss_inputs import LossInputs
from noisydask.loss_results import LossDynamics
from noisydask.loss_tables import CandidatePart
from noisydask.passes import refine, tie
from noisydask.problems import Problems
from noisydask.progress import Reporter, listening
from noisydask.publish import Publication, publishing
from noisydask.settings import LossSettings, PublishSettings
from noisydask.sources import describe_losses, refuse_lost_losses
from noisydask.store import Output, RunStore

Floats = npt.NDArray[np.float64]

#: Candidates whose curves are kept in the run.
CURVES = 20
#: Bytes of the candidates' losses that every task may keep on the way.
_KEPT_BYTES = 8 * 1024**2
#: Bytes of a candidate's state beside its losses.
_STATE_BYTES = 64

_WORDS = {
    LossProblem.NEGATIVE: "negative losses",
    LossProblem.TOO_LARGE: f"infinite losses or losses above {LARGEST_LOSS:.3g}",
}


@dataclass
class DynamicsJob:
    """One run on dense losses; :meth:`run` is the whole of it.

    ``lasting`` says that the output outlives the run, so that states are kept for the next.
    """

    inputs: LossInputs
    settings: LossSettings
    reporter: Reporter
    lasting: bool = True
    full: bool = False
    publish: PublishSettings = field(default_factory=PublishSettings)
    objects: list[StoredObject] = field(default_factory=list)
    found: dict[str, Snapshot] = field(default_factory=dict)
    timings: dict[str, float] = field(default_factory=dict)
    _last: float = field(default_factory=time.monotonic)

    def run(self, output: Output) -> LossDynamics:
        """Scan, rank, write, publish."""
        started = datetime.now(UTC)
        with failures_told(output.place), publishing(output, self.publish, self.reporter) as publication:
            self.reporter = publication.reporter
            return self._run(publication, started)

    def _run(self, publication: Publication, started: datetime) -> LossDynamics:
        run, folder = publication.run, StateFolder(publication.output.place / "evidence-dynamics")
        self.found = snapshots(self.inputs.opened)
        refuse_lost_losses(self.found)
        now = fingerprint(self.inputs, self.settings.alpha, self.found) if self.lasting else None
        data, earlier, name = self._plan(run, folder, now)
        self._timed("start")
        scanned = self._scan(data)
        sums = scanned.sums if earlier is None else earlier.sums.then(scanned.sums)
        self._timed("scan")
        candidates = min(self.settings.top_k or scanned.recorded, scanned.recorded)
        mean = sums.mean()
        self.reporter.phase(f"ranking {candidates:,} candidates")
        if data.top:
            rows, again = self._rows_of(data, scanned.top, earlier)
            parts = self._write_top(data, scanned.top, rows, mean, run)
        else:
            rows = None
            parts, again = self._write_ranking(data, scanned.histogram, candidates, mean, run)
        self._timed("rank")
        again += self._write_curves(data, rows, parts, mean, run)
        self._write_small(run, sums, mean)
        manifest = self._manifest(run, started, data, sums, scanned, parts, again)
        check_unchanged(self.found)
        manifest = publication.publish(manifest)
        if now is not None and name is not None and data.kept:
            kept_rows = None if rows is None else (scanned.top.index, rows[:, : data.keep])
            folder.keep(name, sums.columns(0, data.keep), now, data.keep, data.kept, kept_rows)
        folder.tidy()
        return LossDynamics(run, manifest, self.inputs)

    def _timed(self, phase: str) -> None:
        now = time.monotonic()
        self.timings[phase] = round(now - self._last, 4)
        self._last = now

    def _plan(
        self, run: RunStore, folder: StateFolder, now: Fingerprint | None
    ) -> tuple[passes.LossData, Earlier | None, str | None]:
        """What the passes need, what an earlier run left, the folder of the new states."""
        losses, labels, ids = self.inputs.losses, self.inputs.labels, self.inputs.ids
        rows, iterations = losses.shape
        width = read_width(losses, self.settings.block_bytes)
        grid = plan_blocks(rows, width * losses.dtype.itemsize, losses.chunk_rows, self.settings.block_bytes)
        earlier = folder.find(now) if now is not None and not self.full else None
        first, block_rows = (earlier.iterations, earlier.block_rows) if earlier else (0, grid.block_rows)
        grid = replace(grid, block_rows=block_rows)
        check_memory(grid.block_bytes)
        top_k = self.settings.top_k
        few = top_k is not None and top_k * (iterations * losses.dtype.itemsize + _STATE_BYTES) <= _KEPT_BYTES
        keep = len(now.columns) * now.chunk_columns if now else 0
        name, kept = folder.create(rows, block_rows, losses.dtype) if keep > first else (None, None)
        alike = few or (kept is not None and keep == iterations)
        final = None if alike else folder.create(rows, block_rows, losses.dtype)[1]
        metric = run.array("ema.zarr", (rows,), block_rows, np.float64)
        self.objects.append(metric.create())
        data = passes.LossData(
            grid, (rows, iterations), losses.dtype, self.settings.alpha, width, metric, top=top_k or 0 if few else 0,
            first=first, keep=keep, before=earlier.states if earlier else None, kept=kept, final=final,
            labelled=labels is not None,
            losses=None if isinstance(losses, DaskRows) else losses, labels=None if isinstance(labels, DaskRows) else labels,
            ids=None if isinstance(ids, DaskRows) else ids,
        )  # fmt: skip
        return data, earlier, name

    def _over(self, name: str, task: Any, data: passes.LossData, blocks: Any, per_slot: int, *given: Any) -> Any:
        """A pass over some blocks; what lies in memory or a Dask graph of ``given`` is handed to the tasks."""
        arrays = [graph.block_rows(rows.array, data.grid, blocks) if isinstance(rows, DaskRows) else None for rows in given]
        tasks = tasks_of(len(blocks), per_slot, any(array is not None for array in arrays))
        return graph.over_blocks(name, task, graph.block_numbers(blocks, tasks), *arrays)

    def _state_of(self, *given: Any) -> Any:
        name = given[0]
        return graph.compute(graph.tree(name, self._over(*given))).state

    def _scan(self, data: passes.LossData) -> passes.LossScan:
        grid, (rows, iterations) = data.grid, data.shape
        size = rows * (iterations - data.first) * data.dtype.itemsize
        self.reporter.phase(f"reading {rows:,} x {iterations - data.first:,} {data.dtype} in {grid.num_blocks:,} blocks")
        with self.reporter.reading(rows, size) as advance, listening(advance) as notify:
            task = partial(passes.scan, data=replace(data, notify=notify))
            blocks = range(grid.num_blocks)
            state: passes.LossScan = self._state_of(
                "scan", task, data, blocks, SCAN_TASKS, self.inputs.losses, self.inputs.labels
            )
        if state.problems.total:
            raise InputError(_say(state.problems, rows))
        self.objects += state.objects
        return state

    def _blocks_of(self, data: passes.LossData, index: npt.NDArray[np.int64]) -> tuple[int, ...]:
        return tuple(np.unique(index // data.grid.block_rows).tolist())

    def _rows_of(self, data: passes.LossData, top: passes.Top, earlier: Earlier | None) -> tuple[npt.NDArray[Any], int]:
        """All losses of the few candidates, in the order of the ranking; the bytes read for those that were not kept."""
        known = earlier.rows if earlier and data.keeps_rows else {}
        last = data.first if data.keeps_rows else data.shape[1]
        missing = np.sort([index for index in top.index if int(index) not in known]).astype(np.int64)
        if not last or not len(top.index):
            return top.losses, 0
        bytes_read = 0
        if len(missing):
            task = partial(asked.chosen_rows, data=data, index=missing, last=last)
            found = self._state_of("rows", task, data, self._blocks_of(data, missing), EVIDENCE_TASKS, self.inputs.losses)
            known, bytes_read = {**known, **found.losses}, found.bytes_read
        before = np.stack([known[index] for index in top.index.tolist()])
        return np.concatenate([before, top.losses], axis=1) if data.keeps_rows else before, bytes_read

    def _write_top(
        self, data: passes.LossData, top: passes.Top, rows: npt.NDArray[Any], mean: Floats, run: RunStore
    ) -> list[CandidatePart]:
        """Write the few candidates that the scan found, of whom ``rows`` are all losses."""
        run.make_folder("candidates")
        if not len(top.index):
            return []
        order = np.argsort(top.index)
        index = top.index[order]
        task = partial(asked.details, data=data, index=index)
        blocks = self._blocks_of(data, index)
        found = self._state_of("details", task, data, blocks, EVIDENCE_TASKS, self.inputs.labels, self.inputs.ids)
        told = found.rows.sort_values("index", ignore_index=True)
        told = told.assign(crossed=crossings(rows[order], data.alpha, mean), again=0)
        frame = asked.candidates(top.states.part(order), told)
        return self._recorded(loss_tables.write_part(frame, 0, 1, len(frame), self.inputs.iterations, run))

    def _recorded(self, *parts: CandidatePart) -> list[CandidatePart]:
        self.objects += [stored for part in parts for stored in part.objects]
        return list(parts)

    def _write_ranking(
        self, data: passes.LossData, histogram: Any, total: int, mean: Floats, run: RunStore
    ) -> tuple[list[CandidatePart], int]:
        """Find the parts of a long ranking, sort and write each."""
        run.make_folder("candidates")
        if not total:
            return [], 0
        scores, blocks = passes.Descending(**vars(data.metric)), range(data.grid.num_blocks)
        cut_off = ranking.CutOff(total, scores.dtype.itemsize, data.grid.rows)
        cut_off.add([ranking.whole_range(scores.dtype.itemsize)], histogram)
        while bins := cut_off.too_large:
            found = self._state_of("refine", partial(refine, bins=bins, scores=scores), data, blocks, EVIDENCE_TASKS)
            cut_off.add(bins, found)
        if tied := cut_off.tied:
            counts = self._state_of("tie", partial(tie, ties=tied, scores=scores), data, blocks, EVIDENCE_TASKS)
            cut_off.add_ties(tied, counts)
        parts = tuple(cut_off.parts())
        task = partial(asked.select, data=data, mean=mean, parts=parts)
        given = (self.inputs.losses, self.inputs.labels, self.inputs.ids)
        frames = self._over("select", task, data, blocks, EVIDENCE_TASKS, *given)
        iterations = self.inputs.iterations
        if len(parts) == 1:
            finish = partial(loss_tables.write_part, number=0, first_rank=1, take=parts[0].take, iterations=iterations, run=run)
            written = [graph.compute(graph.gather_frames("write", frames, finish))]
        else:
            firsts = tuple((1 + np.cumsum([0, *(part.take for part in parts[:-1])])).tolist())
            finish_part = partial(
                loss_tables.write_shuffled_part, parts=parts, first_ranks=firsts, iterations=iterations, run=run
            )
            meta = asked.empty_selection(data, self.inputs.ids.dtype if self.inputs.ids is not None else np.dtype(np.int64))
            table = graph.compute(graph.shuffle_frames(frames, meta, len(parts), finish_part))
            written = sorted(table["written"], key=lambda part: part.number)
        return self._recorded(*written), sum(part.bytes_read for part in written)

    def _write_curves(
        self, data: passes.LossData, rows: npt.NDArray[Any] | None, parts: list[CandidatePart], mean: Floats, run: RunStore
    ) -> int:
        """Write the curves of the first candidates, of whom ``rows`` are the losses where known; the bytes read for them."""
        bytes_read, losses = 0, np.zeros((0, data.shape[1])) if rows is None else rows[:CURVES]
        if rows is None and parts:
            index = loss_tables.first_of(run, "index", CURVES)
            task = partial(asked.chosen_rows, data=data, index=np.sort(index), last=data.shape[1])
            found = self._state_of("curves", task, data, self._blocks_of(data, index), 1, self.inputs.losses)
            losses, bytes_read = np.stack([found.losses[row] for row in index.tolist()]), found.bytes_read
        curves = ema_curves(losses.reshape(-1, data.shape[1]), data.alpha)
        self.objects += run.write_array("top_curves.zarr", curves)
        self.objects += loss_tables.write_picture(run, self.inputs.iterations, mean, curves)
        return bytes_read

    def _write_small(self, run: RunStore, sums: CurveSums, mean: Floats) -> None:
        """Write what has the size of the labels and iterations."""
        arrays = {
            "iterations": self.inputs.iterations.astype(np.int64),
            "mean_loss_dyns": mean,
            "losses_per_iteration": sums.counts.sum(axis=0),
        }
        if self.inputs.labels is not None:
            arrays |= {"label_values": sums.labels, "mean_loss_dyns_per_label": sums.mean_per_label()}
        for name, values in arrays.items():
            self.objects += run.write_array(f"{name}.zarr", values)
        self._timed("write")

    def _manifest(
        self, run: RunStore, started: datetime, data: passes.LossData, sums: CurveSums, scanned: passes.LossScan,
        parts: list[CandidatePart], again: int,
    ) -> dict[str, Any]:  # fmt: skip
        """Everything there is to know of a run."""
        more = {name: describe_losses(name, snapshot) for name, snapshot in self.found.items()}
        return common_manifest(run, started, self.timings, self.objects) | {
            "job": "dynamics",
            "settings": asdict(self.settings),
            "inputs": {name: rows.describe() | more.get(name, {}) for name, rows in self.inputs.opened.items()},
            "counts": {
                "examples": data.shape[0],
                "iterations": data.shape[1],
                "iterations_read": data.shape[1] - data.first,
                "losses": int(sums.counts.sum()),
                "labels": len(sums.labels) if self.inputs.labels is not None else 0,
                "candidates": sum(part.rows for part in parts),
                "blocks": data.grid.num_blocks,
            },
            "bytes_read": {"losses": scanned.bytes_read, "losses_again": again},
            "parts": [loss_tables.part_name(part.number) for part in parts],
        }


def read_width(losses: Any, block_bytes: int) -> int:
    """Iterations that are read at once: all, or where chunks split them and a row of chunks is too large, some chunks."""
    iterations, chunk = losses.shape[1], getattr(losses, "chunk_columns", 0)
    height = losses.chunk_rows * losses.dtype.itemsize
    if not chunk or height * iterations <= block_bytes:
        return int(iterations)
    return int(min(iterations, max(chunk, block_bytes // height // chunk * chunk)))


def _say(problems: Problems, rows: int) -> str:
    """One sentence about refused rows."""
    kinds = [f"{problems.counts[kind]:,} with {word}" for kind, word in _WORDS.items() if problems.counts[kind]]
    first = ", ".join(str(row) for row, _ in problems.first)
    return f"{problems.total:,} of {rows:,} examples are invalid: {'; '.join(kinds)}; the first are rows {first}"
