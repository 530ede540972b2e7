"""The passes of the loss dynamics over dense losses, block by block: what a task does, and states
that add up.

As in :mod:`noisydask.issues.passes`, storage is handed in and Dask is not known here. A block is
read whole where its chunks allow it; where chunks split the iterations and whole rows would be too
much, it is read piece by piece of its iterations.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import reduce
from operator import add
from typing import Any, cast

import numpy as np
import numpy.typing as npt

from noisydask.checkpoint.receipts import Receipt
from noisydask.core.curve_sums import CurveSums
from noisydask.core.dynamics import LARGEST_LOSS, ExampleStates, advance, label_codes
from noisydask.core.problems import Problems
from noisydask.core.ranking import Ints, histogram, sort_keys, whole_range
from noisydask.dynamics.block_sums import BlockSums
from noisydask.dynamics.dense_data import LossData, Top
from noisydask.dynamics.dense_state import Known, LossCheckpoint, LossPayload
from noisydask.dynamics.dense_tiles import cut_span, spans, tiles
from noisydask.dynamics.loss_blocks import LossSource
from noisydask.stores.chunks import StoredObject
from noisydask.stores.fingerprints import of_labels
from noisydask.stores.task_rows import TaskRows

Array = npt.NDArray[Any]
Floats = npt.NDArray[np.float64]

#: Labels for each row of a block at most, for its sums to be kept for the next run: with more, they
#: outgrow its losses.
_MOST_LABELS = 0.25


@dataclass(frozen=True)
class LossScan:
    """Of the scan: sums by label and iteration, refused rows, what the ranking begins with,
    objects, stored bytes read; invalid losses left out, blocks read and why, and the most
    iterations that were read of one.
    """

    sums: CurveSums
    problems: Problems
    recorded: int
    histogram: Ints | None
    top: Top
    objects: tuple[StoredObject, ...]
    bytes_read: int
    invalid: int
    why: Counter[str]
    iterations: int

    def __add__(self, other: LossScan) -> LossScan:
        if self.histogram is None or other.histogram is None:
            both = None
        else:
            both = self.histogram + other.histogram
        return LossScan(
            self.sums + other.sums,
            self.problems + other.problems,
            self.recorded + other.recorded,
            both,
            self.top + other.top,
            self.objects + other.objects,
            self.bytes_read + other.bytes_read,
            self.invalid + other.invalid,
            self.why + other.why,
            max(self.iterations, other.iterations),
        )


def scan(blocks: Sequence[LossSource], inputs: Mapping[str, TaskRows], data: LossData) -> LossScan:
    """Read of each block what no receipt vouches for."""
    return reduce(add, (_scan_or_reuse(block, inputs, data) for block in blocks))


def _scan_or_reuse(source: LossSource, inputs: Mapping[str, TaskRows], data: LossData) -> LossScan:
    """Go on from what is known of a block; where that is all, read nothing."""
    start, stop = data.grid.bounds(source.number)
    if "labels" in inputs:
        labels = inputs["labels"].read(start, stop)
    else:
        labels = None
    lasting = source.fingerprint is not None
    if lasting and labels is not None:
        content = of_labels(labels)
    else:
        content = ""
    known = None
    why = source.why
    if data.states is not None and lasting:
        known, why = data.states.recall(source, content, stop - start, data.shape[1])
        if known is not None and known.invalid and not data.skip:
            known = None  # of a run that left invalid losses out, which this one is to name
    if known is None or known.iterations < data.shape[1]:
        scanned = _scan_block(source.number, known, inputs["losses"], labels, data)
        if lasting and (data.skip or not scanned.found.problems.total):
            _vouch(source, content, scanned, data)
        return replace(scanned.found, why=Counter([why]))
    problems = np.zeros(stop - start, np.uint8)
    top = Top.none(data).with_rows(start, known.states).recalled(known)
    state = _summed(source.number, known.states, known.sums, problems, top, data)
    _told(source.number, 0, 0, data)
    return replace(state, invalid=known.invalid)


@dataclass(frozen=True)
class _Scanned:
    """What was found in a block, the checksums of its states where they were stored, and the number
    of invalid losses before those iterations after which states are kept.
    """

    found: LossScan
    checksums: dict[str, str]
    kept_invalid: int


def _scan_block(
    block: int, known: Known | None, losses: TaskRows, labels: Array | None, data: LossData
) -> _Scanned:
    """Read a block's iterations, all or those after what is known."""
    start, stop = data.grid.bounds(block)
    iterations = data.shape[1]
    values, codes = _codes(labels)
    if known:
        states = known.states
    else:
        states = ExampleStates.empty(stop - start, data.dtype)
    first = known.iterations if known else 0
    twice = 0 < data.keep < iterations and data.states
    kept = states.part(np.arange(stop - start)) if twice else None
    wanted = spans(first, iterations, data.width)
    cuts = [cut for span in wanted for cut in cut_span(span, data.keep)]
    sums = {cut: CurveSums.zero(values, cut[1] - cut[0]) for cut in cuts}
    invalid = np.zeros(iterations, np.int64)
    problems = np.zeros(stop - start, np.uint8)
    top = Top.none(data)
    for low, high, span, tile in tiles(start, stop, losses, wanted):
        rows = slice(low - start, high - start)
        part = states.part(rows)
        for cut in cut_span(span, data.keep):
            columns = tile[:, cut[0] - span[0] : cut[1] - span[0]]
            found_here = advance(
                part, columns, data.alpha, sums[cut], None if codes is None else codes[rows]
            )
            np.maximum(problems[rows], found_here, out=problems[rows])
            if found_here.any():
                invalid[slice(*cut)] += _count_invalid(columns)
            if kept is not None and cut[1] == data.keep:
                for name, column in part.columns().items():
                    kept.columns()[name][rows] = column
        if len(wanted) == 1:
            top = top.with_rows(low, part, tile)
    if len(wanted) > 1:
        top = top.with_rows(start, states)
    if known:
        top = top.recalled(known)
    checksums = _write_states(block, states, kept, data)
    before = known.sums if known else CurveSums.zero(values, 0)
    total = reduce(CurveSums.then, sums.values(), before)
    bytes_read = losses.take_bytes_read()
    _told(block, bytes_read, iterations - first, data)
    state = replace(
        _summed(block, states, total, problems, top, data),
        bytes_read=bytes_read,
        invalid=(known.invalid if known else 0) + int(invalid.sum()),
        iterations=iterations - first,
    )
    return _Scanned(state, checksums, state.invalid - int(invalid[data.keep :].sum()))


def _write_states(
    block: int, states: ExampleStates, kept: ExampleStates | None, data: LossData
) -> dict[str, str]:
    """Store a block's states, where they are kept; return the checksums of their columns."""
    if data.states is None:
        return {}
    if kept is None:
        checksums = {}
    else:
        checksums = data.states.write_states(block, kept, kept=True)
    return checksums | data.states.write_states(block, states)


def _count_invalid(losses: Array) -> Ints:
    """Number of invalid losses at each iteration."""
    return ((losses < 0) | (losses > np.float64(LARGEST_LOSS))).sum(axis=0)


def _vouch(source: LossSource, labels: str, scanned: _Scanned, data: LossData) -> None:
    """Write a block's receipt, unless its sums are larger than what they spare the next run."""
    states = cast(LossCheckpoint, data.states)
    state = scanned.found
    start, stop = data.grid.bounds(source.number)
    if len(state.sums.labels) > _MOST_LABELS * (stop - start):
        return
    top = state.top
    whole = top.since == 0
    payload = LossPayload(
        iterations=data.shape[1],
        kept=data.keep,
        kept_source=source.prefix(data.keep // states.width),
        invalid=state.invalid,
        kept_invalid=scanned.kept_invalid,
    )
    receipt = Receipt[LossPayload](
        source=cast(str, source.fingerprint),
        labels=labels,
        rows=stop - start,
        checksums=scanned.checksums,
        payload=payload,
    )
    sums = BlockSums(state.sums, top.index[whole], top.losses[whole])
    states.vouch(source.number, receipt, sums)


def _told(block: int, bytes_read: int, iterations: int, data: LossData) -> None:
    """Tell whoever shows progress that a block is done."""
    start, stop = data.grid.bounds(block)
    if data.notify:
        size = (stop - start) * iterations * data.dtype.itemsize
        data.notify(stop - start, bytes_read or size)


def _summed(
    block: int,
    states: ExampleStates,
    sums: CurveSums,
    problems: npt.NDArray[np.uint8],
    top: Top,
    data: LossData,
) -> LossScan:
    """Return what the ranking begins with, of a block of which nothing was read."""
    metric = states.metric
    (start, _) = data.grid.bounds(block)
    written = data.metric.write_recorded(block, metric)
    if data.few:
        keys = None
    else:
        keys = histogram(sort_keys(-metric), [whole_range(metric.itemsize)])
    return LossScan(
        sums,
        Problems.of(problems, start),
        int(np.count_nonzero(states.count)),
        keys,
        top,
        (written,),
        bytes_read=0,
        invalid=0,
        why=Counter(),
        iterations=0,
    )


def _codes(labels: Array | None) -> tuple[Ints, npt.NDArray[np.int32] | None]:
    """Return the block's distinct labels and which each row has; without labels all have one."""
    if labels is None:
        return np.zeros(1, np.int64), None
    return label_codes(labels)
