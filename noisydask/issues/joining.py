"""Labels that have ids of their own come into the order of the predictions, run by the client."""

from __future__ import annotations

from dataclasses import replace
from functools import partial

import numpy as np
import zarr

from noisydask.core.blocks import DEFAULT_BLOCK_BYTES, BlockGrid, plan_blocks
from noisydask.engine.inputs import plan_pass
from noisydask.engine.progress import Reporter
from noisydask.engine.tasks import EVIDENCE_TASKS, run_over_all
from noisydask.errors import InputError, Setting
from noisydask.issues.id_pieces import IdPieces, Matched
from noisydask.issues.inputs import IssueInputs
from noisydask.runs.store import RunStore
from noisydask.stores.arrays import DaskRows, Rows
from noisydask.stores.chunks import ChunkedArray
from noisydask.stores.zarr_rows import ZarrRows
from noisydask.stores.zarr_stores import zarr_store
from noisydask.text import counted

#: Folder of a run in which labels are joined, for the time of the run.
FOLDER = "joined"
#: Rows of a part, about, and positions of a range at least.
PART_ROWS = 1 << 20
#: Bytes of an id in memory, about.
_ID_BYTES = 64


def join_labels(
    inputs: IssueInputs, run: RunStore, grid: BlockGrid, skip: bool, reporter: Reporter
) -> tuple[IssueInputs, int]:
    """Bring labels into the order of the predictions.

    Parameters
    ----------
    inputs : IssueInputs
        With ``ids`` and ``label_ids``.
    run : RunStore
        The run, in which rows move.
    grid : BlockGrid
        Blocks of the predictions.
    skip : bool
        Leave predictions out that have no label.
    reporter : Reporter
        Told of labels that have no prediction.

    Returns
    -------
    IssueInputs, int
        The inputs with labels in order, and how many labels have no prediction.

    Raises
    ------
    InputError
        If an id is there twice, or a prediction has no label.
    """
    assert inputs.ids is not None
    assert inputs.label_ids is not None
    reporter.phase(f"joining {inputs.labels.shape[0]:,} labels by id")
    pieces = _pieces(run, grid, inputs)
    sides = {
        "ids": {"ids": inputs.ids},
        "labels": {"labels": inputs.labels, "label_ids": inputs.label_ids},
    }
    for side, read in sides.items():
        numbers = range(pieces.grids[side].num_blocks)
        planned = plan_pass(read, pieces.grids[side], numbers, EVIDENCE_TASKS)
        planned.run(f"split-{side}", partial(pieces.split, side=side))
    parts = range(pieces.parts)
    found: Matched = run_over_all("match", pieces.match, parts)
    _refuse(found, skip)
    array = run.array(f"{FOLDER}/labels.zarr", (grid.rows,), grid.block_rows, np.int64)
    array.create()
    run_over_all("place", partial(pieces.place, labels=array), parts)
    unmatched = found.counts[3]
    if unmatched:
        reporter.warning(
            f"{counted(unmatched, 'label')} have no prediction; the first are {_told(found, 3)}"
        )
    return replace(inputs, labels=_rows(array), label_ids=None), unmatched


def _pieces(run: RunStore, grid: BlockGrid, inputs: IssueInputs) -> IdPieces:
    run.make_folder(FOLDER)
    parts = max(1, -(-max(grid.rows, inputs.labels.shape[0]) // PART_ROWS))
    chunks = -(-grid.num_blocks // parts)  # of a range: whole blocks
    rows = {"ids": inputs.ids, "labels": inputs.labels}
    grids = {side: _grid(each) for side, each in rows.items() if each is not None}
    return IdPieces(run.place / FOLDER, parts, chunks * grid.block_rows, grids)


def _grid(rows: Rows | DaskRows) -> BlockGrid:
    return plan_blocks(rows.shape[0], _ID_BYTES, max(1, rows.chunk_rows), DEFAULT_BLOCK_BYTES)


def _rows(array: ChunkedArray) -> Rows:
    place = array.root / array.name
    opened = zarr.open_array(zarr_store(place, read_only=True), mode="r")
    return replace(ZarrRows.of(opened, place.shown), name="labels")


def _told(found: Matched, number: int) -> str:
    return ", ".join(map(repr, found.first[number]))


def _refuse(found: Matched, skip: bool) -> None:
    for number, side in enumerate(("ids", "label_ids")):
        if found.counts[number]:
            raise InputError(
                f"{counted(found.counts[number], 'id')} of {side} are there more than once; the "
                f"first are {_told(found, number)}: each must be there once"
            )
    if found.counts[2] and not skip:
        raise InputError(
            f"{counted(found.counts[2], 'prediction')} have no label; the first have the ids "
            f"{_told(found, 2)}. Give labels for them, or leave them out",
            Setting("on_invalid", "skip"),
        )
