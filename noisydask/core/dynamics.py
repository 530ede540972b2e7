"""Loss dynamics: the exponential moving average (EMA) of each example's training losses, and their
mean curves.

Source: Zhou, Wang, Bilmes, "Robust curriculum learning", ICLR 2021. For each example over its own
recorded losses in order of iteration, ``ema = (1 - alpha) * ema + alpha * loss``, from 0; an
iteration at which it was not recorded changes nothing. The state of an example is a few numbers,
carried from one piece of its losses to the next, so that it does not matter how the iterations are
cut. The sums of EMA by label and iteration are integers, so that it does not matter in which order
examples are added. Pure: NumPy and Numba only.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from noisydask.core.curve_kernel import crossings_dense, curves_dense
from noisydask.core.curve_sums import ROWS_BETWEEN_CARRIES, CurveSums
from noisydask.core.dynamics_kernel import advance_dense
from noisydask.core.ema import LARGEST_LOSS, LossProblem
from noisydask.core.ragged_kernel import advance_ragged, crossings_ragged, curves_ragged
from noisydask.core.shapes import check_columns, check_shape
from noisydask.core.statistics import ExampleStates, loss_dtype
from noisydask.core.whole_numbers import whole_numbers

__all__ = [
    "LARGEST_LOSS",
    "Crossings",
    "ExampleStates",
    "LossProblem",
    "advance",
    "advance_table",
    "crossings",
    "ema_curves",
    "label_codes",
    "table_crossings",
    "table_curves",
]

Array = npt.NDArray[Any]
Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]

_PLAIN_LIMIT = 1 << 20
#: Rows that are worked on together: as many as stay in a core's cache, or so many for each label.
_WINDOW_BYTES, _WINDOW_LABELS = 1 << 18, 64
#: Labels whose values lie this close together are told apart by a table.
_SPAN = 1 << 20


def label_codes(labels: Array) -> tuple[Ints, npt.NDArray[np.int32]]:
    """Return the distinct labels, ascending, and for each example the position of its label among
    them.

    Examples
    --------
    >>> values, codes = label_codes(np.array([7, -1, 7]))
    >>> values.tolist(), codes.tolist()
    ([-1, 7], [1, 0, 1])
    """
    if not len(labels):
        return np.zeros(0, np.int64), np.zeros(0, np.int32)
    if labels.dtype == np.uint64:
        labels = whole_numbers(labels, "labels")
    low = int(labels.min())
    high = int(labels.max())
    if high - low >= _SPAN:
        values, codes = np.unique(labels, return_inverse=True)
        return values.astype(np.int64), codes.astype(np.int32)
    wide = labels.astype(np.int64) if low < 0 else labels
    shifted = (wide - wide.dtype.type(low)).astype(np.int32)
    there = np.bincount(shifted, minlength=1) > 0
    table = (np.cumsum(there) - 1).astype(np.int32)
    return np.flatnonzero(there) + low, table[shifted]


def advance(
    states: ExampleStates,
    losses: Array,
    alpha: float,
    sums: CurveSums,
    codes: npt.NDArray[np.int32] | None = None,
) -> npt.NDArray[np.uint8]:
    """Advance examples by consecutive iterations, in place.

    Parameters
    ----------
    states : ExampleStates of n examples
        After the iterations before these; changed.
    losses : ndarray, (n, t), float16, float32 or float64
        NaN where not recorded.
    alpha : float
        Weight of a new loss.
    sums : CurveSums of t iterations
        Added to.
    codes : ndarray of int32, (n,), optional
        Which of ``sums.labels`` each example has; the first where not given.

    Returns
    -------
    ndarray of uint8, (n,)
        A :class:`LossProblem` per example. A refused loss changes nothing.

    Raises
    ------
    ValueError
        If the arrays do not fit each other.

    Examples
    --------
    >>> states, sums = ExampleStates.empty(2, "f4"), CurveSums.zero(np.array([0]), 2)
    >>> _ = advance(states, np.array([[1, 3], [np.nan, 2]], np.float32), 0.5, sums)
    >>> states.metric.tolist(), sums.mean().tolist()
    ([1.75, 1.0], [0.5, 1.375])
    """
    kind = loss_dtype(losses.dtype)
    if losses.ndim != 2:
        raise ValueError(f"losses must have shape (n, t), not {losses.shape}")
    _check_states(states, kind, codes, len(losses))
    check_shape("counts of sums", sums.counts, (len(sums.labels), losses.shape[1]))
    losses = np.ascontiguousarray(losses, dtype=kind)
    unsigned = np.dtype(f"u{kind.itemsize}")
    limit = np.array(_PLAIN_LIMIT, kind).view(unsigned)[()]
    problems = np.zeros(len(losses), np.uint8)
    window = max(
        _WINDOW_BYTES // max(1, losses.shape[1] * kind.itemsize), _WINDOW_LABELS * len(sums.labels)
    )
    if not losses.size:
        return problems
    for start in range(0, len(losses), ROWS_BETWEEN_CARRIES):
        rows = slice(start, start + ROWS_BETWEEN_CARRIES)
        sums.room_for(len(losses[rows]))
        s = states.part(rows)
        x = losses[rows]
        here = codes[rows] if codes is not None else np.zeros(0, np.int32)
        advance_dense(
            x,
            x.view(unsigned),
            limit,
            here,
            len(sums.labels),
            window,
            alpha,
            s.ema,
            s.total,
            s.squares,
            s.first,
            s.last,
            s.smallest,
            s.smallest.view(unsigned),
            s.count,
            problems[rows],
            sums.limbs,
            sums.counts,
        )
    return problems


def advance_table(
    states: ExampleStates,
    starts: Ints,
    losses: Array,
    steps: npt.NDArray[np.int32],
    alpha: float,
    sums: CurveSums,
    codes: npt.NDArray[np.int32] | None = None,
) -> npt.NDArray[np.uint8]:
    """Do the same as :func:`advance` for losses that lie example after example, each example's in
    order of iteration.

    Parameters
    ----------
    states : ExampleStates of n examples
        Changed.
    starts : ndarray of int64, (n + 1,)
        Where each example's losses begin.
    losses : ndarray, (m,), the type of ``states.first``
        NaN where not recorded.
    steps : ndarray of int32, (m,)
        Which iteration of ``sums`` each is of, rising within an example.
    alpha : float
        Weight of a new loss.
    sums : CurveSums
        Added to.
    codes : ndarray of int32, (n,), optional
        Which of ``sums.labels`` each example has; the first where not given.

    Examples
    --------
    >>> states, sums = ExampleStates.empty(2, "f4"), CurveSums.zero(np.array([0]), 2)
    >>> losses, steps = np.array([1, 3, 2], np.float32), np.array([0, 1, 1], np.int32)
    >>> _ = advance_table(states, np.array([0, 2, 3]), losses, steps, 0.5, sums)
    >>> states.metric.tolist(), sums.mean().tolist()
    ([1.75, 1.0], [0.5, 1.375])
    """
    examples = len(starts) - 1
    _check_states(states, loss_dtype(losses.dtype), codes, examples)
    problems = np.zeros(examples, np.uint8)
    codes = np.zeros(examples, np.int32) if codes is None else codes
    for start in range(0, examples, ROWS_BETWEEN_CARRIES):
        rows = slice(start, start + ROWS_BETWEEN_CARRIES)
        s = states.part(rows)
        sums.room_for(len(s.ema))
        advance_ragged(
            starts[start : start + len(s.ema) + 1],
            losses,
            steps,
            codes[rows],
            alpha,
            s.ema,
            s.total,
            s.squares,
            s.first,
            s.last,
            s.smallest,
            s.count,
            problems[rows],
            sums.limbs,
            sums.counts,
        )
    return problems


def _check_states(
    states: ExampleStates,
    dtype: np.dtype[Any],
    codes: npt.NDArray[np.int32] | None,
    examples: int,
) -> None:
    """Refuse states of other examples, or of losses of another type."""
    check_columns(states.columns(), examples, ExampleStates.dtypes(dtype))
    if codes is not None:
        check_shape("codes", codes, (examples,))


def ema_curves(losses: Array, alpha: float) -> Floats:
    """Return EMA of whole rows of losses at each iteration: (n, t) as the losses; NaN where not
    recorded.
    """
    curves = np.full(losses.shape, np.nan)
    curves_dense(np.ascontiguousarray(losses, loss_dtype(losses.dtype)), alpha, curves)
    return curves


@dataclass
class Crossings:
    """Search for the first iteration at which examples' EMA lies above the mean curve, piece by
    piece of the iterations.

    Attributes
    ----------
    alpha : float
        Weight of a new loss.
    mean : ndarray of float64, (T,)
        The mean curve.
    ema : ndarray of float64, (n,)
        After the iterations so far, of examples that have not crossed yet.
    found : ndarray of int64, (n,)
        Position of the iteration; -1 where none was found yet.
    """

    alpha: float
    mean: Floats
    ema: Floats
    found: Ints

    @classmethod
    def of(cls, examples: int, alpha: float, mean: Floats) -> Crossings:
        """Start a search that has looked at nothing yet."""
        return cls(alpha, mean, np.zeros(examples), np.full(examples, -1, np.int64))

    def look(self, losses: Array, rows: Ints, first: int, where: slice = slice(None)) -> None:
        """Look at iterations from ``first`` on: ``rows`` of ``losses`` are the examples at
        ``where``.
        """
        tile = np.ascontiguousarray(losses, loss_dtype(losses.dtype))
        crossings_dense(
            tile, rows, first, self.alpha, self.mean, self.ema[where], self.found[where]
        )


def crossings(losses: Array, alpha: float, mean: Floats) -> Ints:
    """Return the first position of the iterations at which each row's EMA lies above the mean
    curve; -1 where none does.
    """
    search = Crossings.of(len(losses), alpha, mean)
    search.look(losses, np.arange(len(losses)), 0)
    return search.found


def table_curves(
    starts: Ints, losses: Array, steps: npt.NDArray[np.int32], alpha: float, iterations: int
) -> Floats:
    """Return EMA of each example of :func:`advance_table` at all iterations; NaN where not
    recorded: (n, iterations).
    """
    curves = np.full((len(starts) - 1, iterations), np.nan)
    curves_ragged(starts, losses, steps, alpha, curves)
    return curves


def table_crossings(
    starts: Ints, losses: Array, steps: npt.NDArray[np.int32], alpha: float, mean: Floats
) -> Ints:
    """Do the same as :func:`crossings` for examples of :func:`advance_table`."""
    positions = np.full(len(starts) - 1, -1, np.int64)
    crossings_ragged(starts, losses, steps, alpha, mean, np.zeros(len(positions)), positions)
    return positions
