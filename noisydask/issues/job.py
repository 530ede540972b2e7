"""One run of the main job, step by step: scan, count, rank, write, publish."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from noisydask.core.blocks import BlockGrid, plan_blocks
from noisydask.core.confident import num_issues
from noisydask.core.evidence import columns_for
from noisydask.core.problems import FROM_ONE, ROW_KINDS
from noisydask.core.suspicion import suspicion
from noisydask.core.thresholds import LOWER_BOUND, NEVER, confident_thresholds
from noisydask.engine import graph
from noisydask.engine.inputs import plan_pass
from noisydask.engine.ordering import find_parts, write_parts
from noisydask.engine.parts import WrittenPart, part_name, written_by
from noisydask.engine.tasks import (
    EVIDENCE_TASKS,
    check_memory,
    run_over_all,
    tasks_of,
)
from noisydask.issues import passes, ranked, scanning, tables
from noisydask.issues.blocks import LabeledSource, block_sources, describe
from noisydask.issues.evidence import StoredBlock, open_evidence
from noisydask.issues.inputs import IssueInputs
from noisydask.issues.options import IssueSettings
from noisydask.issues.results import LabelIssues
from noisydask.issues.scan import Scan
from noisydask.lazily import Lazy
from noisydask.runs.job import Job
from noisydask.runs.manifest import Manifest
from noisydask.runs.publish import Publication
from noisydask.runs.repeats import blocks_told
from noisydask.runs.store import NewRun, Output, RunStore
from noisydask.stores.arrays import IDS, DaskRows, Rows, all_packages, kept_ids
from noisydask.stores.chunks import ChunkedArray
from noisydask.stores.fingerprints import check_blocks_unchanged, snapshots
from noisydask.text import counted

if TYPE_CHECKING:
    from distributed import scheduler
else:
    scheduler = Lazy("distributed.scheduler")


@dataclass
class IssueJob(Job[LabelIssues]):
    """One run of the main job, step by step; :meth:`run` is the whole of it.

    ``absent`` is the threshold of classes without examples, ``joint`` whether the confident joint
    is made, ``keep`` whether evidence is reused, and kept for the next run.
    """

    name = "issues"
    inputs: IssueInputs
    settings: IssueSettings
    absent: float = NEVER
    joint: bool = True
    keep: bool = True
    stored: list[StoredBlock] = field(default_factory=list)
    rebuilt: str | None = None
    ids: Rows | None = None
    data: passes.IssueData | None = None

    @property
    def size(self) -> int:
        """Bytes of all probabilities."""
        return self.inputs.pred_probs.num_bytes

    @property
    def packages(self) -> frozenset[str]:
        """What the inputs need that lie in stores."""
        return all_packages(self.inputs.opened.values())

    def _result(self, run: RunStore, manifest: Manifest) -> LabelIssues:
        return LabelIssues(run, manifest)

    def _settings(self) -> dict[str, Any]:
        return self.settings.model_dump()

    def _inputs(self) -> dict[str, dict[str, Any]]:
        classes = self.inputs.pred_probs.shape[1]
        more = {name: describe(name, listed, classes) for name, listed in self.snapshots.items()}
        if isinstance(self.inputs.ids, DaskRows):
            more["ids"] = {"kept": IDS}
        return {
            name: rows.describe() | more.get(name, {}) for name, rows in self.inputs.opened.items()
        }

    def _more(self) -> tuple[Any, ...]:
        return self.inputs.class_names, self.absent, self.joint

    def _names(self) -> Rows | None:
        return self.ids

    def _grid(self) -> BlockGrid:
        """Plan the blocks."""
        probs = self.inputs.pred_probs
        rows, num_classes = probs.shape
        row_bytes = num_classes * probs.dtype.itemsize
        return plan_blocks(rows, row_bytes, probs.chunk_rows, self.settings.block_bytes)

    def _list_inputs(self) -> None:
        self._grid()  # whose size is within bounds, before its chunks are walked
        self.snapshots = snapshots(self.inputs.opened)

    def _check_unchanged(self) -> None:
        if self.data is None:  # nothing was read
            return super()._check_unchanged()
        forget = self.data.evidence.forget
        check_blocks_unchanged(self.snapshots, "pred_probs", self.data.grid, forget)

    def _run(self, publication: Publication) -> dict[str, Any]:
        for text in self.inputs.warnings:
            self.reporter.warning(text)
        run = publication.run
        data, sources = self._plan(publication.output)
        scan = Scan(data, self._read_inputs, sources, self.reporter)
        self._timed("start")
        scanned = scan.all()
        self._check(scanned, data)
        self._timed("scan")
        thresholds = confident_thresholds(scanned.totals, self.absent)
        settings = self.settings
        arrays = self._row_arrays(run, data)
        scoring = passes.Scoring(
            thresholds, settings.quality_score, settings.adjust_pred_probs, self.joint, *arrays
        )
        counted, again = self._count(scan, scoring, scanned.stored)
        total = num_issues(counted.counts, scanned.totals.counts, self.settings.estimation_method)
        run.record(counted.objects)
        self._timed("count")
        self.reporter.phase(f"ranking {total:,} candidates")
        self.ids = self._keep_ids(data.grid, run)
        parts = self._write_ranking(data, scoring.scores, counted.histogram, total, run)
        self._timed("rank")
        self._write_small(run, scanned, thresholds, counted, data)
        self._write_refused(run, data)
        counts = {
            "examples": data.grid.rows,
            "invalid": scanned.problems.total - scanned.problems.unreadable,
            "unreadable": scanned.problems.unreadable,
            "classes": data.num_classes,
            "estimated_issues": total,
            "issues": sum(part.rows for part in parts),
            "blocks": data.grid.num_blocks,
            "blocks_read_again": len(again),
        }
        doubt = suspicion(scanned.totals.counts, counted.agreeing, counts["issues"])
        if doubt is not None:
            self.reporter.warning(doubt)
        self._timed("write")
        bytes_read = {"pred_probs": scan.bytes_read, "pred_probs_again": counted.bytes_read}
        names = self.inputs.class_names
        return {
            "blocks": blocks_told(scan.why, counts["blocks"], self.rebuilt),
            "class_names": list(names) if names is not None else None,
            "counts": counts,
            "bytes_read": bytes_read,
            "parts": [part_name(ranked.FOLDER, part.number) for part in parts],
        }

    @property
    def _read_inputs(self) -> dict[str, Rows | DaskRows]:
        """Inputs of the scan."""
        return {"labels": self.inputs.labels, "pred_probs": self.inputs.pred_probs}

    def _plan(self, output: Output) -> tuple[passes.IssueData, list[LabeledSource]]:
        probs = self.inputs.pred_probs
        grid = self._grid()
        num_classes = probs.shape[1]
        check_memory(grid.block_bytes)
        settings = self.settings
        skip = settings.on_unreadable == "skip"
        sources = block_sources(self.snapshots, grid, num_classes, self.keep, skip)
        fresh = settings.full or sources[0].fingerprint is None
        columns = columns_for(
            num_classes, probs.dtype, settings.quality_score, settings.adjust_pred_probs, self.joint
        )
        evidence, self.rebuilt = open_evidence(
            output.checkpoint(self.name),
            grid,
            num_classes,
            probs.dtype,
            columns,
            fresh,
        )
        if self.rebuilt:
            self.reporter.phase(f"the evidence that is there is not used: {self.rebuilt}")
        data = passes.IssueData(
            grid,
            num_classes,
            probs.dtype,
            columns,
            evidence,
            skip_unreadable=skip,
        )
        self.data = data
        receipts = set() if fresh else evidence.receipts()
        return data, [replace(source, receipt=source.number in receipts) for source in sources]

    def _check(self, scanned: scanning.ScanState, data: passes.IssueData) -> None:
        problems = scanned.problems
        class_counts = scanned.totals.counts
        invalid = problems.total - problems.unreadable
        rows = data.grid.rows
        if (invalid and self.settings.on_invalid == "raise") or problems.total == rows:
            self._check_unchanged()  # a chunk that is deleted under the run reads as fill value
            refused = f"{problems.total:,} of {rows:,} rows are invalid"
            hint = problems.labels_hint(class_counts)
            raise problems.error(refused, ROW_KINDS, hint=hint)
        if problems.from_one(class_counts):
            self.reporter.warning(FROM_ONE)

    def _row_arrays(self, run: NewRun, data: passes.IssueData) -> tuple[ChunkedArray, ChunkedArray]:
        """Return scores and given labels of all examples: the labels let a later run tell what was
        corrected.
        """
        double = data.dtype == np.float64 or self.settings.adjust_pred_probs
        dtype = np.float64 if double else np.float32
        given_dtype = data.evidence.columns["given"].dtype
        shape = (data.grid.rows,)
        block_rows = data.grid.block_rows
        scores = run.create_array("label_quality.zarr", shape, block_rows, dtype)
        return scores, run.create_array("given_labels.zarr", shape, block_rows, given_dtype)

    def _count(
        self, scan: Scan, scoring: passes.Scoring, scanned: Iterable[StoredBlock]
    ) -> tuple[passes.CountState, tuple[int, ...]]:
        """Count all blocks; read again those with rows that neither the evidence nor what was kept
        of them decides.
        """
        self.reporter.phase("counting from the evidence")
        data = scan.data
        blocks = {stored.number: stored for stored in scanned}
        task = partial(passes.count, data=data, scoring=scoring)
        self.stored = [blocks[number] for number in sorted(blocks)]
        state = run_over_all("count", task, self.stored)
        if damaged := sorted(state.damaged):
            # Their receipts vouch for their class totals, not for what has become of their evidence
            # since.
            anew = scan.again(damaged).stored
            more = run_over_all("count", task, anew)
            if more.damaged:
                raise passes.evidence_changed(more.damaged[0], data)
            blocks |= {stored.number: stored for stored in anew}
            self.stored = [blocks[number] for number in sorted(blocks)]
            state += more
        again = tuple(sorted(state.unresolved))
        if again:
            self.reporter.phase(f"reading {counted(len(again), 'block')} again to resolve rows")
            probs = {"pred_probs": self.inputs.pred_probs}
            planned = plan_pass(probs, data.grid, [blocks[number] for number in again], None)
            state += planned.run("resolve", partial(passes.resolve, data=data, scoring=scoring))
        return state, again

    def _keep_ids(self, grid: BlockGrid, run: NewRun) -> Rows | None:
        """Return ids as rows of a store: those in memory or in a Dask graph go into the run, block
        by block, for those who look up an example later.
        """
        ids = self.inputs.ids
        if not isinstance(ids, DaskRows):
            return ids
        run.store.make_folder(IDS)
        planned = plan_pass({"ids": ids}, grid, range(grid.num_blocks), None)
        task = partial(ranked.write_ids, run=run.store, folder=IDS, grid=grid)
        run.record(planned.run("ids", task))
        return kept_ids(run.store.place)

    def _write_ranking(
        self,
        data: passes.IssueData,
        scores: ChunkedArray,
        histogram: Any,
        total: int,
        run: NewRun,
    ) -> list[WrittenPart]:
        """Sort and write the ``total`` lowest; ``histogram`` is that of the keys of all scores."""
        parts = find_parts(ranked.RankedRows(scores, data, self.stored), total, histogram)
        run.store.make_folder(ranked.FOLDER)
        selection = ranked.Selection(parts, scores, self.ids)
        numbers = graph.block_numbers(self.stored, tasks_of(data.grid.num_blocks, EVIDENCE_TASKS))
        task = partial(ranked.select, data=data, selection=selection)
        frames = graph.over_blocks("select", task, numbers)
        ids = self.ids.dtype if self.ids is not None else np.dtype(np.int64)
        meta = partial(ranked.empty_candidates, data.dtype, scores.dtype, ids)
        kept = None
        if len(parts) > 1:
            count = partial(ranked.kept, data=data, selection=selection)
            kept = run_over_all("kept", count, self.stored).tolist()
        write = ranked.Writer(run.store, self.inputs.class_names, only=kept is None)
        written = write_parts(frames, meta, parts, write, kept)
        run.record(written_by(written))
        if kept is not None:
            self._write_indices(written, run)
        return written

    def _write_indices(self, parts: Sequence[WrittenPart], run: NewRun) -> None:
        """Write the positions alone, chunk by chunk."""
        rows = sum(part.rows for part in parts)
        indices = ranked.index_array(run.store, rows)
        run.record([indices.create()])
        chunks = range(-(-rows // ranked.INDEX_CHUNK))
        if not chunks:  # all candidates agree with their prediction
            return
        task = partial(ranked.write_indices, parts=tuple(parts), run=run.store, indices=indices)
        numbers = graph.block_numbers(chunks, (1,) * len(chunks))
        run.record(graph.run_pass("indices", task, numbers))

    def _write_small(
        self,
        run: NewRun,
        scanned: scanning.ScanState,
        thresholds: Any,
        counted: passes.CountState,
        data: passes.IssueData,
    ) -> None:
        """Write what has the size of the classes."""
        totals = scanned.totals
        if self.absent == LOWER_BOUND:
            shown = thresholds
        else:
            shown = np.where(totals.counts > 0, thresholds, np.nan)
        run.write_array("thresholds.zarr", shown)
        run.write_array("class_counts.zarr", totals.counts)
        if self.joint:
            tables.write_joint(run, counted.counts.joint, data.num_classes)

    def _write_refused(self, run: NewRun, data: passes.IssueData) -> None:
        """Write the positions of refused rows, chunk by chunk."""
        blocks = [stored for stored in self.stored if stored.refused]
        counts = np.array([stored.refused for stored in blocks], np.int64)
        shape = (int(counts.sum()),)
        array = run.create_array("invalid_indices.zarr", shape, ranked.INDEX_CHUNK, np.int64)
        if not blocks:
            return
        tasks = tasks_of(len(blocks), EVIDENCE_TASKS)
        sizes = np.add.reduceat(counts, np.cumsum((0, *tasks[:-1]))).tolist()
        task = partial(passes.refused, data=data)
        numbers = graph.block_numbers(blocks, tasks)
        rows = graph.rows_of_blocks("refused", task, numbers, sizes, ranked.INDEX_CHUNK, np.int64)
        chunks = graph.block_numbers(range(rows.numblocks[0]), (1,) * rows.numblocks[0])
        write = partial(tables.write_rows, array=array)
        run.record(graph.run_pass("invalid", write, chunks, rows))
