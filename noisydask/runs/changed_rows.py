"""The changes of a bucket of examples between two runs: which there are, why issues are gone, and
their Parquet part.

Storage is handed in, Dask is not known here.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import zarr

from noisydask.runs.comparison import (
    COLUMNS,
    COMPARED,
    KINDS,
    NAMES,
    REASONS,
    Comparison,
    as_text,
    read_parts,
)
from noisydask.runs.store import RunStore
from noisydask.stores.chunks import StoredObject
from noisydask.stores.rows import Rows
from noisydask.stores.zarr_stores import zarr_store

#: Ids that are read at once at least, to look some of them up.
_ID_ROWS = 1 << 16
Ints = npt.NDArray[np.int64]


@dataclass(frozen=True)
class ChangeState:
    """Of a comparison: changes of each kind and class, reasons, the first rows, what was
    written.
    """

    classes: Ints
    reasons: Ints
    table: pd.DataFrame
    objects: tuple[StoredObject, ...] = ()


def compare_parts(
    numbers: Sequence[int], comparison: Comparison, finish: Callable[[pd.DataFrame], ChangeState]
) -> ChangeState:
    """Read all parts and compare them, in one bucket."""
    return finish(read_parts(numbers, comparison))


def finish_row(frame: pd.DataFrame, finish: Any) -> pd.DataFrame:
    """Finish as :func:`finish_bucket` a bucket whose number is the frame's index; return what it
    returns as a table's row.
    """
    frame = frame.rename_axis("part").reset_index()
    return pd.DataFrame({"written": pd.Series([finish(frame)], dtype=object)})


def finish_bucket(
    frame: pd.DataFrame, comparison: Comparison, top: int, write_to: RunStore | None
) -> ChangeState:
    """Compare a bucket."""
    table = changed(frame)
    gone = (table["change"] == "gone").to_numpy()
    if "index" not in comparison.columns:
        table = table.drop(columns="index")
    if gone.any() and "label_quality" in table:
        for name, values in _explain(table[gone], comparison).items():
            table[name] = table[name].fillna(values)
    objects: tuple[StoredObject, ...] = ()
    if write_to is not None and len(table):
        objects = (_write(table, int(frame["part"].iloc[0]), write_to),)
    return _summary(table, comparison.num_classes, top, objects)


def changed(frame: pd.DataFrame) -> pd.DataFrame:
    """Return the changes among issues of two runs, told apart by ``side`` (0 is the earlier): new,
    gone and moved, by rank.

    Examples
    --------
    >>> issue = {"given_label": 0, "suggested_label": 1, "rank": 1, "label_quality": 0.1}
    >>> before, now = {"side": 0, "id": 7, "index": 7}, {"side": 1, "id": 8, "index": 8}
    >>> frame = pd.DataFrame([issue | before, issue | now])
    >>> changed(frame)[["change", "index"]].values.tolist()
    [['new', 8], ['gone', 7]]
    """
    before, after = _matched(frame)
    names, told_of = ([name for name in some if name in frame] for some in (NAMES, COLUMNS))
    columns = {name: frame[name].to_numpy() for name in ("index", *names, *told_of)}
    differs = (before < 0) | (after < 0)
    for name in set(COMPARED) & set(told_of):
        differs |= columns[name][before] != columns[name][after]
    before = before[differs]
    after = after[differs]
    kind = np.select([before < 0, after < 0], [0, 1], 2)
    either = np.where(after < 0, before, after)
    index = columns["index"][either]
    order = np.lexsort((index, columns["rank"][either], kind))
    before = before[order]
    after = after[order]
    either = either[order]
    changes = {
        "change": np.array(KINDS, object)[kind[order]],
        "why": pd.array([pd.NA] * len(order), object),
    }
    changes |= {name: columns[name][either] for name in names} | {
        f"{name}_before": _there(columns[name], before) for name in told_of
    }
    return pd.DataFrame(
        changes | {"index": index[order]} | {name: _there(columns[name], after) for name in told_of}
    )


def _matched(frame: pd.DataFrame) -> tuple[Ints, Ints]:
    """Return positions of each example's row in the earlier and in the later run; -1 where it has
    none.

    An id that several examples have stands for the first of them, the second, ... in both runs.
    """
    names = [name for name in NAMES if name in frame]
    ids = frame.groupby(names, sort=False, dropna=False).ngroup().to_numpy()
    side = frame["side"].to_numpy()
    order = np.lexsort((frame["index"].to_numpy(), side, ids))
    first = np.ones(len(order), bool)
    first[1:] = (np.diff(ids[order]) != 0) | (np.diff(side[order]) != 0)
    nth = np.empty(len(order), np.int64)
    nth[order] = np.arange(len(order)) - np.maximum.accumulate(
        np.where(first, np.arange(len(order)), 0)
    )
    order = np.lexsort((side, nth, ids))
    paired = np.zeros(len(order), bool)
    paired[:-1] = (np.diff(ids[order]) == 0) & (np.diff(nth[order]) == 0)
    single = ~paired
    single[1:] &= ~paired[:-1]
    both = np.flatnonzero(paired)
    alone = order[single]
    before = np.where(side[alone] == 0, alone, -1)
    after = np.where(side[alone] == 0, -1, alone)
    return np.concatenate([order[both], before]), np.concatenate([order[both + 1], after])


def _there(values: npt.NDArray[Any], positions: Ints) -> Any:
    """Return values at positions, missing at -1."""
    taken = values[positions]
    missing = positions < 0
    if taken.dtype.kind == "f":
        return np.where(missing, np.nan, taken)
    return pd.arrays.IntegerArray(taken, missing)


def _explain(gone: pd.DataFrame, comparison: Comparison) -> pd.DataFrame:
    """Return why issues are gone, and label and score that their examples have in the later run."""
    positions = gone["index"].to_numpy(np.int64)
    why = np.full(len(gone), "removed", object)
    label = pd.Series(pd.NA, index=gone.index, dtype="Int32")
    score = pd.Series(np.nan, index=gone.index, dtype=np.float64)
    there = positions < comparison.rows
    if comparison.by_id:
        if comparison.ids is None:
            why[there] = "unknown"
            there[:] = False
        else:
            same = np.zeros(len(gone), bool)
            same[there] = (
                _ids_at(positions[there], comparison.ids) == gone["id"].to_numpy(object)[there]
            )
            why[there & ~same], there = "displaced", same
    if there.any():
        order = np.argsort(positions[there])
        rows = gone.index[there][order]
        labels, scores = (
            _at(comparison.runs[1], name, positions[there][order])
            for name in ("given_labels.zarr", "label_quality.zarr")
        )
        reasons = np.where(
            labels != gone.loc[rows, "given_label_before"].to_numpy(np.int64), "corrected", "risen"
        )
        kept = ~np.isnan(scores)
        reasons = np.where(kept, reasons, "left_out")
        why[np.flatnonzero(there)[order]] = reasons
        label[rows[kept]] = labels[kept]
        score[rows] = scores
    return pd.DataFrame(
        {"why": why, "given_label": label, "label_quality": score}, index=gone.index
    )


def _at(run: RunStore, name: str, positions: Ints) -> npt.NDArray[Any]:
    """Return values of an array of a run at ascending positions; only their chunks are read."""
    array = zarr.open_array(zarr_store(run.place / name, read_only=True), mode="r")
    return np.asarray(array.oindex[positions])


def _ids_at(positions: Ints, ids: Rows) -> npt.NDArray[np.object_]:
    """Return ids of examples, as text."""
    ids_there = np.empty(len(positions), object)
    chunk = max(ids.chunk_rows, _ID_ROWS)
    for number in np.unique(positions // chunk):
        here = np.flatnonzero(positions // chunk == number)
        start = int(number) * chunk
        rows = ids.read(start, min(start + chunk, ids.shape[0]))
        ids_there[here] = as_text(pd.Series(rows[positions[here] - start]))
    return ids_there


def _write(table: pd.DataFrame, bucket: int, run: RunStore) -> StoredObject:
    buffer = io.BytesIO()
    content = pa.Table.from_pandas(table, preserve_index=False).replace_schema_metadata(None)
    why = content.schema.get_field_index("why")  # nothing but empty cells has no type
    content = content.set_column(why, "why", content.column(why).cast(pa.string()))
    pq.write_table(content, buffer, compression="snappy")
    return run.write(f"changes/part-{bucket:05d}.parquet", buffer.getvalue())


def _summary(
    table: pd.DataFrame, num_classes: int, top: int, objects: tuple[StoredObject, ...]
) -> ChangeState:
    kind = pd.Categorical(table["change"], categories=KINDS).codes.astype(np.int64)
    label = np.zeros(len(table), np.int64)
    if "given_label" in table:
        given = table["given_label"]
        gone = table["change"] == "gone"
        label = given.mask(gone, table["given_label_before"]).to_numpy(np.int64)
    classes = np.bincount(kind * num_classes + label, minlength=3 * num_classes).reshape(
        3, num_classes
    )
    reasons = pd.Categorical(table["why"].dropna(), categories=REASONS).codes
    return ChangeState(
        classes, np.bincount(reasons, minlength=len(REASONS)), first_rows(table, top), objects
    )


def first_rows(table: pd.DataFrame, top: int) -> pd.DataFrame:
    """Return the first rows of each kind."""
    order = table["rank"].fillna(table["rank_before"]).to_numpy(np.int64)
    kind = pd.Categorical(table["change"], categories=KINDS).codes
    table = table.iloc[np.lexsort((order, kind))]
    return table.groupby("change", sort=False).head(top).reset_index(drop=True)
