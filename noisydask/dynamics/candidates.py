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
from noisydask.dynamics.dense_data import LossData
from noisydask.dynamics.dense_state import LossCheckpoint
from noisydask.dynamics.dense_tiles import spans, tiles
from noisydask.dynamics.loss_blocks import LossSource
from noisydask.engine.parts import Parts
from noisydask.stores.fingerprints import digest
from noisydask.stores.frames import stacked
from noisydask.stores.task_rows import TaskRows

Array = npt.NDArray[Any]
Floats = npt.NDArray[np.float64]


def details(
    blocks: Sequence[int], inputs: Mapping[str, TaskRows], data: LossData, index: Ints
) -> Table:
    """Return label and name of the examples at ``index``, ascending, of blocks that hold some."""
    frames = []
    for block in blocks:
        start, stop = data.grid.bounds(block)
        low, high = np.searchsorted(index, [start, stop])
        frames.append(_details(block, index[low:high] - start, inputs, data))
    return Table(stacked(frames))


def _details(
    block: int, rows: Ints, inputs: Mapping[str, TaskRows], data: LossData
) -> pd.DataFrame:
    start, stop = data.grid.bounds(block)
    columns: dict[str, Array] = {"index": start + rows, "id": start + rows}
    if "ids" in inputs and len(rows):
        columns["id"] = inputs["ids"].read(start, stop)[rows]
    if data.labelled:
        columns["label"] = rows
        if len(rows):
            columns["label"] = inputs["labels"].read(start, stop)[rows].astype(np.int64)
    return pd.DataFrame(columns)


def _crossings(
    start: int, stop: int, rows: Ints, losses: TaskRows, data: LossData, mean: Floats
) -> Ints:
    """Return the position of the iteration at which each row's EMA first lies above the mean
    curve.
    """
    search = Crossings.of(len(rows), data.alpha, mean)
    if len(rows):
        wanted = spans(0, data.shape[1], data.width)
        for low, high, span, tile in tiles(start, stop, losses, wanted):
            here = slice(*np.searchsorted(rows, [low - start, high - start]))
            search.look(tile, rows[here] - (low - start), span[0], here)
    return search.found


def _kept_crossings(
    source: LossSource, rows: Ints, losses: TaskRows, data: LossData, mean: Floats
) -> Ints:
    """Do the same as :func:`_crossings` for losses that are not read where they and the curve are
    those of an earlier run.
    """
    start, stop = data.grid.bounds(source.number)
    if data.states is None or source.fingerprint is None or not len(rows):
        return _crossings(start, stop, rows, losses, data, mean)
    key = digest(source.fingerprint, mean.tobytes())
    crossed = data.states.kept_crossings(source.number, key, rows)
    if crossed is None:
        crossed = _crossings(start, stop, rows, losses, data, mean)
        data.states.keep_crossings(source.number, key, rows, crossed)
    return crossed


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
    blocks: Sequence[int],
    inputs: Mapping[str, TaskRows],
    data: LossData,
    index: Ints,
    last: int,
) -> ChosenRows:
    """Return losses of the examples at ``index``, few and ascending, before iteration ``last``, of
    blocks that hold some.
    """
    tiles_of: dict[int, list[Array]] = {}
    losses = inputs["losses"]
    wanted = spans(0, last, data.width)
    for block in blocks:
        start, stop = data.grid.bounds(block)
        height = losses.chunk_rows
        here = index[slice(*np.searchsorted(index, [start, stop]))]
        for chunk in np.unique((here - start) // height).tolist():
            ends = start + chunk * height, min(start + (chunk + 1) * height, stop)
            for low, high, _, tile in tiles(*ends, losses, wanted):
                for row in index[slice(*np.searchsorted(index, [low, high]))]:
                    tiles_of.setdefault(int(row), []).append(tile[row - low].copy())
    rows = {row: np.concatenate(parts) for row, parts in tiles_of.items()}
    return ChosenRows(rows, losses.take_bytes_read())


def select(
    blocks: Sequence[LossSource],
    inputs: Mapping[str, TaskRows],
    data: LossData,
    mean: Floats,
    parts: Parts,
) -> pd.DataFrame:
    """Return the examples of the ranking's parts as a table; a column ``part`` tells whose they
    are.
    """
    return stacked([_select_block(block, inputs, data, mean, parts) for block in blocks])


def _select_block(
    source: LossSource,
    inputs: Mapping[str, TaskRows],
    data: LossData,
    mean: Floats,
    parts: Parts,
) -> pd.DataFrame:
    block = source.number
    losses = inputs["losses"]
    start, _ = data.grid.bounds(block)
    states = cast(LossCheckpoint, data.states).read_states(block)
    scores = -states.metric
    rows = np.flatnonzero(scores <= score_of(parts.last_key, scores.dtype))
    part = parts.assign(sort_keys(scores[rows]), lambda: start + rows)
    rows = rows[part >= 0]
    part = part[part >= 0]
    crossed = _kept_crossings(source, rows, losses, data, mean)
    details = _details(block, rows, inputs, data).assign(crossed=crossed, again=0)
    details.loc[:0, "again"] = losses.take_bytes_read()
    return candidates(states.part(rows), details).assign(part=part)


def candidates(states: ExampleStates, details: pd.DataFrame) -> pd.DataFrame:
    """Return rows of the ranking, in the order given."""
    return details.assign(**states.statistics())


def empty_selection(data: LossData, ids: np.dtype[Any]) -> pd.DataFrame:
    """Return what :func:`select` returns, without rows."""
    none = np.zeros(0, np.int64)
    columns = {"index": none, "id": none.astype(ids)} | ({"label": none} if data.labelled else {})
    details = pd.DataFrame(columns | {"crossed": none, "again": none})
    return candidates(ExampleStates.empty(0, data.dtype), details).assign(part=none)
