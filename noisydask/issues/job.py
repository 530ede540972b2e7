"""One run of the main job, step by step: scan, count, rank, write, publish."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt

from noisydask.core.confident import IssueCounts, likely_dtype
from noisydask.core.model_weights import custom_weights
from noisydask.core.noise import SparseMatrix
from noisydask.core.prune_counts import check_numbers
from noisydask.core.suspicion import suspicion
from noisydask.core.thresholds import LOWER_BOUND, NEVER, ClassTotals, confident_thresholds
from noisydask.engine.parts import WrittenPart, part_name
from noisydask.errors import InputError
from noisydask.issues import passes, ranked
from noisydask.issues.blocks import describe
from noisydask.issues.counting import count
from noisydask.issues.ensemble import Ensemble
from noisydask.issues.filtering import (
    Chosen,
    Filtering,
    needs_likely,
    needs_scratch,
    order_by,
    scratch_array,
)
from noisydask.issues.grouped import SCRATCH
from noisydask.issues.inputs import IssueInputs
from noisydask.issues.joining import FOLDER as JOINED
from noisydask.issues.joining import join_labels
from noisydask.issues.label_inputs import doubt_of_labels, told_of_labels
from noisydask.issues.latent import Latent
from noisydask.issues.models import ModelsScan
from noisydask.issues.options import IssueSettings
from noisydask.issues.passes import CountState
from noisydask.issues.planning import plan_grid, plan_scan
from noisydask.issues.ranking import IssueRanking, keep_ids, write_refused, write_undecided
from noisydask.issues.results import LabelIssues
from noisydask.issues.scan import Scan, Scanned
from noisydask.issues.top_settings import refuse_of_whole_rows, told_of_undecided
from noisydask.issues.undecided import UndecidedRows
from noisydask.runs.job import Job, Listed, Outcome
from noisydask.runs.manifest import Manifest
from noisydask.runs.publish import Publication
from noisydask.runs.repeats import blocks_told
from noisydask.runs.store import NewRun, RunStore
from noisydask.stores.arrays import IDS, DaskRows, Rows, all_packages
from noisydask.stores.chunks import ChunkedArray
from noisydask.stores.fingerprints import check_blocks_unchanged, snapshots
from noisydask.stores.unstored import refuse_lost, unstored

#: Inputs that are joined by their ids.
_BY_ID = ("labels", "label_ids")


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

    def __post_init__(self) -> None:
        settings = self.settings
        several = len(self.inputs.models) > 1
        num_classes = self.inputs.num_classes
        if not isinstance(settings.weights, str):
            custom_weights(settings.weights, len(self.inputs.models))
        if settings.num_to_remove_per_class is not None:
            check_numbers(settings.num_to_remove_per_class, num_classes)
        if self.inputs.top is not None:
            refuse_of_whole_rows(settings)
        if several and order_by(settings) == "confidence_weighted_entropy":
            raise InputError(
                "rank_by confidence_weighted_entropy works with several models only where it is "
                "quality_score too: the entropy of their mean is not kept"
            )

    @property
    def size(self) -> int:
        """Bytes of all probabilities."""
        return sum(probs.num_bytes for probs in self.inputs.models)

    @property
    def packages(self) -> frozenset[str]:
        """What the inputs need that lie in stores."""
        return all_packages(self.inputs.opened.values())

    def _result(self, run: RunStore, manifest: Manifest) -> LabelIssues:
        return LabelIssues(run, manifest)

    def _settings(self) -> dict[str, Any]:
        return self.settings.model_dump()

    def _inputs(self, listed: Listed) -> dict[str, dict[str, Any]]:
        classes = self.inputs.num_classes
        more = {name: describe(name, snapshot, classes) for name, snapshot in listed.items()}
        if isinstance(self.inputs.ids, DaskRows):
            more["ids"] = {"kept": IDS}
        return {
            name: rows.describe() | more.get(name, {}) for name, rows in self.inputs.opened.items()
        }

    def _more(self) -> tuple[Any, ...]:
        coded = self.inputs.coded
        labels = None if coded is None else coded.codes.kind
        return self.inputs.class_names, self.absent, self.joint, labels

    def _list_inputs(self) -> Listed:
        # Their number is within bounds, before chunks are walked.
        plan_grid(self.inputs, self.settings.block_bytes)
        return snapshots(self.inputs.opened)

    def _run(self, publication: Publication, listed: Listed) -> Outcome:
        for text in self.inputs.warnings:
            self.reporter.warning(text)
        run = publication.run
        inputs, unmatched = self._joined(run, listed)
        kept: Listed = listed
        if unmatched is not None:  # labels are no longer where they were listed
            kept = {name: listed[name] for name in listed if name not in _BY_ID}
        how = publication.output, kept, self.keep, self.joint, self.reporter
        scan = plan_scan(inputs, self.settings, *how)
        check = partial(self._check_blocks, listed, scan)
        self._timed("start")
        scanned = scan.all()
        self._refuse_invalid(scanned, scan.data.grid.rows, check)
        self._timed("scan")
        scoring = replace(self._scoring(run, scan.data, scanned.totals), ensemble=scan.ensemble)
        counted = count(scan, scoring, scanned)
        run.record(counted.state.objects)
        thresholds = scoring.thresholds
        latent = self._write_small(run, scanned.totals, thresholds, counted.state.counts)
        self._timed("count")
        reread = scan.rereading, run.store, self.reporter
        filtering = Filtering(
            scan.data,
            counted.stored,
            scoring,
            scanned.totals,
            *reread,
            keep_agreeing=self.keep_agreeing,
        )
        chosen = filtering.choose(self.settings, counted.state, self._pruning_joint(latent))
        self._timed("filter")
        ids = keep_ids(self.inputs.ids, scan.data.grid, run)
        parts = self._rank(run, filtering, chosen, ids, scan.ensemble)
        self._timed("rank")
        write_refused(counted.stored, scan.data, run)
        undecided = self._write_undecided(run, counted.state, filtering)
        if self._needs_scratch:
            run.store.remove_folder(SCRATCH)
        counts = {
            **undecided,
            **({} if unmatched is None else {"labels_without_prediction": unmatched}),
            "examples": scan.data.grid.rows,
            "invalid": scanned.refused - scanned.unreadable,
            "unreadable": scanned.unreadable,
            "classes": scan.data.num_classes,
            "estimated_issues": chosen.total,
            "issues": sum(part.rows for part in parts),
            "off_diagonal": counted.state.off_diagonal,
            "blocks": scan.num_blocks,
            "blocks_read_again": (scan.blocks_again + counted.blocks_again + filtering.blocks_read),
        }
        agreeing = counted.state.agreeing
        if doubt := suspicion(scanned.totals.counts, agreeing, counts["issues"]):
            self.reporter.warning(doubt)
        self._timed("write")
        bytes_again = scan.bytes_again + counted.state.bytes_read + filtering.bytes_read
        fields: dict[str, Any] = {
            "blocks": blocks_told(scan.why, counts["blocks"], scan.rebuilt),
            "class_names": self.inputs.class_names,
            "counts": counts,
            "bytes_read": {**scan.bytes_read, "pred_probs_again": bytes_again},
            "parts": [part_name(ranked.FOLDER, part.number) for part in parts],
        }
        if chosen.filters is not None:
            fields["filters"] = chosen.filters
        if scan.ensemble is not None:
            fields["model_weights"] = scan.ensemble.weights.tolist()
        return Outcome(fields, check, ids)

    def _joined(self, run: NewRun, listed: Listed) -> tuple[IssueInputs, int | None]:
        """Return the inputs with labels in the order of the predictions, and how many labels have
        no prediction, where they had an order of their own.
        """
        if self.inputs.label_ids is None:
            return self.inputs, None
        for name in _BY_ID:
            if name in listed:
                lost, _ = unstored(listed[name], filled=name == "labels")
                refuse_lost(name, listed[name], lost, skip=False)
        grid = plan_grid(self.inputs, self.settings.block_bytes)
        skip = self.settings.on_invalid == "skip"
        return join_labels(self.inputs, run.store, grid, skip, self.reporter)

    def _check_blocks(self, listed: Listed, scan: Scan | ModelsScan) -> None:
        """List the inputs again; receipts of blocks that changed are forgotten."""
        grid = scan.data.grid
        for name, data in zip(self.inputs.named_models, scan.models, strict=True):
            check_blocks_unchanged(listed, name, grid, data.evidence.forget)

    def _scoring(self, run: NewRun, data: passes.IssueData, totals: ClassTotals) -> passes.Scoring:
        """Tell how labels are scored, and make room for what is known of each example."""
        settings = self.settings
        likely = None
        if self._needs_scratch:
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
            undecided=None if data.top is None else UndecidedRows(run.store, "joint"),
        )

    @property
    def _needs_scratch(self) -> bool:
        return needs_scratch(self.settings) or self.inputs.top is not None

    def _write_undecided(
        self, run: NewRun, counted: CountState, filtering: Filtering
    ) -> dict[str, int]:
        """Write which rows are undecided, and say so; return their number for the manifest."""
        if self.inputs.top is None:
            return {}
        by_use = {"joint": counted.undecided, "pairs": tuple(filtering.undecided)}
        found = write_undecided(by_use, filtering.data.grid, run)
        if text := told_of_undecided(found, self.settings):
            self.reporter.warning(text)
        return {"undecided": found["any"]}

    def _pruning_joint(self, latent: Latent | None) -> SparseMatrix | None:
        """Return the joint by which filters prune: one that was given is taken as it is."""
        if self.confident_joint is not None:
            return self.confident_joint
        if latent is not None:
            return latent.calibrated
        return None

    def _rank(
        self,
        run: NewRun,
        filtering: Filtering,
        chosen: Chosen,
        ids: Rows | None,
        ensemble: Ensemble | None,
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
            ensemble,
        )
        parts = ranking.write(chosen.histogram, chosen.total, run)
        if self.inputs.label_ids is not None:
            run.store.remove_folder(JOINED)
        return parts

    def _refuse_invalid(
        self, scanned: Scanned, rows: int, check_unchanged: Callable[[], None]
    ) -> None:
        for name, problems in zip(self.inputs.named_models, scanned.problems, strict=True):
            invalid = problems.total - problems.unreadable
            if (invalid and self.settings.on_invalid == "raise") or problems.total == rows:
                check_unchanged()  # a chunk that is deleted under the run reads as fill value
                where = f" of {name}" if len(scanned.problems) > 1 else ""
                refused = f"{problems.total:,} of {rows:,} rows{where} are invalid"
                said_before = self.settings.logits or self.settings.normalize or self.settings.scale
                hint, more = ("", ()) if said_before else problems.values_hint(rows)
                kinds, said = told_of_labels(self.inputs.coded, problems, scanned.totals)
                raise problems.error(refused, kinds, hint=hint + said, more=more)
        doubt = doubt_of_labels(self.inputs.coded, scanned.problems[0], scanned.totals)
        if doubt:
            self.reporter.warning(doubt)

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
