"""One run of the main job, step by step: scan, count, rank, write, publish."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt

from noisydask.core.blocks import BlockGrid, plan_blocks
from noisydask.core.confident import IssueCounts, likely_dtype
from noisydask.core.evidence import columns_for
from noisydask.core.noise import SparseMatrix
from noisydask.core.problems import FROM_ONE, ROW_KINDS
from noisydask.core.suspicion import suspicion
from noisydask.core.thresholds import LOWER_BOUND, NEVER, ClassTotals, confident_thresholds
from noisydask.engine.inputs import plan_pass
from noisydask.engine.parts import WrittenPart, part_name
from noisydask.engine.tasks import (
    check_memory,
    run_over_all,
)
from noisydask.issues import passes, ranked, scanning
from noisydask.issues.blocks import block_sources, describe
from noisydask.issues.evidence import StoredBlock, open_evidence
from noisydask.issues.filtering import (
    Chosen,
    Filtering,
    needs_likely,
    needs_scratch,
    scratch_array,
    wanted_columns,
)
from noisydask.issues.grouped import SCRATCH
from noisydask.issues.inputs import IssueInputs
from noisydask.issues.latent import Latent
from noisydask.issues.options import IssueSettings
from noisydask.issues.ranking import IssueRanking, keep_ids, write_refused
from noisydask.issues.results import LabelIssues
from noisydask.issues.scan import Scan
from noisydask.runs.job import Job, Listed, Outcome
from noisydask.runs.manifest import Manifest
from noisydask.runs.publish import Publication
from noisydask.runs.repeats import blocks_told
from noisydask.runs.store import NewRun, Output, RunStore
from noisydask.stores.arrays import IDS, DaskRows, Rows, all_packages
from noisydask.stores.chunks import ChunkedArray
from noisydask.stores.fingerprints import check_blocks_unchanged, snapshots
from noisydask.text import counted


@dataclass
class IssueJob(Job[LabelIssues]):
    """One run of the main job, step by step; :meth:`run` is the whole of it.

    ``absent`` is the threshold of classes without examples, ``joint`` whether the confident joint
    is made, ``keep`` whether evidence is reused, and kept for the next run; ``confident_joint`` is
    one by which filters prune instead of that of the data, ``thresholds`` are taken instead of the
    means of the classes; with ``keep_agreeing`` filters flag also what is the prediction.
    """

    name = "issues"
    inputs: IssueInputs
    settings: IssueSettings
    absent: float = NEVER
    joint: bool = True
    keep: bool = True
    confident_joint: SparseMatrix | None = None
    thresholds: npt.NDArray[np.float64] | None = None
    keep_agreeing: bool = False

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

    def _inputs(self, listed: Listed) -> dict[str, dict[str, Any]]:
        classes = self.inputs.pred_probs.shape[1]
        more = {name: describe(name, snapshot, classes) for name, snapshot in listed.items()}
        if isinstance(self.inputs.ids, DaskRows):
            more["ids"] = {"kept": IDS}
        return {
            name: rows.describe() | more.get(name, {}) for name, rows in self.inputs.opened.items()
        }

    def _more(self) -> tuple[Any, ...]:
        return self.inputs.class_names, self.absent, self.joint

    def _grid(self) -> BlockGrid:
        """Plan the blocks."""
        probs = self.inputs.pred_probs
        rows, num_classes = probs.shape
        row_bytes = num_classes * probs.dtype.itemsize
        return plan_blocks(rows, row_bytes, probs.chunk_rows, self.settings.block_bytes)

    def _list_inputs(self) -> Listed:
        self._grid()  # whose size is within bounds, before its chunks are walked
        return snapshots(self.inputs.opened)

    def _run(self, publication: Publication, listed: Listed) -> Outcome:
        for text in self.inputs.warnings:
            self.reporter.warning(text)
        run = publication.run
        scan = self._plan(publication.output, listed)
        data = scan.data
        forget = data.evidence.forget
        check = partial(check_blocks_unchanged, listed, "pred_probs", data.grid, forget)
        self._timed("start")
        scanned = scan.all()
        self._refuse_invalid(scanned, data, check)
        self._timed("scan")
        scoring = self._scoring(run, data, scanned.totals)
        counted, stored, again = self._count(scan, scoring, scanned.stored)
        run.record(counted.objects)
        latent = self._write_small(run, scanned.totals, scoring.thresholds, counted.counts)
        self._timed("count")
        probs = self.inputs.pred_probs
        filtering = Filtering(
            data, stored, scoring, scanned.totals, probs, run.store, self.reporter
        )
        chosen = filtering.choose(self.settings, counted, self._pruning_joint(latent))
        self._timed("filter")
        ids = keep_ids(self.inputs.ids, data.grid, run)
        parts = self._rank(run, filtering, chosen, ids)
        self._timed("rank")
        write_refused(stored, data, run)
        counts = {
            "examples": data.grid.rows,
            "invalid": scanned.problems.total - scanned.problems.unreadable,
            "unreadable": scanned.problems.unreadable,
            "classes": data.num_classes,
            "estimated_issues": chosen.total,
            "issues": sum(part.rows for part in parts),
            "off_diagonal": counted.off_diagonal,
            "blocks": data.grid.num_blocks,
            "blocks_read_again": again + filtering.blocks_read,
        }
        if doubt := suspicion(scanned.totals.counts, counted.agreeing, counts["issues"]):
            self.reporter.warning(doubt)
        self._timed("write")
        bytes_again = counted.bytes_read + filtering.bytes_read
        fields = {
            "blocks": blocks_told(scan.why, counts["blocks"], scan.rebuilt),
            "class_names": self.inputs.class_names,
            "counts": counts,
            "bytes_read": {"pred_probs": scan.bytes_read, "pred_probs_again": bytes_again},
            "parts": [part_name(ranked.FOLDER, part.number) for part in parts],
        }
        if chosen.filters is not None:
            fields["filters"] = chosen.filters
        return Outcome(fields, check, ids)

    def _scoring(self, run: NewRun, data: passes.IssueData, totals: ClassTotals) -> passes.Scoring:
        """Tell how labels are scored, and make room for what is known of each example."""
        settings = self.settings
        likely = None
        if needs_scratch(settings):
            run.store.make_folder(SCRATCH)
        if needs_likely(settings):
            likely = scratch_array(run.store, "likely", data, likely_dtype(data.num_classes))
        thresholds = self.thresholds
        if thresholds is None:
            thresholds = confident_thresholds(totals, self.absent)
        return passes.Scoring(
            thresholds,
            settings.quality_score,
            settings.adjust_pred_probs,
            self.joint,
            *self._row_arrays(run, data),
            likely,
        )

    def _pruning_joint(self, latent: Latent | None) -> SparseMatrix | None:
        """Return the joint by which filters prune: one that was given is taken as it is."""
        if self.confident_joint is not None:
            return self.confident_joint
        if latent is not None:
            return latent.calibrated
        return None

    def _rank(
        self, run: NewRun, filtering: Filtering, chosen: Chosen, ids: Rows | None
    ) -> list[WrittenPart]:
        """Rank the chosen examples."""
        self.reporter.phase(f"ranking {chosen.total:,} candidates")
        ranking = IssueRanking(
            filtering.data,
            chosen.order,
            filtering.scoring.scores,
            filtering.stored,
            ids,
            self.inputs.class_names,
            chosen.all_flagged,
            chosen.rule,
        )
        parts = ranking.write(chosen.histogram, chosen.total, run)
        if needs_scratch(self.settings):
            run.store.remove_folder(SCRATCH)
        return parts

    def _plan(self, output: Output, listed: Listed) -> Scan:
        """Return the scan of all blocks."""
        probs = self.inputs.pred_probs
        grid = self._grid()
        num_classes = probs.shape[1]
        check_memory(grid.block_bytes)
        settings = self.settings
        skip = settings.on_unreadable == "skip"
        sources = block_sources(listed, grid, num_classes, self.keep, skip)
        fresh = settings.full or sources[0].fingerprint is None
        columns = columns_for(
            num_classes,
            probs.dtype,
            settings.quality_score,
            settings.adjust_pred_probs,
            self.joint,
            wanted_columns(settings),
        )
        evidence, rebuilt = open_evidence(
            output.checkpoint(self.name),
            grid,
            num_classes,
            probs.dtype,
            columns,
            fresh,
        )
        if rebuilt:
            self.reporter.phase(f"the evidence that is there is not used: {rebuilt}")
        data = passes.IssueData(
            grid,
            num_classes,
            probs.dtype,
            columns,
            evidence,
            skip_unreadable=skip,
        )
        receipts = set() if fresh else evidence.receipts()
        sources = [replace(source, receipt=source.number in receipts) for source in sources]
        inputs = {"labels": self.inputs.labels, "pred_probs": probs}
        return Scan(data, inputs, sources, self.reporter, rebuilt)

    def _refuse_invalid(
        self,
        scanned: scanning.ScanState,
        data: passes.IssueData,
        check_unchanged: Callable[[], None],
    ) -> None:
        problems = scanned.problems
        class_counts = scanned.totals.counts
        invalid = problems.total - problems.unreadable
        rows = data.grid.rows
        if (invalid and self.settings.on_invalid == "raise") or problems.total == rows:
            check_unchanged()  # a chunk that is deleted under the run reads as fill value
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
    ) -> tuple[passes.CountState, list[StoredBlock], int]:
        """Count all blocks; read again those with rows that neither the evidence nor what was kept
        of them decides. Return also all blocks as they are stored, and how many were read again.
        """
        self.reporter.phase("counting from the evidence")
        data = scan.data
        blocks = {stored.number: stored for stored in scanned}
        task = partial(passes.count, data=data, scoring=scoring)
        state = run_over_all("count", task, [blocks[number] for number in sorted(blocks)])
        if damaged := sorted(state.damaged):
            # Their receipts vouch for their class totals, not for what has become of their evidence
            # since.
            anew = scan.again(damaged).stored
            more = run_over_all("count", task, anew)
            if more.damaged:
                raise passes.evidence_changed(more.damaged[0], data)
            blocks |= {stored.number: stored for stored in anew}
            state += more
        again = tuple(sorted(state.unresolved))
        if again:
            self.reporter.phase(f"reading {counted(len(again), 'block')} again to resolve rows")
            probs = {"pred_probs": self.inputs.pred_probs}
            planned = plan_pass(probs, data.grid, [blocks[number] for number in again], None)
            state += planned.run("resolve", partial(passes.resolve, data=data, scoring=scoring))
        return state, [blocks[number] for number in sorted(blocks)], len(again)

    def _write_small(
        self,
        run: NewRun,
        totals: ClassTotals,
        thresholds: npt.NDArray[np.float64],
        counts: IssueCounts,
    ) -> Latent | None:
        """Write what has the size of the classes; return what follows from the confident joint,
        where that is made.
        """
        if self.absent == LOWER_BOUND:
            shown = thresholds
        else:
            shown = np.where(totals.counts > 0, thresholds, np.nan)
        run.write_array("thresholds.zarr", shown)
        run.write_array("class_counts.zarr", totals.counts)
        run.write_array("predicted_counts.zarr", counts.predicted)
        if not self.joint:
            return None
        latent = Latent.of(counts.joint, totals.counts)
        latent.write(run)
        return latent
