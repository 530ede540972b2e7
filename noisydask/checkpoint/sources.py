"""What the client knows of each block before any is read: where it lies, whether it is all there,
whether it is new.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from noisydask.core.blocks import BlockGrid
from noisydask.core.receipts import BlockSource, Why
from noisydask.errors import JobError
from noisydask.stores.fingerprints import Snapshot, by_block, ranges
from noisydask.stores.rows import Chunk


def unstored(snapshot: Snapshot, filled: bool) -> tuple[list[Chunk], list[Chunk]]:
    """Chunks of an input that are not stored: those that are lost, and those that say the array's
    fill value.

    Zarr's writers leave out a chunk that is all fill value, and readers read one that was lost as
    just that. No row of probabilities is all fill value, so a chunk of those was lost. A chunk of
    labels may well be all of one class: where the fill value may be what was written, ``filled``, a
    chunk that is not stored counts as written.
    """
    found, empty = snapshot.absent
    return (empty, found) if filled else (empty + found, [])


def refuse_lost(name: str, snapshot: Snapshot, lost: list[Chunk], skip: bool = True) -> None:
    """Name the first chunk that is not stored; ``skip`` says that the job can leave rows out.

    Raises
    ------
    JobError
        If there is one.
    """
    if lost:
        first, total = lost[0], len(lost)
        raise JobError(
            f"{name} at {snapshot.rows.url}: chunk {first.key}, rows {first.start:,} to "
            f"{first.stop - 1:,} cannot be read:"
            f" it is not stored, or empty{f' ({total:,} chunks are missing)' if total > 1 else ''}."
            " Write it again"
            + (
                ", or leave its rows out (on_unreadable='skip' of find_label_issues, "
                "--on-unreadable skip)"
                if skip
                else ""
            )
        )


def block_sources(
    inputs: Mapping[str, Snapshot], grid: BlockGrid, num_classes: int, keep: bool, skip: bool
) -> list[BlockSource]:
    """Describe all blocks, of which none is known to have a receipt yet.

    Parameters
    ----------
    inputs : mapping of str to Snapshot
        Inputs that lie in stores, by name.
    grid, num_classes
        The blocks, and the number of classes.
    keep : bool
        Whether receipts are to be written.
    skip : bool
        Leave out rows of which nothing is stored.

    Raises
    ------
    JobError
        If a chunk is not stored that should be, unless ``skip``.
    """
    lost: list[Chunk] = []
    filled: list[Chunk] = []
    probs = inputs.get("pred_probs")
    # Where chunks split the classes, one may well be all 0; the scan sees by the sums of the rows
    # if it was not.
    partly = probs.partly_missing() if probs is not None else []
    maybe_zero = {chunk.key for chunk in partly}
    for name, snapshot in inputs.items():
        missing, written = unstored(
            snapshot, name == "labels" and snapshot.rows.fill in range(num_classes)
        )
        missing = (
            [chunk for chunk in missing if chunk.key not in maybe_zero]
            if snapshot is probs
            else missing
        )
        if name == "ids" or not skip:
            refuse_lost(name, snapshot, missing, name != "ids")
        lost += missing if name != "ids" else []
        filled += written
    missing_rows, filled_rows = by_block(ranges(lost), grid), by_block(ranges(filled), grid)
    partly_rows, keys = (
        by_block(ranges(partly), grid),
        {chunk.start: chunk.key for chunk in reversed(partly)},
    )
    known: Any = (
        probs.fingerprints(grid) if probs is not None and keep else [None] * grid.num_blocks
    )
    return [
        BlockSource(
            number,
            fingerprint,
            why=Why.UNIDENTIFIED if keep and fingerprint is None else Why.NEW,
            missing=missing_rows.get(number, ()),
            unstored_labels=filled_rows.get(number, ()),
            partly=tuple((low, high, keys[low]) for low, high in partly_rows.get(number, ())),
        )
        for number, fingerprint in enumerate(known)
    ]


def describe(snapshot: Snapshot, num_classes: int, name: str) -> dict[str, Any]:
    """What the manifest says of an input's objects: their fingerprint, and how many are not
    stored.
    """
    return _described(
        snapshot, unstored(snapshot, name == "labels" and snapshot.rows.fill in range(num_classes))
    )


def _described(snapshot: Snapshot, found: tuple[list[Chunk], list[Chunk]]) -> dict[str, Any]:
    missing = sum(map(len, found))
    return snapshot.describe() | ({"chunks_not_stored": missing} if missing else {})


def _unstored_losses(name: str, snapshot: Snapshot) -> tuple[list[Chunk], list[Chunk]]:
    """As :func:`unstored`, of training losses, where NaN is one that was not recorded and any
    integer is a label.
    """
    fill = snapshot.rows.fill
    return unstored(
        snapshot,
        name == "labels" or (name == "losses" and fill is not None and bool(np.isnan(fill))),
    )


def refuse_lost_losses(inputs: Mapping[str, Snapshot]) -> None:
    """Name the first chunk of training losses, or of what comes with them, that should be stored
    and is not.

    Raises
    ------
    JobError
        If there is one.
    """
    for name, snapshot in inputs.items():
        refuse_lost(name, snapshot, _unstored_losses(name, snapshot)[0], skip=False)


def describe_losses(name: str, snapshot: Snapshot) -> dict[str, Any]:
    """As :func:`describe`, of training losses and what comes with them."""
    return _described(snapshot, _unstored_losses(name, snapshot))
