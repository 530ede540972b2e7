"""The filters of the main job, run by its client: cut-offs and totals are found in passes over the
evidence, then all examples are flagged in one.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt

from noisydask.core.auto_rule import AutoLevels, AutoRule
from noisydask.core.confident import num_issues
from noisydask.core.filters import FILTERS
from noisydask.core.group_cuts import Bools, GroupCuts
from noisydask.core.noise import SparseMatrix
from noisydask.core.pair_margins import PairLimits, PrunedPairs, cut_offs
from noisydask.core.prune_counts import prune_counts
from noisydask.core.ranking import Ints, scores_of
from noisydask.core.scores import SCORES
from noisydask.core.thresholds import ClassTotals
from noisydask.engine.ordering import find_cuts
from noisydask.engine.progress import Reporter
from noisydask.engine.tasks import run_over_all
from noisydask.issues import auto, flagging, open_pairs
from noisydask.issues.auto import ByMargin
from noisydask.issues.evidence import StoredBlock
from noisydask.issues.flagging import Decisions, FlagState, Order
from noisydask.issues.grouped import SCRATCH, ByClass, ByPair, ByQuality, ByScore
from noisydask.issues.open_pairs import OpenedPairs
from noisydask.issues.options import IssueSettings
from noisydask.issues.passes import CountState, IssueData, Scoring
from noisydask.issues.rereading import Rereading
from noisydask.runs.store import RunStore
from noisydask.stores.chunks import ChunkedArray
from noisydask.text import counted


@dataclass(frozen=True)
class Chosen:
    """The examples that are ranked: the first ``total`` of an order.

    Attributes
    ----------
    order : ChunkedArray
        The scores that order all examples.
    histogram : ndarray of int64
        Of the keys of these scores.
    total : int
        How many are taken.
    all_flagged : bool
        Whether all of them are issues; else those are dropped that agree with their prediction.
    rule : AutoRule, optional
        Suggests labels.
    filters : dict, optional
        How many examples each filter flags, and each two of them both, where that was asked for.
    """

    order: ChunkedArray
    histogram: Ints
    total: int
    all_flagged: bool = False
    rule: AutoRule | None = None
    filters: dict[str, Any] | None = None


@dataclass
class Filtering:
    """What filters find of all examples.

    Attributes
    ----------
    data, stored, scoring
        The evidence, its blocks, and how labels are scored.
    totals : ClassTotals
        Of all valid rows.
    rereading : Rereading
        The rows, read again where they are open.
    run : RunStore
        The run, which holds what only its own passes read.
    reporter : Reporter
        Shows progress.
    keep_agreeing : bool
        Whether filters flag also examples whose label is the prediction.
    bytes_read, blocks_read : int
        Of ``pred_probs``, read again.
    """

    data: IssueData
    stored: Sequence[StoredBlock]
    scoring: Scoring
    totals: ClassTotals
    rereading: Rereading
    run: RunStore
    reporter: Reporter
    keep_agreeing: bool = False
    bytes_read: int = field(default=0, init=False)
    blocks_read: int = field(default=0, init=False)

    def choose(
        self, settings: IssueSettings, counted_rows: CountState, joint: SparseMatrix | None
    ) -> Chosen:
        """Choose the examples that are ranked.

        Parameters
        ----------
        settings : IssueSettings
            The filter and the order.
        counted_rows : CountState
            The counts of all rows.
        joint : SparseMatrix, optional
            The joint by which filters prune.
        """
        counts = counted_rows.counts
        estimate = num_issues(counts, self.totals.counts, settings.estimation_method)
        by = order_by(settings)
        ranked_lowest = settings.filter_by == "batched" and by == "quality"
        quality = self.scoring.scores
        if ranked_lowest and not settings.compare:
            return Chosen(quality, counted_rows.histogram, estimate)
        names = tuple(FILTERS) if settings.compare else (settings.filter_by,)
        decisions = self.decide(names, settings, joint, (estimate, counted_rows.off_diagonal))
        order = None
        if not ranked_lowest:
            dtypes = {"quality": quality.dtype, "auto": np.dtype(np.float64)}
            dtype = dtypes.get(by, self.data.evidence.columns["p_top1"].dtype)
            kept = scratch_array(self.run, "order", self.data, dtype)
            order = Order(settings.filter_by, by, quality, kept, self.scoring.thresholds)
        task = partial(
            flagging.flag, data=self.data, decisions=decisions, filters=names, order=order
        )
        state: FlagState = run_over_all("flag", task, self.stored)
        filters = {"names": list(names), "overlap": state.overlap.tolist()}
        shown = filters if settings.compare else None
        if order is None:
            return Chosen(quality, counted_rows.histogram, estimate, filters=shown)
        chosen = names.index(settings.filter_by)
        total = int(state.overlap[chosen, chosen])
        rule = decisions.auto if settings.filter_by == "auto" else None
        return Chosen(order.kept, state.histogram, total, True, rule, shown)

    def decide(
        self,
        names: Sequence[str],
        settings: IssueSettings,
        joint: SparseMatrix | None,
        takes: tuple[int, int],
    ) -> Decisions:
        """Find what some filters need; ``takes`` is how many of the lowest label quality are taken,
        and how many of the lowest scores.
        """
        needs = {need for name in names for need in FILTERS[name].needs}
        if order_by(settings) == "auto":
            needs.add("auto")
        ends: dict[str, tuple[ByScore | ByQuality, GroupCuts]] = {}
        for score in sorted(needs - {"class", "pair", "auto", "likely"}):
            if score == "quality":
                rows: ByScore | ByQuality = ByQuality(self.data, self.stored, self.scoring.scores)
            else:
                rows = ByScore(self.data, self.stored, score)
            take = takes[score != "quality"]
            ends[score] = rows, find_cuts(rows, np.array([take]))[0]
        by_class: tuple[ByClass, GroupCuts] | None = None
        by_pair: tuple[ByPair, GroupCuts] | None = None
        if joint is not None and needs & {"class", "pair"}:
            class_counts = self.totals.counts
            least = settings.min_examples_per_class
            pruned = prune_counts(
                joint, class_counts, least, settings.frac_noise, settings.num_to_remove_per_class
            )
            prunable = class_counts > max(least, 1)
            if "class" in needs:
                by_class = self._by_class(pruned, prunable)
            if "pair" in needs:
                by_pair = self._by_pair(PrunedPairs.of(pruned, prunable))
        rule = self._auto() if "auto" in needs else None
        likely = self.scoring.likely
        return Decisions(ends, by_class, by_pair, rule, likely, self.keep_agreeing)

    def _by_class(self, pruned: SparseMatrix, prunable: Bools) -> tuple[ByClass, GroupCuts]:
        rows = ByClass(self.data, self.stored)
        takes = np.where(prunable, self.totals.counts - pruned.diagonal(), 0)
        return rows, find_cuts(rows, takes.astype(np.int64))[0]

    def _by_pair(self, pairs: PrunedPairs) -> tuple[ByPair, GroupCuts]:
        """Find the cut-off of each pair: of the margins that the evidence gives, then with those of
        open rows that were kept, then with those of rows that are still open.
        """
        rows = ByPair(self.data, self.stored, pairs=pairs, run=self.run)
        cuts, limits = self._limits(rows)
        found = self._look(rows, limits)
        if found.opened:
            rows = replace(rows, opened=frozenset(found.opened))
            cuts, limits = self._limits(rows)
            found = self._look(rows, limits)
            rows = replace(rows, opened=rows.opened | set(found.opened))
        if not found.unread:
            return rows, cuts
        blocks = [self.stored[number] for number in sorted(found.unread)]
        self.reporter.phase(f"reading {counted(len(blocks), 'block')} again to resolve rows")
        task = partial(open_pairs.read, rows=rows, limits=limits)
        read = self.rereading.run("reopen", task, blocks)
        self.bytes_read += read.bytes_read
        self.blocks_read += len(blocks)
        rows = replace(rows, opened=rows.opened | set(read.opened))
        cuts, limits = self._limits(rows)
        run_over_all("trim", partial(open_pairs.trim, rows=rows, limits=limits), blocks)
        return rows, cuts

    def _look(self, rows: ByPair, limits: PairLimits) -> OpenedPairs:
        task = partial(open_pairs.look, rows=rows, limits=limits)
        found: OpenedPairs = run_over_all("open", task, self.stored)
        return found

    def _limits(self, rows: ByPair) -> tuple[GroupCuts, PairLimits]:
        """Return the cut-offs of pairs by the margins that are known, and how low those of all
        margins may be.
        """
        cuts, known = find_cuts(rows, rows.pairs.takes)
        dtype = self.data.evidence.columns["p_given"].dtype
        margins = cut_offs(rows.pairs, cuts, known, dtype)
        return cuts, PairLimits.of(rows.pairs, margins, self._lowest_given(rows.pairs, margins))

    def _lowest_given(self, pairs: PrunedPairs, margins: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """Return for each class a probability that as many of its examples do not exceed as any
        pair takes whose cut-off is below 0.
        """
        takes = np.zeros(pairs.num_classes, np.int64)
        low = margins < 0
        np.maximum.at(takes, pairs.given[low], pairs.takes[low])
        if not low.any():
            return np.ones(pairs.num_classes, margins.dtype)
        cuts, _ = find_cuts(ByClass(self.data, self.stored), takes)
        # A class with fewer examples than that: they are all taken.
        enough = cuts.takes & (takes <= self.totals.counts)
        return np.where(enough, scores_of(cuts.lasts[0], margins.dtype), margins.dtype.type(2))

    def _auto(self) -> AutoRule:
        data = self.data
        agreement = run_over_all("agree", partial(auto.agree, data=data), self.stored)
        levels = AutoLevels.of(self.totals, agreement)
        counts = run_over_all("margins", partial(auto.count, data=data, levels=levels), self.stored)
        number = int(counts.disagreements.counts.sum())
        median = None
        if number:
            rows = ByMargin(data, self.stored, levels=levels)
            cuts, _ = find_cuts(rows, np.array([(number + 1) // 2]))
            median = int(cuts.lasts[0][0])
        return AutoRule.of(counts, levels, agreement, median)


def order_by(settings: IssueSettings) -> str:
    """Return what orders the issues: "quality", "auto" or a score."""
    by = settings.rank_by
    if by is None and settings.filter_by == "auto":
        return "auto"
    if by is None or by == settings.quality_score:
        return "quality"
    return by


def wanted_columns(settings: IssueSettings) -> tuple[str, ...]:
    """Return columns of evidence that filters and order need, beside those of the joint, and those
    that are to be kept.
    """
    by = order_by(settings)
    if by in SCORES:
        return (*SCORES[by].columns, *settings.keep_columns)
    return settings.keep_columns


def needs_scratch(settings: IssueSettings) -> bool:
    """Return whether passes keep anything for each other in the run."""
    return settings.compare or settings.filter_by != "batched" or order_by(settings) != "quality"


def needs_likely(settings: IssueSettings) -> bool:
    """Return whether the likely class of each example is needed."""
    return settings.compare or "likely" in FILTERS[settings.filter_by].needs


def scratch_array(run: RunStore, name: str, data: IssueData, dtype: Any) -> ChunkedArray:
    """Return an array of all examples that only the passes of a run read."""
    array = run.array(f"{SCRATCH}/{name}.zarr", (data.grid.rows,), data.grid.block_rows, dtype)
    array.create()
    return array
