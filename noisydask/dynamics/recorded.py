"""Losses as a training loop hands them in become columns, and these a Parquet file that appears
whole or not at all.
"""

from __future__ import annotations

import operator
from collections.abc import Sequence
from io import BytesIO
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from noisydask.core.whole_numbers import whole_numbers
from noisydask.errors import InputError
from noisydask.stores.conversion import as_array

Array = npt.NDArray[Any]

_LARGEST = 2**63 - 1


def content_of(parts: Sequence[tuple[int, dict[str, Array]]]) -> bytes:
    """Return a file of what was recorded: iterations, each with its columns."""
    iterations, columns = zip(*parts, strict=True)
    arrays = {name: np.concatenate([part[name] for part in columns]) for name in columns[0]}
    counts = [len(part["id"]) for part in columns]
    arrays["iteration"] = np.repeat(np.array(iterations, np.int64), counts)
    order = ("id", "iteration", "loss", "label")
    buffer = BytesIO()
    pq.write_table(
        pa.table({name: arrays[name] for name in order if name in arrays}),
        buffer,
        compression="zstd",
    )
    return buffer.getvalue()


def iteration_of(iteration: Any) -> int:
    """Return an iteration as a file can hold it.

    Raises
    ------
    InputError
        If it is not an integer of 64 bits.
    """
    try:
        number = operator.index(iteration)
    except TypeError as error:
        raise InputError(f"the iteration must be an integer, not {iteration!r}") from error
    if not -_LARGEST - 1 <= number <= _LARGEST:
        raise InputError(f"the iteration must be an integer of 64 bits, not {number}")
    return number


def columns_of(ids: Any, losses: Any, labels: Any) -> dict[str, Array]:
    """Return copies of the arrays, checked; what is empty has no type.

    Raises
    ------
    InputError
        If they are of other types, or do not fit each other.
    """
    arrays = {"id": ids, "loss": losses} | ({} if labels is None else {"label": labels})
    columns = {name: np.array(as_array(values, name)) for name, values in arrays.items()}
    shapes = {array.shape for array in columns.values()}
    if len(shapes) > 1 or columns["id"].ndim != 1:
        said = ", ".join(f"{name} {array.shape}" for name, array in columns.items())
        raise InputError(
            f"ids, losses and labels must have one dimension and the same length, not {said}"
        )
    if not len(columns["id"]):
        return columns
    if columns["id"].dtype.kind not in "iuUT" and not all(
        isinstance(name, str) for name in columns["id"]
    ):
        raise InputError(f"ids must be integers or text, not {columns['id'].dtype}")
    if columns["loss"].dtype.kind not in "fiu":
        raise InputError(f"losses must be numbers, not {columns['loss'].dtype}")
    if "label" in columns and columns["label"].dtype.kind not in "iu":
        raise InputError(f"labels must be integers, not {columns['label'].dtype}")
    text = columns["id"].dtype.kind not in "iu"
    if text:
        columns["id"] = _storable(columns["id"])
    else:
        columns["id"] = whole_numbers(columns["id"], "ids")
    columns["loss"] = columns["loss"].astype(
        np.float64 if columns["loss"].dtype.itemsize > 4 else np.float32
    )
    if "label" in columns:
        columns["label"] = whole_numbers(columns["label"], "labels")
    return columns


def _storable(ids: Array) -> Array:
    """Return text as Python's, if a file can hold it: Python keeps bytes of a name that are no text
    as halves of a character.
    """
    try:
        "".join(ids.tolist()).encode()
    except UnicodeEncodeError as error:
        raise InputError(
            "ids hold text that no file can: names of files that were not decoded; encode them "
            "otherwise"
        ) from error
    return ids.astype(object)
