"""What the join of two rankings writes: scratch files between its sorts, and the parts of the
consensus.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from noisydask.consensus.passes import (
    CONSENSUS,
    METRIC,
    QUALITY,
    RANKS,
    Array,
    as_ids,
    in_order,
    joined,
    with_consensus,
)
from noisydask.core.ranking import Part
from noisydask.issues.tables import WrittenPart, named, write_table
from noisydask.runs.store import RunStore

#: Folder of the files that are removed before the run is published.
SCRATCH = "scratch"


@dataclass(frozen=True)
class Pieces:
    """Examples in Parquet files of the run that are removed before it is published."""

    run: RunStore
    names: tuple[str, ...]

    @property
    def num_blocks(self) -> int:
        """Number of files."""
        return len(self.names)

    def read(
        self, block: int, columns: Sequence[str] | None = None, ids: Array | None = None
    ) -> pd.DataFrame:
        """Examples of a file."""
        with self.run.place.fs.open((self.run.place / self.names[block]).path, "rb") as file:
            return _frame(pq.read_table(file, columns=None if columns is None else list(columns)))

    def empty(self) -> pd.DataFrame:
        """A frame without rows, of the types of those with."""
        with self.run.place.fs.open((self.run.place / self.names[0]).path, "rb") as file:
            return _frame(pq.read_schema(file).empty_table())


def _frame(table: pa.Table) -> pd.DataFrame:
    frame: pd.DataFrame = table.to_pandas()
    return frame.assign(id=as_ids(frame["id"].to_numpy())) if "id" in frame else frame


@dataclass(frozen=True)
class Piece:
    """A scratch file that was written."""

    number: int
    name: str
    rows: int


def write_joined(frame: pd.DataFrame, run: RunStore) -> pd.DataFrame:
    """Join the rows of a part by id and keep them."""
    return _kept(joined(frame.reset_index(drop=True)), frame, "joined", run)


def write_ranked(
    frame: pd.DataFrame, column: str, parts: Sequence[Part], total: int, run: RunStore
) -> pd.DataFrame:
    """Put a part in the order of a job, give its rows their ranks and keep them; after the second
    job, the consensus.
    """
    if frame.empty:
        return _kept(frame, frame, column, run)
    number = int(frame.index[0])
    ranked, first = in_order(frame, column), sum(part.rows for part in parts[:number])
    ranked[RANKS[column]] = np.arange(first, first + len(ranked))
    if column == METRIC:
        ranked = with_consensus(ranked, total).drop(columns=list(RANKS.values()))
    return _kept(ranked, frame, column, run)


def _kept(rows: pd.DataFrame, part: pd.DataFrame, name: str, run: RunStore) -> pd.DataFrame:
    """Write a scratch file, if there is anything to write; what was written, as a table's row."""
    pieces = []
    if len(rows):
        number = int(part.index[0])
        pieces = [Piece(number, f"{SCRATCH}/{name}-{number:05d}.parquet", len(rows))]
        write_table(pa.Table.from_pandas(rows, preserve_index=False), pieces[0].name, run)
    return pd.DataFrame({"written": pd.Series(pieces, dtype=object)})


def part_name(number: int) -> str:
    """Path of a part of the consensus in its run."""
    return f"candidates/part-{number:05d}.parquet"


def _write_final(
    rows: pd.DataFrame, number: int, first: int, run: RunStore, names: Sequence[str] | None
) -> WrittenPart:
    """Number rows that are in order, and write them as part of the consensus."""
    rows = rows.assign(rank=np.arange(first, first + len(rows)))
    labels = [name for name in ("given_label", "suggested_label") if name in rows]
    columns = [
        "rank",
        "index",
        "id",
        *labels,
        CONSENSUS,
        QUALITY,
        METRIC,
        "quality_percentile",
        "metric_percentile",
    ]
    table = named(rows[columns], names if labels else None)
    return WrittenPart(number, len(rows), (write_table(table, part_name(number), run),))


def write_part(
    frame: pd.DataFrame, parts: Sequence[Part], run: RunStore, class_names: Sequence[str] | None
) -> pd.DataFrame:
    """Put a part of the consensus in order and write it; what was written, as a table's row."""
    written = []
    if len(frame):
        number = int(frame.index[0])
        rows = in_order(frame, CONSENSUS).head(parts[number].take)
        first = 1 + sum(part.take for part in parts[:number])
        written = [_write_final(rows, number, first, run, class_names)]
    return pd.DataFrame({"written": pd.Series(written, dtype=object)})


@dataclass(frozen=True)
class WrittenAtOnce:
    """A consensus of one part, and how many examples both jobs know."""

    total: int
    part: WrittenPart


def write_at_once(
    frame: pd.DataFrame,
    join: bool,
    top: int | None,
    run: RunStore,
    class_names: Sequence[str] | None,
) -> WrittenAtOnce:
    """All of the job, for examples that fit one worker."""
    frame = joined(frame) if join else frame
    total = len(frame)
    for column, rank in RANKS.items():
        frame = in_order(frame, column)
        frame[rank] = np.arange(total)
    frame = in_order(with_consensus(frame, total), CONSENSUS).head(total if top is None else top)
    return WrittenAtOnce(total, _write_final(frame, 0, 1, run, class_names))
