"""Rows that the evidence leaves open for the pairs of ``prune_by_noise_rate``: from what was kept
of them, or from the blocks that hold them, which are read again.

What a task does; storage is handed in, Dask is not known here.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import reduce
from operator import add
from typing import Any

import numpy as np
import numpy.typing as npt

from noisydask.core.group_cuts import GroupCuts
from noisydask.core.kept_rows import KeptRows
from noisydask.core.label_quality import agrees
from noisydask.core.pair_margins import PairLimits, bound_of_margins
from noisydask.core.ranking import Ints
from noisydask.issues.evidence import PAIR_ROWS, StoredBlock, keep_rows, kept_rows
from noisydask.issues.grouped import ByPair, write_margins
from noisydask.issues.passes import evidence_of, read_again
from noisydask.issues.undecided import UndecidedRows
from noisydask.stores.task_rows import TaskRows


@dataclass(frozen=True)
class Bounds:
    """How many rows are open, and the largest margin that a row of each class may have for a class
    that the evidence does not name: (K,).
    """

    num_open: int
    highest: npt.NDArray[np.floating]

    def __add__(self, other: Bounds) -> Bounds:
        highest = np.maximum(self.highest, other.highest)
        return Bounds(self.num_open + other.num_open, highest)


def bounds(blocks: Sequence[StoredBlock], rows: ByPair, limits: PairLimits) -> Bounds:
    """Bound the margins of all rows."""
    highest = np.full(len(limits.least) + 1, -np.inf, limits.least.dtype)
    num_open = 0
    for stored in blocks:
        columns = evidence_of(stored, rows.data.columns, rows.data)
        np.maximum.at(
            highest, columns["given"].astype(np.int64), bound_of_margins(columns, len(limits.least))
        )
        num_open += int(np.count_nonzero(limits.open_rows(columns)))
    return Bounds(num_open, highest)


def doubted(
    blocks: Sequence[StoredBlock],
    rows: ByPair,
    cuts: GroupCuts,
    limits: PairLimits,
    highest: npt.NDArray[np.floating],
) -> Ints:
    """Count in each class the rows that may be flagged or not, as open rows may come before them:
    (K,). Where there are none, all that is open changes nothing.
    """
    counts = np.zeros(len(limits.least), np.int64)
    for stored in blocks:
        columns = evidence_of(stored, rows.data.columns, rows.data)
        margins, keys = rows.margins(stored, cuts.levels)
        taken = cuts.taken(margins.groups, *keys)
        certain = taken & (margins.margins > highest[columns["given"][margins.rows]])
        doubt = limits.open_rows(columns)
        doubt[margins.rows[taken]] = True
        doubt[margins.rows[certain]] = False
        doubt &= ~agrees(columns, rows.data.dtype)
        counts += np.bincount(columns["given"][doubt], minlength=len(counts))
    return counts


@dataclass(frozen=True)
class OpenedPairs:
    """Blocks of which margins of open rows are written now, blocks that must be read for those that
    they hold, bytes read, and blocks of which it is kept which rows are undecided.
    """

    opened: tuple[int, ...] = ()
    unread: tuple[int, ...] = ()
    bytes_read: int = 0
    undecided: tuple[int, ...] = ()

    def __add__(self, other: OpenedPairs) -> OpenedPairs:
        return OpenedPairs(
            self.opened + other.opened,
            self.unread + other.unread,
            self.bytes_read + other.bytes_read,
            self.undecided + other.undecided,
        )


def look(blocks: Sequence[StoredBlock], rows: ByPair, limits: PairLimits) -> OpenedPairs:
    """Find the blocks that hold open rows; write the margins of those rows that were kept."""
    return reduce(add, (_look(block, rows, limits) for block in blocks))


def _look(stored: StoredBlock, rows: ByPair, limits: PairLimits) -> OpenedPairs:
    data = rows.data
    columns = evidence_of(stored, data.columns, data)
    wanted = limits.open_rows(columns)
    if not wanted.any():
        return OpenedPairs()
    kept = kept_rows(data.evidence, PAIR_ROWS, stored, data.row)
    if kept is None:
        return OpenedPairs(unread=(stored.number,))
    known = kept.among(wanted)
    undecided = _write(stored.number, known, columns, rows, limits, kept)
    unread = (stored.number,) if known.sum() < wanted.sum() else ()
    return OpenedPairs((stored.number,), unread, undecided=undecided)


def _write(
    block: int,
    wanted: npt.NDArray[np.bool_],
    columns: Mapping[str, npt.NDArray[np.generic]],
    rows: ByPair,
    limits: PairLimits,
    known: Any,
) -> tuple[int, ...]:
    """Write the margins of some rows of a block, which are known, and which are undecided; return
    the block where that may be so.
    """
    write_margins(rows.run, block, limits.margins_of(wanted, columns, rows.pairs, known))
    if rows.data.top is None:
        return ()
    undecided = limits.undecided(wanted, columns, rows.pairs, known)
    UndecidedRows(rows.run, "pairs").write(block, undecided)
    return (block,)


def read(
    blocks: Sequence[StoredBlock],
    inputs: Mapping[str, TaskRows],
    rows: ByPair,
    limits: PairLimits,
    every: PairLimits,
) -> OpenedPairs:
    """Read blocks that hold open rows, write their margins; keep the rows that are open by the
    limits of ``every`` class.
    """
    probs = inputs["pred_probs"]
    return reduce(add, (_read(block, probs, rows, (limits, every)) for block in blocks))


def _read(
    stored: StoredBlock, probs: TaskRows, rows: ByPair, both: tuple[PairLimits, PairLimits]
) -> OpenedPairs:
    limits, every = both
    data = rows.data
    columns = evidence_of(stored, data.columns, data)
    pred_probs, whole = read_again(stored, columns, probs, data)
    wanted = limits.open_rows(columns)
    undecided = _write(stored.number, wanted, columns, rows, limits, pred_probs)
    if whole:
        near = every.lower.open_rows(columns)
        keep_rows(data.evidence, PAIR_ROWS, stored, KeptRows.all_of(near, pred_probs))
    return OpenedPairs((stored.number,), (), probs.take_bytes_read(), undecided)


def trim(blocks: Sequence[StoredBlock], rows: ByPair, limits: PairLimits) -> OpenedPairs:
    """Keep of the rows of blocks only those that may be open in the next run."""
    return reduce(add, (_trim(block, rows, limits) for block in blocks))


def _trim(stored: StoredBlock, rows: ByPair, limits: PairLimits) -> OpenedPairs:
    data = rows.data
    kept = kept_rows(data.evidence, PAIR_ROWS, stored, data.row)
    if kept is not None:
        columns = evidence_of(stored, data.columns, data)
        near = limits.lower.open_rows(columns)
        keep_rows(data.evidence, PAIR_ROWS, stored, kept.only(near))
    return OpenedPairs()
