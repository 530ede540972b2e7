"""The scan: the pass that reads ``pred_probs``, each block once, and only where no receipt stands
for the block.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial, reduce
from operator import add
from typing import Any, cast

import numpy as np
import numpy.typing as npt

from noisydask.checkpoint.receipts import Receipt, Why
from noisydask.core.problems import Problems
from noisydask.core.thresholds import ClassTotals
from noisydask.errors import JobError, Setting
from noisydask.issues.block_scan import ScannedBlock, scan_blocks
from noisydask.issues.blocks import LabeledSource
from noisydask.issues.evidence import BlockPayload, StoredBlock, refusal
from noisydask.issues.passes import IssueData
from noisydask.stores.fingerprints import digest, of_labels
from noisydask.stores.rows import Rows
from noisydask.stores.task_rows import TaskRows
from noisydask.stores.threads import Behind

Array = npt.NDArray[np.generic]
Ints = npt.NDArray[np.integer]


@dataclass(frozen=True)
class ScanState:
    """Of the scan: class totals, refused rows, stored bytes of ``pred_probs`` read, blocks read and
    why, what is stored.
    """

    totals: ClassTotals
    problems: Problems
    bytes_read: int
    why: Counter[str]
    stored: tuple[StoredBlock, ...] = ()

    def __add__(self, other: ScanState) -> ScanState:
        return ScanState(
            self.totals + other.totals,
            self.problems + other.problems,
            self.bytes_read + other.bytes_read,
            self.why + other.why,
            self.stored + other.stored,
        )


def check(
    blocks: Sequence[LabeledSource], inputs: Mapping[str, TaskRows], data: IssueData
) -> ScanState:
    """Return what the receipts of blocks tell, where they count. Cheap, so that a task takes many.

    The other blocks are left out; where ``pred_probs`` are among the inputs, the first of them is
    read here: often it is the only one.
    """
    at_once = "pred_probs" in inputs
    none = Problems.of(np.zeros(0, np.uint8), 0)
    states = [ScanState(ClassTotals.zero(data.num_classes), none, 0, Counter())]
    for source in blocks:
        known = Known.of(source, inputs, data)
        if known.receipt is not None and known.refusal is None:
            states.append(_reused(source.number, known.receipt, known.labels, data))
        elif at_once:
            states.append(_scan([source], [known], inputs, data))
            at_once = False
    return reduce(add, states)


@dataclass(frozen=True)
class Known:
    """A block's labels and their fingerprint, its rows that are not to be had, its receipt and why
    that does not stand.
    """

    labels: Array
    content: str
    unread: tuple[tuple[int, int], ...]
    receipt: Receipt[Any] | None
    refusal: Why | None

    @classmethod
    def of(cls, source: LabeledSource, inputs: Mapping[str, TaskRows], data: IssueData) -> Known:
        """Read the labels of a block, and its receipt."""
        start, stop = data.grid.bounds(source.number)
        labels, unread = inputs["labels"].read_or_skip(start, stop, data.skip_unreadable)
        unread = source.missing + unread
        if source.fingerprint is not None:
            content = of_labels(labels)
        else:
            content = ""
        if source.receipt:
            receipt = data.evidence.recall(source.number)
        else:
            receipt = None
        if receipt is not None and receipt.labels != content:
            unread += lost_labels(source, receipt, inputs["labels"], data)
        why: Why | None = source.why
        if receipt is not None and source.fingerprint is not None:
            why = refusal(receipt, source.fingerprint, content, stop - start, data.columns)
            why = why or (Why.SOURCE if unread else None)
        return cls(labels, content, unread, receipt, why)


def scan(
    blocks: Sequence[LabeledSource], inputs: Mapping[str, TaskRows], data: IssueData
) -> ScanState:
    """Read each block once, keep its evidence."""
    probs = inputs["pred_probs"]

    def known() -> Iterator[Known]:
        for block in blocks:
            if isinstance(probs, Rows):
                probs.foresee(*data.grid.bounds(block.number))
            yield Known.of(block, inputs, data)

    return _scan(blocks, known(), inputs, data)


def _scan(
    blocks: Sequence[LabeledSource],
    known: Iterable[Known],
    inputs: Mapping[str, TaskRows],
    data: IssueData,
) -> ScanState:
    """Scan blocks; while one is worked on, the evidence of the one before is written."""
    layout = layout_of(inputs["labels"])
    about: dict[int, Known] = {}

    def begun() -> Iterator[ScannedBlock]:
        for block, each in zip(blocks, known, strict=True):
            about[block.number] = each
            yield ScannedBlock.begin(block, each.labels, each.unread, data)

    with Behind[ScanState]() as behind:
        for block in scan_blocks(begun(), inputs["pred_probs"], data):
            behind.do(partial(_keep, block, about.pop(block.source.number), layout, data))
    return reduce(add, behind.results)


def _keep(scanned: ScannedBlock, known: Known, layout: str, data: IssueData) -> ScanState:
    """Write the evidence of a block, then its receipt."""
    source = scanned.source
    start, stop = scanned.bounds
    why = known.refusal or source.why
    problems = Problems.of(scanned.evidence.problems, start).among(cast(Ints, known.labels))
    checksums = data.evidence.write(source.number, scanned.evidence.columns)
    fingerprint = None if problems.unreadable else source.fingerprint
    if fingerprint is not None:
        if (
            why == Why.COLUMNS and known.receipt is not None
        ):  # the same rows: what else is known of them stays true
            checksums = {**known.receipt.checksums, **checksums}
        receipt = Receipt[BlockPayload](
            source=fingerprint,
            labels=known.content,
            rows=stop - start,
            checksums=checksums,
            payload=BlockPayload.of(scanned.totals, problems, source.unstored_labels, layout),
        )
        data.evidence.vouch(source.number, receipt)
    stored = StoredBlock(
        source.number,
        {name: checksums[name] for name in data.columns},
        problems.total,
        fingerprint,
    )
    return ScanState(scanned.totals, problems, scanned.bytes_read, Counter([why]), (stored,))


def _reused(
    block: int, receipt: Receipt[BlockPayload], labels: Array, data: IssueData
) -> ScanState:
    problems = receipt.payload.problems.among(cast(Ints, labels))
    kept = StoredBlock(
        block,
        {name: receipt.checksums[name] for name in data.columns},
        problems.total,
        receipt.source,
    )
    return ScanState(receipt.payload.totals(data.num_classes), problems, 0, Counter(), (kept,))


def lost_labels(
    source: LabeledSource, old: Receipt[BlockPayload], labels: TaskRows, data: IssueData
) -> tuple[tuple[int, int], ...]:
    """Return rows whose labels were stored when the receipt was written, and are not any more;
    raise unless they are left out.

    Labels that were stored in another way then tell nothing: what is not stored now may never have
    been.
    """
    if old.payload.labels_layout != layout_of(labels):
        return ()
    end = data.grid.bounds(source.number)[0] + old.rows
    lost = tuple(
        (low, high)
        for low, high in source.unstored_labels
        if low < end and not _within(low, old.payload.unstored_labels)
    )
    if data.skip_unreadable or not lost:
        return lost
    low, high = lost[0]
    raise JobError(
        f"{labels.url}: the chunk of rows {low:,} to {high - 1:,} was stored "
        "at the last run and is gone;"
        " if these labels are the fill value now, run once again, whole",
        Setting("full", True),
    )


def _within(row: int, ranges: Iterable[tuple[int, int]]) -> bool:
    return any(low <= row < high for low, high in ranges)


def layout_of(labels: TaskRows) -> str:
    """Return how labels are stored, if they are."""
    if isinstance(labels, Rows):
        return digest(labels.layout)
    return ""
