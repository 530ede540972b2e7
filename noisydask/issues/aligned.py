"""The scan of several models: blocks of the same rows are read together, each model's only where no
receipt stands for it.

What a task does; storage is handed in, Dask is not known here.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import reduce
from operator import add
from typing import Any, cast

import numpy as np
import numpy.typing as npt

from noisydask.checkpoint.receipts import Receipt
from noisydask.core.evidence import Evidence, scan_rows
from noisydask.core.mean_rows import mean_rows
from noisydask.core.model_weights import log_loss_total
from noisydask.core.problems import Problems
from noisydask.core.row_kernel import Problem
from noisydask.core.thresholds import ClassTotals
from noisydask.core.union import (
    at_classes,
    extra_slots,
    largest_classes,
    union_slots,
)
from noisydask.issues.block_scan import refuse_lost_part, without
from noisydask.issues.blocks import LabeledSource
from noisydask.issues.model_evidence import ModelPayload, ModelState
from noisydask.issues.passes import IssueData
from noisydask.issues.scanning import Known, layout_of
from noisydask.stores.fingerprints import digest
from noisydask.stores.task_rows import TaskRows

Array = npt.NDArray[Any]


def model_name(number: int) -> str:
    """Return what a model's rows are called."""
    return f"pred_probs[{number}]"


@dataclass(frozen=True)
class AlignedSource:
    """What the client knows of a block before it is read: of each model."""

    number: int
    models: tuple[LabeledSource, ...]


@dataclass(frozen=True)
class AlignedState:
    """Of the scan: the state of each model, and blocks of models read and why."""

    models: tuple[ModelState, ...]
    why: Counter[str]

    def __add__(self, other: AlignedState) -> AlignedState:
        models = tuple(map(add, self.models, other.models))
        return AlignedState(models, self.why + other.why)


@dataclass
class _Block:
    """A block of one model while it is scanned; ``rows`` where they are read."""

    source: LabeledSource
    known: Known
    data: IssueData
    rows: Array | None = None
    evidence: Evidence | None = field(default=None, repr=False)
    bytes_read: int = 0

    @property
    def stands(self) -> bool:
        """Whether the receipt counts."""
        return self.known.receipt is not None and self.known.refusal is None

    def stored(self, names: Sequence[str]) -> Mapping[str, Array] | None:
        """Read columns that the receipt vouches for; None where they are damaged."""
        assert self.known.receipt is not None
        number = self.source.number
        return self.data.evidence.read_checked(number, names, self.known.receipt.checksums)


def scan_models(
    blocks: Sequence[AlignedSource], inputs: Mapping[str, TaskRows], models: Sequence[IssueData]
) -> AlignedState:
    """Scan blocks, of each model those that changed."""
    return reduce(add, (_scan_block(block, inputs, models) for block in blocks))


def _scan_block(
    block: AlignedSource, inputs: Mapping[str, TaskRows], models: Sequence[IssueData]
) -> AlignedState:
    parts = []
    for number, (source, data) in enumerate(zip(block.models, models, strict=True)):
        one = {"labels": inputs["labels"], "pred_probs": inputs[model_name(number)]}
        parts.append(_Block(source, Known.of(source, one, data), data))
    if not all(part.stands for part in parts):
        for number, part in enumerate(parts):
            # Of a model that is not read, the classes that matter must be known.
            if not part.stands or part.stored(("top1", "top2", "slots")) is None:
                _read(part, inputs[model_name(number)])
        _keep_union(parts, inputs["labels"])
    why = Counter(
        str(part.known.refusal or part.source.why) for part in parts if part.rows is not None
    )
    states = []
    for part in parts:
        assert part.known.receipt is not None
        receipt = part.known.receipt
        problems = receipt.payload.problems.among(cast(Any, part.known.labels))
        unread = part.evidence is not None and bool(
            (part.evidence.problems == Problem.UNREADABLE).any()
        )
        identity = None if unread else part.source.fingerprint
        found = ModelState.of(
            block.number, receipt, problems, part.data.num_classes, part.bytes_read, identity
        )
        states.append(found)
    return AlignedState(tuple(states), why)


def _read(part: _Block, probs: TaskRows) -> None:
    """Read the rows of a block and take their evidence."""
    data = part.data
    start, stop = data.grid.bounds(part.source.number)
    rows, more = probs.read_or_skip(start, stop, data.skip_unreadable)
    unread = (*part.known.unread, *more)
    labels = without(part.known.labels, unread, start)
    evidence = Evidence.empty(stop - start, data.num_classes, data.dtype, data.columns)
    scan_rows(rows, labels, into=evidence)
    for low, high in unread:
        evidence.problems[low - start : high - start] = Problem.UNREADABLE
    for low, high, key in part.source.partly:
        problems = evidence.problems[low - start : high - start]
        refuse_lost_part(problems, f"chunk {key}, rows {low:,} to {high - 1:,}", probs, data)
    part.rows, part.evidence = rows, evidence
    part.bytes_read = probs.take_bytes_read()
    if data.notify:
        size = (stop - start) * data.num_classes * data.dtype.itemsize
        data.notify(stop - start, part.bytes_read or size)


def _keep_union(parts: Sequence[_Block], labels: TaskRows) -> None:
    """Write evidence and union of the models whose rows were read, and their receipts."""
    tops = np.stack([column for part in parts for column in _tops(part)], axis=1).astype(np.int64)
    num_classes = parts[0].data.num_classes
    read = [part.rows for part in parts if part.rows is not None]
    together = ""
    ceiling = np.full(len(tops), np.inf)
    if len(read) == len(parts):
        # Invalid rows may hold anything; no mean is asked for of them.
        mean = mean_rows([np.nan_to_num(rows) for rows in read], np.full(len(read), 1 / len(read)))
        slots = union_slots(tops, largest_classes(mean), num_classes)
        ceiling = at_classes(mean, slots).outside
        together = together_of([part.source.fingerprint for part in parts])
    else:
        other = next(part for part in parts if part.rows is None).stored(("slots",))
        assert other is not None
        extra = extra_slots(other["slots"].astype(np.int64), num_classes)
        slots = union_slots(tops, extra, num_classes)
    for part in parts:
        if part.rows is not None and part.evidence is not None:
            union = at_classes(part.rows, slots).columns | {"ceiling": ceiling}
            part.known = replace(part.known, receipt=_receipt(part, union, together, labels))


def _tops(part: _Block) -> tuple[Array, Array]:
    if part.evidence is not None:
        columns: Mapping[str, Any] = part.evidence.columns
    else:
        columns = part.stored(("top1", "top2")) or {}
    return columns["top1"], columns["top2"]


def together_of(sources: Sequence[str | None]) -> str:
    """Return the fingerprint of blocks of all models that are read in one step. Where a source has
    none, nothing of it is kept for another run.
    """
    return digest([str(source) for source in sources])


def _receipt(
    part: _Block, union: Mapping[str, Array], together: str, labels: TaskRows
) -> Receipt[ModelPayload]:
    """Write what is kept of a block that was read, and its receipt."""
    data = part.data
    evidence = part.evidence
    assert evidence is not None
    start, stop = data.grid.bounds(part.source.number)
    columns = evidence.columns | dict(union)
    checksums = data.evidence.write(part.source.number, columns)
    problems = Problems.of(evidence.problems, start).among(cast(Any, part.known.labels))
    layout = layout_of(labels)
    totals = ClassTotals.of(evidence.counts, evidence.fixed)
    given: Any = evidence.columns["given"]
    payload = ModelPayload.of(
        totals,
        problems,
        part.source.unstored_labels,
        layout,
        agreeing=int(np.count_nonzero(given == evidence.columns["top1"])),
        log_loss=log_loss_total(part.rows, given) if part.rows is not None else 0,
        together=together,
    )
    unread = bool((evidence.problems == Problem.UNREADABLE).any())
    receipt = Receipt[ModelPayload](
        source=part.source.fingerprint or "",
        labels=part.known.content,
        rows=stop - start,
        checksums=checksums,
        payload=payload,
    )
    if part.source.fingerprint is not None and not unread:
        data.evidence.vouch(part.source.number, receipt)
    return receipt
