"""Rows of blocks become evidence, piece by piece: while one piece is worked on, the next is read.

A piece is read, decoded and worked on by one thread, so that its rows are still in the cache. Where
two pieces are in flight, one usually waits for the store, or for the other to leave the core.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt

from noisydask.core.evidence import Evidence, scan_rows
from noisydask.core.row_kernel import Problem
from noisydask.core.thresholds import ClassTotals
from noisydask.core.top_rows import scan_top_rows
from noisydask.errors import JobError, Setting
from noisydask.issues.blocks import LabeledSource
from noisydask.issues.passes import IssueData
from noisydask.stores.rows import Ranges, Rows, reads
from noisydask.stores.task_rows import TaskRows
from noisydask.stores.threads import ahead

Array = npt.NDArray[np.generic]


@dataclass
class ScannedBlock:
    """A block whose rows are worked on.

    Attributes
    ----------
    source : LabeledSource
        The block.
    labels : ndarray
        Its labels; those of rows that cannot be read are impossible.
    evidence : Evidence
        The evidence of its rows.
    totals : ClassTotals
        Of its valid rows.
    unread : tuple of (int, int)
        Rows that cannot be read.
    bytes_read : int
        Stored bytes read meanwhile.
    """

    source: LabeledSource
    bounds: tuple[int, int]
    labels: Array
    evidence: Evidence
    totals: ClassTotals
    unread: Ranges
    bytes_read: int = 0

    @classmethod
    def begin(
        cls, source: LabeledSource, labels: Array, unread: Ranges, data: IssueData
    ) -> ScannedBlock:
        """Make room for the evidence of a block."""
        start, stop = data.grid.bounds(source.number)
        evidence = Evidence.empty(stop - start, data.num_classes, data.dtype, data.columns)
        totals = ClassTotals.zero(data.num_classes)
        marked = without(labels, unread, start)
        return cls(source, (start, stop), marked, evidence, totals, unread)

    def finish(self, probs: TaskRows, data: IssueData) -> None:
        """Mark rows that could not be read, and tell that the block is done."""
        start, stop = self.bounds
        for low, high in self.unread:
            self.evidence.problems[low - start : high - start] = Problem.UNREADABLE
        for low, high, key in self.source.partly:
            problems = self.evidence.problems[low - start : high - start]
            refuse_lost_part(problems, f"chunk {key}, rows {low:,} to {high - 1:,}", probs, data)
        if isinstance(probs, Rows):
            probs.forget(start, stop)
        self.bytes_read = probs.take_bytes_read()
        if data.notify:
            data.notify(stop - start, self.bytes_read or (stop - start) * data.row.itemsize)


_Piece = tuple[ScannedBlock, int, int]


def scan_blocks(
    blocks: Iterable[ScannedBlock], probs: TaskRows, data: IssueData
) -> Iterator[ScannedBlock]:
    """Iterate over blocks when their rows were worked on, in order."""
    pieces = ((block, low, high) for block in blocks for low, high in reads(probs, *block.bounds))
    scan = partial(_scan_piece, probs=probs, skip=data.skip_unreadable)
    with closing(ahead(scan, pieces, probs.pieces_at_once)) as done:
        _compile(probs, data)
        for (block, _, high), totals, unread in done:
            block.totals += totals
            block.unread += unread
            if high == block.bounds[1]:
                block.finish(probs, data)
                yield block


def _compile(probs: TaskRows, data: IssueData) -> None:
    """Have the kernel compiled, or loaded, while the first rows are fetched."""
    nothing = Evidence.empty(0, data.num_classes, data.dtype, data.columns)
    _take(np.empty((0, *probs.shape[1:]), probs.dtype), np.empty(0, np.int64), nothing)


def _scan_piece(piece: _Piece, probs: TaskRows, skip: bool) -> tuple[_Piece, ClassTotals, Ranges]:
    """Read rows and take their evidence; return their totals, and which cannot be read."""
    block, low, high = piece
    rows, unread = probs.read_or_skip(low, high, skip)
    here = low - block.bounds[0], high - block.bounds[0]
    part = _take(rows, block.labels[slice(*here)], block.evidence.part(*here))
    return piece, ClassTotals.of(part.counts, part.fixed), unread


def _take(rows: npt.NDArray[Any], labels: Array, into: Evidence) -> Evidence:
    """Fill in evidence of rows, whole ones or such of which the most probable classes are known."""
    if rows.dtype.names:
        return scan_top_rows(rows, labels, into)
    return scan_rows(rows, labels, into=into)


def refuse_lost_part(
    problems: npt.NDArray[np.uint8], where: str, probs: TaskRows, data: IssueData
) -> None:
    """Blame what is wrong with rows on a chunk of them that is not stored, and so was not all 0."""
    if problems.any() and not data.skip_unreadable:
        raise JobError(
            f"pred_probs at {probs.url}: {where} cannot be read: it is not stored, and "
            "without it"
            f" {np.count_nonzero(problems):,} of the rows are invalid. Write it again, or leave "
            "these out",
            Setting("on_unreadable", "skip"),
        )
    problems[problems > 0] = Problem.UNREADABLE


def without(labels: Array, unread: Iterable[tuple[int, int]], start: int) -> Array:
    """Return labels with those of unreadable rows made impossible, so that the scan refuses the
    rows.
    """
    if not unread:
        return labels
    marked = labels.astype(np.int64)
    for low, high in unread:
        marked[low - start : high - start] = -1
    return marked
