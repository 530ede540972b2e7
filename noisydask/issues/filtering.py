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

from noisydask.core.auto_counts import AutoLevels
from noisydask.core.auto_rule import AutoRule
from noisydask.core.confident import num_issues
from noisydask.core.filters import FILTERS
from noisydask.core.group_cuts import Bools
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
from noisydask.issues.flagging import Decisions, Ends, FlagState, Order
from noisydask.issues.grouped import (
    SCRATCH,
    ByClass,
    ByPair,
    ByQuality,
    ByScore,
    GroupedEvidence,
)
from noisydask.issues.open_pairs import Bounds, OpenedPairs
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
    undecided : set of int
        Blocks with rows whose pairs may be undecided.
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
    undecided: set[int] = field(default_factory=set, init=False)
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
        takes = estimate, counted_rows.off_diagonal
        decisions = self.decide(names, settings, joint, takes, counts.predicted)
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
        predicted: Ints,
    ) -> Decisions:
        """Find what some filters need; ``takes`` is how many of the lowest label quality are taken,
        and how many of the lowest scores, ``predicted`` how often each class is the prediction.
        """
        needs = {need for name in names for need in FILTERS[name].needs}
        if order_by(settings) == "auto":
            needs.add("auto")
        wanted: dict[str, tuple[GroupedEvidence, Ints]] = {}
        for score in sorted(needs - {"class", "pair", "auto", "likely"}):
            rows: ByScore | ByQuality = ByScore(self.data, score)
            if score == "quality":
                rows = ByQuality(self.data, self.scoring.scores)
            wanted[score] = rows, np.array([takes[score != "quality"]])
        if joint is not None and needs & {"class", "pair"}:
            wanted |= self._pruning(settings, joint, needs)
        found = find_cuts(list(wanted.values()), self.stored) if wanted else []
        ends = {
            name: Ends(rows, *each)
            for (name, (rows, _)), each in zip(wanted.items(), found, strict=True)
        }
        if "pair" in ends:
            ends["pair"] = self._resolved(ends["pair"])
        rule = self._auto(predicted) if "auto" in needs else None
        return Decisions(ends, rule, self.scoring.likely, self.keep_agreeing)

    def _pruning(
        self, settings: IssueSettings, joint: SparseMatrix, needs: set[str]
    ) -> dict[str, tuple[GroupedEvidence, Ints]]:
        """Return the rows of classes and pairs, and how many are pruned of each."""
        counts = self.totals.counts
        least = settings.min_examples_per_class
        pruned = prune_counts(
            joint, counts, least, settings.frac_noise, settings.num_to_remove_per_class
        )
        prunable = counts > max(least, 1)
        wanted: dict[str, tuple[GroupedEvidence, Ints]] = {}
        if "class" in needs:
            takes = np.where(prunable, counts - pruned.diagonal(), 0).astype(np.int64)
            wanted["class"] = ByClass(self.data), takes
        if "pair" in needs:
            pairs = PrunedPairs.of(pruned, prunable)
            rows = ByPair(self.data, pairs=pairs, run=self.run)
            wanted["pair"] = rows, pairs.takes
        return wanted

    def _resolved(self, ends: Ends) -> Ends:
        """Return the cut-off of each pair: first there are those of the margins that the evidence
        gives, then with those of open rows that were kept, then with those of rows that are still
        open.
        """
        doubted = self._doubted(ends)
        if not doubted.any():
            return ends
        limits = self._limits(ends)
        found = self._look(ends.rows, limits.only(doubted))
        if found.opened:
            ends = self._with(ends.rows, found.opened)
            limits = self._limits(ends)
            found = self._look(ends.rows, limits.only(doubted))
            ends = replace(ends, rows=opened(ends.rows, found.opened))
        if not found.unread:
            return ends
        blocks = [self.stored[number] for number in sorted(found.unread)]
        self.reporter.phase(f"reading {counted(len(blocks), 'block')} again to resolve rows")
        only = limits.only(doubted)
        task = partial(open_pairs.read, rows=ends.rows, limits=only, every=limits)
        read = self.rereading.run("reopen", task, blocks)
        self.bytes_read += read.bytes_read
        self.undecided |= set(read.undecided)
        self.blocks_read += len(blocks)
        ends = self._with(ends.rows, read.opened)
        trim = partial(open_pairs.trim, rows=ends.rows, limits=self._limits(ends))
        run_over_all("trim", trim, blocks)
        return ends

    def _with(self, rows: Any, blocks: Sequence[int]) -> Ends:
        """Find the cut-offs of pairs with margins of open rows of more blocks."""
        more = opened(rows, blocks)
        return Ends(more, *find_cuts([(more, more.pairs.takes)], self.stored)[0])

    def _doubted(self, ends: Ends) -> Bools:
        """Return the classes of which open rows may change what is flagged, whatever their
        margins.
        """
        rows: Any = ends.rows
        margins = self._cut_offs(ends)
        anything = np.full(rows.pairs.num_classes, 2, margins.dtype)
        limits = PairLimits.of(rows.pairs, margins, anything)
        bounds: Bounds = run_over_all(
            "bounds", partial(open_pairs.bounds, rows=rows, limits=limits), self.stored
        )
        if not bounds.num_open:
            return np.zeros(len(limits.least), bool)
        doubt = partial(
            open_pairs.doubted, rows=rows, cuts=ends.cuts, limits=limits, highest=bounds.highest
        )
        return np.asarray(run_over_all("doubt", doubt, self.stored) > 0, bool)

    def _look(self, rows: Any, limits: PairLimits) -> OpenedPairs:
        task = partial(open_pairs.look, rows=rows, limits=limits)
        found: OpenedPairs = run_over_all("open", task, self.stored)
        self.undecided = set(found.undecided)  # by limits that are higher now
        return found

    def _cut_offs(self, ends: Ends) -> npt.NDArray[Any]:
        rows: Any = ends.rows
        dtype = self.data.evidence.columns["p_given"].dtype
        return cut_offs(rows.pairs, ends.cuts, ends.sizes, dtype)

    def _limits(self, ends: Ends) -> PairLimits:
        """Return how low the cut-offs of pairs of all margins may be."""
        rows: Any = ends.rows
        margins = self._cut_offs(ends)
        return PairLimits.of(rows.pairs, margins, self._lowest_given(rows.pairs, margins))

    def _lowest_given(self, pairs: PrunedPairs, margins: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """Return for each class a probability that as many of its examples do not exceed as any
        pair takes whose cut-off is below 0.
        """
        takes = np.zeros(pairs.num_classes, np.int64)
        low = margins < 0
        np.maximum.at(takes, pairs.given[low], pairs.takes[low])
        if not low.any():
            return np.ones(pairs.num_classes, margins.dtype)
        ((cuts, _),) = find_cuts([(ByClass(self.data), takes)], self.stored)
        # A class with fewer examples than that: they are all taken.
        enough = cuts.takes & (takes <= self.totals.counts)
        return np.where(enough, scores_of(cuts.lasts[0], margins.dtype), margins.dtype.type(2))

    def _auto(self, predicted: Ints) -> AutoRule:
        data = self.data
        agreeing = run_over_all("agree", partial(auto.agree, data=data), self.stored)
        levels = AutoLevels.of(self.totals, agreeing)
        counts = run_over_all("margins", partial(auto.count, data=data, levels=levels), self.stored)
        number = int(counts.disagreements.counts.sum())
        median = None
        if number:
            rows = ByMargin(data, levels=levels)
            ((cuts, _),) = find_cuts([(rows, np.array([(number + 1) // 2]))], self.stored)
            median = int(cuts.lasts[0][0])
        return AutoRule.of(counts, levels, predicted, median)


def opened(rows: Any, blocks: Sequence[int]) -> ByPair:
    """Return the rows of pairs with margins of open rows of more blocks."""
    more: ByPair = replace(rows, opened=rows.opened | set(blocks))
    return more


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
