"""Any input of the main job becomes a Zarr array that suits it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from noisydask.core.blocks import DEFAULT_BLOCK_BYTES, ROW_OVERHEAD, BlockGrid, plan_blocks
from noisydask.engine.inputs import plan_pass
from noisydask.engine.progress import Reporter, Silent, listening
from noisydask.engine.tasks import SCAN_TASKS, check_memory
from noisydask.errors import InputError
from noisydask.stores.array_draft import ArrayDraft, suitable_chunk
from noisydask.stores.arrays import DaskRows, Rows, open_rows
from noisydask.stores.fingerprints import Snapshot, check_unchanged, snapshots
from noisydask.stores.locations import Location, options_by_name
from noisydask.stores.tables.class_columns import ClassColumns
from noisydask.stores.unstored import refuse_lost, unstored
from noisydask.stores.urls import is_inside, split_column
from noisydask.stores.zarr_rows import CLASS_NAMES
from noisydask.text import counted


def convert(
    source: Any,
    url: str | Path,
    *,
    class_columns: str | Sequence[str] | None = None,
    class_names: Sequence[str] | None = None,
    shard_bytes: int = 0,
    overwrite: bool = False,
    storage_options: Mapping[str, Mapping[str, Any]] | None = None,
    reporter: Reporter | None = None,
) -> str:
    """Write an input as a Zarr array with chunks that suit the job, on the active Dask client or
    scheduler.

    Parameters
    ----------
    source : str, Path or array-like
        Whatever :func:`noisydask.find_label_issues` takes as ``pred_probs``, or as ``labels`` that
        are numbers.
    url : str or Path
        Where the array goes: chunks of whole rows, about 16 MiB each, by zstd.
    class_columns, class_names
        Columns of a table that are classes, and their names, as the job takes them. Names are kept
        as an attribute, by which the job calls the classes.
    shard_bytes : int
        Bytes of shards, decoded, about; 0 for none.
    overwrite : bool
        Replace an array that is there.
    storage_options : mapping of name to mapping, optional
        fsspec options for ``source`` and ``url``, by these names.
    reporter : ProgressBar or ProgressLog, optional
        Shows progress.

    Returns
    -------
    str
        Where the array is. It is none before it is whole.

    Raises
    ------
    InputError
        If the source cannot be read, or something else lies at ``url``.
    JobError
        If a chunk of the source is not stored, or it changes while it is read, or the array cannot
        be written.

    Examples
    --------
    >>> import tempfile, numpy as np, zarr
    >>> folder = tempfile.mkdtemp()
    >>> place = convert(np.eye(3, dtype="f4"), f"{folder}/probs.zarr", class_names=["a", "b", "c"])
    >>> zarr.open_array(place).attrs["class_names"]
    ['a', 'b', 'c']
    """
    options = options_by_name(storage_options, "source", "url")
    columns = class_columns
    if columns is not None and not isinstance(columns, str):
        columns = tuple(columns)
    names = None if class_names is None else tuple(map(str, class_names))
    rows = open_rows(source, "source", options.get("source"), ClassColumns(columns, names))
    draft = _draft(rows, Location.of(str(url), options.get("url"), "url"), names, shard_bytes)
    if isinstance(rows, Rows):
        _refuse_overlap(rows, draft.place)
    draft.begin(overwrite)
    _write(rows, draft, reporter or Silent())
    return draft.place.url


def _draft(
    rows: Rows | DaskRows, place: Location, names: tuple[str, ...] | None, shard_bytes: int
) -> ArrayDraft:
    if not rows.shape[0]:
        raise InputError("source has no rows: there is nothing to convert")
    if rows.dtype.kind in "OUT":
        raise InputError(
            "source holds text, not numbers: jobs read labels and ids that are text where they are"
        )
    if rows.dtype.kind not in "iufb":
        raise InputError(f"source holds {rows.dtype}, not numbers: there is nothing to convert")
    names = names or rows.class_names
    if names is not None and (len(rows.shape) != 2 or len(names) != rows.shape[1]):
        raise InputError(f"{len(names):,} class names for an array of shape {rows.shape}")
    chunk = suitable_chunk(rows.shape, rows.dtype)
    row_bytes = max(1, rows.num_bytes // rows.shape[0])
    chunks = min(max(1, shard_bytes // (chunk * row_bytes)), -(-rows.shape[0] // chunk))
    shard = chunks * chunk if shard_bytes else 0
    attributes = {} if names is None else {CLASS_NAMES: list(names)}
    return ArrayDraft(place, rows.shape, rows.dtype, chunk, shard, attributes)


def _refuse_overlap(rows: Rows, place: Location) -> None:
    url, _ = split_column(rows.url)
    if is_inside(place.url, url) or is_inside(url, place.url):
        raise InputError(f"{place.shown} and the source are one place, or one lies in the other")


def _write(rows: Rows | DaskRows, draft: ArrayDraft, reporter: Reporter) -> None:
    """Write all blocks; then, if the source is what it was, the metadata."""
    listed = snapshots({"source": rows})
    for snapshot in listed.values():
        _refuse_lost(snapshot, reporter)
    grid = _blocks(rows, draft.object_rows)
    check_memory(grid.block_bytes, "lower shard_bytes, or use fewer threads or larger workers")
    reporter.phase(f"writing {rows.shape[0]:,} rows to {draft.place.shown}")
    planned = plan_pass({"source": rows}, grid, range(grid.num_blocks), SCAN_TASKS)
    with reporter.reading(rows.shape[0], rows.num_bytes, "rows") as told, listening(told) as notify:
        task = _WriteBlocks(draft, grid, notify)
        planned.run("convert", partial(task.run))
    check_unchanged(listed)
    draft.publish()


def _blocks(rows: Rows | DaskRows, object_rows: int) -> BlockGrid:
    """Cut rows into blocks of whole objects. One is no smaller than a chunk of the source, which
    would be decoded again for each block that has rows of it.
    """
    row_bytes = max(1, rows.num_bytes // rows.shape[0])
    chunk_bytes = min(rows.chunk_rows, rows.shape[0]) * (row_bytes + ROW_OVERHEAD)
    wanted = max(DEFAULT_BLOCK_BYTES, chunk_bytes)
    return plan_blocks(rows.shape[0], row_bytes, object_rows, wanted)


def _refuse_lost(snapshot: Snapshot, reporter: Reporter) -> None:
    """Refuse a source with chunks that are not stored, which would be written as its fill value as
    if somebody had said so.
    """
    rows = snapshot.rows
    lost, filled = unstored(snapshot, _may_be_filled(rows))
    partly = {chunk.key for chunk in snapshot.partly_missing()}
    refuse_lost("source", snapshot, [each for each in lost if each.key not in partly], skip=False)
    if filled:
        verb = "is" if len(filled) == 1 else "are"
        reporter.warning(
            f"{counted(len(filled), 'chunk')} of the source {verb} not stored, the first of rows "
            f"{filled[0].start:,} to {filled[0].stop - 1:,}: they are written as {rows.fill}"
        )


def _may_be_filled(rows: Rows) -> bool:
    """Return whether a chunk that is all fill value is as good as one that is not stored: of
    labels, where that may be a class; of anything, where it is no value.
    """
    fill = rows.fill
    if rows.dtype.kind == "f":
        return fill is not None and bool(np.isnan(fill))
    return len(rows.shape) == 1 and fill is not None and fill >= 0


@dataclass(frozen=True)
class _WriteBlocks:
    """The task that writes blocks."""

    draft: ArrayDraft
    grid: BlockGrid
    notify: Any

    def run(self, blocks: Sequence[int], inputs: Mapping[str, Any]) -> int:
        """Write blocks, each read at once, an object at a time; return how many rows."""
        source = inputs["source"]
        done = 0
        for start, stop in map(self.grid.bounds, blocks):
            block = source.read(start, stop)
            for first in range(0, len(block), self.draft.object_rows):
                values = block[first : first + self.draft.object_rows]
                self.draft.write(start + first, values)
                done += len(values)
                if self.notify:
                    self.notify(len(values), values.nbytes)
        return done
