"""Examples with their losses, kept in a run as Parquet parts: the ranking and single curves are
read from there.

A part holds whole examples in ascending order, with what is told of each, its iterations and its
losses.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, cast

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from noisydask.dynamics.examples import EXAMPLE, LABEL, Analysis, Examples
from noisydask.runs.store import RunStore
from noisydask.stores.chunks import StoredObject

Array = npt.NDArray[Any]

_GROUP_EXAMPLES = 1 << 16


@dataclass(frozen=True, order=True)
class LossPart:
    """A part of a run: examples with their losses."""

    name: str
    examples: int
    written: StoredObject


def write_losses(analysis: Analysis, name: str, run: RunStore) -> LossPart:
    """Write a part; doing it twice leaves what doing it once does."""
    examples = analysis.examples
    offsets = pa.array(examples.starts.astype(np.int32))
    columns = {**examples.keys, **analysis.states.statistics()}
    arrays = {column: pa.array(values) for column, values in columns.items()}
    arrays["iterations"] = pa.ListArray.from_arrays(offsets, pa.array(examples.iterations))
    arrays["losses"] = pa.ListArray.from_arrays(offsets, pa.array(_narrow(examples.losses)))
    named = [c for c in ("subset", "label", "iterations.list.element") if c.split(".")[0] in arrays]
    written = run.write_table(
        name,
        pa.table(arrays),
        row_group_size=_GROUP_EXAMPLES,
        compression="zstd",
        use_dictionary=named,
    )
    return LossPart(name, len(examples), written)


def read_losses(name: str, run: RunStore) -> Examples:
    """Read the examples of a part."""
    table = run.read_table(name)
    iterations, losses = (_chunk(table, column) for column in ("iterations", "losses"))
    starts = iterations.offsets.to_numpy().astype(np.int64)
    keys = {
        column: _values(table, column)
        for column in (*EXAMPLE, LABEL)
        if column in table.column_names
    }
    values = losses.values.to_numpy().astype(np.float64, copy=False)
    return Examples(keys, starts, iterations.values.to_numpy(), values)


def _narrow(losses: npt.NDArray[np.floating]) -> npt.NDArray[np.floating]:
    """Return losses as float32 where these are the same numbers: they take half of the room."""
    narrow = losses.astype(np.float32)
    if np.array_equal(narrow, losses):
        return narrow
    return losses


def read_columns(part: str, run: RunStore, *names: str) -> list[Array]:
    """Read columns of a part, in one read."""
    table = run.read_table(part, names)
    return [_values(table, name) for name in names]


def _chunk(table: pa.Table, name: str) -> Any:
    return table.column(name).combine_chunks()


def _values(table: pa.Table, name: str) -> Array:
    return cast(Array, table.column(name).to_numpy())
