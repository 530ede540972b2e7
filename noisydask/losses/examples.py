"""Rows of (example, iteration, loss) become examples with a series each, and what is told of them.

An example is an id, or where they are known an id, a subset and an annotation id.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import IntEnum
from functools import cached_property
from typing import Any, cast

import numpy as np
import numpy.typing as npt
import pandas as pd

from noisydask.core.dynamics import (
    LARGEST_LOSS,
    ExampleStates,
    advance_table,
    label_codes,
    table_crossings,
    table_curves,
)
from noisydask.core.table_sums import TableSums, distinct

Array = npt.NDArray[Any]
Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]

#: What an example is, and the column that says its label.
EXAMPLE, LABEL = ("id", "subset", "ann_id"), "label"
#: What is told of an example, in the order of its columns.
TOLD = ("metric", "num_losses", "mean_loss", "variance", "min_loss", "last_loss")
#: Rows named in an error at most.
FIRST_ROWS = 10


class RowProblem(IntEnum):
    """Why a row was refused."""

    NEGATIVE = 0
    TOO_LARGE = 1
    DUPLICATE = 2
    LABEL = 3


@dataclass(frozen=True)
class RowProblems:
    """Refused rows: how many of each kind, and id and iteration of the first."""

    counts: tuple[int, ...] = (0,) * len(RowProblem)
    first: tuple[tuple[Any, int], ...] = ()

    @property
    def total(self) -> int:
        """Number of refused rows; one may count for two reasons."""
        return sum(self.counts)

    def __add__(self, other: RowProblems) -> RowProblems:
        counts = tuple(one + two for one, two in zip(self.counts, other.counts, strict=True))
        return RowProblems(counts, tuple(sorted({*self.first, *other.first}))[:FIRST_ROWS])


_WORDS = {
    RowProblem.NEGATIVE: "negative losses",
    RowProblem.TOO_LARGE: f"infinite losses, or above {LARGEST_LOSS:.4g}",
    RowProblem.DUPLICATE: "duplicate iterations of an example",
    RowProblem.LABEL: "another label than the row before of the same example",
}


def say_problems(problems: RowProblems, rows: int) -> str:
    """One sentence about refused rows."""
    kinds = [
        f"{count:,} with {_WORDS[kind]}"
        for kind, count in zip(RowProblem, problems.counts, strict=True)
        if count
    ]
    first = ", ".join(f"id {name} at iteration {iteration}" for name, iteration in problems.first)
    return (
        f"of {rows:,} recorded losses, {'; '.join(kinds)}; the first are {first}. Correct "
        "them, or leave them out"
    )


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
    def of_rows(cls, rows: pd.DataFrame) -> tuple[Examples, RowProblems]:
        """Sort rows and check them; what is found wrong is no reason to stop here.

        Parameters
        ----------
        rows : DataFrame
            Columns ``id``, ``iteration``, ``loss``, and any of ``subset``, ``ann_id``, ``label``;
            no empty cells.
        """
        names = [name for name in EXAMPLE if name in rows]
        codes = [_codes(rows[name]) for name in names] + [rows["iteration"].to_numpy()]
        order = _order(codes)
        codes = [code[order] for code in codes]
        new = np.ones(len(order), bool)
        new[1:] = np.logical_or.reduce([code[1:] != code[:-1] for code in codes[:-1]])
        starts = np.append(np.flatnonzero(new), len(order))
        firsts = order[starts[:-1]]
        keys = {name: rows[name].to_numpy()[firsts] for name in (*names, LABEL) if name in rows}
        found = cls(keys, starts, codes[-1], rows["loss"].to_numpy()[order])
        return found, found._problems(rows[LABEL].to_numpy()[order] if LABEL in rows else None)

    @classmethod
    def of_series(
        cls, keys: Mapping[str, Array], counts: Ints, iterations: Ints, losses: Floats
    ) -> tuple[Examples, RowProblems]:
        """Put the losses of each example in order and check them; ``counts`` says how many each
        has.

        Examples stay in their order; losses that are NaN are left out, and examples without any
        other.
        """
        missing = np.isnan(losses)
        if missing.any():
            counts = np.bincount(
                np.repeat(np.arange(len(counts)), counts)[~missing], minlength=len(counts)
            )
            iterations, losses = iterations[~missing], losses[~missing]
        some = counts > 0
        starts = np.concatenate([[0], np.cumsum(counts[some])])
        rising = iterations[1:] > iterations[:-1]
        rising[starts[1:-1] - 1] = True
        if not rising.all():
            order = np.lexsort((iterations, np.repeat(np.arange(len(starts) - 1), counts[some])))
            iterations, losses = iterations[order], losses[order]
        found = cls(
            {name: column[some] for name, column in keys.items()}, starts, iterations, losses
        )
        return found, found._problems(None)

    def sorted(self) -> Examples:
        """The examples in ascending order; those that are named alike stay in their order."""
        columns = [_codes(pd.Series(self.keys[name])) for name in EXAMPLE if name in self.keys]
        return self.take(np.lexsort(columns[::-1]))

    def _problems(self, labels: Ints | None) -> RowProblems:
        """What is wrong with each row; ``labels`` are those of the rows."""
        new = np.zeros(len(self.losses), bool)
        new[self.starts[:-1]] = True
        same = ~new[1:]
        wrong = np.zeros((len(RowProblem), len(new)), bool)
        wrong[RowProblem.NEGATIVE] = self.losses < 0
        wrong[RowProblem.TOO_LARGE] = self.losses > LARGEST_LOSS
        wrong[RowProblem.DUPLICATE, 1:] = same & (self.iterations[1:] == self.iterations[:-1])
        if labels is not None:
            wrong[RowProblem.LABEL, 1:] = same & (labels[1:] != labels[:-1])
        if not wrong.any():
            return RowProblems()
        rows = np.flatnonzero(wrong.any(axis=0))[:FIRST_ROWS]
        ids = self.keys["id"][np.searchsorted(self.starts, rows, side="right") - 1].tolist()
        first = tuple(sorted(set(zip(ids, self.iterations[rows].tolist(), strict=True))))
        return RowProblems(tuple(wrong.sum(axis=1).tolist()), first)

    def series(self, example: int) -> tuple[Ints, npt.NDArray[np.floating]]:
        """Iterations and losses of one example."""
        rows = slice(self.starts[example], self.starts[example + 1])
        return self.iterations[rows], self.losses[rows]

    def take(self, chosen: Ints) -> Examples:
        """Some of the examples, in the order asked for."""
        counts = np.diff(self.starts)[chosen]
        starts = np.concatenate([[0], np.cumsum(counts)])
        rows = np.repeat(self.starts[chosen] - starts[:-1], counts) + np.arange(starts[-1])
        keys = {name: column[chosen] for name, column in self.keys.items()}
        return Examples(keys, starts, self.iterations[rows], self.losses[rows])


def joined(pieces: Sequence[Examples]) -> Examples:
    """Examples of several pieces, one after the other; at least one piece."""
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
    """Integers that order like the values of a column."""
    if column.dtype.kind == "i":
        return cast(Ints, column.to_numpy())
    codes, distinct = pd.factorize(column.to_numpy())
    ranks = np.empty(len(distinct), np.int64)
    ranks[np.argsort(distinct)] = np.arange(len(distinct))
    return ranks[codes]


def _order(columns: Sequence[Ints]) -> Ints:
    """Positions in ascending order of the columns, the first deciding first."""
    if not len(columns[0]):
        return np.zeros(0, np.int64)
    packed, room = np.zeros(len(columns[0]), np.int64), 1
    for column in columns:
        low = int(column.min())
        span = int(column.max()) - low + 1
        room *= span
        if room >= 1 << 63:
            return np.lexsort(columns[::-1])
        packed = packed * span + (column - low)
    return np.argsort(packed)


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
        labels, codes = np.zeros(1, np.int64), None
        if LABEL in examples.keys:
            labels, codes = label_codes(examples.keys[LABEL])
        states = ExampleStates.empty(len(examples), examples.losses.dtype)
        sums = TableSums.zero(labels, iterations)
        advance_table(states, examples.starts, examples.losses, steps, alpha, sums.sums, codes)
        return cls(examples, states, sums)

    @cached_property
    def told(self) -> dict[str, Array]:
        """What is told of each example, by the names of :data:`TOLD`."""
        return {"metric": self.states.metric, **self.states.statistics()}


def crossed_at(examples: Examples, alpha: float, iterations: Ints, mean: Floats) -> Ints:
    """First iteration of each example at which its EMA lies above the mean curve, -1 for none:
    (n,).
    """
    steps = np.searchsorted(iterations, examples.iterations).astype(np.int32)
    found = table_crossings(examples.starts, examples.losses, steps, alpha, mean)
    return np.where(found < 0, -1, iterations[found]) if len(iterations) else found


def ema_frame(examples: Examples, alpha: float, iterations: Ints) -> Floats:
    """EMA of each example at all iterations, NaN where not recorded: (n, T)."""
    steps = np.searchsorted(iterations, examples.iterations).astype(np.int32)
    return table_curves(examples.starts, examples.losses, steps, alpha, len(iterations))
