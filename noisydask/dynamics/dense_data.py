"""What the passes over dense losses know of them, and the examples that come first."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, cast

import numpy as np
import numpy.typing as npt

from noisydask.core.blocks import BlockGrid
from noisydask.core.dynamics import ExampleStates
from noisydask.core.ranking import Ints
from noisydask.dynamics.dense_state import Known, LossCheckpoint
from noisydask.stores.chunks import ChunkedArray

Array = npt.NDArray[Any]


class Descending(ChunkedArray):
    """A stored array as scores of which the lowest come first: its values with the other sign."""

    def read(self, chunk: int) -> Array:
        """Read a chunk's rows, negated."""
        return -cast(Array, super().read(chunk))


@dataclass(frozen=True)
class LossData:
    """What the passes know of the losses, and where they keep what they find.

    Attributes
    ----------
    width : int
        Iterations that are read at once.
    top : int
        Candidates whose losses are gathered on the way.
    few : bool
        Whether these are all that are wanted; else the ranking is found by a histogram.
    keep : int
        Iterations that end a chunk of the array: after these, states are kept for appended ones.
    states : LossCheckpoint, optional
        Where states are kept.
    labelled : bool
        Whether each example has a label.
    skip : bool
        Leave invalid losses out, and count them, instead of refusing them.
    """

    grid: BlockGrid
    shape: tuple[int, int]
    dtype: np.dtype[Any]
    alpha: float
    width: int
    metric: ChunkedArray = field(repr=False)
    top: int = 0
    few: bool = True
    keep: int = 0
    states: LossCheckpoint | None = None
    labelled: bool = False
    skip: bool = False
    notify: Callable[[int, int], None] | None = field(default=None, repr=False)


@dataclass(frozen=True)
class Top:
    """Those examples of some that come first in the ranking, at most ``size``.

    Attributes
    ----------
    losses : ndarray, (k, T)
        Their losses.
    since : ndarray of int64, (k,)
        The iteration from which on these are known.
    """

    size: int
    index: Ints
    states: ExampleStates
    losses: Array
    since: Ints

    @classmethod
    def none(cls, data: LossData) -> Top:
        """Return the first of no examples."""
        empty = np.zeros(0, np.int64)
        losses = np.zeros((0, data.shape[1]), data.dtype)
        return cls(data.top, empty, ExampleStates.empty(0, data.dtype), losses, empty)

    def with_rows(self, start: int, states: ExampleStates, tile: Array | None = None) -> Top:
        """Take in consecutive examples from ``start`` on, of whose losses the last ones may be
        known.
        """
        metric = states.metric
        if len(self.index) == self.size:
            least = self.states.ema[-1]
        else:
            least = 0.0
        if np.count_nonzero(metric >= least) > self.size:
            least = max(
                least, -np.partition(-metric[metric >= least], self.size - 1)[self.size - 1]
            )
        above = np.flatnonzero(metric > least)
        tied = np.flatnonzero(metric == least)
        rows = np.sort(np.concatenate([above, tied[: self.size - len(above)]]))
        losses = np.zeros((len(rows), self.losses.shape[1]), self.losses.dtype)
        since = losses.shape[1] - (0 if tile is None else tile.shape[1])
        if tile is not None:
            losses[:, since:] = tile[rows]
        return self + Top(
            self.size, start + rows, states.part(rows), losses, np.full(len(rows), since)
        )

    def first(self, size: int) -> Top:
        """Return no more than so many."""
        some = slice(size)
        return Top(
            size, self.index[some], self.states.part(some), self.losses[some], self.since[some]
        )

    def recalled(self, known: Known) -> Top:
        """Add losses of earlier iterations that are known."""
        for place, index in enumerate(self.index.tolist()):
            if index in known.rows and self.since[place] <= known.iterations:
                self.losses[place, : known.iterations] = known.rows[index]
                self.since[place] = 0
        return self

    def __add__(self, other: Top) -> Top:
        index = np.concatenate([self.index, other.index])
        order = np.lexsort((index, -np.concatenate([self.states.ema, other.states.ema])))[
            : self.size
        ]
        mine = self.states.columns()
        theirs = other.states.columns()
        states = ExampleStates(
            **{name: np.concatenate([mine[name], theirs[name]])[order] for name in mine}
        )
        losses = np.concatenate([self.losses, other.losses])
        since = np.concatenate([self.since, other.since])
        return Top(self.size, index[order], states, losses[order], since[order])
