"""What changed between two runs: issues that are new, gone (and why) and moved; of other rankings,
what entered and what left them.

An example is the same in both runs if it has the same id, or, where either run has no ids, the same
position. *New* is an issue only of the later run, *gone* one only of the earlier, *moved* one of
both whose given label, suggestion or score differs; a rank that shifts only because other issues
came or went is not a change.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import cast

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from noisydask.engine import graph
from noisydask.engine.shuffling import shuffle_frames
from noisydask.errors import InputError
from noisydask.runs.changed_rows import (
    ChangeState,
    compare_parts,
    finish_bucket,
    finish_row,
    first_rows,
)
from noisydask.runs.comparison import KINDS, REASONS, Comparison, read_parts
from noisydask.runs.manifest import ChangeCounts
from noisydask.runs.store import FinishedRun, Output, RunStore
from noisydask.stores.arrays import kept_ids
from noisydask.stores.chunks import StoredObject
from noisydask.stores.frames import stacked
from noisydask.stores.rows import Rows


@dataclass(frozen=True)
class Changes:
    """What changed from one run to another.

    Attributes
    ----------
    after : str
        Name of the later run.
    counts : ChangeCounts
        Numbers of changes since the earlier one, as a manifest has them.
    table : DataFrame
        The first changes of each kind: ``change``, ``why``, ``index``, ``id``, and of both runs
        ``rank``, ``given_label``, ``suggested_label``, ``label_quality`` (the earlier's end in
        ``_before``); missing where there is none.
    """

    after: str
    counts: ChangeCounts
    table: pd.DataFrame = field(repr=False)


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
        shuffle_frames(frames, meta, comparison.buckets, partial(finish_row, finish=finish))
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


def summary(state: ChangeState, before: str, first: int | None) -> ChangeCounts:
    """Count the changes since another run, among the ``first`` rows or all."""
    labelled = state.classes.shape[1] > 1  # or the ranking has no classes
    if labelled:
        classes = np.flatnonzero(state.classes.any(axis=0)).tolist()
    else:
        classes = []
    new, gone, moved = state.classes.sum(axis=1).tolist()
    return ChangeCounts(
        since=before,
        first=first,
        new=new,
        gone=gone,
        moved=moved,
        gone_because={
            name: int(count) for name, count in zip(REASONS, state.reasons, strict=True) if count
        },
        classes={k: dict(zip(KINDS, state.classes[:, k].tolist(), strict=True)) for k in classes},
        parts=sorted(stored.path for stored in state.objects),
    )


def unchanged(before: str) -> ChangeCounts:
    """Return the counts where nothing changed since another run."""
    return ChangeCounts(since=before, new=0, gone=0, moved=0, gone_because={}, classes={}, parts=[])


def since(
    before: FinishedRun, after: FinishedRun, ids: Rows | None
) -> tuple[ChangeCounts, tuple[StoredObject, ...]]:
    """Compare a run with the one before and write the changes into it; return their counts, and the
    objects that were written.
    """
    comparison = Comparison.of(before, after, ids)
    state = compare(comparison, 0, after.store)
    return summary(state, before.manifest.run, comparison.first), state.objects


def diff(
    output: Output, before: str | None = None, after: str | None = None, top: int = 20
) -> Changes:
    """Compare two runs of an output; by default, the published one with the one before.

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
    name = later.manifest.run
    stored = later.manifest.changes
    parent = before or later.manifest.parent
    if parent is None:
        raise InputError(
            f"{output.place.shown}: the run {name} is the first; there is nothing to compare it "
            "with"
        )
    if stored is None or stored.since != parent:
        earlier = output.open_run(parent)
        # Where one repeats the other, or both a third, there is nothing to compare.
        if earlier.store.place == later.store.place:
            stored = unchanged(parent)
        else:
            stored = None
    if stored is not None:
        return Changes(name, stored, _stored_table(later.store, stored.parts, top))
    kept = "kept" in later.manifest.inputs.get("ids", {})
    ids = kept_ids(later.store.place) if kept else None
    comparison = Comparison.of(earlier, later, ids)
    state = compare(comparison, top)
    return Changes(name, summary(state, parent, comparison.first), state.table)


_NULLABLE = {pa.int64(): pd.Int64Dtype(), pa.int32(): pd.Int32Dtype()}


def _stored_table(run: RunStore, parts: Sequence[str], top: int) -> pd.DataFrame:
    """Return the first changes of each kind among those that lie in a run, part by part."""
    table = pd.DataFrame(columns=["change", "rank", "rank_before"])
    for name in parts:
        with (run.place / name).open() as file:
            part = first_rows(pq.read_table(file).to_pandas(types_mapper=_NULLABLE.get), top)
        if len(table):
            table = first_rows(pd.concat([table, part], ignore_index=True), top)
        else:
            table = part
    return table
