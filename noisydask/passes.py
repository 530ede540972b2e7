"""The passes over the data, block by block: what a task does, and the partial states that add up.

Each pass turns blocks into a *state*; states are added with ``+`` in any order, in a tree. Storage is handed in, Dask is
not known here.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import reduce
from typing import Any, cast

import numpy as np
import numpy.typing as npt
import pandas as pd

from noisydask.arrays import Rows
from noisydask.blocks import BlockGrid
from noisydask.chunks import ChunkedArray, StoredObject
from noisydask.confident import IssueCounts, agrees, count_issues, label_quality
from noisydask.evidence import MAX_ROWS, Evidence, scan_rows
from noisydask.ranking import Bin, Ints, Keys, Part, assign_parts, histogram, score_of, sort_keys, tie_counts, whole_range
from noisydask.row_kernel import Problem
from noisydask.store import EvidenceStore
from noisydask.thresholds import ClassTotals

Array = npt.NDArray[np.generic]

#: Rows named in an error at most.
FIRST_ROWS = 10
#: Decoded bytes that are read at once: enough to keep a fast pipeline busy, and reused by the next read.
READ_BYTES = 32 * 1024**2


@dataclass(frozen=True)
class Dataset:
    """What the passes read: rows in stores, or nothing where tasks are handed blocks."""

    grid: BlockGrid
    num_classes: int
    dtype: np.dtype[Any]
    columns: tuple[str, ...]
    evidence: EvidenceStore
    pred_probs: Rows | None = None
    labels: Rows | None = None
    notify: Callable[[int, int], None] | None = field(default=None, repr=False)


@dataclass(frozen=True)
class Problems:
    """Refused rows: how many of each kind, and the first of all."""

    counts: npt.NDArray[np.int64]
    first: tuple[tuple[int, int], ...] = ()

    @classmethod
    def of(cls, problems: npt.NDArray[np.uint8], start: int) -> Problems:
        """Refused rows of a block whose first row is ``start``."""
        rows = np.flatnonzero(problems)
        first = tuple((start + int(row), int(problems[row])) for row in rows[:FIRST_ROWS])
        return cls(np.bincount(problems[rows], minlength=len(Problem)), first)

    @property
    def total(self) -> int:
        """Number of refused rows."""
        return int(self.counts.sum())

    def __add__(self, other: Problems) -> Problems:
        return Problems(self.counts + other.counts, tuple(sorted(self.first + other.first))[:FIRST_ROWS])


@dataclass(frozen=True)
class ScanState:
    """Of the scan: class totals, refused rows, stored bytes of ``pred_probs`` read."""

    totals: ClassTotals
    problems: Problems
    bytes_read: int

    def __add__(self, other: ScanState) -> ScanState:
        return ScanState(self.totals + other.totals, self.problems + other.problems, self.bytes_read + other.bytes_read)


def scan(blocks: Sequence[int], pred_probs: Array | None, labels: Array | None, data: Dataset) -> ScanState:
    """Read each block once, keep its evidence; arrays are handed in only for a single block of a Dask graph."""
    return _total(_scan_block(block, pred_probs, labels, data) for block in blocks)


def _scan_block(block: int, pred_probs: Array | None, labels: Array | None, data: Dataset) -> ScanState:
    start, stop = data.grid.bounds(block)
    if labels is None:
        labels = cast(Rows, data.labels).read(start, stop)
    found = Evidence.empty(stop - start, data.num_classes, data.dtype, data.columns)
    totals, bytes_read = ClassTotals.zero(data.num_classes), 0
    if pred_probs is None:
        pieces = ((low, high, _rows(data).read(low, high)) for low, high in reads(_rows(data), start, stop))
    else:
        cuts = range(start, stop, MAX_ROWS)
        pieces = ((low, min(low + MAX_ROWS, stop), pred_probs[low - start : low - start + MAX_ROWS]) for low in cuts)
    for low, high, rows in pieces:
        part = scan_rows(rows, labels[low - start : high - start], into=found.part(low - start, high - start))
        totals += ClassTotals.of(part.counts, part.fixed)
    data.evidence.write(block, found.columns)
    if data.pred_probs is not None:
        bytes_read = data.pred_probs.take_bytes_read()
    if data.notify:
        data.notify(stop - start, bytes_read or (stop - start) * data.num_classes * data.dtype.itemsize)
    return ScanState(totals, Problems.of(found.problems, start), bytes_read)


def _rows(data: Dataset) -> Rows:
    return cast(Rows, data.pred_probs)


def reads(pred_probs: Rows, start: int, stop: int) -> Iterable[tuple[int, int]]:
    """Ranges of whole chunks in which rows are read."""
    chunk = pred_probs.chunk_rows
    fitting = READ_BYTES // (pred_probs.shape[1] * pred_probs.dtype.itemsize)
    step = min(MAX_ROWS, max(chunk, fitting // chunk * chunk))
    return ((low, min(low + step, stop)) for low in range(start, stop, step))


def _total(states: Iterable[Any]) -> Any:
    return reduce(lambda one, other: one + other, states)


@dataclass(frozen=True)
class Scoring:
    """How labels are scored and issues counted, with what is known of all rows."""

    thresholds: npt.NDArray[np.float64]
    quality_score: str
    adjust_pred_probs: bool
    joint: bool
    scores: ChunkedArray = field(repr=False)
    given: ChunkedArray = field(repr=False)


@dataclass(frozen=True)
class CountState:
    """Of the count: issue counts, histogram of the scores, blocks left unresolved, objects written, bytes re-read."""

    counts: IssueCounts
    histogram: Ints
    unresolved: tuple[int, ...] = ()
    objects: tuple[StoredObject, ...] = ()
    bytes_read: int = 0

    def __add__(self, other: CountState) -> CountState:
        return CountState(
            self.counts + other.counts,
            self.histogram + other.histogram,
            self.unresolved + other.unresolved,
            self.objects + other.objects,
            self.bytes_read + other.bytes_read,
        )


def count(blocks: Sequence[int], data: Dataset, scoring: Scoring) -> CountState:
    """Count and score from the evidence; a block with rows that it cannot decide is only named."""
    return _total(_count_block(block, None, data, scoring) for block in blocks)


def resolve(blocks: Sequence[int], pred_probs: Array | None, data: Dataset, scoring: Scoring) -> CountState:
    """Count and score blocks that the evidence left unresolved, reading them again."""
    return _total(_resolve_block(block, pred_probs, data, scoring) for block in blocks)


def _resolve_block(block: int, pred_probs: Array | None, data: Dataset, scoring: Scoring) -> CountState:
    if pred_probs is None:
        pred_probs = _rows(data).read(*data.grid.bounds(block))
    state = _count_block(block, pred_probs, data, scoring)
    again = data.pred_probs.take_bytes_read() if data.pred_probs is not None else 0
    return CountState(state.counts, state.histogram, (), state.objects, again)


def _count_block(block: int, pred_probs: Array | None, data: Dataset, scoring: Scoring) -> CountState:
    columns = data.evidence.read(block, data.columns)
    rows = cast(npt.NDArray[np.floating], pred_probs) if pred_probs is not None else None
    counts, open_rows = count_issues(columns, scoring.thresholds, scoring.joint, rows)
    scores, open_scores = label_quality(columns, scoring.thresholds, scoring.quality_score, scoring.adjust_pred_probs, rows)
    if rows is None and (open_rows.any() or open_scores.any()):
        empty = IssueCounts.zero(data.num_classes)
        return CountState(empty, np.zeros((1, 1 << 16), np.int64), (block,))
    written = scoring.scores.write_recorded(block, scores), scoring.given.write_recorded(block, columns["given"])
    return CountState(counts, histogram(sort_keys(scores), [whole_range(scores.itemsize)]), (), written)


def refine(blocks: Sequence[int], bins: tuple[Bin, ...], scores: ChunkedArray) -> Ints:
    """Histogram of bins that hold too many examples."""
    return cast(Ints, _total(histogram(_keys(block, scores), bins) for block in blocks))


def tie(blocks: Sequence[int], ties: tuple[int, ...], scores: ChunkedArray) -> Ints:
    """Positions of single scores that too many examples share."""
    rows = scores.shape[0]
    counts = (tie_counts(_keys(block, scores), scores.bounds(block)[0], rows, ties) for block in blocks)
    return cast(Ints, _total(counts))


def _keys(block: int, scores: ChunkedArray) -> Keys:
    return sort_keys(cast(npt.NDArray[np.floating], scores.read(block)))


@dataclass(frozen=True)
class RowNumbers:
    """Positions of examples, ascending."""

    rows: Ints

    def __add__(self, other: RowNumbers) -> RowNumbers:
        return RowNumbers(np.sort(np.concatenate([self.rows, other.rows])))


def refused(blocks: Sequence[int], data: Dataset) -> RowNumbers:
    """Rows that the scan refused."""
    found = []
    for block in blocks:
        given = data.evidence.read(block, ("given",))["given"]
        found.append(np.flatnonzero(given == data.num_classes) + data.grid.bounds(block)[0])
    return RowNumbers(np.concatenate(found))


@dataclass(frozen=True)
class Selection:
    """Which examples are candidates, and what of them is written."""

    parts: tuple[Part, ...]
    scores: ChunkedArray = field(repr=False)
    ids: Rows | None = None


def select(blocks: Sequence[int], ids: Array | None, data: Dataset, selection: Selection) -> pd.DataFrame:
    """The examples of the ranking's parts as a table, in the order of the ranking.

    ``ids`` is handed in only for a single block of a Dask graph.
    """
    frame = pd.concat([_select_block(block, ids, data, selection) for block in blocks], ignore_index=True)
    return frame.iloc[np.argsort(frame["label_quality"].to_numpy(), kind="stable")]


def _select_block(block: int, ids: Array | None, data: Dataset, selection: Selection) -> pd.DataFrame:
    start, stop = data.grid.bounds(block)
    scores = cast(npt.NDArray[np.floating], selection.scores.read(block))
    last = selection.parts[-1].last_key if selection.parts else 0
    rows = np.flatnonzero(scores <= score_of(last, scores.dtype))
    part = assign_parts(sort_keys(scores[rows]), start + rows, selection.parts)
    rows, part = rows[part >= 0], part[part >= 0]
    names = ("given", "top1", "p_given", "p_top1")
    found = data.evidence.read(block, names) if len(rows) else {name: np.empty(0) for name in names}
    columns = {name: column[rows] for name, column in found.items()}
    if ids is None and selection.ids is not None and len(rows):
        ids = selection.ids.read(start, stop)
    return candidates(part, start + rows, start + rows if ids is None else ids[rows], scores[rows], columns, data.dtype)


def candidates(
    part: Ints, index: Ints, ids: Array, scores: Array, columns: Mapping[str, Array], dtype: np.dtype[Any]
) -> pd.DataFrame:
    """Rows of the ranking, not yet in order; ``keep`` is false for those whose label agrees with the prediction."""
    return pd.DataFrame(
        {
            "part": part,
            "index": index,
            "id": ids,
            "given_label": columns["given"].astype(np.int32),
            "suggested_label": columns["top1"].astype(np.int32),
            "label_quality": scores,
            "given_prob": columns["p_given"],
            "suggested_prob": columns["p_top1"],
            "keep": ~agrees(columns, dtype) if len(index) else np.zeros(0, bool),
        }
    )


def kept(blocks: Sequence[int], data: Dataset, selection: Selection) -> Ints:
    """How many examples of each part stay: tells at which rank the next part begins."""
    total = np.zeros(len(selection.parts), np.int64)
    for block in blocks:
        frame = _select_block(block, None, data, selection)
        total += np.bincount(frame["part"][frame["keep"]], minlength=len(total))
    return total


def rank(frame: pd.DataFrame, part: Part, first_rank: int, runs: bool) -> pd.DataFrame:
    """Put a part in order, take the examples that belong to the T lowest, drop those that agree, number the rest.

    The frame must be complete. ``runs`` says that its rows are those of :func:`select`, in the order of the blocks: then
    among equal scores they are in order already, and sorting merges a few sorted runs.
    """
    scores = frame["label_quality"].to_numpy()
    order = np.argsort(scores, kind="stable") if runs else np.lexsort((frame["index"].to_numpy(), scores))
    order = order[: part.take]
    frame = frame.iloc[order[frame["keep"].to_numpy()[order]]].drop(columns=["part", "keep"], errors="ignore")
    frame.insert(0, "rank", np.arange(first_rank, first_rank + len(frame)))
    return frame.reset_index(drop=True)
