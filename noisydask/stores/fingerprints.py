"""What a run reads, by identity: each block's fingerprint, chunks that are not there, inputs that
change under the run.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

from noisydask.core.blocks import BlockGrid
from noisydask.core.versions import EVIDENCE_VERSION
from noisydask.errors import JobError
from noisydask.stores.failures import reason
from noisydask.stores.listing import EMPTY, Listing, version
from noisydask.stores.locations import Location
from noisydask.stores.rows import Chunk, Rows
from noisydask.stores.urls import shown


def digest(*parts: Any) -> str:
    """Return a fingerprint of plain values: 128 bits in hexadecimal."""
    return hashlib.blake2b(repr(parts).encode(), digest_size=16).hexdigest()


def of_labels(labels: npt.NDArray[np.generic]) -> str:
    """Return the fingerprint of labels, by their content and type.

    Examples
    --------
    >>> of_labels(np.array([1, 2])) == of_labels(np.array([1, 2]))
    True
    >>> of_labels(np.array([1, 2])) == of_labels(np.array([2, 1]))
    False
    """
    content = hashlib.sha256(
        np.ascontiguousarray(labels).data
    )  # faster than others where the processor helps
    return digest(labels.dtype.str, content.hexdigest())


@dataclass(frozen=True)
class Snapshot:
    """The objects that one input lies in, as they were listed before anything was read; None where
    they cannot be.
    """

    rows: Rows
    objects: Listing | None

    @cached_property
    def identified(self) -> bool:
        """Whether the store tells the version of every object."""
        return self.objects is not None and None not in self.objects.values()

    def describe(self) -> dict[str, Any]:
        """Return the input's fingerprint for the manifest, where its store tells versions."""
        if not self.identified:
            return {"fingerprint": None}
        return {"fingerprint": digest(self.rows.layout, *sorted((self.objects or {}).items()))}

    def fingerprints(self, grid: BlockGrid) -> Iterator[str | None]:
        """Iterate over what each block's rows lie in; None where the store tells no versions."""
        if not self.identified:
            yield from [None] * grid.num_blocks
            return
        common = digest(
            EVIDENCE_VERSION, self.rows.layout, self.rows.shape[1:], str(self.rows.dtype)
        )
        for start, stop in map(grid.bounds, range(grid.num_blocks)):
            yield digest(common, start, stop, *self.of(self.rows.chunks(start, stop)))

    def of(self, chunks: Iterable[Chunk]) -> list[tuple[Any, ...]]:
        """Return keys and versions of the objects of chunks; also which of their rows, where that
        does not follow.
        """
        objects = self.objects or {}
        return [
            (chunk.key, objects.get(chunk.key), *((chunk.within,) if chunk.within else ()))
            for chunk in chunks
        ]

    @cached_property
    def absent(self) -> tuple[list[Chunk], list[Chunk]]:
        """Chunks that are not stored, which read as the array's fill value without an error; and
        those of no bytes.
        """
        missing: list[Chunk] = []
        empty: list[Chunk] = []
        if self.objects is None:
            return missing, empty
        objects = self.objects
        for chunk in self.rows.chunks(0, self.rows.shape[0]):
            if objects.get(chunk.key, EMPTY) == EMPTY:
                (empty if chunk.key in objects else missing).append(chunk)
        return missing, empty

    def partly_missing(self) -> list[Chunk]:
        """Return chunks that are not stored, beside which others of the same rows are."""
        missing, _ = self.absent
        if not missing or self.rows.chunk_columns in (0, self.rows.shape[-1]):
            return []
        gone = {chunk.key for chunk in missing}
        stored = {
            chunk.start
            for chunk in self.rows.chunks(0, self.rows.shape[0])
            if chunk.key not in gone
        }
        return [chunk for chunk in missing if chunk.start in stored]

    def changed(self) -> list[str]:
        """Return objects that are no longer what they were, by key."""
        if self.objects is None:
            return []
        now = listed(self.rows) or {}
        if now == self.objects:  # as mostly: seen at once, however many there are
            return []
        return sorted(
            key
            for key in self.objects.keys() | now.keys()
            if self.objects.get(key, "") != now.get(key, "")
        )

    def changed_blocks(self, grid: BlockGrid) -> Iterator[int]:
        """Iterate over blocks that lie in an object which is not what it was any more."""
        changed = set(self.changed())
        for block in range(grid.num_blocks):
            if any(chunk.key in changed for chunk in self.rows.chunks(*grid.bounds(block))):
                yield block


def snapshots(inputs: Mapping[str, object]) -> dict[str, Snapshot]:
    """List the objects of all inputs that lie in stores, by the inputs' names."""
    return {
        name: Snapshot(rows, listed(rows))
        for name, rows in inputs.items()
        if isinstance(rows, Rows)
    }


def listed(rows: Rows) -> Listing | None:
    """Return the objects of an input that was opened."""
    try:
        return rows.objects()
    except Exception as error:
        why = reason(error) or f"cannot be listed any more ({type(error).__name__}); is it gone?"
        raise JobError(f"{rows.url}: {why}") from error


def check_blocks_unchanged(
    inputs: Mapping[str, Snapshot], name: str, grid: BlockGrid, forget: Callable[[int], None]
) -> None:
    """Check as :func:`check_unchanged` does; before it raises, ``forget`` is called for each block
    of input ``name`` that changed.

    Receipts of such blocks tell what was listed, not what was read: they would stand again if what
    was listed came back.
    """
    try:
        check_unchanged(inputs)
    except JobError:
        for block in inputs[name].changed_blocks(grid) if name in inputs else ():
            forget(block)
        raise


def check_unchanged(inputs: Mapping[str, Snapshot]) -> None:
    """List all again.

    Raises
    ------
    JobError
        If anything is not what it was.
    """
    for name, snapshot in inputs.items():
        changed = snapshot.changed()
        if changed:
            first = changed[0] or "the file"
            raise JobError(
                f"{name} at {snapshot.rows.url} changed while it was read ({len(changed):,} "
                f"objects, the first is {first});"
                " nothing was published. Run again: what did not change is not read again"
            )


def of_files(versions: Listing) -> str | None:
    """Return the fingerprint of files, where their store tells their versions."""
    if None in versions.values():
        return None
    return digest(*sorted(versions.items()))


def check_files_unchanged(name: str, place: Location, seen: Listing) -> None:
    """List the files of an input again; what has come since is not part of it.

    Raises
    ------
    JobError
        If one that was ``seen`` is not what it was.
    """
    place.fs.invalidate_cache()
    try:
        infos = place.fs.find(place.path, detail=True) or {place.path: place.fs.info(place.path)}
    except FileNotFoundError:
        infos = {}
    now = {file: version(info) for file, info in infos.items()}
    changed = sorted(file for file, infos in seen.items() if now.get(file, "") != infos)
    if changed:
        raise JobError(
            f"{name} at {place.shown} changed while it was read ({len(changed):,} files, the "
            f"first is {shown(changed[0])});"
            " nothing was published. Run again"
        )


def ranges(chunks: Iterable[Chunk]) -> tuple[tuple[int, int], ...]:
    """Return ranges of rows that chunks hold, without repeats, ascending.

    Examples
    --------
    >>> ranges([Chunk("c/1/0", 5, 10), Chunk("c/1/1", 5, 10), Chunk("c/2/0", 10, 12)])
    ((5, 10), (10, 12))
    """
    return tuple(sorted({(chunk.start, chunk.stop) for chunk in chunks}))


def by_block(
    row_ranges: Iterable[tuple[int, int]], grid: BlockGrid
) -> dict[int, tuple[tuple[int, int], ...]]:
    """Return ranges of rows cut at the bounds of blocks, for each block that has any.

    Examples
    --------
    >>> by_block([(5, 15)], BlockGrid(rows=20, block_rows=10, row_bytes=1))
    {0: ((5, 10),), 1: ((10, 15),)}
    """
    cut: dict[int, list[tuple[int, int]]] = {}
    for start, stop in row_ranges:
        for block in range(start // grid.block_rows, -(-stop // grid.block_rows)):
            low, high = grid.bounds(block)
            cut.setdefault(block, []).append((max(start, low), min(stop, high)))
    return {block: tuple(parts) for block, parts in cut.items()}
