"""Candidates of a run by their ids."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from noisydask.errors import InputError
from noisydask.runs.store import RunStore


def positions_of(run: RunStore, parts: Sequence[str], ids: Sequence[Any]) -> dict[Any, list[int]]:
    """Return the positions of candidates by their ids, ascending: several may share one.

    Raises
    ------
    InputError
        If one is not a candidate.
    """
    by_name: dict[Any, list[int]] = {}
    for part in parts:
        table = run.read_table(part, ["id", "index"])
        wanted = _as_column(ids, table.schema.field("id").type)
        table = table.filter(pc.field("id").isin(wanted))
        for name, index in zip(table["id"].to_pylist(), table["index"].to_pylist(), strict=True):
            by_name.setdefault(name, []).append(index)
    for name in ids:
        if name not in by_name:
            raise InputError(f"{name!r} is not a candidate of this run")
    return {name: sorted(positions) for name, positions in by_name.items()}


def _as_column(ids: Sequence[Any], kind: pa.DataType) -> pa.Array:
    """Return ids as a column of a ranking has them; what such a column cannot hold is not a
    candidate.
    """
    kind = kind.value_type if pa.types.is_dictionary(kind) else kind
    for name in ids:
        try:
            pa.scalar(name, kind)
        except (pa.ArrowException, TypeError, ValueError, OverflowError) as error:
            raise InputError(f"{name!r} is not a candidate of this run") from error
    return pa.array(list(ids), kind)
