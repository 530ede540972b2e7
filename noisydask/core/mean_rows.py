"""The evidence of the weighted mean of several models' rows, from what is kept of each model.

Of the classes of the union (:mod:`noisydask.core.union`) the mean is known, to the same bits as
from the rows; all others are bounded. Where the bound does not rule out that another class
is among the two most probable of the mean, the row is *open*. Pure.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from noisydask.core.compiled import kernel
from noisydask.core.evidence import class_dtype
from noisydask.core.union import UnionRows, extra_slots

Array = npt.NDArray[Any]
Floats = npt.NDArray[np.float64]

#: Columns of the evidence of the mean.
MEAN_COLUMNS = ("given", "top1", "p_given", "p_top1", "top2", "p_top2", "p_rest")


@dataclass(frozen=True)
class ModelRows:
    """What is kept of some rows of a model.

    Attributes
    ----------
    columns : mapping of str to ndarray, (n,)
        Its evidence.
    union : UnionRows
        Its probabilities of the classes that were in the union when it was read.
    """

    columns: Mapping[str, Array]
    union: UnionRows


def mean_rows(models: Sequence[Array], weights: Floats) -> Floats:
    """Return the weighted mean of the models' rows, added up in their order.

    Parameters
    ----------
    models : sequence of ndarray, (n, K)
        Rows of each model.
    weights : ndarray of float64, (M,)
        They add up to 1.

    Examples
    --------
    >>> mean_rows([np.array([[1.0, 0.0]]), np.array([[0.5, 0.5]])], np.array([0.5, 0.5])).tolist()
    [[0.75, 0.25]]
    """
    mean = weights[0] * models[0].astype(np.float64)
    for weight, rows in zip(weights[1:], models[1:], strict=True):
        mean += weight * rows.astype(np.float64)
    return mean


def mean_evidence(
    models: Sequence[ModelRows], weights: Floats, num_classes: int, ceiling: Floats | None = None
) -> tuple[dict[str, Array], npt.NDArray[np.bool_]]:
    """Return the evidence of the weighted mean, and which rows are open.

    Parameters
    ----------
    models : sequence of ModelRows
        What is kept of each model, of the same rows.
    weights : ndarray of float64, (M,)
        They add up to 1.
    num_classes : int
        K.
    ceiling : ndarray of float64, (n,), optional
        The largest plain mean of a class outside the union, where all models were read together.

    Returns
    -------
    columns : dict of str to ndarray, (n,)
        :data:`MEAN_COLUMNS`, in float64; ``p_rest`` is at least the third largest mean. A row that
        is refused of one model is refused.
    open_rows : ndarray of bool, (n,)
        Rows whose two most probable classes are not certain.
    """
    first = models[0].columns
    rows = len(first["given"])
    classes = class_dtype(num_classes)
    refused = np.zeros(rows, bool)
    for model in models:
        refused |= model.columns["given"] == num_classes
    given = np.where(refused, num_classes, first["given"]).astype(classes)
    tops = _stacked([model.columns[top] for model in models for top in ("top1", "top2")])
    own = _stacked(
        [model.columns[name] for model in models for name in ("p_given", "p_top1", "p_top2")],
        np.float64,
    )
    slots = _stacked([model.union.slots for model in models])
    values = _stacked([model.union.p_slots for model in models], np.float64)
    outside = _stacked([model.union.outside for model in models], np.float64)
    extra = np.ascontiguousarray(extra_slots(slots[:, 0], num_classes))
    highest = np.full(rows, np.inf)
    if ceiling is not None:
        # No weighted mean is larger than that of the largest weight for all; a little for rounding.
        highest = ceiling * (len(weights) * float(np.max(weights)) * (1 + 1e-12))
    top1, top2 = np.zeros((2, rows), classes)
    p_given, p_top1, p_top2, p_rest = np.zeros((4, rows))
    open_rows = np.zeros(rows, bool)
    found = top1, top2, p_given, p_top1, p_top2, p_rest
    known = given, tops, own, slots, values, outside, extra, highest
    _mean(*known, np.asarray(weights, np.float64), num_classes, *found, open_rows)
    columns = (given, top1, p_given, p_top1, top2, p_top2, p_rest)
    return dict(zip(MEAN_COLUMNS, columns, strict=True)), open_rows


def evidence_of_means(means: Floats) -> dict[str, Array]:
    """Return the evidence of whole mean rows, (n, K), beside the given label. They are not checked:
    the models' rows were.

    Examples
    --------
    >>> found = evidence_of_means(np.array([[0.2, 0.5, 0.3]]))
    >>> found["top1"].tolist(), found["p_top2"].tolist(), found["p_rest"].tolist()
    ([1], [0.3], [0.2])
    """
    order = np.argsort(-means, axis=1, kind="stable")[:, :3]  # of equal classes the lower first
    values = np.take_along_axis(means, order, axis=1)
    rest = values[:, 2] if means.shape[1] > 2 else np.zeros(len(means))
    top1, top2 = order[:, 0], order[:, 1]
    columns = (top1, values[:, 0], top2, values[:, 1], rest)
    return dict(zip(("top1", "p_top1", "top2", "p_top2", "p_rest"), columns, strict=True))


def _stacked(columns: Sequence[Array], dtype: npt.DTypeLike = np.int64) -> Array:
    """Return columns, or tables, of all models side by side: (n, ...)."""
    return np.ascontiguousarray(np.stack(columns, axis=1), dtype)


@kernel()
def _known(wanted, i, m, given, tops, own, slots, values):
    """Return a model's probability of a class, and whether it is known."""
    if wanted == given[i]:
        return own[i, 3 * m], True
    if wanted == tops[i, 2 * m]:
        return own[i, 3 * m + 1], True
    if wanted == tops[i, 2 * m + 1]:
        return own[i, 3 * m + 2], True
    for s in range(slots.shape[2]):
        if slots[i, m, s] == wanted:
            return values[i, m, s], True
    return 0.0, False


@kernel()
def _unlisted(classes, found, i, m, slots, values, outside):
    """Return the largest probability that a model may have of a class that is not in a list."""
    most = outside[i, m]
    for s in range(slots.shape[2]):
        listed = False
        for c in range(found):
            listed |= classes[c] == slots[i, m, s]
        if not listed:
            most = max(most, values[i, m, s])
    return most


@kernel()
def _mean(
    given,
    tops,
    own,
    slots,
    values,
    outside,
    extra,
    highest,
    weights,
    num_classes,
    top1,
    top2,
    p_given,
    p_top1,
    p_top2,
    p_rest,
    open_rows,
):
    num_models = weights.size
    num_tops = tops.shape[1]
    num_wanted = num_tops + extra.shape[1] + 1
    classes = np.empty(num_wanted, np.int64)
    for i in range(given.size):
        if given[i] >= num_classes:
            continue
        found = 0
        for t in range(num_wanted):
            wanted = np.int64(given[i])
            if t < num_tops:
                wanted = tops[i, t]
            elif t < num_wanted - 1:
                wanted = extra[i, t - num_tops]
            new = True
            for c in range(found):
                new &= classes[c] != wanted
            if new:
                classes[found] = wanted
                found += 1
        first = second = third = -np.inf
        a = b = np.int64(num_classes)
        unknown = -np.inf
        for c in range(found):
            total = 0.0
            certain = True
            for m in range(num_models):
                value, known = _known(classes[c], i, m, given, tops, own, slots, values)
                if not known:
                    value = outside[i, m]
                    certain = False
                total = weights[m] * value if m == 0 else total + weights[m] * value
            if not certain:
                unknown = max(unknown, total)
                continue
            if classes[c] == given[i]:
                p_given[i] = total
            if total > first or (total == first and classes[c] < a):
                first, second, third = total, first, second
                a, b = classes[c], a
            elif total > second or (total == second and classes[c] < b):
                second, third = total, second
                b = classes[c]
            else:
                third = max(third, total)
        if found < num_classes:
            total = 0.0
            for m in range(num_models):
                value = _unlisted(classes, found, i, m, slots, values, outside)
                total = weights[m] * value if m == 0 else total + weights[m] * value
            unknown = max(unknown, min(total, highest[i]))
        top1[i], p_top1[i] = a, first
        if num_classes > 1 and b < num_classes:
            top2[i], p_top2[i] = b, second
        open_rows[i] = num_classes > 1 and (b >= num_classes or unknown >= second)
        rest = max(third, unknown)
        p_rest[i] = rest if num_classes > 2 and rest > -np.inf else 0.0
