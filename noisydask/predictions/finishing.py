"""Rows that processes wrote in any order become the arrays that the job reads."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from noisydask.core.blocks import BlockGrid, plan_blocks
from noisydask.engine.tasks import run_over_all
from noisydask.errors import InputError, Setting
from noisydask.predictions.placing import Placed, Placing, Targets
from noisydask.predictions.repeated_ids import PART_ROWS, FindRepeated, Repeated
from noisydask.predictions.written_files import FOLDER, Int64s, WrittenFile, list_written
from noisydask.stores.array_draft import ArrayDraft, suitable_chunk
from noisydask.stores.locations import Location
from noisydask.stores.zarr_rows import CLASS_NAMES
from noisydask.text import counted

#: What the arrays are called.
PROBS, LABELS, IDS = "pred_probs.zarr", "labels.zarr", "ids.zarr"


@dataclass(frozen=True)
class FinishedPredictions:
    """Arrays of predictions that are in place, to be given to
    :func:`noisydask.find_label_issues`.

    Attributes
    ----------
    pred_probs : str
        URL of the probabilities, (N, K).
    labels, ids : str or None
        URLs of labels and ids, (N,), where there are such.
    num_examples : int
        N.
    """

    pred_probs: str
    labels: str | None
    ids: str | None
    num_examples: int


def finish_predictions(
    url: str | Path,
    *,
    num_examples: int | None = None,
    class_names: Sequence[str] | None = None,
    on_duplicate: str = "raise",
    storage_options: Mapping[str, Any] | None = None,
) -> FinishedPredictions:
    """Put all rows in place that :class:`noisydask.PredictionWriter` wrote to a URL, on the active
    Dask client or scheduler.

    Rows with positions go there; rows with ids keep the order of the files and of the rows in
    them. A row that was written several times with the same numbers counts once, as padding
    samplers of distributed training write it. What was written stays; to finish again makes the
    arrays anew.

    Parameters
    ----------
    url : str or Path
        The writer's.
    num_examples : int, optional
        Number of examples, where rows have positions.
    class_names : sequence of str, optional
        What the columns are called.
    on_duplicate : {"raise", "last"}
        Refuse rows that were written several times with different numbers, or take the last, by
        the time at which their writer began.
    storage_options : mapping, optional
        Passed to fsspec.

    Returns
    -------
    FinishedPredictions

    Raises
    ------
    InputError
        If rows are missing, or written several times with different numbers, or writers wrote
        different kinds of predictions; the first are named.

    Examples
    --------
    >>> import tempfile, noisydask, numpy as np
    >>> folder = tempfile.mkdtemp()
    >>> with noisydask.PredictionWriter(folder) as writer:
    ...     writer.write([30, 10], np.array([[0.5, 0.5], [1, 0]]), [0, 0])
    >>> finish_predictions(folder).num_examples
    2
    """
    if on_duplicate not in ("raise", "last"):
        raise InputError(f"on_duplicate must be one of raise, last, not {on_duplicate!r}")
    place = Location.of(str(url), storage_options, "the writer's url")
    folder = place / FOLDER
    files = _looked_at(folder)
    take_last = on_duplicate == "last"
    if num_examples is None:
        targets, total = _by_id(folder, files, take_last)
    else:
        targets, total = _by_position(files, num_examples)
    names = None if class_names is None else [str(name) for name in class_names]
    grid, probs, labels, ids = _drafts(place, files[0], total, names, num_examples is None)
    drafts = [draft for draft in (probs, labels, ids) if draft is not None]
    for draft in drafts:
        draft.begin(overwrite=True)
    placing = Placing(folder, targets, grid, probs, labels, ids, take_last)
    _refuse(run_over_all("place", placing.run, range(grid.num_blocks)), total)
    for draft in drafts:
        draft.publish()
    urls = [None if draft is None else draft.place.url for draft in (labels, ids)]
    return FinishedPredictions(probs.place.url, urls[0], urls[1], total)


def _looked_at(folder: Location) -> list[WrittenFile]:
    """Look at all files, which must be alike."""
    names = list(list_written(folder))
    files: tuple[WrittenFile, ...] = run_over_all("look", partial(_look, folder=folder), names)
    kinds = defaultdict(list)
    for file in files:
        kinds[file.kind].append(file.name)
    if len(kinds) > 1:
        told = "; ".join(
            f"{some[0]} has {kind[0]:,} classes of {kind[1]}, rows by "
            f"{'position or number' if kind[2] == 'int64' else 'text'}, "
            f"{'labels' if kind[3] else 'no labels'}"
            for kind, some in kinds.items()
        )
        raise InputError(f"writers wrote different kinds of predictions to {folder.shown}: {told}")
    return sorted(files, key=lambda file: file.name)


def _look(names: Sequence[str], folder: Location) -> tuple[WrittenFile, ...]:
    return tuple(WrittenFile.look(folder, name) for name in names)


def _by_position(files: Sequence[WrittenFile], num_examples: int) -> tuple[Targets, int]:
    if files[0].row_kind != "int64":
        raise InputError("rows have ids that are text, not positions: leave out num_examples")
    wrong = [file for file in files if file.low < 0 or file.high >= num_examples]
    if wrong:
        raise InputError(
            f"{wrong[0].name} has rows {wrong[0].low:,} to {wrong[0].high:,}, but positions are 0 "
            f"to {num_examples - 1:,}"
        )
    return Targets(files), num_examples


def _by_id(folder: Location, files: Sequence[WrittenFile], take_last: bool) -> tuple[Targets, int]:
    parts = -(-sum(file.rows for file in files) // PART_ROWS)
    find = FindRepeated(folder, files, parts, take_last)
    found: Repeated = run_over_all("repeated", find.run, range(parts))
    if found.differing:
        first = ", ".join(map(repr, found.first))
        raise InputError(
            f"{counted(found.differing, 'id')} were written several times with different numbers; "
            f"the first are {first}. Take the last",
            Setting("on_duplicate", "last"),
        )
    dropped: dict[int, list[int]] = defaultdict(list)
    for number, row in found.dropped:
        dropped[number].append(row)
    kept = [file.rows - len(dropped[number]) for number, file in enumerate(files)]
    offsets: Int64s = np.concatenate([[0], np.cumsum(kept)]).astype(np.int64)
    left_out = {number: np.array(rows, np.int64) for number, rows in dropped.items()}
    return Targets(files, offsets, left_out), int(offsets[-1])


def _drafts(
    place: Location, file: WrittenFile, total: int, names: list[str] | None, by_id: bool
) -> tuple[BlockGrid, ArrayDraft, ArrayDraft | None, ArrayDraft | None]:
    """Return the blocks, and the arrays: a task owns whole chunks of all of them."""
    dtype = np.dtype(file.dtype)
    shape = (total, file.num_classes)
    chunk = suitable_chunk(shape, dtype)
    grid = plan_blocks(total, file.num_classes * dtype.itemsize, chunk)
    attributes = {} if names is None else {CLASS_NAMES: names}
    probs = ArrayDraft(place / PROBS, shape, dtype, chunk, attributes=attributes)
    rows = min(grid.block_rows, total)
    numbers = np.dtype(np.int64)
    labels = ArrayDraft(place / LABELS, (total,), numbers, rows) if file.labeled else None
    ids = None
    if by_id:
        kind: Any = numbers if file.row_kind == "int64" else np.dtypes.StringDType()
        ids = ArrayDraft(place / IDS, (total,), kind, rows)
    return grid, probs, labels, ids


def _refuse(placed: Placed, total: int) -> None:
    if placed.differing:
        first = ", ".join(map(str, placed.first_differing))
        raise InputError(
            f"{counted(placed.differing, 'row')} were written several times with different "
            f"numbers; the first are {first}. Take the last",
            Setting("on_duplicate", "last"),
        )
    if placed.missing:
        first = ", ".join(map(str, placed.first_missing))
        raise InputError(
            f"{placed.missing:,} of {total:,} rows were not written; the first are {first}. Write "
            "them, then finish again: what was written stays"
        )
