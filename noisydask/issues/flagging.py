"""The pass that flags: what is known of each block's examples, which of them a filter flags, and
the keys by which the flagged are ordered.

What a task does; storage is handed in, Dask is not known here.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property, reduce
from operator import add
from typing import Any, cast

import numpy as np
import numpy.typing as npt

from noisydask.core.auto_rule import AutoRule
from noisydask.core.filters import FILTERS, Bools
from noisydask.core.group_cuts import GroupCuts
from noisydask.core.label_quality import agrees
from noisydask.core.ranking import Ints, histogram, sort_keys, whole_range
from noisydask.core.scores import SCORES
from noisydask.issues.evidence import StoredBlock
from noisydask.issues.passes import IssueData, evidence_of
from noisydask.stores.chunks import ChunkedArray

Array = npt.NDArray[np.generic]


@dataclass(frozen=True)
class Ends:
    """Rows in groups, where each group ends, and how many rows it has.

    Attributes
    ----------
    rows : GroupedEvidence
        The rows.
    cuts : GroupCuts
        The ends.
    sizes : ndarray of int64, (G,)
        How many rows each group has that takes some.
    """

    rows: Any
    cuts: GroupCuts
    sizes: Ints = field(repr=False)


@dataclass(frozen=True)
class Decisions:
    """What was found of all examples, so that each block can be flagged by itself.

    Attributes
    ----------
    ends : mapping of str to Ends
        By "class" and "pair" what is pruned of each, by "quality" and scores the lowest.
    auto : AutoRule, optional
        Our own rule.
    likely : ChunkedArray, optional
        Likely classes of all examples.
    keep_agreeing : bool
        Whether every filter flags also examples whose label is the prediction.
    """

    ends: Mapping[str, Ends] = field(default_factory=dict)
    auto: AutoRule | None = None
    likely: ChunkedArray | None = None
    keep_agreeing: bool = False


@dataclass(frozen=True)
class BlockFacts:
    """Masks of the examples of a block (:class:`noisydask.core.filters.Facts`), each computed when
    it is first asked for.
    """

    stored: StoredBlock
    data: IssueData
    decisions: Decisions

    @cached_property
    def columns(self) -> Mapping[str, Array]:
        """The evidence."""
        return evidence_of(self.stored, self.data.columns, self.data)

    @cached_property
    def valid(self) -> Bools:
        """Rows that were not refused."""
        given = cast(npt.NDArray[Any], self.columns["given"])
        return np.asarray(given < self.data.num_classes, bool)

    @property
    def predicted_other(self) -> Bools:
        """Examples whose prediction is not the given label."""
        return np.asarray(self.columns["top1"] != self.columns["given"], bool)

    @cached_property
    def likely_other(self) -> Bools:
        """Examples that have a likely class other than the given label."""
        likely: Any = cast(ChunkedArray, self.decisions.likely).read(self.stored.number)
        return np.asarray((likely < self.data.num_classes) & (likely != self.columns["given"]))

    def lowest(self, score: str) -> Bools:
        """Return the examples of the lowest score."""
        return self._taken(self.decisions.ends[score])

    @property
    def lowest_quality(self) -> Bools:
        """Examples of the lowest label quality, as many as there are issues by estimate."""
        return self.lowest("quality")

    @cached_property
    def pruned_by_class(self) -> Bools:
        """Examples that are pruned from their class for a low ``p_given``."""
        return self._taken(self.decisions.ends["class"])

    @cached_property
    def pruned_by_pair(self) -> Bools:
        """Examples that are pruned from their class in favour of another class."""
        ends = self.decisions.ends["pair"]
        margins, keys = ends.rows.margins(self.stored, ends.cuts.levels)
        pruned = np.zeros(len(self.valid), bool)
        pruned[margins.rows[ends.cuts.taken(margins.groups, *keys)]] = True
        return pruned

    def _taken(self, ends: Ends) -> Bools:
        groups, keys = ends.rows.grouped(self.stored, ends.cuts.levels)
        return ends.cuts.taken(groups, *keys)

    @cached_property
    def by_auto(self) -> tuple[Bools, Ints, npt.NDArray[np.float64]]:
        """Flags, suggested classes and ranks of our own rule."""
        assert self.decisions.auto is not None
        return self.decisions.auto.decide(self.columns)

    @property
    def doubted(self) -> Bools:
        """Examples that our own rule flags."""
        return self.by_auto[0]

    def flagged(self, name: str) -> Bools:
        """Return which examples a filter flags."""
        chosen = FILTERS[name]
        flagged = chosen.flag(self) & self.valid
        if not (chosen.keeps_agreeing or self.decisions.keep_agreeing):
            flagged &= ~agrees(self.columns, self.data.dtype)
        return flagged


@dataclass(frozen=True)
class Order:
    """By what flagged examples are ordered, and where that is kept.

    Attributes
    ----------
    filter_by : str
        The filter whose examples are ranked.
    score : str
        "quality", "auto", or a score that the evidence gives.
    quality : ChunkedArray
        Label quality of all examples.
    kept : ChunkedArray
        The score of flagged examples, NaN for the others.
    thresholds : ndarray of float64, (K,)
        Confident thresholds.
    """

    filter_by: str
    score: str
    quality: ChunkedArray = field(repr=False)
    kept: ChunkedArray = field(repr=False)
    thresholds: npt.NDArray[np.float64] = field(repr=False)

    def scores(self, facts: BlockFacts) -> npt.NDArray[np.floating]:
        """Return the score of each example of a block."""
        if self.score == "quality":
            return cast(npt.NDArray[np.floating], self.quality.read(facts.stored.number))
        if self.score == "auto":
            return facts.by_auto[2]
        return SCORES[self.score].of_evidence(facts.columns, self.thresholds)


@dataclass(frozen=True)
class FlagState:
    """Of the flags: the histogram of the flagged examples' keys, and how many examples each two
    filters flag both.
    """

    histogram: Ints
    overlap: Ints

    def __add__(self, other: FlagState) -> FlagState:
        return FlagState(self.histogram + other.histogram, self.overlap + other.overlap)


def flag(
    blocks: Sequence[StoredBlock],
    data: IssueData,
    decisions: Decisions,
    filters: Sequence[str],
    order: Order | None,
) -> FlagState:
    """Flag the examples of blocks by some filters; keep the order of those of one, if one is to be
    ranked.
    """
    facts = (BlockFacts(block, data, decisions) for block in blocks)
    return reduce(add, (_flag_block(each, filters, order) for each in facts))


def _flag_block(facts: BlockFacts, filters: Sequence[str], order: Order | None) -> FlagState:
    flags = np.array([facts.flagged(name) for name in filters])
    overlap = flags.astype(np.float64) @ flags.T
    if order is None:
        nothing = np.zeros((1, 1 << 16), np.int64)
        return FlagState(nothing, overlap.astype(np.int64))
    flagged = flags[list(filters).index(order.filter_by)]
    scores = order.scores(facts).astype(order.kept.dtype)
    kept = np.where(flagged, scores, np.array(np.nan, scores.dtype))
    order.kept.write(facts.stored.number, kept)
    counts = histogram(sort_keys(kept[flagged]), [whole_range(kept.itemsize)])
    return FlagState(counts, overlap.astype(np.int64))
