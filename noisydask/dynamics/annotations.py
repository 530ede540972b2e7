"""Annotations that hold recorded losses become columns, some at a time, and what is malformed is
named.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from noisydask.errors import DatasetError

#: Losses that are brought into arrays at once.
BATCH_LOSSES = 1 << 22

#: Names of annotations by column, how many losses each has, and the iterations and losses of all.
Batch = tuple[
    Mapping[str, npt.NDArray[Any]],
    npt.NDArray[np.int64],
    npt.NDArray[np.int64],
    npt.NDArray[np.float64],
]
#: Item, subset, annotation id, label.
AnnotationName = tuple[str, str, int, int]
Annotation = tuple[AnnotationName, Mapping[str, Any]]


def in_batches(annotations: Iterable[Annotation], key: str) -> Iterator[Batch]:
    """Bring annotations into columns, some at a time. Numbers go into arrays at once, while their
    list is in the cache.
    """
    names = []
    counts = []
    iterations = array("q")
    losses = array("d")
    before, same = (
        None,
        array("q"),
    )  # the iterations of most annotations are those of the one before
    for name, attributes in annotations:
        try:
            iters = attributes.get("iters")
            values = attributes.get(key)
            if iters.__class__ is not list or iters != before:
                same = array("q")
                _append(same, iters)
                before = iters if iters.__class__ is list else None
            iterations.extend(same)
            _append(losses, values)
        except (AttributeError, TypeError, ValueError, OverflowError) as error:
            raise DatasetError(_say(name, attributes, key)) from error
        if len(iterations) != len(losses):
            raise DatasetError(_say(name, attributes, key))
        names.append(name)
        counts.append(len(same))
        if len(losses) >= BATCH_LOSSES:
            yield _as_columns(names, counts, iterations, losses)
            names = []
            counts = []
            iterations = array("q")
            losses = array("d")
    if names:
        yield _as_columns(names, counts, iterations, losses)


def _append(column: array[Any], values: Any) -> None:
    """Append a list of numbers of a column's type; None among losses is one that is not recorded.

    Iterations may be written 1.0, which is 1 in JSON, and 1 to what compares lists.
    """
    try:
        column.fromlist(values)
    except TypeError:
        if not isinstance(values, list | tuple | np.ndarray):
            raise
        whole = column.typecode == "q"
        if whole:
            numbers = np.asarray(values)
        else:
            numbers = np.asarray(values, np.float64)
        if numbers.ndim != 1 or numbers.dtype.kind not in "iuf":
            raise
        with np.errstate(invalid="ignore"):
            kept = numbers.astype(column.typecode)
        if whole and (kept != numbers).any():
            raise
        column.frombytes(kept.tobytes())


def _where(name: AnnotationName) -> str:
    return f"annotation {name[2]} of item {name[0]!r} in subset {name[1]!r}"


def _say(name: AnnotationName, attributes: Any, key: str) -> str:
    """Say what is wrong with the attributes of an annotation."""
    where = _where(name)
    if not isinstance(attributes, Mapping):
        return (
            f"{where}: its 'attributes' must be an object of names and values, not "
            f"{type(attributes).__name__}"
        )
    iters: Any = attributes.get("iters")
    values: Any = attributes.get(key)
    for attribute, value in (("iters", iters), (key, values)):
        if not isinstance(value, list | tuple | np.ndarray):
            return f"{where} has no list {attribute!r} among its attributes"
    if len(iters) != len(values):
        return f"{where} has {len(iters)} iters and {len(values)} values of {key}"
    return (
        f"{where}: the attributes 'iters' and {key!r} must be lists of numbers; 'iters' must "
        "be a list of integers"
    )


def _as_columns(
    names: list[AnnotationName], counts: list[int], iterations: array[int], losses: array[float]
) -> Batch:
    items, subsets, ann_ids, labels = map(list, zip(*names, strict=True))
    keys = {
        "id": np.array(items, object),
        "subset": np.array(subsets, object),
        "ann_id": _integers(ann_ids, names, "id"),
        "label": _integers(labels, names, "label"),
    }
    number = np.array(counts, np.int64)
    return keys, number, np.frombuffer(iterations, np.int64), np.frombuffer(losses)


def _integers(values: list[Any], names: list[AnnotationName], what: str) -> npt.NDArray[np.int64]:
    """Return what is told of each annotation, as integers."""
    try:
        return np.frombuffer(array("q", values), np.int64)
    except (TypeError, OverflowError):
        for name, value in zip(names, values, strict=True):
            try:
                array("q", [value])
            except (TypeError, OverflowError) as error:
                raise DatasetError(
                    f"{_where(name)}: its {what} must be an integer of 64 bits, not {value!r}"
                ) from error
        raise
