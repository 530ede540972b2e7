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

from noisydask.core.curve_sums import CurveSums
from noisydask.core.ranking import order_of
from noisydask.core.statistics import STATISTICS
from noisydask.engine.parts import WrittenPart, part_name
from noisydask.runs.class_names import with_label_name
from noisydask.runs.store import NewRun, RunStore
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


#: The folder of the ranking.
FOLDER = "candidates"


@dataclass(frozen=True)
class DensePart(WrittenPart):
    """A Parquet part of candidates, and the stored bytes that were read again for it."""

    bytes_read: int


@dataclass(frozen=True)
class Writer:
    """Writes parts of the ranking of dense losses."""

    run: RunStore
    iterations: Ints
    class_names: Sequence[str] | None

    def __call__(self, frame: pd.DataFrame, number: int, take: int, first_rank: int) -> DensePart:
        """Put a part in order, take its first candidates, number and write them.

        ``crossed`` is the position of an iteration; ``crossed_at`` is written, the iteration
        itself. ``again`` sums up to the bytes that were read for the rows.
        """
        order = order_of(-frame["metric"].to_numpy(), frame["index"].to_numpy())[:take]
        ranked = frame.iloc[order]
        crossed = ranked["crossed"].to_numpy()
        ranked = ranked.assign(
            rank=np.arange(first_rank, first_rank + len(ranked)),
            crossed_at=np.where(crossed < 0, -1, self.iterations[crossed]),
        )
        written = write_ranking(ranked, number, self.run, self.class_names)
        return DensePart(number, len(ranked), (written,), int(frame["again"].sum()))


def write_ranking(
    ranked: pd.DataFrame, number: int, run: RunStore, class_names: Sequence[str] | None
) -> StoredObject:
    """Write a part that is in order, with the columns of it that are known."""
    columns = [name for name in COLUMNS if name in ranked]
    table = pa.Table.from_pandas(ranked[columns], preserve_index=False)
    table = with_label_name(table.replace_schema_metadata(None), class_names)
    return run.write_table(part_name(FOLDER, number), table)


def first_ids(run: RunStore, top: int) -> list[Any]:
    """Return ids of the first candidates, of which there are as many; a part may hold less."""
    ids: list[Any] = []
    number = 0
    while len(ids) < top:
        table = run.read_table(part_name(FOLDER, number), ["id"])
        ids += table.column(0)[: top - len(ids)].to_pylist()
        number += 1
    return ids


def write_means(
    run: NewRun, iterations: Ints, sums: CurveSums, mean: Floats, labelled: bool
) -> None:
    """Write what has the size of the labels and iterations."""
    arrays = {
        "iterations": iterations.astype(np.int64),
        "mean_loss_dyns": mean,
        "losses_per_iteration": sums.counts.sum(axis=0),
    }
    if labelled:
        arrays |= {"label_values": sums.labels, "mean_loss_dyns_per_label": sums.mean_per_label()}
    for name, values in arrays.items():
        run.write_array(f"{name}.zarr", values)


def write_curves(run: NewRun, iterations: Ints, mean: Floats, curves: Floats) -> None:
    """Write the curves of the first candidates, and draw them."""
    run.write_array("top_curves.zarr", curves)
    _write_picture(run, iterations, mean, curves)


def _write_picture(run: NewRun, iterations: Ints, mean: Floats, curves: Floats) -> None:
    """Draw the curves of the first candidates, where matplotlib is there to do so."""
    if not len(curves) or find_spec("matplotlib") is None:
        return
    from noisydask.dynamics.curves import save_curves_png  # noqa: PLC0415  needs matplotlib, an extra

    buffer = io.BytesIO()
    ids = first_ids(run.store, len(curves))
    try:
        save_curves_png(buffer, iterations, mean, curves, ids)
    except OSError as error:  # matplotlib wants a folder of its own
        logger.warning("curves.png is left out, as matplotlib cannot be used (%s)", error)
        return
    run.write("curves.png", buffer.getvalue())
