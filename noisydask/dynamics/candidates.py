"""What is asked of candidates once the mean curve is known: label, name, where they cross the
curve; as tables.

Tasks over blocks like those of :mod:`noisydask.dynamics.dense_passes`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
import numpy.typing as npt
import pandas as pd

from noisydask.core.dynamics import Crossings, ExampleStates
from noisydask.core.ranking import Ints, score_of, sort_keys
from noisydask.dynamics.dense_passes import LossData, spans, tiles
from noisydask.dynamics.dense_state import LossCheckpoint
from noisydask.dynamics.loss_blocks import LossSource
from noisydask.engine.parts import Parts
from noisydask.stores.fingerprints import digest
from noisydask.stores.frames import stacked

Array = npt.NDArray[Any]
Floats = npt.NDArray[np.float64]


def details(
    blocks: Sequence[int], labels: Array | None, ids: Array | None, data: LossData, index: Ints
) -> Table:
    """Label and name of the examples at ``index``, ascending, of blocks that hold some."""
    found = []
    for block in blocks:
        start, stop = data.grid.bounds(block)
        low, high = np.searchsorted(index, [start, stop])
        found.append(_details(block, index[low:high] - start, labels, ids, data))
    return Table(stacked(found))


def _details(
    block: int, rows: Ints, labels: Array | None, ids: Array | None, data: LossData
) -> pd.DataFrame:
    start, stop = data.grid.bounds(block)
    if ids is None and data.ids is not None and len(rows):
        ids = data.ids.read(start, stop)
    columns: dict[str, Array] = {
        "index": start + rows,
        "id": start + rows if ids is None else ids[rows],
    }
    if labels is None and data.labels is not None and len(rows):
        labels = data.labels.read(start, stop)
    if data.labelled:
        columns["label"] = labels[rows].astype(np.int64) if labels is not None else rows
    return pd.DataFrame(columns)


def _crossings(
    start: int, stop: int, rows: Ints, losses: Array | None, data: LossData, mean: Floats
) -> Ints:
    """Position of the iteration at which each row's EMA first lies above the mean curve."""
    search = Crossings.of(len(rows), data.alpha, mean)
    if len(rows):
        for low, high, span, tile in tiles(
            start, stop, losses, data, spans(0, data.shape[1], data.width)
        ):
            here = slice(*np.searchsorted(rows, [low - start, high - start]))
            search.look(tile, rows[here] - (low - start), span[0], here)
    return search.found


def _kept_crossings(
    source: LossSource, rows: Ints, losses: Array | None, data: LossData, mean: Floats
) -> Ints:
    """As :func:`_crossings`, of losses that are not read where they and the curve are those of an
    earlier run.
    """
    start, stop = data.grid.bounds(source.number)
    if data.states is None or source.fingerprint is None or not len(rows):
        return _crossings(start, stop, rows, losses, data, mean)
    key = digest(source.fingerprint, mean.tobytes())
    found = data.states.kept_crossings(source.number, key, rows)
    if found is None:
        found = _crossings(start, stop, rows, losses, data, mean)
        data.states.keep_crossings(source.number, key, rows, found)
    return found


@dataclass(frozen=True)
class Table:
    """Rows of a table from several tasks."""

    rows: pd.DataFrame

    def __add__(self, other: Table) -> Table:
        return Table(stacked([self.rows, other.rows]))


@dataclass(frozen=True)
class ChosenRows:
    """Losses of some examples by position."""

    losses: Mapping[int, Array]
    bytes_read: int

    def __add__(self, other: ChosenRows) -> ChosenRows:
        return ChosenRows({**self.losses, **other.losses}, self.bytes_read + other.bytes_read)


def chosen_rows(
    blocks: Sequence[int], losses: Array | None, data: LossData, index: Ints, last: int
) -> ChosenRows:
    """Losses of the examples at ``index``, few and ascending, before iteration ``last``, of blocks
    that hold some.
    """
    found: dict[int, list[Array]] = {}
    for block in blocks:
        start, stop = data.grid.bounds(block)
        height = stop - start if data.losses is None else data.losses.chunk_rows
        here = index[slice(*np.searchsorted(index, [start, stop]))]
        for chunk in np.unique((here - start) // height).tolist():
            ends = start + chunk * height, min(start + (chunk + 1) * height, stop)
            for low, high, _, tile in tiles(*ends, losses, data, spans(0, last, data.width)):
                for row in index[slice(*np.searchsorted(index, [low, high]))]:
                    found.setdefault(int(row), []).append(tile[row - low].copy())
    again = data.losses.take_bytes_read() if data.losses is not None else 0
    return ChosenRows({row: np.concatenate(parts) for row, parts in found.items()}, again)


def select(
    blocks: Sequence[LossSource],
    losses: Array | None,
    labels: Array | None,
    ids: Array | None,
    data: LossData,
    mean: Floats,
    parts: Parts,
) -> pd.DataFrame:
    """The examples of the ranking's parts as a table; a column ``part`` says whose they are."""
    return stacked(
        [_select_block(block, losses, labels, ids, data, mean, parts) for block in blocks]
    )


def _select_block(
    source: LossSource,
    losses: Array | None,
    labels: Array | None,
    ids: Array | None,
    data: LossData,
    mean: Floats,
    parts: Parts,
) -> pd.DataFrame:
    block, (start, _) = source.number, data.grid.bounds(source.number)
    states = cast(LossCheckpoint, data.states).read_states(block)
    scores = -states.metric
    rows = np.flatnonzero(scores <= score_of(parts.last_key, scores.dtype))
    part = parts.assign(sort_keys(scores[rows]), lambda: start + rows)
    rows, part = rows[part >= 0], part[part >= 0]
    told = _details(block, rows, labels, ids, data).assign(
        crossed=_kept_crossings(source, rows, losses, data, mean), again=0
    )
    told.loc[:0, "again"] = data.losses.take_bytes_read() if data.losses is not None else 0
    return candidates(states.part(rows), told).assign(part=part)


def candidates(states: ExampleStates, told: pd.DataFrame) -> pd.DataFrame:
    """Rows of the ranking, in the order given."""
    return told.assign(**states.statistics())


def empty_selection(data: LossData, ids: np.dtype[Any]) -> pd.DataFrame:
    """What :func:`select` returns, without rows."""
    none = np.zeros(0, np.int64)
    columns = {"index": none, "id": none.astype(ids)} | ({"label": none} if data.labelled else {})
    told = pd.DataFrame(columns | {"crossed": none, "again": none})
    return candidates(ExampleStates.empty(0, data.dtype), told).assign(part=none)
