"""What the client knows of each block before any is read: where it lies, whether it is all there,
whether it is new.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from noisydask.checkpoint.receipts import BlockSource, Why
from noisydask.core.blocks import BlockGrid
from noisydask.stores.fingerprints import Snapshot, by_block, ranges
from noisydask.stores.rows import Chunk
from noisydask.stores.unstored import described, refuse_lost, unstored


@dataclass(frozen=True)
class LabeledSource(BlockSource):
    """What the client knows of a block of ``pred_probs`` and labels before it is read.

    Attributes
    ----------
    missing : tuple of (int, int)
        Ranges of rows of which nothing is stored, to be left out.
    partly : tuple of (int, int, str)
        Ranges of rows of which some chunks are not stored, which may be all 0, and the first such
        chunk.
    unstored_labels : tuple of (int, int)
        Ranges of rows whose labels are not stored, and so are the array's fill value.
    """

    missing: tuple[tuple[int, int], ...] = ()
    partly: tuple[tuple[int, int, str], ...] = ()
    unstored_labels: tuple[tuple[int, int], ...] = ()


def _may_be_filled(name: str, snapshot: Snapshot, num_classes: int) -> bool:
    """Return whether an input may well hold a chunk that is all fill value."""
    return name == "labels" and snapshot.rows.fill in range(num_classes)


def describe(name: str, snapshot: Snapshot, num_classes: int) -> dict[str, Any]:
    """Return what the manifest says of an input's objects."""
    return described(snapshot, _may_be_filled(name, snapshot, num_classes))


def block_sources(
    inputs: Mapping[str, Snapshot], grid: BlockGrid, num_classes: int, keep: bool, skip: bool
) -> list[LabeledSource]:
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
    partly = probs.partly_missing() if probs is not None and probs.rows.adds_up else []
    maybe_zero = {chunk.key for chunk in partly}
    for name, snapshot in inputs.items():
        missing, written = unstored(snapshot, _may_be_filled(name, snapshot, num_classes))
        if snapshot is probs:
            missing = [chunk for chunk in missing if chunk.key not in maybe_zero]
        if name == "ids" or not skip:
            refuse_lost(name, snapshot, missing, name != "ids")
        lost += missing if name != "ids" else []
        filled += written
    missing_rows = by_block(ranges(lost), grid)
    filled_rows = by_block(ranges(filled), grid)
    partly_rows = by_block(ranges(partly), grid)
    keys = {chunk.start: chunk.key for chunk in reversed(partly)}
    known: Any = (
        probs.fingerprints(grid) if probs is not None and keep else [None] * grid.num_blocks
    )
    return [
        LabeledSource(
            number,
            fingerprint,
            why=Why.UNIDENTIFIED if keep and fingerprint is None else Why.NEW,
            missing=missing_rows.get(number, ()),
            unstored_labels=filled_rows.get(number, ()),
            partly=tuple((low, high, keys[low]) for low, high in partly_rows.get(number, ())),
        )
        for number, fingerprint in enumerate(known)
    ]
