"""The files that the join of two rankings writes: scratch files between its sorts, and the parts of
the consensus.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
import pyarrow as pa

from noisydask.consensus.passes import (
    CONSENSUS,
    METRIC,
    QUALITY,
    RANKS,
    as_ids,
    in_order,
    joined,
    with_consensus,
)
from noisydask.engine.parts import WrittenPart, part_name
from noisydask.runs.class_names import with_pair_names
from noisydask.runs.store import RunStore
from noisydask.stores.task_rows import TaskRows

#: Folder of the files that are removed before the run is published, and that of the ranking.
SCRATCH, FOLDER = "scratch", "candidates"


@dataclass(frozen=True)
class ScratchFiles:
    """Examples in Parquet files of the run that are removed before it is published."""

    run: RunStore
    names: tuple[str, ...]

    @property
    def num_blocks(self) -> int:
        """Number of files."""
        return len(self.names)

    def read(
        self, block: int, columns: Sequence[str] | None = None, ids: TaskRows | None = None
    ) -> pd.DataFrame:
        """Read examples of a file."""
        frame: pd.DataFrame = self.run.read_table(self.names[block], columns).to_pandas()
        if "id" in frame:
            return frame.assign(id=as_ids(frame["id"].to_numpy()))
        return frame

    def empty(self) -> pd.DataFrame:
        """Return a frame without rows, of the types of those with."""
        return self.read(0).iloc[:0]


def write_joined(frame: pd.DataFrame, number: int, run: RunStore) -> str | None:
    """Join the rows of a part by id and keep them; return the name of the file, if there are
    any.
    """
    rows = joined(frame)
    if len(rows):
        return _keep(rows, f"{SCRATCH}/joined-{number:05d}.parquet", run)
    return None


def _keep(rows: pd.DataFrame, name: str, run: RunStore) -> str:
    run.write_table(name, pa.Table.from_pandas(rows, preserve_index=False))
    return name


@dataclass(frozen=True)
class RankWriter:
    """Puts parts in the order of a job, gives their rows their ranks and keeps them; after the
    second job, with their consensus.
    """

    run: RunStore
    column: str
    total: int

    def __call__(self, frame: pd.DataFrame, number: int, take: int, first_rank: int) -> str:
        """Rank and keep the rows of a part; return the name of the file."""
        ranked = in_order(frame, self.column)
        ranked[RANKS[self.column]] = np.arange(first_rank - 1, first_rank - 1 + len(ranked))
        if self.column == METRIC:
            ranked = with_consensus(ranked, self.total).drop(columns=list(RANKS.values()))
        return _keep(ranked, f"{SCRATCH}/{self.column}-{number:05d}.parquet", self.run)


@dataclass(frozen=True)
class Writer:
    """Writes parts of the consensus."""

    run: RunStore
    class_names: Sequence[str] | None

    def __call__(self, frame: pd.DataFrame, number: int, take: int, first_rank: int) -> WrittenPart:
        """Put a part in order, take its first examples, number and write them."""
        rows = in_order(frame, CONSENSUS).head(take)
        rows = rows.assign(rank=np.arange(first_rank, first_rank + len(rows)))
        labels = [name for name in ("given_label", "suggested_label") if name in rows]
        columns = [
            *("rank", "index", "id", *labels, CONSENSUS, QUALITY, METRIC),
            *("quality_percentile", "metric_percentile"),
        ]
        table = pa.Table.from_pandas(rows[columns], preserve_index=False)
        table = table.replace_schema_metadata(None)
        table = with_pair_names(table, self.class_names if labels else None)
        written = self.run.write_table(part_name(FOLDER, number), table)
        return WrittenPart(number, len(rows), (written,))


@dataclass(frozen=True)
class WrittenAtOnce:
    """A consensus of one part, and how many examples both jobs know."""

    total: int
    part: WrittenPart


def write_at_once(frame: pd.DataFrame, join: bool, top: int | None, write: Writer) -> WrittenAtOnce:
    """Do all of the job, for examples that fit one worker."""
    frame = joined(frame) if join else frame
    total = len(frame)
    for column, rank in RANKS.items():
        frame = in_order(frame, column)
        frame[rank] = np.arange(total)
    take = total if top is None else top
    part = write(with_consensus(frame, total), number=0, take=take, first_rank=1)
    return WrittenAtOnce(total, part)
