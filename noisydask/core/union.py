"""What is kept of a model beside its evidence where there are several: its probabilities of the
classes that matter for any of them, and the largest of all others.

These classes are the two most probable of each model and the four most probable of their mean;
of few classes, all. With them the mean of the models is known for those classes, whatever the
weights, and bounded for all others. Pure.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from noisydask.core.compiled import kernel
from noisydask.core.evidence import class_dtype, probability_dtype
from noisydask.core.shapes import check_shape

Array = npt.NDArray[Any]

#: Columns beside the evidence: classes, their probabilities, the largest probability of any other
#: class, and the largest mean of all models' of any other class, where they were read together.
UNION = ("slots", "p_slots", "outside", "ceiling")
#: How many classes of the mean there are beside those of each model.
EXTRA = 4


@dataclass(frozen=True)
class UnionRows:
    """Of one model and some rows, its probabilities of classes.

    Attributes
    ----------
    slots : ndarray of unsigned integers, (n, S)
        The classes; the same may be there twice.
    p_slots : ndarray, (n, S)
        Their probabilities.
    outside : ndarray, (n,)
        The largest probability of any other class; 0 where there is none.
    """

    slots: Array
    p_slots: Array
    outside: Array

    @property
    def columns(self) -> dict[str, Array]:
        """The arrays by name, as they are kept."""
        return dict(zip(UNION, (self.slots, self.p_slots, self.outside), strict=False))


def union_width(num_classes: int, num_models: int) -> int:
    """Return of how many classes probabilities are kept."""
    return min(num_classes, 2 * num_models + EXTRA)


def union_dtypes(
    num_classes: int, dtype: npt.DTypeLike, num_models: int
) -> dict[str, tuple[np.dtype[Any], int]]:
    """Return type and width (0 for one number a row) of each column that is kept of a model."""
    probability = probability_dtype(dtype)
    width = union_width(num_classes, num_models)
    kinds = (class_dtype(num_classes), width), (probability, width), (probability, 0)
    return dict(zip(UNION, (*kinds, (np.dtype(np.float64), 0)), strict=True))


def union_slots(tops: Array, extra: Array, num_classes: int) -> Array:
    """Return the classes of which probabilities are kept, (n, S).

    Parameters
    ----------
    tops : ndarray of int64, (n, 2 M)
        The two most probable classes of each model.
    extra : ndarray of int64, (n, EXTRA)
        Those of the mean.
    num_classes : int
        K.
    """
    if num_classes <= tops.shape[1] + EXTRA:
        return np.broadcast_to(np.arange(num_classes), (len(tops), num_classes))
    return np.hstack([tops, extra])


def extra_slots(slots: Array, num_classes: int) -> Array:
    """Return the classes that are candidates for the mean beside the two of each model."""
    if slots.shape[1] == num_classes:
        return slots
    return slots[:, -EXTRA:]


def largest_classes(rows: Array) -> Array:
    """Return the :data:`EXTRA` most probable classes of each row, (n, EXTRA), in any order; of
    fewer classes, some twice.

    Examples
    --------
    >>> sorted(largest_classes(np.array([[0.1, 0.2, 0.05, 0.3, 0.25, 0.1]]))[0].tolist())
    [0, 1, 3, 4]
    """
    found = np.zeros((len(rows), EXTRA), np.int64)
    _largest_classes(rows, found)
    return found


@kernel()
def _largest_classes(rows, found):
    count = found.shape[1]
    values = np.empty(count, rows.dtype)
    for i in range(rows.shape[0]):
        values[:] = -np.inf
        for k in range(rows.shape[1]):
            if rows[i, k] > values[count - 1]:
                place = count - 1
                while place > 0 and rows[i, k] > values[place - 1]:
                    values[place] = values[place - 1]
                    found[i, place] = found[i, place - 1]
                    place -= 1
                values[place] = rows[i, k]
                found[i, place] = k


def at_classes(pred_probs: Array, slots: Array) -> UnionRows:
    """Return the probabilities of some classes in each row, and the largest of all others.

    Parameters
    ----------
    pred_probs : ndarray, (n, K), float16, float32 or float64
        Rows of a model.
    slots : ndarray of integers, (n, S)
        Classes, 0 to K-1.

    Raises
    ------
    ValueError
        If the arrays do not fit each other.

    Examples
    --------
    >>> found = at_classes(np.array([[0.5, 0.2, 0.3]]), np.array([[0, 1, 0]]))
    >>> found.p_slots.tolist(), found.outside.tolist()
    ([[0.5, 0.2, 0.5]], [0.3])
    """
    rows, num_classes = pred_probs.shape
    check_shape("slots", slots, (rows, slots.shape[1]))
    if slots.size and (slots.min() < 0 or slots.max() >= num_classes):
        raise ValueError(f"slots must be 0 to {num_classes - 1}")
    dtype = probability_dtype(pred_probs.dtype)
    values = np.empty(slots.shape, dtype)
    outside = np.empty(rows, dtype)
    step = max(1, (1 << 20) // (num_classes * dtype.itemsize))
    for start in range(0, rows, step):
        part = slice(start, start + step)
        tile = np.ascontiguousarray(pred_probs[part], dtype)
        _at_classes(tile, slots[part], values[part], outside[part])
    return UnionRows(slots.astype(class_dtype(num_classes)), values, outside)


@kernel()
def _at_classes(pred_probs, slots, values, outside):
    num_classes = pred_probs.shape[1]
    row = np.empty(num_classes, pred_probs.dtype)
    least = pred_probs.dtype.type(-2)
    for i in range(pred_probs.shape[0]):
        for k in range(num_classes):
            row[k] = pred_probs[i, k]
        for s in range(slots.shape[1]):
            values[i, s] = pred_probs[i, slots[i, s]]
            row[slots[i, s]] = least
        most = least
        for k in range(num_classes):
            most = max(most, row[k])
        outside[i] = most if most > least else pred_probs.dtype.type(0)
