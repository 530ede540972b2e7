"""What changed between two runs: issues that are new, gone (and why) and moved.

An example is the same in both runs if it has the same id, or, where either run has no ids, the same position. *New* is an
issue only of the later run, *gone* one only of the earlier, *moved* one of both whose given label, suggestion or score differs;
a rank that shifts only because other issues came or went is no change.
"""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, cast

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import zarr

from noisydask.errors import InputError
from noisydask.running import graph
from noisydask.storage.arrays import DaskRows, Rows, zarr_store
from noisydask.storage.chunks import StoredObject
from noisydask.storage.store import Output, RunStore

KINDS = ("new", "gone", "moved")
#: Why an issue is gone: its label was corrected; its score rose above the cut-off, or its label agrees with the prediction
#: now; its row is invalid now and was left out; the dataset has fewer rows now; its id stands in another row now, or in none;
#: or that cannot be told from the runs.
REASONS = ("corrected", "risen", "left_out", "removed", "displaced", "unknown")

#: Rows of both rankings that a task compares.
_TASK_ROWS = 2_000_000
_COMPARED = ("given_label", "suggested_label", "label_quality")
_READ = ("index", "id", "rank", *_COMPARED)
_INTEGERS = {"index": "Int64", "rank": "Int64", "given_label": "Int32", "suggested_label": "Int32"}
Ints = npt.NDArray[np.int64]


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
        ``counts`` of each given label that has changes; of the earlier run's where an issue is gone.
    table : DataFrame
        The first changes of each kind: ``change``, ``why``, ``index``, ``id``, and of both runs ``rank``, ``given_label``,
        ``suggested_label``, ``label_quality`` (the earlier's end in ``_before``); missing where there is none.
    """

    before: str
    after: str
    counts: Mapping[str, int]
    gone_because: Mapping[str, int]
    classes: Mapping[int, Mapping[str, int]]
    table: pd.DataFrame = field(repr=False)


@dataclass(frozen=True)
class Comparison:
    """Two runs to be compared: what the tasks need to know.

    Attributes
    ----------
    runs, parts : tuple of the earlier and the later
        Where they lie, the Parquet parts of their rankings.
    rows : int
        Examples of the later.
    by_id : bool
        Whether examples are known by their ids.
    ids : Rows, optional
        The later's ids of all examples, if they can be read.
    buckets : int
        Into how many parts the examples are divided.
    """

    runs: tuple[RunStore, RunStore]
    parts: tuple[tuple[str, ...], tuple[str, ...]]
    rows: int
    by_id: bool
    num_classes: int
    buckets: int
    largest: int
    ids: Rows | None = None

    @classmethod
    def of(
        cls, before: tuple[RunStore, Mapping[str, Any]], after: tuple[RunStore, Mapping[str, Any]], ids: Rows | None = None
    ) -> Comparison:
        """Compare two runs by their manifests."""
        manifests = (before[1], after[1])
        for manifest in manifests:
            if manifest.get("job") != "issues":
                raise InputError("only runs that found label issues can be compared")
        total = sum(manifest["counts"]["issues"] for manifest in manifests)
        return cls(
            (before[0], after[0]),
            (tuple(before[1]["parts"]), tuple(after[1]["parts"])),
            after[1]["counts"]["examples"],
            all("ids" in manifest["inputs"] for manifest in manifests),
            max(manifest["counts"]["classes"] for manifest in manifests),
            max(1, -(-total // _TASK_ROWS)),
            max(manifest["counts"]["examples"] for manifest in manifests),
            ids,
        )


@dataclass(frozen=True)
class ChangeState:
    """Of a comparison: changes of each kind and class, reasons, the first rows, what was written."""

    classes: Ints
    reasons: Ints
    table: pd.DataFrame
    objects: tuple[StoredObject, ...] = ()


def compare(comparison: Comparison, top: int, write_to: RunStore | None = None) -> ChangeState:
    """Compare two runs on the active client or scheduler.

    Parameters
    ----------
    top : int
        How many rows of each kind the result holds.
    write_to : RunStore, optional
        The run that gets all rows as Parquet parts.
    """
    parts = sum(map(len, comparison.parts))
    numbers = graph.block_numbers(range(parts), (1,) * parts)
    frames = graph.over_blocks("changes", partial(_read, comparison=comparison), numbers)
    finish = partial(_finish, comparison=comparison, top=top, write_to=write_to)
    if write_to is not None:
        write_to.make_folder("changes")
    if comparison.buckets == 1:
        return cast(ChangeState, graph.compute(graph.gather_frames("changes", frames, finish)))
    meta = _read((0,), comparison).iloc[:0]
    table = graph.compute(graph.shuffle_frames(frames, meta, comparison.buckets, partial(_finish_row, finish=finish)))
    return _added(list(table["written"]), top)


def _read(numbers: Sequence[int], comparison: Comparison) -> pd.DataFrame:
    """A part of a ranking, with the bucket of each example."""
    (number,) = numbers
    side = int(number >= len(comparison.parts[0]))
    run, name = comparison.runs[side], comparison.parts[side][number - side * len(comparison.parts[0])]
    with run.place.fs.open((run.place / name).path, "rb") as file:
        frame = pq.read_table(file, columns=list(_READ)).to_pandas()
    if not comparison.by_id:
        frame["id"] = frame["index"]
    frame["label_quality"] = frame["label_quality"].astype(np.float64)
    frame["side"] = side
    if comparison.by_id:
        frame["id"] = frame["id"].astype(str)
        frame["part"] = (pd.util.hash_array(frame["id"].to_numpy(object)) % comparison.buckets).astype(np.int64)
    else:
        frame["part"] = frame["index"] * comparison.buckets // comparison.largest
    return frame


def _finish_row(frame: pd.DataFrame, finish: Any) -> pd.DataFrame:
    frame = frame.rename_axis("part").reset_index()
    return pd.DataFrame({"written": pd.Series([finish(frame)], dtype=object)})


def _finish(frame: pd.DataFrame, comparison: Comparison, top: int, write_to: RunStore | None) -> ChangeState:
    """Compare a bucket."""
    table = changed(frame)
    gone = (table["change"] == "gone").to_numpy()
    if gone.any():
        for name, values in _explain(table[gone], comparison).items():
            table[name] = table[name].fillna(values)
    objects: tuple[StoredObject, ...] = ()
    if write_to is not None and len(table):
        objects = (_write(table, int(frame["part"].iloc[0]), write_to),)
    return _summary(table, comparison.num_classes, top, objects)


def changed(frame: pd.DataFrame) -> pd.DataFrame:
    """The changes among issues of two runs, told apart by ``side`` (0 is the earlier): new, gone and moved, by rank.

    Examples
    --------
    >>> issue = {"given_label": 0, "suggested_label": 1, "rank": 1, "label_quality": 0.1}
    >>> frame = pd.DataFrame([issue | {"side": 0, "id": 7, "index": 7}, issue | {"side": 1, "id": 8, "index": 8}])
    >>> changed(frame)[["change", "index"]].values.tolist()
    [['new', 8], ['gone', 7]]
    """
    frame = frame.sort_values(["side", "index"], kind="stable")
    # An id that several examples have stands for the first of them, the second, ... in both runs.
    frame = frame.assign(nth=frame.groupby(["side", "id"]).cumcount())
    sides = [frame[frame["side"] == side].drop(columns=["side", "part"], errors="ignore") for side in (0, 1)]
    sides = [side.astype({name: _INTEGERS[name] for name in _INTEGERS}) for side in sides]
    both = sides[0].merge(sides[1], on=["id", "nth"], how="outer", suffixes=("_before", ""), indicator=True)
    same = (both["_merge"] == "both").to_numpy()
    differs = np.zeros(len(both), bool)
    for name in _COMPARED:
        differs |= same & (both[name] != both[f"{name}_before"]).fillna(False).to_numpy(bool)
    kind = np.select([both["_merge"] == "right_only", both["_merge"] == "left_only", differs], KINDS, "")
    both.insert(0, "change", kind.astype(object))
    both.insert(1, "why", pd.Series(pd.NA, index=both.index, dtype=object))
    both["index"] = both["index"].fillna(both["index_before"])
    both = both[both["change"] != ""].drop(columns=["_merge", "nth", "index_before"])
    order = both["rank"].fillna(both["rank_before"]).to_numpy(np.int64)
    kinds = pd.Categorical(both["change"], categories=KINDS).codes
    return both.iloc[np.lexsort((both["index"].to_numpy(np.int64), order, kinds))].reset_index(drop=True)


def _explain(gone: pd.DataFrame, comparison: Comparison) -> pd.DataFrame:
    """Why issues are gone, and label and score that their examples have in the later run."""
    positions = gone["index"].to_numpy(np.int64)
    why = np.full(len(gone), "removed", object)
    label = pd.Series(pd.NA, index=gone.index, dtype="Int32")
    score = pd.Series(np.nan, index=gone.index, dtype=np.float64)
    there = positions < comparison.rows
    if comparison.by_id:
        if comparison.ids is None:
            why[:] = "unknown"
            there[:] = False
        else:
            same = np.zeros(len(gone), bool)
            same[there] = _ids_at(positions[there], comparison.ids) == gone["id"].to_numpy(object)[there]
            why[~same], there = "displaced", same
    if there.any():
        order = np.argsort(positions[there])
        rows = gone.index[there][order]
        labels, scores = (
            _at(comparison.runs[1], name, positions[there][order]) for name in ("given_labels.zarr", "label_quality.zarr")
        )
        reasons = np.where(labels != gone.loc[rows, "given_label_before"].to_numpy(np.int64), "corrected", "risen")
        reasons = np.where(np.isnan(scores), "left_out", reasons)
        why[np.flatnonzero(there)[order]] = reasons
        label[rows], score[rows] = labels, scores
    return pd.DataFrame({"why": why, "given_label": label, "label_quality": score}, index=gone.index)


def _at(run: RunStore, name: str, positions: Ints) -> npt.NDArray[Any]:
    """Values of an array of a run at ascending positions; only their chunks are read."""
    array = zarr.open_array(zarr_store(run.place / name, read_only=True), mode="r")
    return np.asarray(array.oindex[positions])


def _ids_at(positions: Ints, ids: Rows) -> npt.NDArray[np.object_]:
    """Ids of examples, as text."""
    found = np.empty(len(positions), object)
    chunk = max(ids.chunk_rows, 1)
    for number in np.unique(positions // chunk):
        here = np.flatnonzero(positions // chunk == number)
        start = int(number) * chunk
        rows = ids.read(start, min(start + chunk, ids.shape[0]))
        found[here] = [str(value) for value in rows[positions[here] - start]]
    return found


def _write(table: pd.DataFrame, bucket: int, run: RunStore) -> StoredObject:
    buffer = io.BytesIO()
    content = pa.Table.from_pandas(table, preserve_index=False).replace_schema_metadata(None)
    pq.write_table(content, buffer, compression="snappy")
    return run.write(f"changes/part-{bucket:05d}.parquet", buffer.getvalue())


def _summary(table: pd.DataFrame, num_classes: int, top: int, objects: tuple[StoredObject, ...]) -> ChangeState:
    kind = pd.Categorical(table["change"], categories=KINDS).codes.astype(np.int64)
    label = table["given_label"].where(table["change"] != "gone", table["given_label_before"]).to_numpy(np.int64)
    classes = np.bincount(kind * num_classes + label, minlength=3 * num_classes).reshape(3, num_classes)
    reasons = pd.Categorical(table["why"].dropna(), categories=REASONS).codes
    return ChangeState(classes, np.bincount(reasons, minlength=len(REASONS)), _first(table, top), objects)


def _first(table: pd.DataFrame, top: int) -> pd.DataFrame:
    """The first rows of each kind."""
    order = table["rank"].fillna(table["rank_before"]).to_numpy(np.int64)
    kind = pd.Categorical(table["change"], categories=KINDS).codes
    table = table.iloc[np.lexsort((order, kind))]
    return table.groupby("change", sort=False).head(top).reset_index(drop=True)


def _added(states: list[ChangeState], top: int) -> ChangeState:
    table = pd.concat([state.table for state in states], ignore_index=True)
    objects = tuple(stored for state in states for stored in state.objects)
    return ChangeState(
        np.sum([state.classes for state in states], axis=0),
        np.sum([state.reasons for state in states], axis=0),
        _first(table, top),
        objects,
    )


def summary(state: ChangeState, before: str) -> dict[str, Any]:
    """What a manifest says of the changes since another run."""
    classes = np.flatnonzero(state.classes.any(axis=0))
    return {
        "since": before,
        **dict(zip(KINDS, state.classes.sum(axis=1).tolist(), strict=True)),
        "gone_because": {name: int(count) for name, count in zip(REASONS, state.reasons, strict=True) if count},
        "classes": {str(k): dict(zip(KINDS, state.classes[:, k].tolist(), strict=True)) for k in classes},
        "parts": sorted(stored.path for stored in state.objects),
    }


def since(
    before: tuple[RunStore, Mapping[str, Any]], after: tuple[RunStore, Mapping[str, Any]], ids: Rows | DaskRows | None
) -> tuple[dict[str, Any], tuple[StoredObject, ...]]:
    """Compare a run with the one before, write the changes into it; what its manifest says of them, and what was written."""
    comparison = Comparison.of(before, after, None if isinstance(ids, DaskRows) else ids)
    state = compare(comparison, 0, after[0])
    return summary(state, before[0].run), state.objects


def diff(output: Output, before: str | None = None, after: str | None = None, top: int = 20) -> Changes:
    """What changed between two runs of an output; by default, between the published one and the one before.

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
        raise InputError(f"{output.place.shown}: the run {later[0].run} is the first; there is nothing to compare it with")
    stored = later[1].get("changes")
    if stored is not None and stored["since"] == parent:
        return Changes(parent, later[0].run, *_parts_of(stored), _stored_table(later[0], stored["parts"], top))
    state = compare(Comparison.of(output.open_run(parent), later), top)
    return Changes(parent, later[0].run, *_parts_of(summary(state, parent)), state.table)


def _parts_of(said: Mapping[str, Any]) -> tuple[dict[str, int], dict[str, int], dict[int, dict[str, int]]]:
    counts = {kind: int(said[kind]) for kind in KINDS}
    return counts, dict(said["gone_because"]), {int(k): dict(found) for k, found in said["classes"].items()}


def _stored_table(run: RunStore, parts: Sequence[str], top: int) -> pd.DataFrame:
    """The first changes of each kind among those that lie in a run, part by part."""
    table = pd.DataFrame(columns=["change", "rank", "rank_before"])
    for name in parts:
        with run.place.fs.open((run.place / name).path, "rb") as file:
            part = _first(pq.read_table(file).to_pandas(types_mapper={pa.int64(): pd.Int64Dtype()}.get), top)
        table = _first(pd.concat([table, part], ignore_index=True), top) if len(table) else part
    return table
