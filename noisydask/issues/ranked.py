"""The ranking of the main job: its candidates, in order and numbered, as Parquet parts and indices.

What a task does; storage is handed in, Dask is not known here.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from functools import partial
from typing import Any, cast

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa

from noisydask.core.auto_rule import AutoRule
from noisydask.core.blocks import BlockGrid
from noisydask.core.evidence import probability_dtype
from noisydask.core.label_quality import agrees
from noisydask.core.ranking import Ints, Keys, order_of, score_of, sort_keys
from noisydask.engine.parts import Parts, ScoredRows, WrittenPart, part_name
from noisydask.issues.ensemble import Ensemble
from noisydask.issues.evidence import StoredBlock
from noisydask.issues.passes import IssueData, evidence_of
from noisydask.runs.class_names import with_pair_names
from noisydask.runs.store import RunStore
from noisydask.stores.chunks import ChunkedArray, StoredObject
from noisydask.stores.frames import stacked
from noisydask.stores.rows import Rows
from noisydask.stores.task_rows import TaskRows
from noisydask.stores.threads import ahead

Array = npt.NDArray[np.generic]

#: The folder of the ranking, and the rows of a chunk of ``issue_indices.zarr``.
FOLDER, INDEX_CHUNK = "issues", 1 << 20


#: What orders examples of the same label quality: a higher probability of the suggested label
#: first, then the position.
_LAST = np.dtype([("p_top1", np.float64), ("index", np.int64)])


@dataclass(frozen=True)
class RankedRows(ScoredRows):
    """All examples by an ascending score; those of the same score by descending ``p_top1``, then by
    position.
    """

    data: IssueData

    def keys(self, block: Any) -> Keys:
        """Return the keys of a StoredBlock."""
        return super().keys(block.number)

    def last(self, block: Any) -> npt.NDArray[np.void]:
        """Return what orders the examples of the same score of a StoredBlock."""
        top1 = evidence_of(block, ("p_top1",), self.data)["p_top1"]
        return last_keys(top1, np.arange(*self.scores.bounds(block.number)))


def last_keys(p_top1: npt.NDArray[Any], index: Ints) -> npt.NDArray[np.void]:
    """Return keys that order like (descending ``p_top1``, index)."""
    keys = np.empty(len(index), _LAST)
    keys["p_top1"] = np.negative(p_top1)
    keys["index"] = index
    return keys


@dataclass(frozen=True)
class Selection:
    """Which examples are candidates, and what of them is written.

    Attributes
    ----------
    parts : Parts
        The parts of the ranking.
    order : ChunkedArray
        The scores that order all examples.
    quality : ChunkedArray
        Their label quality.
    ids : Rows, optional
        Their ids.
    all_flagged : bool
        Whether all candidates are issues; else those are dropped that agree with their prediction.
    rule : AutoRule, optional
        Suggests labels; without it, the prediction is suggested.
    ensemble : Ensemble, optional
        Several models, whose agreement is told.
    """

    parts: Parts
    order: ChunkedArray = field(repr=False)
    quality: ChunkedArray = field(repr=False)
    ids: Rows | None = None
    all_flagged: bool = False
    rule: AutoRule | None = None
    ensemble: Ensemble | None = None


def select(blocks: Sequence[StoredBlock], data: IssueData, selection: Selection) -> pd.DataFrame:
    """Return the examples of the ranking's parts as a table, in the order of the ranking."""
    with closing(ahead(partial(_select_block, data=data, selection=selection), blocks)) as frames:
        frame = stacked(list(frames))
    return frame.iloc[np.argsort(frame["order"].to_numpy(), kind="stable")]


def _select_block(stored: StoredBlock, data: IssueData, selection: Selection) -> pd.DataFrame:
    block = stored.number
    start, stop = data.grid.bounds(block)
    order = cast(npt.NDArray[np.floating], selection.order.read(block))
    rows = np.flatnonzero(order <= score_of(selection.parts.last_key, order.dtype))
    top1 = partial(evidence_of, stored, ("p_top1",), data)
    part = selection.parts.assign(
        sort_keys(order[rows]), lambda: last_keys(top1()["p_top1"][rows], start + rows)
    )
    rows = rows[part >= 0]
    part = part[part >= 0]
    if not len(rows):
        return _no_candidates(data, selection)
    names = _BASE if selection.rule is None else data.columns
    evidence = evidence_of(stored, names, data)
    columns = {name: column[rows] for name, column in evidence.items()}
    if selection.all_flagged:
        keep = np.ones(len(rows), bool)
    else:
        keep = ~agrees(columns, data.dtype)
    ids: Array = start + rows
    if selection.ids is not None:
        ids = selection.ids.read(start, stop)[rows]
    if selection.quality is selection.order:
        quality = order
    else:
        quality = cast(npt.NDArray[np.floating], selection.quality.read(block))
    scores = {"order": order[rows], "label_quality": quality[rows]}
    suggested = suggestions(columns, selection.rule)
    frame = candidates(part, start + rows, ids, scores, columns, suggested, keep)
    if selection.ensemble is not None:
        frame["agreement"] = selection.ensemble.agreement(stored, rows, suggested[0])
    return frame


_BASE = ("given", "top1", "p_given", "p_top1")


def suggestions(columns: Mapping[str, Array], rule: AutoRule | None) -> tuple[Array, Array]:
    """Return the suggested class of each row, and its probability."""
    if rule is None:
        return columns["top1"], columns["p_top1"]
    _, suggested, _ = rule.decide(columns)
    second = np.asarray(suggested == columns["top2"], bool)
    first = np.asarray(suggested == columns["top1"], bool)
    other = np.where(second, columns["p_top2"], columns["p_given"])
    return suggested, np.where(first, columns["p_top1"], other)


def candidates(
    part: Ints,
    index: Ints,
    ids: Array,
    scores: Mapping[str, Array],
    columns: Mapping[str, Array],
    suggested: tuple[Array, Array],
    keep: npt.NDArray[np.bool_],
) -> pd.DataFrame:
    """Return rows of the ranking, not yet in order; ``keep`` is false for those whose label agrees
    with the prediction.
    """
    return pd.DataFrame(
        {
            "part": part,
            "index": index,
            "id": ids,
            "given_label": columns["given"].astype(np.int32),
            "suggested_label": suggested[0].astype(np.int32),
            "label_quality": scores["label_quality"],
            "given_prob": columns["p_given"],
            "suggested_prob": suggested[1],
            "keep": keep,
            "order": scores["order"],
            "p_top1": columns["p_top1"],
        }
    )


def kept(blocks: Sequence[StoredBlock], data: IssueData, selection: Selection) -> Ints:
    """Count how many examples of each part stay: it tells at which rank the next part begins."""
    total = np.zeros(len(selection.parts), np.int64)
    for block in blocks:
        frame = _select_block(block, data, selection)
        total += np.bincount(frame["part"][frame["keep"]], minlength=len(total))
    return total


def rank(frame: pd.DataFrame, take: int, first_rank: int) -> pd.DataFrame:
    """Put a part in order, take the first of its examples, drop those that agree, number the
    rest.
    """
    ties = (-frame["p_top1"].to_numpy(), frame["index"].to_numpy())
    order = order_of(frame["order"].to_numpy(), *ties)[:take]
    frame = frame.iloc[order[frame["keep"].to_numpy()[order]]]
    frame = frame.drop(columns=["part", "keep", "order", "p_top1"], errors="ignore")
    frame.insert(0, "rank", np.arange(first_rank, first_rank + len(frame)))
    return frame.reset_index(drop=True)


@dataclass(frozen=True)
class Writer:
    """Writes parts of the ranking; that of an ``only`` one together with its indices."""

    run: RunStore
    class_names: Sequence[str] | None
    only: bool

    def __call__(self, frame: pd.DataFrame, number: int, take: int, first_rank: int) -> WrittenPart:
        """Rank and write the candidates of a part."""
        ranked = rank(frame, take, first_rank)
        table = pa.Table.from_pandas(ranked, preserve_index=False).replace_schema_metadata(None)
        table = with_pair_names(table, self.class_names)
        objects = [self.run.write_table(part_name(FOLDER, number), table)]
        if self.only:
            objects += write_all(index_array(self.run, len(ranked)), ranked["index"].to_numpy())
        return WrittenPart(number, len(ranked), tuple(objects))


def index_array(run: RunStore, rows: int) -> ChunkedArray:
    """Return the array of the issues' indices."""
    return run.array("issue_indices.zarr", (rows,), INDEX_CHUNK, np.int64)


def write_all(array: ChunkedArray, values: Array) -> list[StoredObject]:
    """Write an array that is in memory."""
    created = array.create()
    chunks = range(-(-len(values) // array.chunk_rows))
    pieces = (values[slice(*array.bounds(chunk))] for chunk in chunks)
    return [created, *map(array.write_recorded, chunks, pieces)]


def write_indices(
    chunks: Sequence[int], parts: Sequence[WrittenPart], run: RunStore, indices: ChunkedArray
) -> tuple[StoredObject, ...]:
    """Write chunks of ``issue_indices.zarr`` from the parts that they span."""
    written = []
    for chunk in chunks:
        start, stop = indices.bounds(chunk)
        pieces = []
        first = 0
        for part in parts:
            low = max(start - first, 0)
            high = min(stop - first, part.rows)
            if low < high:
                table = run.read_table(part_name(FOLDER, part.number), ["index"])
                pieces.append(table.column(0).to_numpy()[low:high])
            first += part.rows
        written.append(indices.write_recorded(chunk, np.concatenate(pieces)))
    return tuple(written)


def write_ids(
    blocks: Sequence[int],
    inputs: Mapping[str, TaskRows],
    run: RunStore,
    folder: str,
    grid: BlockGrid,
) -> tuple[StoredObject, ...]:
    """Write the ids of blocks, a file to each."""
    written = []
    for block in blocks:
        ids = inputs["ids"].read(*grid.bounds(block))
        written.append(run.write_table(part_name(folder, block), pa.table({"id": pa.array(ids)})))
    return tuple(written)


def _no_candidates(data: IssueData, selection: Selection) -> pd.DataFrame:
    if selection.ids is not None:
        kind = selection.ids.dtype
    else:
        kind = np.dtype(np.int64)
    several = selection.ensemble is not None
    types = data.dtype, selection.order.dtype, selection.quality.dtype, kind
    return empty_candidates(*types, several)


def empty_candidates(
    data_dtype: np.dtype[Any],
    order: np.dtype[Any],
    quality: np.dtype[Any],
    ids: np.dtype[Any],
    several: bool,
) -> pd.DataFrame:
    """Return a candidate table without rows, of the types of those with."""
    none = np.zeros(0, np.int64)
    probability = none.astype(probability_dtype(data_dtype))
    columns: Mapping[str, Array] = {"given": none, "p_given": probability, "p_top1": probability}
    scores = {"order": none.astype(order), "label_quality": none.astype(quality)}
    keep = none.astype(bool)
    suggested = (none, probability)
    frame = candidates(none, none, none.astype(ids), scores, columns, suggested, keep)
    if several:
        frame["agreement"] = none.astype(np.float32)
    return frame
