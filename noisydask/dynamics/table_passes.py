"""The passes over a table of losses, part by part: what a task does, and the partial states that
add up.

The first pass leaves in the run, for each part, its examples with their losses; the others read
those. Storage is handed in, Dask is not known here.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from noisydask.core.problems import Problems
from noisydask.core.ranking import Keys, histogram, sort_keys, whole_range
from noisydask.core.statistics import STATISTICS
from noisydask.core.table_sums import TableSums
from noisydask.dynamics.candidate_parts import write_ranking
from noisydask.dynamics.examples import (
    EXAMPLE,
    LABEL,
    TOLD,
    Analysis,
    Examples,
    crossed_at,
)
from noisydask.dynamics.loss_parts import LossPart, read_columns, read_losses, write_losses
from noisydask.dynamics.loss_rows import LossRows
from noisydask.dynamics.row_problems import no_problems
from noisydask.dynamics.settings import LossSettings
from noisydask.dynamics.table import LossColumns
from noisydask.engine.parts import Parts, WrittenPart
from noisydask.runs.store import RunStore
from noisydask.stores.frames import stacked

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]

#: The folder of a run that holds the examples with their losses.
LOSSES = "losses"
#: Candidates whose curves are kept.
HEAD = 20
#: Columns by which candidates are put in order after their metric; the last two tell apart what is
#: named alike.
TIES = (*EXAMPLE, "file", "row")


@dataclass(frozen=True, eq=False)
class GatherState:
    """Of the first pass: sums for the mean curves, histogram of the metric, problems, numbers, and
    the parts written.

    ``rows`` are those with a loss that was not left out, ``taken`` all rows of a table.
    """

    sums: TableSums
    histogram: Ints
    problems: Problems = field(default_factory=no_problems)
    rows: int = 0
    parts: tuple[LossPart, ...] = ()
    taken: int = 0

    @classmethod
    def zero(cls) -> GatherState:
        """Return the state of no examples."""
        none = np.zeros(0, np.int64)
        return cls(TableSums.zero(none, none), np.zeros((1, 1 << 16), np.int64))

    @property
    def examples(self) -> int:
        """Number of examples."""
        return sum(part.examples for part in self.parts)

    def __add__(self, other: GatherState) -> GatherState:
        return GatherState(
            self.sums + other.sums,
            self.histogram + other.histogram,
            self.problems + other.problems,
            self.rows + other.rows,
            tuple(sorted(self.parts + other.parts)),
            self.taken + other.taken,
        )


@dataclass(frozen=True)
class Gathering:
    """How examples are gathered: the job's settings, the run that they are written to, who is told
    of pieces done.
    """

    settings: LossSettings
    run: RunStore
    notify: Callable[[int, int], None] | None = field(default=None, repr=False)

    def done(self, num_bytes: int) -> None:
        """Say that a piece is done, of which so many bytes were read."""
        if self.notify is not None:
            self.notify(1, num_bytes)

    def gather_rows(self, rows: LossRows | None, number: int) -> GatherState:
        """Take in all rows of some examples, in any order; those without a loss are left out."""
        if rows is None:
            self.done(0)
            return GatherState.zero()
        state = self.gather(*Examples.of_rows(rows, self.settings), f"{number:05d}")
        self.done(0)
        return replace(state, taken=len(rows))

    def gather(self, examples: Examples, problems: Problems, name: str) -> GatherState:
        """Take in some examples, whole and sorted, unless some are refused; doing it twice leaves
        what doing it once does.
        """
        rows = len(examples.losses)
        if problems.total or not rows:
            return replace(GatherState.zero(), problems=problems, rows=rows)
        analysis = Analysis.of(examples, self.settings.alpha)
        part = write_losses(analysis, f"{LOSSES}/part-{name}.parquet", self.run)
        counts = histogram(sort_keys(-analysis.states.metric), [whole_range(8)])
        return GatherState(analysis.sums, counts, problems, rows, (part,))


@dataclass(frozen=True)
class RankedLosses:
    """The examples of all parts of losses, by descending metric, then id."""

    losses: tuple[str, ...]
    num_rows: int
    run: RunStore = field(repr=False)

    @property
    def num_blocks(self) -> int:
        """Number of parts."""
        return len(self.losses)

    @property
    def itemsize(self) -> int:
        """Bytes of a metric."""
        return 8

    def keys(self, block: int) -> Keys:
        """Return the keys of a part's examples."""
        return sort_keys(-read_columns(self.losses[block], self.run, "metric")[0])

    def last(self, block: int) -> npt.NDArray[Any]:
        """Return the ids of a part's examples."""
        return read_columns(self.losses[block], self.run, "id")[0]


@dataclass(frozen=True, eq=False)
class LossSelection:
    """Which examples are candidates, and what the dataset's mean curve is."""

    ranked: Parts
    alpha: float
    iterations: Ints
    mean: Floats
    losses: tuple[str, ...]
    run: RunStore

    def select(self, numbers: Sequence[int]) -> pd.DataFrame:
        """Return the examples of the ranking's parts as a table; ``part`` says of which."""
        return stacked([self._select(number) for number in numbers])

    def _select(self, number: int) -> pd.DataFrame:
        told = dict(zip(TOLD, read_columns(self.losses[number], self.run, *TOLD), strict=True))
        everyone = read_losses(self.losses[number], self.run)
        keys = sort_keys(-told["metric"])
        part = self.ranked.assign(keys, lambda: everyone.keys["id"])
        rows = np.flatnonzero(part >= 0)
        examples = everyone.take(rows)
        columns = {
            name: examples.keys[name]
            for name in ("id", LABEL, "subset", "ann_id")
            if name in examples.keys
        }
        crossed = crossed_at(examples, self.alpha, self.iterations, self.mean)
        chosen = {name: values[rows] for name, values in told.items()}
        where = {"part": part[rows], "file": np.full(len(rows), number), "row": rows}
        return pd.DataFrame(where | columns | chosen | {"crossed_at": crossed})


def empty_selection(columns: LossColumns, text_ids: bool) -> pd.DataFrame:
    """Return a table of :meth:`LossSelection.select` without rows."""
    keys = columns.meta(text_ids)
    ints = pd.Series(dtype=np.int64)
    statistics = {statistic.name: pd.Series(dtype=statistic.dtype) for statistic in STATISTICS}
    names = [name for name in ("id", LABEL, "subset", "ann_id") if name in keys]
    where = dict.fromkeys(("part", "file", "row"), ints)
    return pd.DataFrame(
        where | {name: keys[name] for name in names} | statistics | {"crossed_at": ints}
    )


@dataclass(frozen=True)
class TablePart(WrittenPart):
    """A part of the ranking; ``head`` says of its first rows in which file and row their losses
    lie.
    """

    head: tuple[tuple[int, int], ...]


@dataclass(frozen=True)
class Writer:
    """Writes parts of the ranking of losses that came example by example."""

    run: RunStore
    class_names: Sequence[str] | None

    def __call__(self, frame: pd.DataFrame, number: int, take: int, first_rank: int) -> TablePart:
        """Put a part in order, take its first candidates, number and write them."""
        by = ["metric", *(name for name in TIES if name in frame)]
        ascending = [name != "metric" for name in by]
        frame = frame.sort_values(by, ascending=ascending, kind="stable", ignore_index=True)
        frame = frame.iloc[:take]
        head = tuple(zip(frame["file"][:HEAD].tolist(), frame["row"][:HEAD].tolist(), strict=True))
        ranked = frame.assign(rank=np.arange(first_rank, first_rank + len(frame)))
        written = write_ranking(ranked, number, self.run, self.class_names)
        return TablePart(number, len(ranked), (written,), head)


def find_examples(
    numbers: Sequence[int], ids: Any, losses: Sequence[str], run: RunStore
) -> tuple[Examples, ...]:
    """Return all examples of some ids."""
    pieces = []
    for number in numbers:
        rows = np.flatnonzero(
            pd.Series(read_columns(losses[number], run, "id")[0]).isin(ids).to_numpy()
        )
        if len(rows):
            pieces.append(read_losses(losses[number], run).take(rows))
    return tuple(pieces)


def examples_at(
    numbers: Sequence[int], places: Sequence[tuple[int, int]], losses: Sequence[str], run: RunStore
) -> tuple[tuple[int, Examples], ...]:
    """Return examples by file and row, each with its position in ``places``."""
    pieces = []
    for number in numbers:
        examples = read_losses(losses[number], run)
        pieces += [
            (k, examples.take(np.array([row])))
            for k, (file, row) in enumerate(places)
            if file == number
        ]
    return tuple(pieces)
