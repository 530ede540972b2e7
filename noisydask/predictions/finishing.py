"""Rows that processes wrote in any order become the arrays that the job reads."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import zip_longest
from pathlib import Path
from typing import Any

import numpy as np

from noisydask.core.blocks import BlockGrid
from noisydask.engine.tasks import run_over_all
from noisydask.errors import InputError, Setting
from noisydask.predictions.placing import Placed, Placing
from noisydask.predictions.planning import plan
from noisydask.predictions.top_draft import TopDraft
from noisydask.predictions.written_files import (
    FOLDER,
    WrittenFile,
    class_names_of,
    list_written,
)
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
    pred_classes, given_probs : str or None
        Where only the most probable classes are kept, URLs of these, (N, k), and of the
        probabilities of the given labels, (N,).
    num_classes : int or None
        K, in this case.
    """

    pred_probs: str
    labels: str | None
    ids: str | None
    num_examples: int
    pred_classes: str | None = None
    given_probs: str | None = None
    num_classes: int | None = None


def finish_predictions(
    url: str | Path,
    *,
    on_duplicate: str = "raise",
    storage_options: Mapping[str, Any] | None = None,
) -> FinishedPredictions:
    """Put all rows in place that any :class:`noisydask.PredictionWriter` wrote to a URL, on the
    active Dask client or scheduler.

    Rows with positions go there; rows with ids are in ascending order of their ids. The arrays are
    the same whatever process wrote which rows, and in which order. A row that was written several
    times with the same numbers counts once, as padding samplers of distributed training write it.
    What was written stays: to finish again makes the arrays anew.

    Parameters
    ----------
    url : str or Path
        The writers'.
    on_duplicate : {"raise", "last"}
        Refuse rows that were written several times with different numbers or labels, or take the
        last, by the time at which their writer began.
    storage_options : mapping, optional
        Passed to fsspec.

    Returns
    -------
    FinishedPredictions

    Raises
    ------
    InputError
        If rows are missing, or written several times with different numbers or labels, or writers
        wrote different kinds of predictions; the first are named.

    Examples
    --------
    >>> import tempfile, noisydask, zarr
    >>> folder = tempfile.mkdtemp()
    >>> with noisydask.PredictionWriter(folder) as writer:
    ...     writer.write([30, 10], [[0.5, 0.5], [1.0, 0.0]], [0, 0])
    >>> zarr.open_array(finish_predictions(folder).ids)[:].tolist()
    [10, 30]
    """
    if on_duplicate not in ("raise", "last"):
        raise InputError(f"on_duplicate must be one of raise, last, not {on_duplicate!r}")
    place = Location.of(str(url), storage_options, "the writer's url")
    folder = place / FOLDER
    files = _looked_at(folder)
    grid, blocks = plan(folder, files)
    placing = _placing(place, grid, files[0])
    drafts = [draft for draft in (placing.probs, placing.labels, placing.ids) if draft is not None]
    for draft in drafts:
        draft.begin(overwrite=True)
    placed: Placed = run_over_all("place", placing.run, blocks)
    _refuse(placed, grid.rows, on_duplicate)
    for draft in drafts:
        draft.publish()
    probs = placing.probs
    others: tuple[ArrayDraft | None, ...] = (placing.labels, placing.ids, None, None)
    if isinstance(probs, TopDraft):
        others = (placing.labels, placing.ids, probs.classes, probs.given)
    urls = [None if draft is None else draft.place.url for draft in others]
    return FinishedPredictions(
        probs.place.url,
        labels=urls[0],
        ids=urls[1],
        num_examples=grid.rows,
        pred_classes=urls[2],
        given_probs=urls[3],
        num_classes=files[0].kind.all_classes or None,
    )


def _looked_at(folder: Location) -> list[WrittenFile]:
    """Look at all files, in the order of their names; they must be alike."""
    names = list_written(folder)
    found: tuple[WrittenFile, ...] = run_over_all("look", partial(_look, folder=folder), names)
    files = sorted(found, key=lambda file: file.name)
    first = files[0]
    for other in files:
        if other.kind != first.kind:
            raise InputError(
                f"writers wrote different kinds of predictions to {folder.shown}: "
                f"{_difference(folder, first, other)}"
            )
    return files


def _look(names: Sequence[str], folder: Location) -> tuple[WrittenFile, ...]:
    return tuple(WrittenFile.look(folder, name) for name in names)


def _difference(folder: Location, first: WrittenFile, other: WrittenFile) -> str:
    """Say how two files differ."""
    if first.kind.told != other.kind.told:
        return f"{first.name} has {first.kind.told}; {other.name} has {other.kind.told}"
    pairs = zip_longest(*(class_names_of(folder, file.name) or () for file in (first, other)))
    named = ((column, *pair) for column, pair in enumerate(pairs) if pair[0] != pair[1])
    column, name, another = next(named)
    return f"column {column} is called {name!r} in {first.name}, but {another!r} in {other.name}"


def _placing(place: Location, grid: BlockGrid, file: WrittenFile) -> Placing:
    """Return the pass, with the arrays: a task owns whole chunks of all of them."""
    kind, folder, total = file.kind, place / FOLDER, grid.rows
    dtype, numbers = np.dtype(kind.dtype), np.dtype(np.int64)
    shape, rows = (total, kind.num_classes), min(grid.block_rows, total)
    names = class_names_of(folder, file.name)
    attributes = {} if names is None else {CLASS_NAMES: names}
    chunk = suitable_chunk(shape, dtype)
    probs: ArrayDraft | TopDraft
    if kind.top:
        top = total, kind.top
        probs = TopDraft.of(place, PROBS, top, dtype, chunk, attributes)
    else:
        probs = ArrayDraft(place / PROBS, shape, dtype, chunk, attributes=attributes)
    labels = ArrayDraft(place / LABELS, (total,), numbers, rows) if kind.labeled else None
    ids = None
    if kind.num_examples is None:
        id_type: Any = numbers if kind.rows == "number" else np.dtypes.StringDType()
        ids = ArrayDraft(place / IDS, (total,), id_type, rows)
    return Placing(folder, probs, labels, ids)


def _refuse(placed: Placed, total: int, on_duplicate: str) -> None:
    """Refuse rows that are missing, or were written several times and differ."""
    if on_duplicate == "raise":
        for some, what in ((placed.relabeled, "labels"), (placed.differing, "numbers")):
            if some.count:
                first = ", ".join(map(repr, some.first))
                raise InputError(
                    f"{counted(some.count, 'row')} written several times with different {what}; "
                    f"the first are {first}. Take the last",
                    Setting("on_duplicate", "last"),
                )
    missing = placed.missing
    if missing.count:
        first = ", ".join(map(repr, missing.first))
        raise InputError(
            f"{missing.count:,} of {total:,} rows were not written; the first are {first}. Write "
            "them, then finish again: what was written stays"
        )
