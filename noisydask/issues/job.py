"""One run of the main job, step by step: scan, count, rank, write, publish."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from functools import partial, reduce
from operator import add
from typing import TYPE_CHECKING, Any

import numpy as np

from noisydask.checkpoint.receipts import Why
from noisydask.core.blocks import BlockGrid, plan_blocks
from noisydask.core.confident import num_issues
from noisydask.core.evidence import columns_for
from noisydask.core.problems import FROM_ONE
from noisydask.core.suspicion import suspicion
from noisydask.core.thresholds import LOWER_BOUND, NEVER, confident_thresholds
from noisydask.engine import graph
from noisydask.engine.deaths import deadly
from noisydask.engine.ordering import find_parts, write_parts
from noisydask.engine.parts import WrittenPart, part_name
from noisydask.engine.progress import listening
from noisydask.engine.tasks import (
    EVIDENCE_TASKS,
    SCAN_TASKS,
    check_memory,
    run_over_all,
    tasks_of,
)
from noisydask.errors import InputError
from noisydask.issues import passes, ranked, scanning, tables
from noisydask.issues.blocks import LabeledSource, block_sources, describe
from noisydask.issues.evidence import StoredBlock, open_evidence
from noisydask.issues.inputs import Inputs
from noisydask.issues.options import IssueSettings
from noisydask.issues.results import LabelIssues
from noisydask.lazily import Lazy
from noisydask.runs.job import Job
from noisydask.runs.manifest import Manifest
from noisydask.runs.publish import Publication
from noisydask.runs.repeats import blocks_told
from noisydask.runs.store import Output, RunStore
from noisydask.stores.arrays import IDS, DaskRows, Rows, all_packages, kept_ids
from noisydask.stores.chunks import ChunkedArray
from noisydask.stores.fingerprints import check_blocks_unchanged, snapshots

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

    name, evidence = "issues", "evidence"
    inputs: Inputs
    settings: IssueSettings
    absent: float = NEVER
    joint: bool = True
    keep: bool = True
    scanned: Counter[str] = field(default_factory=Counter)
    stored: list[StoredBlock] = field(default_factory=list)
    bytes_read: int = 0
    rebuilt: str | None = None
    ids: Rows | None = None
    data: passes.Dataset | None = None

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
        self._timed("start")
        scanned = self._scan(data, sources)
        self._check(scanned, data)
        self._timed("scan")
        thresholds = confident_thresholds(scanned.totals, self.absent)
        settings, arrays = self.settings, self._row_arrays(run, data)
        scoring = passes.Scoring(
            thresholds, settings.quality_score, settings.adjust_pred_probs, self.joint, *arrays
        )
        counted, again = self._count(data, scoring, scanned.stored, sources)
        total = num_issues(counted.counts, scanned.totals.counts, self.settings.estimation_method)
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
        bytes_read = {"pred_probs": self.bytes_read, "pred_probs_again": counted.bytes_read}
        names = self.inputs.class_names
        return {
            "blocks": blocks_told(self.scanned, counts["blocks"], self.rebuilt),
            "class_names": list(names) if names is not None else None,
            "counts": counts,
            "bytes_read": bytes_read,
            "parts": [part_name(ranked.FOLDER, part.number) for part in parts],
        }

    def _plan(self, output: Output) -> tuple[passes.Dataset, list[LabeledSource]]:
        probs = self.inputs.pred_probs
        grid, num_classes = self._grid(), probs.shape[1]
        check_memory(grid.block_bytes)
        settings = self.settings
        skip = settings.on_unreadable == "skip"
        sources = block_sources(self.snapshots, grid, num_classes, self.keep, skip)
        fresh = settings.full or sources[0].fingerprint is None
        columns = columns_for(
            num_classes, probs.dtype, settings.quality_score, settings.adjust_pred_probs, self.joint
        )
        evidence, self.rebuilt = open_evidence(
            output.place / "evidence", grid, num_classes, probs.dtype, columns, fresh
        )
        if self.rebuilt:
            self.reporter.phase(f"the evidence that is there is not used: {self.rebuilt}")
        labels = self.inputs.labels
        data = passes.Dataset(
            grid,
            num_classes,
            probs.dtype,
            columns,
            evidence,
            pred_probs=None if isinstance(probs, DaskRows) else probs,
            labels=None if isinstance(labels, DaskRows) else labels,
            skip_unreadable=skip,
        )
        self.data = data
        receipts = set() if fresh else evidence.receipts()
        return data, [replace(source, receipt=source.number in receipts) for source in sources]

    def _scan(self, data: passes.Dataset, sources: Sequence[LabeledSource]) -> scanning.ScanState:
        """Look at the receipts that there are, and read the blocks for which none stands."""
        states, known = [], [source for source in sources if source.receipt]
        if known:
            states.append(
                self._look(data, known, [source for source in sources if not source.receipt])
            )
            done = {stored.number for stored in states[0].stored}
            sources = [source for source in sources if source.number not in done]
        if sources:
            states.append(self._read(data, sources))
        state: scanning.ScanState = reduce(add, states)
        self.scanned += state.why
        self.bytes_read += state.bytes_read
        return state

    def _look(
        self, data: passes.Dataset, known: Sequence[LabeledSource], new: Sequence[LabeledSource]
    ) -> scanning.ScanState:
        """Look at receipts. A task that finds one that does not stand reads that block at once, and
        so are few new ones.
        """
        self.reporter.phase(f"looking for what changed in {len(known):,} blocks")
        arrays = self._given(data, known, self.inputs.labels)
        alone = any(array is not None for array in arrays)
        tasks = tasks_of(len(known), EVIDENCE_TASKS, alone)
        if not alone and len(new) <= len(tasks):
            tasks, known = tasks_of(len(known) + len(new), EVIDENCE_TASKS), [*known, *new]
        if not alone:  # what was appended, and what changed at once, lies side by side: deal it out
            known = [source for task in range(len(tasks)) for source in known[task :: len(tasks)]]
        task = partial(scanning.check, data=data, at_once=not alone)
        return self._over_sources("check", task, data, graph.block_numbers(known, tasks), arrays)

    def _read(self, data: passes.Dataset, sources: Sequence[LabeledSource]) -> scanning.ScanState:
        arrays = self._given(data, sources, self.inputs.pred_probs, self.inputs.labels)
        tasks = tasks_of(len(sources), SCAN_TASKS, any(array is not None for array in arrays))
        rows = sum(
            stop - start for start, stop in (data.grid.bounds(source.number) for source in sources)
        )
        size = rows * data.num_classes * data.dtype.itemsize
        self.reporter.phase(
            f"reading {rows:,} x {data.num_classes:,} {data.dtype} in {len(sources):,} blocks"
        )
        with self.reporter.reading(rows, size) as advance, listening(advance) as notify:
            task = partial(scanning.scan, data=replace(data, notify=notify))
            return self._over_sources(
                "scan", task, data, graph.block_numbers(sources, tasks), arrays
            )

    def _over_sources(
        self, name: str, task: Any, data: passes.Dataset, numbers: Any, arrays: list[Any]
    ) -> Any:
        """A pass that may read; where it kills its workers, the block is named."""
        try:
            return graph.run_pass(name, task, numbers, *arrays)
        except scheduler.KilledWorker as error:
            sources = graph.task_of(error, numbers)
            open_blocks = (source for source in sources if not data.evidence.stands(source))
            bounds = next((data.grid.bounds(source.number) for source in open_blocks), None)
            raise deadly(error, bounds, data.pred_probs) from error

    def _given(
        self, data: passes.Dataset, sources: Sequence[LabeledSource], *inputs: Rows | DaskRows
    ) -> list[Any]:
        """Blocks of the inputs that lie in memory or in a Dask graph, which are handed to the
        tasks.
        """
        some = (
            [source.number for source in sources] if len(sources) < data.grid.num_blocks else None
        )
        return [
            graph.block_rows(rows.array, data.grid, some) if isinstance(rows, DaskRows) else None
            for rows in inputs
        ]

    def _check(self, scanned: scanning.ScanState, data: passes.Dataset) -> None:
        problems, class_counts = scanned.problems, scanned.totals.counts
        invalid, rows = problems.total - problems.unreadable, data.grid.rows
        if (invalid and self.settings.on_invalid == "raise") or problems.total == rows:
            self._check_unchanged()  # a chunk that is deleted under the run reads as fill value
            raise InputError(problems.sentence(rows, class_counts))
        if problems.from_one(class_counts):
            self.reporter.warning(FROM_ONE)

    def _row_arrays(self, run: RunStore, data: passes.Dataset) -> tuple[ChunkedArray, ChunkedArray]:
        """Scores and given labels of all examples: the labels let a later run tell what was
        corrected.
        """
        double = data.dtype == np.float64 or self.settings.adjust_pred_probs
        dtype = np.float64 if double else np.float32
        scores = run.array("label_quality.zarr", (data.grid.rows,), data.grid.block_rows, dtype)
        given_dtype = data.evidence.columns["given"].dtype
        given = run.array("given_labels.zarr", (data.grid.rows,), data.grid.block_rows, given_dtype)
        self.objects += [scores.create(), given.create()]
        return scores, given

    def _count(
        self,
        data: passes.Dataset,
        scoring: passes.Scoring,
        scanned: Iterable[StoredBlock],
        sources: Sequence[LabeledSource],
    ) -> tuple[passes.CountState, tuple[int, ...]]:
        """Count all blocks; read again those with rows that neither the evidence nor what was kept
        of them decides.
        """
        self.reporter.phase("counting from the evidence")
        task, blocks = (
            partial(passes.count, data=data, scoring=scoring),
            {stored.number: stored for stored in scanned},
        )
        self.stored = [blocks[number] for number in sorted(blocks)]
        state = run_over_all("count", task, self.stored)
        if damaged := sorted(state.damaged):
            # Their receipts vouch for their class totals, not for what has become of their evidence
            # since.
            anew = self._scan(
                data, [replace(sources[block], receipt=False, why=Why.DAMAGED) for block in damaged]
            ).stored
            more = run_over_all("count", task, anew)
            if more.damaged:
                raise passes.evidence_changed(more.damaged[0], data)
            blocks |= {stored.number: stored for stored in anew}
            self.stored, state = [blocks[number] for number in sorted(blocks)], state + more
        again = tuple(sorted(state.unresolved))
        if again:
            self.reporter.phase(f"reading {len(again):,} blocks again to resolve rows")
            probs = self.inputs.pred_probs
            array = (
                graph.block_rows(probs.array, data.grid, again)
                if isinstance(probs, DaskRows)
                else None
            )
            numbers = graph.block_numbers([blocks[number] for number in again], (1,) * len(again))
            task = partial(passes.resolve, data=data, scoring=scoring)
            state += graph.run_pass("resolve", task, numbers, array)
        self.objects += state.objects
        return state, again

    def _keep_ids(self, grid: BlockGrid, run: RunStore) -> Rows | None:
        """Return ids as rows of a store: those in memory or in a Dask graph go into the run, block
        by block, for those who look up an example later.
        """
        ids = self.inputs.ids
        if not isinstance(ids, DaskRows):
            return ids
        run.make_folder(IDS)
        blocks = graph.block_numbers(range(grid.num_blocks), (1,) * grid.num_blocks)
        task = partial(ranked.write_ids, run=run, folder=IDS)
        self.objects += graph.run_pass("ids", task, blocks, graph.block_rows(ids.array, grid))
        return kept_ids(run.place)

    def _write_ranking(
        self,
        data: passes.Dataset,
        scores: ChunkedArray,
        histogram: Any,
        total: int,
        run: RunStore,
    ) -> list[WrittenPart]:
        """Sort and write the ``total`` lowest; ``histogram`` is that of the keys of all scores."""
        parts = find_parts(ranked.RankedRows(scores, data, self.stored), total, histogram)
        run.make_folder(ranked.FOLDER)
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
        write = ranked.Writer(run, self.inputs.class_names, only=kept is None)
        written = write_parts(frames, meta, parts, write, kept)
        self.objects += [stored for part in written for stored in part.objects]
        if kept is not None:
            self._write_indices(written, run)
        return written

    def _write_indices(self, parts: Sequence[WrittenPart], run: RunStore) -> None:
        """Write the positions alone, chunk by chunk."""
        rows = sum(part.rows for part in parts)
        indices = ranked.index_array(run, rows)
        self.objects.append(indices.create())
        chunks = range(-(-rows // ranked.INDEX_CHUNK))
        if not chunks:  # all candidates agree with their prediction
            return
        task = partial(ranked.write_indices, parts=tuple(parts), run=run, indices=indices)
        numbers = graph.block_numbers(chunks, (1,) * len(chunks))
        self.objects += graph.run_pass("indices", task, numbers)

    def _write_small(
        self,
        run: RunStore,
        scanned: scanning.ScanState,
        thresholds: Any,
        counted: passes.CountState,
        data: passes.Dataset,
    ) -> None:
        """Write what has the size of the classes."""
        totals = scanned.totals
        shown = (
            thresholds
            if self.absent == LOWER_BOUND
            else np.where(totals.counts > 0, thresholds, np.nan)
        )
        self.objects += run.write_array("thresholds.zarr", shown)
        self.objects += run.write_array("class_counts.zarr", totals.counts)
        if self.joint:
            self.objects += tables.write_joint(run, counted.counts.joint, data.num_classes)

    def _write_refused(self, run: RunStore, data: passes.Dataset) -> None:
        """Write the positions of refused rows, chunk by chunk."""
        blocks = [stored for stored in self.stored if stored.refused]
        tasks, counts = (
            tasks_of(len(blocks), EVIDENCE_TASKS),
            np.array([stored.refused for stored in blocks], np.int64),
        )
        array = run.array(
            "invalid_indices.zarr", (int(counts.sum()),), ranked.INDEX_CHUNK, np.int64
        )
        self.objects.append(array.create())
        if not blocks:
            return
        numbers, sizes = (
            graph.block_numbers(blocks, tasks),
            np.add.reduceat(counts, np.cumsum((0, *tasks[:-1]))).tolist(),
        )
        task = partial(passes.refused, data=data)
        rows = graph.rows_of_blocks("refused", task, numbers, sizes, ranked.INDEX_CHUNK, np.int64)
        chunks = graph.block_numbers(range(rows.numblocks[0]), (1,) * rows.numblocks[0])
        self.objects += graph.run_pass(
            "invalid", partial(tables.write_rows, array=array), chunks, rows
        )
