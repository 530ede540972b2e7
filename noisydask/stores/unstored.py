"""Chunks of inputs that are not stored: which of them are lost, and which say the array's fill
value.
"""

from __future__ import annotations

from typing import Any

from noisydask.errors import JobError, Setting
from noisydask.stores.fingerprints import Snapshot
from noisydask.stores.rows import Chunk


def unstored(snapshot: Snapshot, filled: bool) -> tuple[list[Chunk], list[Chunk]]:
    """Return chunks of an input that are not stored: those that are lost, and those that say the
    array's fill value.

    Zarr's writers leave out a chunk that is all fill value, and readers read one that was lost as
    just that. No row of probabilities is all fill value, so a chunk of those was lost. A chunk of
    labels may well be all of one class: where the fill value may be what was written, ``filled``, a
    chunk that is not stored counts as written.
    """
    missing, empty = snapshot.absent
    if filled:
        return (empty, missing)
    return (empty + missing, [])


def refuse_lost(name: str, snapshot: Snapshot, lost: list[Chunk], skip: bool = True) -> None:
    """Name the first chunk that is not stored; ``skip`` says that the job can leave rows out.

    Raises
    ------
    JobError
        If there is one.
    """
    if not lost:
        return
    first = lost[0]
    if len(lost) > 1:
        more = f" ({len(lost):,} chunks are missing)"
    else:
        more = ""
    raise JobError(
        f"{name} at {snapshot.rows.url}: chunk {first.key}, rows {first.start:,} to "
        f"{first.stop - 1:,} cannot be read: it is not stored, or empty{more}. Write it again"
        f"{', or leave its rows out' if skip else ''}",
        *([Setting("on_unreadable", "skip")] if skip else []),
    )


def described(snapshot: Snapshot, filled: bool) -> dict[str, Any]:
    """Return what the manifest says of an input's objects: their fingerprint, and how many are not
    stored; ``filled`` as in :func:`unstored`.
    """
    missing = sum(map(len, unstored(snapshot, filled)))
    return snapshot.describe() | ({"chunks_not_stored": missing} if missing else {})
