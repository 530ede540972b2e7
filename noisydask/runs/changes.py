"""What changed between two runs: issues that are new, gone (and why) and moved; of other rankings,
what entered and what left them.

An example is the same in both runs if it has the same id, or, where either run has no ids, the same
position. *New* is an issue only of the later run, *gone* one only of the earlier, *moved* one of
both whose given label, suggestion or score differs; a rank that shifts only because other issues
came or went is no change.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, cast

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from noisydask.engine import graph
from noisydask.errors import InputError
from noisydask.runs.changed_rows import (
    KINDS,
    REASONS,
    ChangeState,
    Comparison,
    compare_parts,
    finish_bucket,
    finish_row,
    first_rows,
    read_parts,
)
from noisydask.runs.store import Output, RunStore
from noisydask.stores.arrays import kept_ids
from noisydask.stores.chunks import StoredObject
from noisydask.stores.frames import stacked
from noisydask.stores.rows import Rows


@dataclass(frozen=True)
class Changes:
    """What changed from one run to another.

    Attributes
    ----------
    before, after : str
        Names of the runs.
    counts : mapping of str to int
        How many issues are of each of :data:`KINDS`.
    gone_because : mapping of str to int
        How many are gone for each of :data:`REASONS` that there is.
    classes : mapping of int to mapping
        ``counts`` of each given label that has changes; of the earlier run's where an issue is
        gone.
    table : DataFrame
        The first changes of each kind: ``change``, ``why``, ``index``, ``id``, and of both runs
        ``rank``, ``given_label``, ``suggested_label``, ``label_quality`` (the earlier's end in
        ``_before``); missing where there is none.
    first : int or None
        How many of the first rows of both rankings were compared; None for all.
    """

    before: str
    after: str
    counts: Mapping[str, int]
    gone_because: Mapping[str, int]
    classes: Mapping[int, Mapping[str, int]]
    table: pd.DataFrame = field(repr=False)
    first: int | None = None


def compare(comparison: Comparison, top: int, write_to: RunStore | None = None) -> ChangeState:
    """Compare two runs on the active client or scheduler.

    Parameters
    ----------
    top : int
        How many rows of each kind the result holds.
    write_to : RunStore, optional
        The run that gets all rows as Parquet parts.
    """
    parts = range(sum(map(len, comparison.parts)))
    if write_to is not None:
        write_to.make_folder("changes")
    finish = partial(finish_bucket, comparison=comparison, top=top, write_to=write_to)
    if (
        comparison.buckets == 1
    ):  # so few that handing them on would cost more than to read and compare them
        task = partial(compare_parts, comparison=comparison, finish=finish)
        return cast(
            ChangeState, graph.run_pass("changes", task, graph.block_numbers(parts, (len(parts),)))
        )
    numbers = graph.block_numbers(parts, (1,) * len(parts))
    frames = graph.over_blocks("changes", partial(read_parts, comparison=comparison), numbers)
    meta = read_parts((0,), comparison).iloc[:0]
    table = graph.compute(
        graph.shuffle_frames(frames, meta, comparison.buckets, partial(finish_row, finish=finish))
    )
    return _added(list(table["written"]), top)


def _added(states: list[ChangeState], top: int) -> ChangeState:
    table = stacked([state.table for state in states])
    objects = tuple(stored for state in states for stored in state.objects)
    return ChangeState(
        np.sum([state.classes for state in states], axis=0),
        np.sum([state.reasons for state in states], axis=0),
        first_rows(table, top),
        objects,
    )


def summary(state: ChangeState, before: str, first: int | None) -> dict[str, Any]:
    """What a manifest says of the changes since another run, among the ``first`` rows or all."""
    labelled = state.classes.shape[1] > 1  # or the ranking has no classes
    classes = np.flatnonzero(state.classes.any(axis=0)) if labelled else ()
    return {
        "since": before,
        "first": first,
        **dict(zip(KINDS, state.classes.sum(axis=1).tolist(), strict=True)),
        "gone_because": {
            name: int(count) for name, count in zip(REASONS, state.reasons, strict=True) if count
        },
        "classes": {
            str(k): dict(zip(KINDS, state.classes[:, k].tolist(), strict=True)) for k in classes
        },
        "parts": sorted(stored.path for stored in state.objects),
    }


def unchanged(before: str) -> dict[str, Any]:
    """What a manifest says where nothing changed since another run."""
    return {
        "since": before,
        **dict.fromkeys(KINDS, 0),
        "gone_because": {},
        "classes": {},
        "parts": [],
    }


def since(
    before: tuple[RunStore, Mapping[str, Any]],
    after: tuple[RunStore, Mapping[str, Any]],
    ids: Rows | None,
) -> tuple[dict[str, Any], tuple[StoredObject, ...]]:
    """Compare a run with the one before, write the changes into it; what its manifest says of them,
    and what was written.
    """
    comparison = Comparison.of(before, after, ids)
    state = compare(comparison, 0, after[0])
    return summary(state, before[0].run, comparison.first), state.objects


def diff(
    output: Output, before: str | None = None, after: str | None = None, top: int = 20
) -> Changes:
    """What changed between two runs of an output; by default, between the published one and the one
    before.

    Parameters
    ----------
    output : Output
        Where they are.
    before, after : str, optional
        Names of runs; ``after`` alone is the published one.
    top : int
        How many changes of each kind the result holds.

    Raises
    ------
    InputError
        If a run is not there, or the published one is the first.
    """
    later = output.open_run(after)
    parent = before or later[1].get("parent")
    if parent is None:
        raise InputError(
            f"{output.place.shown}: the run {later[0].run} is the first; there is nothing to "
            "compare it with"
        )
    stored = later[1].get("changes")
    if stored is None or stored["since"] != parent:
        earlier = output.open_run(parent)
        # Where one repeats the other, or both a third, there is nothing to compare.
        stored = unchanged(parent) if earlier[0].place == later[0].place else None
    if stored is not None:
        return Changes(
            parent,
            later[0].run,
            *_parts_of(stored),
            _stored_table(later[0], stored["parts"], top),
            stored.get("first"),
        )
    ids = kept_ids(later[0].place) if "kept" in later[1]["inputs"].get("ids", {}) else None
    comparison = Comparison.of(earlier, later, ids)
    state = compare(comparison, top)
    said = _parts_of(summary(state, parent, comparison.first))
    return Changes(parent, later[0].run, *said, state.table, comparison.first)


def _parts_of(
    said: Mapping[str, Any],
) -> tuple[dict[str, int], dict[str, int], dict[int, dict[str, int]]]:
    counts = {kind: int(said[kind]) for kind in KINDS}
    return (
        counts,
        dict(said["gone_because"]),
        {int(k): dict(found) for k, found in said["classes"].items()},
    )


_NULLABLE = {pa.int64(): pd.Int64Dtype(), pa.int32(): pd.Int32Dtype()}


def _stored_table(run: RunStore, parts: Sequence[str], top: int) -> pd.DataFrame:
    """The first changes of each kind among those that lie in a run, part by part."""
    table = pd.DataFrame(columns=["change", "rank", "rank_before"])
    for name in parts:
        with run.place.fs.open((run.place / name).path, "rb") as file:
            part = first_rows(pq.read_table(file).to_pandas(types_mapper=_NULLABLE.get), top)
        table = first_rows(pd.concat([table, part], ignore_index=True), top) if len(table) else part
    return table
