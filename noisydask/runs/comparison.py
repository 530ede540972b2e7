"""Two runs that are compared: what of their rankings, and the parts as a task reads them.

Storage is handed in, Dask is not known here.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow.parquet as pq

from noisydask.errors import InputError, JobError
from noisydask.runs.kinds import JOBS
from noisydask.runs.manifest import Manifest
from noisydask.runs.store import FinishedRun, RunStore
from noisydask.stores.frames import stacked
from noisydask.stores.hints import not_of_data
from noisydask.stores.rows import Rows

KINDS = ("new", "gone", "moved")
#: Why an issue is gone: its label was corrected; it is not flagged any more, or its label
#: agrees with the prediction now; its row is invalid now and was left out; the dataset has fewer
#: rows now; its id stands in another row now, or in none; or that cannot be told from the runs.
REASONS = ("corrected", "risen", "left_out", "removed", "displaced", "unknown")

#: Rows of both rankings that a task compares.
_TASK_ROWS = 2_000_000
#: What makes an issue of both runs one that moved; an example of another ranking is in it or not.
COMPARED = ("given_label", "suggested_label", "label_quality")
#: Columns that name an example, and those that are told of it, of all jobs' rankings.
NAMES = ("id", "subset", "ann_id")
COLUMNS = ("rank", *COMPARED, "metric", "consensus")
#: Of a ranking of all examples, which none can enter or leave, the first hundredth is compared: at
#: least and at most so many rows.
_FIRST = (10, 1000)


class DamagedRunError(JobError):
    """A part of the earlier run is gone or damaged."""


@dataclass(frozen=True)
class Comparison:
    """Two runs to be compared: what the tasks need to know.

    Attributes
    ----------
    runs, parts : tuple of the earlier and the later
        Where they lie, the Parquet parts of their rankings.
    columns : tuple of str
        What is read of these.
    rows : int
        Examples of the later.
    by_id : bool
        Whether examples are known by their ids.
    ids : Rows, optional
        The later's ids of all examples, if they can be read.
    first : int, optional
        How many rows of both rankings are compared; all where it is None.
    buckets : int
        Into how many parts the examples are divided.
    """

    runs: tuple[RunStore, RunStore]
    parts: tuple[tuple[str, ...], tuple[str, ...]]
    columns: tuple[str, ...]
    rows: int
    by_id: bool
    num_classes: int
    buckets: int
    largest: int
    ids: Rows | None = None
    first: int | None = None

    @classmethod
    def of(cls, before: FinishedRun, after: FinishedRun, ids: Rows | None = None) -> Comparison:
        """Compare two runs by their manifests."""
        runs = (before, after)
        manifests = [run.manifest for run in runs]
        job = after.manifest.job
        if before.manifest.job != job or job not in JOBS:
            raise InputError(f"runs of {before.manifest.job!r} and {job!r} cannot be compared")
        counts = [manifest.counts for manifest in manifests]
        kind = JOBS[job]
        first = min(map(_first_of, manifests)) if kind.ranks_all else None
        total = sum(count[kind.ranked] if first is None else first for count in counts)
        there = set.intersection(*(_columns(run, side) for side, run in enumerate(runs)))
        return cls(
            (before.store, after.store),
            (tuple(before.manifest.parts), tuple(after.manifest.parts)),
            tuple(name for name in kind.compared if name in there),
            after.manifest.counts["examples"],
            "index" not in there or all("ids" in manifest.inputs for manifest in manifests),
            max(count.get("classes", 1) for count in counts),
            max(1, -(-total // _TASK_ROWS)),
            max(count["examples"] for count in counts),
            ids,
            first,
        )


def _first_of(manifest: Manifest) -> int:
    """Return how many rows of a ranking are compared: all of a ranking of the first alone."""
    ranked = manifest.counts[JOBS[manifest.job].ranked]
    limit = manifest.settings.get("top_k", manifest.settings.get("top"))
    if limit is not None and limit <= ranked:
        return ranked
    least, most = _FIRST
    return min(ranked, max(least, min(most, ranked // 100)))


def read_parts(numbers: Sequence[int], comparison: Comparison) -> pd.DataFrame:
    """Return parts of the rankings, with the bucket of each example."""
    return stacked([_read_part(number, comparison) for number in numbers])


def _read_part(number: int, comparison: Comparison) -> pd.DataFrame:
    side = int(number >= len(comparison.parts[0]))
    name = comparison.parts[side][number - side * len(comparison.parts[0])]
    with _part(comparison.runs[side], name, side) as part:
        frame = part.read(columns=list(comparison.columns)).to_pandas()
    if comparison.first is not None:
        frame = frame[frame["rank"] <= comparison.first].reset_index(drop=True)
    if not comparison.by_id:
        frame["id"] = frame["index"]
    if "subset" in frame:
        frame["subset"] = as_text(frame["subset"])
    if "index" not in frame:  # an example has one row, so that its place decides nothing
        frame["index"] = -1
    if "label_quality" in frame:
        frame["label_quality"] = frame["label_quality"].astype(np.float64)
    frame["side"] = side
    if comparison.by_id:
        frame["id"] = as_text(frame["id"])
        frame["part"] = (
            pd.util.hash_array(frame["id"].to_numpy(object)) % comparison.buckets
        ).astype(np.int64)
    else:
        frame["part"] = frame["index"] * comparison.buckets // comparison.largest
    return frame


@contextmanager
def _part(run: RunStore, name: str, side: int) -> Iterator[pq.ParquetFile]:
    """Return a part of the ranking of the earlier run (side 0) or the later."""
    try:
        with (run.place / name).open() as file:
            yield pq.ParquetFile(file)
    except Exception as error:
        if not_of_data(error) and not isinstance(error, FileNotFoundError):
            raise
        kind = JobError if side else DamagedRunError
        raise kind(
            f"{(run.place / name).shown} is gone or damaged: the run {run.run} cannot be compared"
        ) from error


def _columns(run: FinishedRun, side: int) -> set[str]:
    """Return the columns of a ranking."""
    with _part(run.store, run.manifest.parts[0], side) as part:
        return set(part.schema_arrow.names)


def as_text(ids: pd.Series[Any]) -> npt.NDArray[np.object_]:
    """Return ids as they are compared: those of a ranking, and those that the job was given."""
    return ids.astype(str).to_numpy(object)
