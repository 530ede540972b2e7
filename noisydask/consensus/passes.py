"""What a task does to join two rankings: reads both sides of a block, counts keys, joins by id,
sorts a part.

Everything is a *frame*, a row an example. Dask is not known here, storage is handed in.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
import pandas as pd

from noisydask.core.blocks import BlockGrid
from noisydask.core.label_quality import label_quality
from noisydask.core.ranking import Ints, Keys, order_of, sort_keys
from noisydask.core.whole_numbers import whole_numbers
from noisydask.engine.parts import Parts
from noisydask.errors import InputError, Setting
from noisydask.runs.store import RunStore
from noisydask.stores.frames import stacked
from noisydask.stores.rows import Rows
from noisydask.stores.task_rows import TaskRows

Array = npt.NDArray[Any]
Step = Callable[[pd.DataFrame], pd.DataFrame]

#: The three orders, by the column that they sort: the two jobs' and their consensus.
QUALITY, METRIC, CONSENSUS = "label_quality", "metric", "consensus"
#: Where the first two leave the ranks.
RANKS = {QUALITY: "quality_rank", METRIC: "metric_rank"}
_IDS_SHOWN = 3


@dataclass(frozen=True)
class LabelEvidence:
    """The evidence of each example, from which its labels follow; ``columns`` include ``given`` and
    ``top1``.
    """

    columns: Mapping[str, Rows]
    thresholds: npt.NDArray[np.float64]
    quality_score: str
    adjust_pred_probs: bool

    def labels(self, start: int, stop: int, quality: Array) -> tuple[Array, Array]:
        """Return given and suggested labels of some examples; their scores prove that the evidence
        is that of the run.
        """
        columns = {name: column.read(start, stop) for name, column in self.columns.items()}
        scores, unresolved = label_quality(
            columns, self.thresholds, self.quality_score, self.adjust_pred_probs
        )
        if not (unresolved | (scores == quality) | (np.isnan(scores) & np.isnan(quality))).all():
            where = next(iter(self.columns.values())).url.rpartition("/")[0]
            raise InputError(
                f"{where} is not the evidence of the issues run: join the published run, or run "
                "the issues job again, whole",
                Setting("full", True),
            )
        return columns["given"].astype(np.int32), columns["top1"].astype(np.int32)


class Blocks(Protocol):
    """Examples in blocks."""

    @property
    def num_blocks(self) -> int:
        """Number of blocks."""
        ...

    def read(
        self, block: int, columns: Sequence[str] | None = None, ids: TaskRows | None = None
    ) -> pd.DataFrame:
        """Return examples of a block; with ``columns`` at least these, and what costs more is left
        out.
        """
        ...

    def empty(self) -> pd.DataFrame:
        """Return a frame without rows, of the types of those with."""
        ...


@dataclass(frozen=True)
class Sources:
    """The two runs, as they are read: blocks of the main job's examples, with the metric beside
    where it has a place.
    """

    grid: BlockGrid
    quality: Rows
    metric: Rows | None
    id_dtype: np.dtype[Any]
    evidence: LabelEvidence | None
    dynamics: RunStore = field(repr=False)
    dynamics_parts: tuple[str, ...] = ()

    @property
    def num_blocks(self) -> int:
        """Number of blocks."""
        return self.grid.num_blocks

    def read(
        self, block: int, columns: Sequence[str] | None = None, ids: TaskRows | None = None
    ) -> pd.DataFrame:
        """Return examples of a block that have a score, and where they are joined by index, a
        metric.
        """
        start, stop = self.grid.bounds(block)
        quality = self.quality.read(start, stop)
        if self.metric is None:
            metric = np.full(stop - start, np.nan)
        else:
            metric = self.metric.read(start, stop)
        index = np.arange(start, stop)
        frame: dict[str, Array] = {
            "index": index,
            QUALITY: quality,
            METRIC: metric.astype(np.float64),
        }
        if columns is None:
            frame["id"] = as_ids(index if ids is None else ids.read(start, stop))
            if self.evidence is not None:
                frame["given_label"], frame["suggested_label"] = self.evidence.labels(
                    start, stop, quality
                )
        if self.metric is None:
            known = ~np.isnan(quality)
        else:
            known = ~(np.isnan(quality) | np.isnan(metric))
        return pd.DataFrame(frame)[known].reset_index(drop=True)

    def read_dynamics(self, part: int) -> pd.DataFrame:
        """Return ids and metrics of a part of the dynamics job's ranking, as rows without a place
        in the main job's data.
        """
        table = self.dynamics.read_table(self.dynamics_parts[part], ["id", "metric"])
        rows = len(table)
        frame = {
            name: np.full(rows, -1 if dtype.kind == "i" else np.nan, dtype)
            for name, dtype in self.empty().dtypes.items()
        }
        frame |= {
            "id": as_ids(table["id"].to_numpy()),
            METRIC: table["metric"].to_numpy().astype(np.float64),
        }
        return pd.DataFrame(frame)

    def empty(self) -> pd.DataFrame:
        """Return a frame without rows, of the types of those with."""
        kinds: dict[str, Any] = {
            "index": np.int64,
            QUALITY: self.quality.dtype,
            METRIC: np.float64,
            "id": self.id_dtype,
        }
        if self.evidence is not None:
            kinds |= {"given_label": np.int32, "suggested_label": np.int32}
        return pd.DataFrame({name: np.empty(0, kind) for name, kind in kinds.items()})


def as_ids(ids: Array) -> Array:
    """Return ids as both sides have them: 64-bit integers, or text."""
    if ids.dtype.kind in "iu":
        return whole_numbers(ids, "ids")
    return ids.astype(object)


def scores_of(frame: pd.DataFrame, column: str) -> npt.NDArray[np.floating]:
    """Return scores that order like the job of a column does, worst label first: a low quality, a
    high metric, a low consensus.
    """
    scores = frame[column].to_numpy()
    if column == METRIC:
        return -scores
    return np.ascontiguousarray(scores)


def keys_of(frame: pd.DataFrame, column: str) -> Keys:
    """Return the keys of :func:`scores_of`."""
    return sort_keys(scores_of(frame, column))


@dataclass(frozen=True)
class RankedBlocks:
    """The examples of some blocks, in the order of a column, then by position."""

    source: Blocks
    column: str
    num_rows: int

    @property
    def num_blocks(self) -> int:
        """Number of blocks."""
        return self.source.num_blocks

    @property
    def itemsize(self) -> int:
        """Bytes of a value."""
        return self.source.empty()[self.column].to_numpy().itemsize

    def keys(self, block: int) -> Keys:
        """Return the keys of a block."""
        return keys_of(self.source.read(block, [self.column]), self.column)

    def last(self, block: int) -> Ints:
        """Return the positions of a block's examples."""
        return self.source.read(block, ["index", self.column])["index"].to_numpy()


def all_of(
    blocks: Sequence[int], inputs: Mapping[str, TaskRows], source: Blocks, then: Step | None = None
) -> pd.DataFrame:
    """Return the examples of some blocks, given to ``then``."""
    ids = inputs.get("ids")
    frame = stacked([source.read(block, ids=ids) for block in blocks])
    if then is None:
        return frame
    return then(frame)


def all_of_dynamics(
    parts: Sequence[int], source: Sources, then: Step | None = None
) -> pd.DataFrame:
    """Return the rows of some parts of the dynamics job's ranking, given to ``then``."""
    frame = stacked([source.read_dynamics(part) for part in parts])
    if then is None:
        return frame
    return then(frame)


def to_parts(frame: pd.DataFrame, column: str, parts: Parts) -> pd.DataFrame:
    """Return examples with the number of the part of an order that they belong to; those beyond its
    end are left out.
    """
    part = parts.assign(keys_of(frame, column), frame["index"].to_numpy)
    return frame.assign(part=part)[part >= 0]


def to_id_parts(frame: pd.DataFrame, num_parts: int) -> pd.DataFrame:
    """Return rows with the number of the part in which all of the same id meet."""
    part = pd.util.hash_array(frame["id"].to_numpy(), categorize=False) % np.uint64(num_parts)
    return frame.assign(part=part.astype(np.int64))


def joined(frame: pd.DataFrame) -> pd.DataFrame:
    """Return examples that both sides know, of rows of both; ids must be unique on either side."""
    here = frame["index"].to_numpy() >= 0
    left = frame[here].drop(columns=METRIC)
    right = frame.loc[~here, ["id", METRIC]]
    for name, side in (("issues", left), ("dynamics", right)):
        twice = side["id"][side["id"].duplicated()].unique()
        if len(twice):
            first = ", ".join(repr(value) for value in twice[:_IDS_SHOWN].tolist())
            raise InputError(
                f"ids of the {name} run are not unique ({first}): its examples cannot be joined "
                "by id"
            )
    # The order in which rows meet is that of the cluster's day.
    return left.merge(right, on="id").sort_values("index", ignore_index=True)


def in_order(frame: pd.DataFrame, column: str) -> pd.DataFrame:
    """Return rows in the order of a column, ties by index."""
    order = order_of(scores_of(frame, column), frame["index"].to_numpy())
    return frame.iloc[order].reset_index(drop=True)


def with_consensus(frame: pd.DataFrame, total: int) -> pd.DataFrame:
    """Turn ranks, from 0 to ``total - 1``, into percentiles and their mean.

    Examples
    --------
    >>> ranks = pd.DataFrame({"quality_rank": [0, 1, 2], "metric_rank": [1, 0, 2]})
    >>> with_consensus(ranks, 3)["consensus"].tolist()
    [0.25, 0.25, 1.0]
    """
    last = max(total - 1, 1)
    quality, metric = (frame[name].to_numpy() for name in RANKS.values())
    # Of the sum of the ranks, an integer: one rounding, and equal sums stay equal.
    return frame.assign(
        quality_percentile=quality / last,
        metric_percentile=metric / last,
        consensus=(quality + metric) / (2 * last),
    )
