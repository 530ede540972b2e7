"""Rows of the evidence in groups, as :func:`noisydask.engine.ordering.find_cuts` asks for them: the
lowest of all by a score, of each class, and of each pair of classes.

Rows of the same score are ordered as in the ranking: a higher probability of the prediction first,
then the position.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
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
class GroupedEvidence(ABC):
    """Rows of the evidence of all blocks, each in one group or in none."""

    data: IssueData

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

    @abstractmethod
    def grouped(self, block: StoredBlock, levels: int) -> tuple[Ints, tuple[Keys, ...]]:
        """Return group and first keys of each row of a block."""

    def read(self, block: StoredBlock, *names: str) -> dict[str, Array]:
        """Read columns of a block."""
        return evidence_of(block, names, self.data)

    def keys(
        self, block: StoredBlock, score_keys: Keys, levels: int, rows: Ints | None = None
    ) -> tuple[Keys, ...]:
        """Return the first keys of a block's rows, or of some."""
        keys: list[Keys] = [score_keys]
        every = slice(None) if rows is None else rows
        if levels > 1:
            p_top1: Any = self.read(block, "p_top1")["p_top1"]
            keys.append(sort_keys(-p_top1)[every])
        if levels > 2:
            keys.append(np.arange(*self.data.grid.bounds(block.number)).astype(np.uint64)[every])
        return tuple(keys)


@dataclass(frozen=True)
class ByScore(GroupedEvidence):
    """All valid rows in one group, by a score that the evidence gives."""

    score: str = "self_confidence"

    def grouped(self, block: StoredBlock, levels: int) -> tuple[Ints, tuple[Keys, ...]]:
        """Return group and first keys of each row of a block."""
        names = {"given", "top1", "p_given", "p_top1", *SCORES[self.score].columns}
        columns = self.read(block, *names)
        nothing = np.zeros(0)
        scores = SCORES[self.score].of_evidence(columns, nothing)
        return _valid(columns, self.data), self.keys(block, sort_keys(scores), levels)


@dataclass(frozen=True)
class ByQuality(GroupedEvidence):
    """All valid rows in one group, by their label quality."""

    quality: ChunkedArray | None = None

    @property
    def itemsize(self) -> int:
        """Bytes of a label quality."""
        return cast(ChunkedArray, self.quality).dtype.itemsize

    def grouped(self, block: StoredBlock, levels: int) -> tuple[Ints, tuple[Keys, ...]]:
        """Return group and first keys of each row of a block."""
        columns = self.read(block, "given")
        scores: Any = cast(ChunkedArray, self.quality).read(block.number)
        return _valid(columns, self.data), self.keys(block, sort_keys(scores), levels)


def _valid(columns: dict[str, Array], data: IssueData) -> Ints:
    valid = cast(npt.NDArray[Any], columns["given"]) < data.num_classes
    return np.where(valid, 0, -1)


@dataclass(frozen=True)
class ByClass(GroupedEvidence):
    """The rows of each given class, by the probability of it."""

    def grouped(self, block: StoredBlock, levels: int) -> tuple[Ints, tuple[Keys, ...]]:
        """Return group and first keys of each row of a block."""
        columns = self.read(block, "given", "p_given")
        given = columns["given"].astype(np.int64)
        own: Any = columns["p_given"]
        groups = np.where(given < self.data.num_classes, given, -1)
        return groups, self.keys(block, sort_keys(own), levels)


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

    def margins(self, block: StoredBlock, levels: int) -> tuple[PairMargins, tuple[Keys, ...]]:
        """Return the margins of a block's rows, and their first keys."""
        columns = self.read(block, "given", "top1", "top2", "p_given", "p_top1", "p_top2")
        margins = known_margins(columns, self.pairs)
        if block.number in self.opened:
            margins += read_margins(self.run, block.number)
        return margins, self.keys(block, margins.keys, levels, margins.rows)

    def grouped(self, block: StoredBlock, levels: int) -> tuple[Ints, tuple[Keys, ...]]:
        """Return pair and first keys of each margin of a block."""
        margins, keys = self.margins(block, levels)
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
