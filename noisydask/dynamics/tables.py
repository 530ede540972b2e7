"""Ranked candidates of the loss dynamics become Parquet parts."""

from __future__ import annotations

import io
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from noisydask.core.ranking import Part
from noisydask.core.statistics import STATISTICS
from noisydask.dynamics.class_names import with_names
from noisydask.issues.tables import WrittenPart
from noisydask.runs.store import RunStore
from noisydask.stores.chunks import StoredObject

logger = logging.getLogger("noisydask")

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]

#: Columns of a part, in order; those that are not known are left out.
COLUMNS = (
    "rank",
    "index",
    "id",
    "label",
    "subset",
    "ann_id",
    *(statistic.name for statistic in STATISTICS),
    "crossed_at",
)


def part_name(number: int) -> str:
    """Path of a part in its run."""
    return f"candidates/part-{number:05d}.parquet"


@dataclass(frozen=True)
class CandidatePart(WrittenPart):
    """A Parquet part of candidates, and the stored bytes that were read again for it."""

    bytes_read: int


def write_part(
    frame: pd.DataFrame,
    number: int,
    first_rank: int,
    take: int,
    iterations: Ints,
    run: RunStore,
    class_names: Sequence[str] | None,
) -> CandidatePart:
    """Put a part in order, take its first candidates, number and write them.

    ``crossed`` is the position of an iteration; ``crossed_at`` is written, the iteration itself.
    ``again`` sums up to the bytes that were read for the rows.
    """
    order = np.lexsort((frame["index"].to_numpy(), -frame["metric"].to_numpy()))[:take]
    ranked = frame.iloc[order]
    crossed = ranked["crossed"].to_numpy()
    ranked = ranked.assign(
        rank=np.arange(first_rank, first_rank + len(ranked)),
        crossed_at=np.where(crossed < 0, -1, iterations[crossed]),
    )
    table = pa.Table.from_pandas(
        ranked[[name for name in COLUMNS if name in ranked]], preserve_index=False
    )
    table = with_names(table, class_names)
    buffer = io.BytesIO()
    pq.write_table(
        table.replace_schema_metadata(None), buffer, compression="snappy", use_dictionary=False
    )
    written = run.write(part_name(number), buffer.getvalue())
    return CandidatePart(number, len(ranked), (written,), int(frame["again"].sum()))


def write_shuffled_part(
    frame: pd.DataFrame,
    parts: Sequence[Part],
    first_ranks: Sequence[int],
    iterations: Ints,
    run: RunStore,
    class_names: Sequence[str] | None,
) -> pd.DataFrame:
    """Write the part whose number is the frame's index; what was written, as a table's row."""
    number = int(frame.index[0])
    written = write_part(
        frame.reset_index(drop=True),
        number,
        first_ranks[number],
        parts[number].take,
        iterations,
        run,
        class_names,
    )
    return pd.DataFrame({"written": pd.Series([written], dtype=object)})


def first_ids(run: RunStore, top: int) -> list[Any]:
    """Ids of the first candidates, of which there are as many; a part may hold less."""
    ids: list[Any] = []
    number = 0
    while len(ids) < top:
        with run.place.fs.open((run.place / part_name(number)).path, "rb") as file:
            ids += pq.read_table(file, columns=["id"]).column(0)[: top - len(ids)].to_pylist()
        number += 1
    return ids


def write_picture(
    run: RunStore, iterations: Ints, mean: Floats, curves: Floats
) -> list[StoredObject]:
    """Draw the curves of the first candidates, where matplotlib is there to do so."""
    if not len(curves) or find_spec("matplotlib") is None:
        return []
    from noisydask.dynamics.curves import save_curves_png  # noqa: PLC0415  needs matplotlib, an extra

    buffer, ids = io.BytesIO(), first_ids(run, len(curves))
    try:
        save_curves_png(buffer, iterations, mean, curves, ids)
    except OSError as error:  # matplotlib wants a folder of its own
        logger.warning("curves.png is left out, as matplotlib cannot be used (%s)", error)
        return []
    return [run.write("curves.png", buffer.getvalue())]
