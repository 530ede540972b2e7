"""Rows of the evidence in groups, as :func:`noisydask.engine.ordering.find_cuts` asks for them: the
lowest of all by a score, of each class, and of each pair of classes.

Rows of the same score are ordered as in the ranking: a higher probability of the prediction first,
then the position.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, cast

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from noisydask.core.pair_margins import PairMargins, PrunedPairs, known_margins
from noisydask.core.ranking import Ints, Keys, sort_keys
from noisydask.core.scores import SCORES
from noisydask.issues.evidence import StoredBlock
from noisydask.issues.passes import IssueData, evidence_of
from noisydask.runs.store import RunStore
from noisydask.stores.chunks import ChunkedArray

Array = npt.NDArray[np.generic]

#: Folder of a run for what only its own passes read.
SCRATCH = "scratch"


@dataclass(frozen=True)
class GroupedEvidence:
    """Rows of the evidence of all blocks, each in one group or in none."""

    data: IssueData
    stored: Sequence[StoredBlock] = field(repr=False)

    @property
    def num_blocks(self) -> int:
        """Number of blocks."""
        return len(self.stored)

    @property
    def num_rows(self) -> int:
        """Number of rows."""
        return self.data.grid.rows

    @property
    def bits(self) -> tuple[int, ...]:
        """Bits of score, probability of the prediction, and position."""
        probability = self.data.evidence.columns["p_top1"].dtype
        return 8 * self.itemsize, 8 * probability.itemsize, max(1, self.num_rows.bit_length())

    @property
    def itemsize(self) -> int:
        """Bytes of a score: that of a probability, where it is one."""
        return self.data.evidence.columns["p_top1"].dtype.itemsize

    def read(self, block: int, *names: str) -> dict[str, Array]:
        """Read columns of a block."""
        return evidence_of(self.stored[block], names, self.data)

    def keys(self, block: int, score_keys: Keys, p_top1: Array) -> tuple[Keys, ...]:
        """Return all keys of a block's rows."""
        positions = np.arange(*self.data.grid.bounds(block)).astype(np.uint64)
        return score_keys, sort_keys(-cast(npt.NDArray[np.floating], p_top1)), positions


@dataclass(frozen=True)
class ByScore(GroupedEvidence):
    """All valid rows in one group, by a score that the evidence gives."""

    score: str = "self_confidence"

    def grouped(self, block: int) -> tuple[Ints, tuple[Keys, ...]]:
        """Return group and keys of each row of a block."""
        names = {"given", "top1", "p_given", "p_top1", *SCORES[self.score].columns}
        columns = self.read(block, *names)
        nothing = np.zeros(0)
        scores = SCORES[self.score].of_evidence(columns, nothing)
        return _valid(columns, self.data), self.keys(block, sort_keys(scores), columns["p_top1"])


@dataclass(frozen=True)
class ByQuality(GroupedEvidence):
    """All valid rows in one group, by their label quality."""

    quality: ChunkedArray | None = None

    @property
    def itemsize(self) -> int:
        """Bytes of a label quality."""
        return cast(ChunkedArray, self.quality).dtype.itemsize

    def grouped(self, block: int) -> tuple[Ints, tuple[Keys, ...]]:
        """Return group and keys of each row of a block."""
        columns = self.read(block, "given", "p_top1")
        scores: Any = cast(ChunkedArray, self.quality).read(block)
        return _valid(columns, self.data), self.keys(block, sort_keys(scores), columns["p_top1"])


def _valid(columns: dict[str, Array], data: IssueData) -> Ints:
    valid = cast(npt.NDArray[Any], columns["given"]) < data.num_classes
    return np.where(valid, 0, -1)


@dataclass(frozen=True)
class ByClass(GroupedEvidence):
    """The rows of each given class, by the probability of it."""

    def grouped(self, block: int) -> tuple[Ints, tuple[Keys, ...]]:
        """Return group and keys of each row of a block."""
        columns = self.read(block, "given", "p_given", "p_top1")
        given = columns["given"].astype(np.int64)
        own: Any = columns["p_given"]
        groups = np.where(given < self.data.num_classes, given, -1)
        return groups, self.keys(block, sort_keys(own), columns["p_top1"])


@dataclass(frozen=True)
class ByPair(GroupedEvidence):
    """Rows by pairs of classes, largest margin first; a row may be in several pairs.

    Attributes
    ----------
    pairs : PrunedPairs
        The pairs.
    run : RunStore
        The run, in which margins of open rows lie.
    opened : frozenset of int
        Blocks of which there are such margins.
    """

    pairs: PrunedPairs = field(kw_only=True)
    run: RunStore = field(kw_only=True)
    opened: frozenset[int] = frozenset()

    @property
    def num_rows(self) -> int:
        """Number of rows, of which each may be in some pairs."""
        return 2 * self.data.grid.rows

    def margins(self, block: int) -> tuple[PairMargins, tuple[Keys, ...]]:
        """Return the margins of a block's rows, and their keys."""
        columns = self.read(block, "given", "top1", "top2", "p_given", "p_top1", "p_top2")
        margins = known_margins(columns, self.pairs)
        if block in self.opened:
            margins += read_margins(self.run, block)
        every = self.keys(block, margins.keys, columns["p_top1"])
        return margins, (every[0], every[1][margins.rows], every[2][margins.rows])

    def grouped(self, block: int) -> tuple[Ints, tuple[Keys, ...]]:
        """Return pair and keys of each margin of a block."""
        margins, keys = self.margins(block)
        return margins.groups, keys


def _margins_name(block: int) -> str:
    return f"{SCRATCH}/margins-{block:05d}.parquet"


def write_margins(run: RunStore, block: int, margins: PairMargins) -> None:
    """Keep the margins of a block's open rows, for the passes of this run."""
    columns = {"row": margins.rows, "group": margins.groups, "margin": margins.margins}
    run.write_table(_margins_name(block), pa.table(columns))


def read_margins(run: RunStore, block: int) -> PairMargins:
    """Read what :func:`write_margins` wrote."""
    table = run.read_table(_margins_name(block))
    return PairMargins(*(table.column(name).to_numpy() for name in ("row", "group", "margin")))
