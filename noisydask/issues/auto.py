"""The passes over the evidence that our own rule, ``auto``, takes before it can flag: who agrees
with the prediction, by which margins the others differ, and the typical margin.

What a task does; storage is handed in, Dask is not known here.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import reduce
from operator import add

from noisydask.core.auto_counts import (
    AutoCounts,
    AutoLevels,
    agreeing_totals,
    count_margins,
    typical_keys,
)
from noisydask.core.ranking import Ints, Keys
from noisydask.core.thresholds import ClassTotals
from noisydask.issues.evidence import StoredBlock
from noisydask.issues.grouped import GroupedEvidence
from noisydask.issues.passes import IssueData, evidence_of


def agree(blocks: Sequence[StoredBlock], data: IssueData) -> ClassTotals:
    """Return the totals of rows whose given label is the prediction."""
    names = ("given", "top1", "p_given")
    found = (evidence_of(block, names, data) for block in blocks)
    return reduce(add, (agreeing_totals(columns, data.num_classes) for columns in found))


def count(blocks: Sequence[StoredBlock], data: IssueData, levels: AutoLevels) -> AutoCounts:
    """Count rows by the class that their margins speak for."""
    found = (evidence_of(block, data.columns, data) for block in blocks)
    return reduce(add, (count_margins(columns, levels) for columns in found))


@dataclass(frozen=True)
class ByMargin(GroupedEvidence):
    """Rows whose prediction is confident and not the given label, in one group, by its margin.

    Attributes
    ----------
    levels : AutoLevels
        What margins are measured by.
    """

    levels: AutoLevels = field(kw_only=True)

    @property
    def bits(self) -> tuple[int, ...]:
        """Bits of the margin: rows of the same need no order."""
        return (64,)

    def grouped(self, block: StoredBlock, levels: int) -> tuple[Ints, tuple[Keys, ...]]:
        """Return group and key of each row of a block: there is one key."""
        columns = self.read(block, *self.data.columns)
        groups, keys = typical_keys(columns, self.levels)
        return groups, (keys,)
