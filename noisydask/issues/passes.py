"""The passes over the data, block by block: what a task does, and the partial states that add up.

Each pass turns blocks into a *state*; states are added with ``+`` in any order, in a tree. Storage
is handed in, Dask is not known here.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field, replace
from functools import partial, reduce
from operator import add
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from noisydask.checkpoint.checkpoint import Checkpoint
from noisydask.core.blocks import BlockGrid
from noisydask.core.confident import (
    IssueCounts,
    count_issues,
    dense_joint,
    likely_dtype,
    nearly_unresolved,
    resolve_joint,
)
from noisydask.core.kept_rows import MARGIN, KeptRows
from noisydask.core.label_quality import agrees, label_quality
from noisydask.core.ranking import Ints, histogram, sort_keys, whole_range
from noisydask.core.sparse_counts import SparseCounts
from noisydask.errors import JobError
from noisydask.issues.evidence import (
    OPEN_ROWS,
    StoredBlock,
    keep_rows,
    kept_rows,
)
from noisydask.stores.chunks import ChunkedArray, StoredObject
from noisydask.stores.task_rows import TaskRows
from noisydask.stores.threads import Behind, ahead, at_once

Array = npt.NDArray[np.generic]


@dataclass(frozen=True)
class IssueData:
    """The data of a run as its passes know them: blocks, types, and where the evidence is kept.
    ``top`` is the type of rows of which only the most probable classes are known.
    """

    grid: BlockGrid
    num_classes: int
    dtype: np.dtype[Any]
    columns: tuple[str, ...]
    evidence: Checkpoint[Any]
    skip_unreadable: bool = False
    top: np.dtype[Any] | None = None
    notify: Callable[[int, int], None] | None = field(default=None, repr=False)

    @property
    def row(self) -> np.dtype[Any]:
        """Type of a row of the input."""
        if self.top is not None:
            return self.top
        return np.dtype((self.dtype, (self.num_classes,)))


@dataclass(frozen=True)
class Scoring:
    """How labels are scored and issues counted, with what is known of all rows."""

    thresholds: npt.NDArray[np.float64]
    quality_score: str
    adjust_pred_probs: bool
    joint: bool
    scores: ChunkedArray = field(repr=False)
    given: ChunkedArray = field(repr=False)
    likely: ChunkedArray | None = field(default=None, repr=False)
    ensemble: EnsembleScores | None = field(default=None, repr=False)
    undecided: UndecidedRows | None = field(default=None, repr=False)


class UndecidedRows(Protocol):
    """Keeps which rows are undecided, of rows of which the most probable classes are known."""

    def write(self, block: int, rows: npt.NDArray[np.bool_]) -> None:
        """Keep which rows of a block are undecided."""


class EnsembleScores(Protocol):
    """Scores labels by several models."""

    def scores(
        self,
        block: Any,
        quality_score: str,
        adjust_pred_probs: bool,
        inputs: Mapping[str, TaskRows] | None,
    ) -> tuple[Any, npt.NDArray[np.bool_]]:
        """Return scores of a block, and which rows the evidence leaves open, where ``inputs`` are
        not read.
        """


@dataclass(frozen=True)
class CountState:
    """Of the count: issue counts, histogram of the scores, blocks left unresolved, objects written,
    bytes re-read, damaged blocks, examples whose label is the prediction, and those with a likely
    class that is another than theirs, so far from it that it is not the prediction either; blocks
    with rows that are undecided.
    """

    counts: IssueCounts
    histogram: Ints
    unresolved: tuple[int, ...] = ()
    objects: tuple[StoredObject, ...] = ()
    bytes_read: int = 0
    damaged: tuple[int, ...] = ()
    agreeing: int = 0
    off_diagonal: int = 0
    undecided: tuple[int, ...] = ()

    def __add__(self, other: CountState) -> CountState:
        return CountState(
            self.counts + other.counts,
            self.histogram + other.histogram,
            self.unresolved + other.unresolved,
            self.objects + other.objects,
            self.bytes_read + other.bytes_read,
            self.damaged + other.damaged,
            self.agreeing + other.agreeing,
            self.off_diagonal + other.off_diagonal,
            self.undecided + other.undecided,
        )


def count(blocks: Sequence[StoredBlock], data: IssueData, scoring: Scoring) -> CountState:
    """Count and score from the evidence, and rows kept beside it; a block that they cannot decide
    is named, to be completed.

    So is a block whose evidence is damaged, of which nothing is counted.
    """
    joint = dense_joint(data.num_classes) if scoring.joint else None

    def read(stored: StoredBlock) -> Mapping[str, Array] | None:
        return data.evidence.read_checked(stored.number, data.columns, stored.checksums)

    with closing(ahead(read, blocks)) as evidence, Behind[CountState]() as behind:
        for block, columns in zip(blocks, evidence, strict=True):
            behind.do(_count_block(block, columns, data, scoring, joint))
    state: CountState = reduce(add, behind.results)
    if joint is None:
        return state
    counts = replace(state.counts, joint=state.counts.joint + SparseCounts.of_dense(joint))
    return replace(state, counts=counts)


def _count_block(
    stored: StoredBlock,
    columns: Mapping[str, Array] | None,
    data: IssueData,
    scoring: Scoring,
    joint: Ints | None,
) -> Callable[[], CountState]:
    """Count a block; return what is still to be done, which writes and returns the state."""
    block = stored.number
    nothing = np.zeros((1, 1 << 16), np.int64)
    if columns is None:
        counts = IssueCounts.zero(data.num_classes)
        return partial(CountState, counts, nothing, damaged=(block,))
    likely = _room_for_likely(columns, data, scoring)
    counts, open_rows = count_issues(
        columns, scoring.thresholds, scoring.joint, into=joint, likely=likely
    )
    scores, open_scores = _scores(stored, columns, scoring, None, None)
    undecided = np.zeros_like(open_rows)
    if open_rows.any() or open_scores.any():
        kept = kept_rows(data.evidence, OPEN_ROWS, stored, data.row)
        if kept is None or not kept.cover(open_rows) or open_scores.any():
            return partial(CountState, counts, nothing, (block,))
        known = columns["given"], scoring.thresholds, kept, likely, undecided
        counts = replace(counts, joint=counts.joint + resolve_joint(open_rows, *known))
    return partial(_scored, block, counts, scores, likely, undecided, columns, data, scoring)


def _room_for_likely(
    columns: Mapping[str, Array], data: IssueData, scoring: Scoring
) -> npt.NDArray[Any] | None:
    """Return room for the likely classes of a block; none where the joint is not made."""
    if scoring.joint:
        return np.empty(len(columns["given"]), likely_dtype(data.num_classes))
    return None


def resolve(
    blocks: Sequence[StoredBlock], inputs: Mapping[str, TaskRows], data: IssueData, scoring: Scoring
) -> CountState:
    """Return what :func:`count` left open of the blocks that it named, from their rows, of which
    some are kept for the next run.
    """
    return reduce(add, (_resolve_block(block, inputs, data, scoring) for block in blocks))


def _resolve_block(
    stored: StoredBlock, inputs: Mapping[str, TaskRows], data: IssueData, scoring: Scoring
) -> CountState:
    probs = inputs["pred_probs"]
    columns = evidence_of(stored, data.columns, data)
    rows, whole = read_again(stored, columns, probs, data)
    counts = IssueCounts.zero(data.num_classes)
    likely = _room_for_likely(columns, data, scoring)
    undecided = np.zeros(len(columns["given"]), bool)
    if scoring.joint:
        _, open_rows = count_issues(
            columns, scoring.thresholds, into=dense_joint(data.num_classes), likely=likely
        )
        known = columns["given"], scoring.thresholds, rows, likely, undecided
        counts = replace(counts, joint=resolve_joint(open_rows, *known))
        if whole:
            near = nearly_unresolved(columns, scoring.thresholds, MARGIN)
            keep_rows(data.evidence, OPEN_ROWS, stored, KeptRows.of(near, rows))
    whole_rows = rows if data.top is None else None  # no score of others needs any
    scores, _ = _scores(stored, columns, scoring, whole_rows, inputs)
    state = _scored(stored.number, counts, scores, likely, undecided, columns, data, scoring)
    return replace(state, bytes_read=probs.take_bytes_read())


def read_again(
    stored: StoredBlock, columns: Mapping[str, Array], probs: TaskRows, data: IssueData
) -> tuple[npt.NDArray[Any], bool]:
    """Read a block whose evidence leaves rows open; return also whether all of it could be read.

    Rows that the scan left out may be left out again; others must be there.
    """
    start, stop = data.grid.bounds(stored.number)
    rows, unread = probs.read_or_skip(start, stop, data.skip_unreadable)
    for low, high in unread:
        given = columns["given"][low - start : high - start]
        if (given != data.num_classes).any():  # the scan could read them
            rows[low - start : high - start] = probs.read(low, high)
    return rows, not unread


def _scores(
    stored: StoredBlock,
    columns: Mapping[str, Array],
    scoring: Scoring,
    rows: npt.NDArray[np.floating] | None,
    inputs: Mapping[str, TaskRows] | None,
) -> tuple[Any, npt.NDArray[np.bool_]]:
    """Score the labels of a block; return also which rows are unresolved."""
    chosen = scoring.quality_score, scoring.adjust_pred_probs
    if scoring.ensemble is not None:
        return scoring.ensemble.scores(stored, *chosen, inputs)
    return label_quality(columns, scoring.thresholds, *chosen, rows)


def _scored(
    block: int,
    counts: IssueCounts,
    scores: npt.NDArray[np.floating],
    likely: npt.NDArray[Any] | None,
    undecided: npt.NDArray[np.bool_],
    columns: Mapping[str, Array],
    data: IssueData,
    scoring: Scoring,
) -> CountState:
    """Keep a block's scores and given labels, and its likely classes where they are asked for."""
    open_still: tuple[int, ...] = ()
    if scoring.undecided is not None and undecided.any():
        scoring.undecided.write(block, undecided)
        open_still = (block,)
    given = columns["given"]
    pairs = [(scoring.scores, scores), (scoring.given, given)]
    written = tuple(at_once(lambda pair: pair[0].write_recorded(block, pair[1]), pairs))
    off_diagonal = 0
    if likely is not None:
        if scoring.likely is not None:
            scoring.likely.write(block, likely)
        others = np.flatnonzero((likely != given) & (likely < data.num_classes))
        few = {name: columns[name][others] for name in ("given", "top1", "p_given", "p_top1")}
        off_diagonal = int(np.count_nonzero(~agrees(few, data.dtype)))
    keys = histogram(sort_keys(scores), [whole_range(scores.itemsize)])
    agreeing = int(np.count_nonzero(given == columns["top1"]))
    return CountState(
        counts,
        keys,
        objects=written,
        agreeing=agreeing,
        off_diagonal=off_diagonal,
        undecided=open_still,
    )


def evidence_of(stored: StoredBlock, names: Iterable[str], data: IssueData) -> dict[str, Array]:
    """Return columns of a block that was whole a moment ago."""
    columns = data.evidence.read_checked(stored.number, names, stored.checksums)
    if columns is None:
        raise evidence_changed(stored.number, data)
    return columns


def evidence_changed(block: int, data: IssueData) -> JobError:
    """Return the error for evidence that was whole a moment ago: a driver that slept through its
    lease may have written on.
    """
    start, stop = data.grid.bounds(block)
    return JobError(
        f"the evidence of rows {start:,} to {stop - 1:,} was overwritten while it was used; run "
        "the job again"
    )


def refused(blocks: Sequence[StoredBlock], data: IssueData) -> Ints:
    """Return positions of rows that the scan refused, ascending."""
    positions = []
    for stored in blocks:
        given = evidence_of(stored, ("given",), data)["given"]
        positions.append(
            np.flatnonzero(given == data.num_classes) + data.grid.bounds(stored.number)[0]
        )
    return np.concatenate(positions)
