"""The statistics of training dynamics: what each example's state is, and what follows from it.

A :class:`Statistic` is a value: the column of the ranking that it fills, the columns of the state
that it needs, and the function that finishes it. One more loss advances the state, in
:func:`noisydask.core.ema.advance_one` and the loops around it, which know no statistic: all that
are declared here cost one pass. Pure.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]
Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]


@dataclass
class ExampleStates:
    """State of consecutive examples after their losses so far, as columns of one length.

    Attributes
    ----------
    ema, total, squares : ndarray of float64, (n,)
        The EMA; the sum of the losses' distances to the first one, and that of their squares. The
        variance from these loses no more than a factor of the number of losses, whatever they are.
    first, last, smallest : ndarray, (n,), float32 or float64 as the losses
        First, last and smallest loss; meaningless where there is none.
    count : ndarray of int32, (n,)
        Number of recorded losses.
    """

    ema: Floats
    total: Floats
    squares: Floats
    first: Array
    last: Array
    smallest: Array
    count: npt.NDArray[np.int32]

    @classmethod
    def dtypes(cls, dtype: npt.DTypeLike) -> dict[str, np.dtype[Any]]:
        """Return the type of each column for losses of ``dtype``."""
        kinds = dict.fromkeys((field.name for field in fields(cls)), np.dtype(np.float64))
        kinds |= dict.fromkeys(("first", "last", "smallest"), loss_dtype(dtype))
        return kinds | {"count": np.dtype(np.int32)}

    @classmethod
    def empty(cls, rows: int, dtype: npt.DTypeLike) -> ExampleStates:
        """Return states before the first loss."""
        return cls(**{name: np.zeros(rows, kind) for name, kind in cls.dtypes(dtype).items()})

    def columns(self) -> dict[str, Array]:
        """Return all columns by name."""
        return {field.name: getattr(self, field.name) for field in fields(self)}

    def part(self, rows: slice | Ints) -> ExampleStates:
        """Return some of the examples; a view where they are a slice."""
        return ExampleStates(**{name: column[rows] for name, column in self.columns().items()})

    @property
    def metric(self) -> Floats:
        """The EMA by which examples are ranked; NaN without any loss."""
        return METRIC.of(self)

    def statistics(self) -> dict[str, Array]:
        """Return all :data:`STATISTICS` by name, in their order."""
        return {statistic.name: statistic.of(self) for statistic in STATISTICS}


def loss_dtype(dtype: npt.DTypeLike) -> np.dtype[Any]:
    """Return the type in which losses of an input of ``dtype`` are worked on: float64 for float64,
    else float32.
    """
    return np.dtype(np.float64 if np.dtype(dtype) == np.float64 else np.float32)


@dataclass(frozen=True)
class Statistic:
    """A number about the losses of an example.

    Attributes
    ----------
    name : str
        Column of the ranking.
    state : tuple of str
        Columns of :class:`ExampleStates` that it follows from, beside ``count``.
    finish : callable
        Gives the statistic from these columns, in their order, and from ``count``, the number of
        losses.
    dtype : dtype
        Type of the column. A statistic of floats is NaN where an example has no loss.

    Examples
    --------
    >>> spread = Statistic("spread", ("last", "smallest"), lambda last, low, count: last - low)
    >>> states = ExampleStates.empty(2, "f8")
    >>> states.count[0], states.last[0], states.smallest[0] = 2, 3.0, 1.0
    >>> spread.of(states).tolist()
    [2.0, nan]
    """

    name: str
    state: tuple[str, ...]
    finish: Callable[..., Array]
    dtype: type[np.number[Any]] = np.float64

    def of(self, states: ExampleStates) -> Array:
        """Return the statistic of each example."""
        columns = [getattr(states, name) for name in self.state]
        with np.errstate(divide="ignore", invalid="ignore"):
            values = self.finish(*columns, states.count).astype(self.dtype)
        if issubclass(self.dtype, np.floating):
            values[states.count == 0] = np.nan
        return values


def _mean(first: Array, total: Floats, count: Array) -> Floats:
    return first + total / count


def _variance(total: Floats, squares: Floats, count: Array) -> Floats:
    distance = total / count
    return np.maximum(squares / count - distance * distance, 0.0)


def _as_it_is(column: Array, count: Array) -> Array:
    return column


#: The statistic by which examples are ranked.
METRIC = Statistic("metric", ("ema",), _as_it_is)
#: Columns of the ranking, in order: after the metric the number, mean, population variance, minimum
#: and last of the losses.
STATISTICS = (
    METRIC,
    Statistic("num_losses", (), np.asarray, np.int64),
    Statistic("mean_loss", ("first", "total"), _mean),
    Statistic("variance", ("total", "squares"), _variance),
    Statistic("min_loss", ("smallest",), _as_it_is),
    Statistic("last_loss", ("last",), _as_it_is),
)
