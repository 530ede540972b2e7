"""Rows of (example, iteration, loss) become examples with a series each, and what is told of them.

An example is an id, or where they are known an id, a subset and an annotation id.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
import numpy.typing as npt
import pandas as pd

from noisydask.core.distinct import distinct
from noisydask.core.duplicates import one_of_each
from noisydask.core.dynamics import (
    ExampleStates,
    advance_table,
    label_codes,
    table_crossings,
    table_curves,
)
from noisydask.core.problems import FIRST, Problems
from noisydask.core.row_flags import DUPLICATE, flag_rows
from noisydask.core.row_order import order_of_rows
from noisydask.core.statistics import STATISTICS
from noisydask.core.table_sums import TableSums
from noisydask.dynamics.loss_rows import LossRows
from noisydask.dynamics.row_problems import RowProblem, no_problems, recorded
from noisydask.dynamics.settings import LossSettings

Array = npt.NDArray[Any]
Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]

#: What an example is, the column that says its label, and the one that numbers rows.
EXAMPLE, LABEL, ROW = ("id", "subset", "ann_id"), "label", "row"
#: What is told of an example, in the order of its columns.
TOLD = tuple(statistic.name for statistic in STATISTICS)


@dataclass(frozen=True, eq=False)
class Examples:
    """Examples with their losses.

    Attributes
    ----------
    keys : mapping of str to ndarray, (n,)
        ``id`` (int64 or text), and where known ``subset`` (text), ``ann_id`` and ``label`` (int64).
    starts : ndarray of int64, (n + 1,)
        Where the rows of each example begin.
    iterations : ndarray of int64, (rows,)
        Ascending within an example.
    losses : ndarray of float32 or float64, (rows,)
    """

    keys: Mapping[str, Array]
    starts: Ints
    iterations: Ints
    losses: npt.NDArray[np.floating]

    def __len__(self) -> int:
        return len(self.starts) - 1

    @classmethod
    def of_rows(cls, rows: LossRows, settings: LossSettings) -> tuple[Examples, Problems]:
        """Sort rows and check them; what is wrong is counted, and does not stop it.

        Parameters
        ----------
        rows : LossRows
            Columns ``id``, ``iteration``, ``loss``, and any of ``subset``, ``ann_id``, ``label``,
            ``row``; only a loss may be NaN. ``row`` numbers all rows of the table, in order; the
            first or last of duplicates is chosen by it.
        settings : LossSettings
            What is done about duplicate and invalid losses. What is invalid is left out first.
        """
        kept, dropped = recorded(rows.columns["loss"], settings.on_invalid)
        rows = rows if kept.all() else rows[kept]
        names = [name for name in EXAMPLE if name in rows]
        codes, number = rows.codes(names)
        iterations, steps = distinct(rows.columns["iteration"])
        order, starts = order_of_rows(codes, steps, number, len(iterations))
        firsts = order[starts[:-1]]
        keys = {name: rows.values(name, firsts) for name in (*names, LABEL) if name in rows}
        in_order = {
            name: np.take(rows.columns[name], order)
            for name in ("iteration", "loss", ROW, LABEL)
            if name in rows
        }
        losses = in_order["loss"].astype(np.float64, copy=False)
        examples = cls(keys, starts, in_order["iteration"], losses)
        positions = in_order.get(ROW, order)
        return examples._checked(settings, dropped, positions, in_order.get(LABEL))

    @classmethod
    def of_series(
        cls,
        keys: Mapping[str, Array],
        counts: Ints,
        iterations: Ints,
        losses: Floats,
        settings: LossSettings,
    ) -> tuple[Examples, Problems]:
        """Put the losses of each example in order and check them; ``counts`` says how many each
        has.

        Examples stay in their order; losses that are NaN or left out by the settings do not count,
        and examples without any other are left out.
        """
        kept, dropped = recorded(losses, settings.on_invalid)
        if not kept.all():
            counts = np.bincount(
                np.repeat(np.arange(len(counts)), counts)[kept], minlength=len(counts)
            )
            iterations = iterations[kept]
            losses = losses[kept]
        some = counts > 0
        starts = np.concatenate([[0], np.cumsum(counts[some])])
        order = np.arange(len(losses))
        rising = iterations[1:] > iterations[:-1]
        rising[starts[1:-1] - 1] = True
        if not rising.all():
            order = np.lexsort((iterations, np.repeat(np.arange(len(starts) - 1), counts[some])))
            iterations = iterations[order]
            losses = losses[order]
        examples = cls(
            {name: column[some] for name, column in keys.items()}, starts, iterations, losses
        )
        return examples._checked(settings, dropped, order)

    def sorted(self) -> Examples:
        """Return the examples in ascending order; those of the same name stay in their order."""
        columns = [_codes(pd.Series(self.keys[name])) for name in EXAMPLE if name in self.keys]
        return self.take(np.lexsort(columns[::-1]))

    def _checked(
        self,
        settings: LossSettings,
        dropped: Counter[str],
        positions: Ints,
        labels: Ints | None = None,
    ) -> tuple[Examples, Problems]:
        """Take one of duplicates, if the settings say so, and say what is wrong with each row.

        ``positions`` and ``labels`` are those of the rows.
        """
        flags = flag_rows(self.starts, self.iterations, self.losses, labels)
        examples = self
        duplicates = (flags & DUPLICATE) > 0
        if settings.on_duplicate != "raise" and duplicates.any():
            runs = np.flatnonzero(~duplicates)
            examples = Examples(
                self.keys,
                np.searchsorted(runs, self.starts),
                self.iterations[runs],
                one_of_each(self.losses, runs, settings.on_duplicate, positions),
            )
            dropped["duplicates"] = len(flags) - len(runs)
            flags &= ~np.uint8(DUPLICATE)
        if not flags.any():
            return examples, no_problems(dropped)
        rows = np.flatnonzero(flags)[:FIRST]
        ids = self.keys["id"][np.searchsorted(self.starts, rows, side="right") - 1].tolist()
        first = tuple(sorted(set(zip(ids, self.iterations[rows].tolist(), strict=True))))
        counts = [np.count_nonzero(flags & (1 << problem)) for problem in RowProblem]
        return examples, Problems(np.array(counts), first, dropped=dropped)

    def series(self, example: int) -> tuple[Ints, npt.NDArray[np.floating]]:
        """Return iterations and losses of one example."""
        rows = slice(self.starts[example], self.starts[example + 1])
        return self.iterations[rows], self.losses[rows]

    def take(self, chosen: Ints) -> Examples:
        """Return some of the examples, in the order asked for."""
        counts = np.diff(self.starts)[chosen]
        starts = np.concatenate([[0], np.cumsum(counts)])
        rows = np.repeat(self.starts[chosen] - starts[:-1], counts) + np.arange(starts[-1])
        keys = {name: column[chosen] for name, column in self.keys.items()}
        return Examples(keys, starts, self.iterations[rows], self.losses[rows])


def joined(pieces: Sequence[Examples]) -> Examples:
    """Return examples of several pieces, one after the other; at least one piece."""
    if len(pieces) == 1:
        return pieces[0]
    keys = {name: np.concatenate([piece.keys[name] for piece in pieces]) for name in pieces[0].keys}
    counts = np.concatenate([np.diff(piece.starts) for piece in pieces])
    starts = np.concatenate([[0], np.cumsum(counts)])
    iterations, losses = (
        np.concatenate([getattr(p, name) for p in pieces]) for name in ("iterations", "losses")
    )
    return Examples(keys, starts, iterations, losses)


def _codes(column: pd.Series[Any]) -> Ints:
    """Return integers that order like the values of a column."""
    if column.dtype.kind == "i":
        return cast(Ints, column.to_numpy())
    codes, distinct = pd.factorize(column.to_numpy())
    ranks = np.empty(len(distinct), np.int64)
    ranks[np.argsort(distinct)] = np.arange(len(distinct))
    return ranks[codes]


@dataclass(frozen=True, eq=False)
class Analysis:
    """Examples, what is known of each after its last loss, and the sums of their EMA."""

    examples: Examples
    states: ExampleStates
    sums: TableSums

    @classmethod
    def of(cls, examples: Examples, alpha: float) -> Analysis:
        """Follow the losses of each example."""
        iterations, steps = distinct(examples.iterations)
        labels = np.zeros(1, np.int64)
        codes = None
        if LABEL in examples.keys:
            labels, codes = label_codes(examples.keys[LABEL])
        states = ExampleStates.empty(len(examples), examples.losses.dtype)
        sums = TableSums.zero(labels, iterations)
        advance_table(states, examples.starts, examples.losses, steps, alpha, sums.sums, codes)
        return cls(examples, states, sums)


def crossed_at(examples: Examples, alpha: float, iterations: Ints, mean: Floats) -> Ints:
    """Return the first iteration of each example at which its EMA lies above the mean curve, -1 for
    none: (n,).
    """
    steps = np.searchsorted(iterations, examples.iterations).astype(np.int32)
    positions = table_crossings(examples.starts, examples.losses, steps, alpha, mean)
    if len(iterations):
        return np.where(positions < 0, -1, iterations[positions])
    return positions


def ema_frame(examples: Examples, alpha: float, iterations: Ints) -> Floats:
    """Return EMA of each example at all iterations, NaN where not recorded: (n, T)."""
    steps = np.searchsorted(iterations, examples.iterations).astype(np.int32)
    return table_curves(examples.starts, examples.losses, steps, alpha, len(iterations))
