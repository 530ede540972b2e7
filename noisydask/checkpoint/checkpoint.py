"""What a job keeps of each block for the next run: columns of all rows, one chunk a block, receipts
that vouch for them, and objects beside.

Below a folder there is one Zarr array a column, one chunk a block, and ``receipts/``, one object a
block, written after the block's chunks. Chunks need not be written in one step: one that was cut
short does not have the checksum that its receipt tells, whether the receipt is of this chunk or of
an older one. What the folder as a whole is of (its *kind*) stands in the attributes of its group.
An output may hold several such folders.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

import numpy as np
import numpy.typing as npt
import zarr

from noisydask.checkpoint.receipts import BlockSource, Kind, Receipt
from noisydask.errors import InputError, NoisydaskError
from noisydask.stores.chunks import ChunkedArray, checksum
from noisydask.stores.failures import cannot_write
from noisydask.stores.locations import Location
from noisydask.stores.threads import at_once
from noisydask.stores.zarr_metadata import METADATA, group_metadata
from noisydask.stores.zarr_stores import zarr_store

Array = npt.NDArray[np.generic]
Result = TypeVar("Result")

#: Folder of the receipts.
RECEIPTS = "receipts"


@dataclass(frozen=True)
class Contents(Generic[Kind]):
    """What a job keeps in its checkpoint beside columns, as the job declares it.

    Attributes
    ----------
    receipt : type of Receipt
        The receipts, with the payload of the job.
    version : int
        Rises with every change of what columns, receipts or objects mean: those of another version
        are made anew.
    folders : tuple of str
        Folders of one object a block.
    files : tuple of str
        Objects that are not of one block.
    """

    receipt: type[Receipt[Kind]]
    version: int
    folders: tuple[str, ...] = ()
    files: tuple[str, ...] = ()

    def owns(self, name: str) -> bool:
        """Return whether an object of this name is one of ours."""
        folders = "|".join((RECEIPTS, *self.folders))
        own = rf"zarr\.json|[a-z][a-z0-9_]*/(zarr\.json|\d+)|({folders})/\d+\.[a-z]+"
        return name in self.files or re.fullmatch(own, name) is not None


@dataclass(frozen=True)
class Checkpoint(Generic[Kind]):
    """Columns, receipts and objects, read and written a block at a time."""

    root: Location
    contents: Contents[Kind]
    columns: Mapping[str, ChunkedArray] = field(repr=False)

    def write(self, block: int, columns: Mapping[str, Array]) -> dict[str, str]:
        """Store columns of a block and return their checksums; doing it twice leaves what doing it
        once does.
        """

        def write(name: str) -> str:
            return self.columns[name].write(block, columns[name])

        return dict(zip(columns, self._each(write, [*columns]), strict=True))

    def read(self, block: int, names: Iterable[str]) -> dict[str, Array]:
        """Read columns of a block."""
        return {name: self.columns[name].read(block) for name in names}

    def read_checked(
        self, block: int, names: Iterable[str], checksums: Mapping[str, str]
    ) -> dict[str, Array] | None:
        """Read columns of a block; None where one is not what was written."""

        def read(name: str) -> Array | None:
            return self.columns[name].read_checked(block, checksums[name])

        names = [*names]
        columns = dict(zip(names, self._each(read, names), strict=True))
        whole = {name: column for name, column in columns.items() if column is not None}
        return whole if len(whole) == len(columns) else None

    def _each(self, call: Callable[[str], Result], names: Sequence[str]) -> list[Result]:
        """Return what a call returns for each column: at once where each waits for a network."""
        return at_once(call, names) if self.root.is_in_cloud else [call(name) for name in names]

    def vouch(self, block: int, receipt: Receipt[Kind]) -> None:
        """Store the receipt of a block whose columns and objects are stored."""
        (self.root / _receipt_name(block)).write(receipt.to_bytes(self.contents.version))

    def recall(self, block: int) -> Receipt[Kind] | None:
        """Read the receipt of a block, if there is one and it is whole."""
        try:
            content = (self.root / _receipt_name(block)).read()
        except FileNotFoundError:
            return None
        return self.contents.receipt.from_bytes(content, self.contents.version)

    def forget(self, block: int) -> None:
        """Remove the receipt of a block and the objects that are kept of it."""
        (self.root / _receipt_name(block)).remove()
        for folder in self.contents.folders:
            (self.root / of_block(folder, block)).remove()

    def stands(self, source: BlockSource) -> bool:
        """Return whether the receipt of a block is of what there is to be read."""
        if source.fingerprint is not None:
            receipt = self.recall(source.number)
        else:
            receipt = None
        return receipt is not None and receipt.source == source.fingerprint

    def receipts(self) -> set[int]:
        """Return the blocks that have a receipt, by one listing."""
        names = (name.removesuffix(".json") for name in (self.root / RECEIPTS).list())
        return {int(name) for name in names if name.isdecimal()}

    def keep(self, name: str, tie: str, content: bytes) -> None:
        """Store an object, in place of the one before; ``tie`` tells what it was made from."""
        whole = f"{len(tie):04x}{tie}".encode() + content
        (self.root / name).write(checksum(whole).encode() + whole)

    def kept(self, name: str, tie: str) -> bytes | None:
        """Read an object, if there is one, it is whole, and it was made from the same."""
        try:
            content = (self.root / name).read()
        except FileNotFoundError:
            return None
        head = f"{len(tie):04x}{tie}".encode()
        whole = content[:8] == checksum(content[8:]).encode() and content[8:].startswith(head)
        if whole:
            return content[8 + len(head) :]
        return None


def _receipt_name(block: int) -> str:
    return f"{RECEIPTS}/{block:08d}.json"


def of_block(folder: str, block: int) -> str:
    """Return the path of a block's object in one of the job's folders."""
    return f"{folder}/{block:08d}.bin"


def open_checkpoint(
    root: Location,
    contents: Contents[Kind],
    columns: Mapping[str, ChunkedArray],
    wanted: Iterable[str],
    kind: Mapping[str, Any],
    fresh: bool,
) -> tuple[Checkpoint[Kind], str | None]:
    """Make room for columns of all rows, and keep what is there if it is of this kind.

    Parameters
    ----------
    root : Location
        Their folder.
    contents : Contents
        What the job keeps there.
    columns : mapping of str to ChunkedArray
        All columns that there may be.
    wanted : iterable of str
        Those that are wanted. Others that are there stay.
    kind : mapping
        What they depend on as a whole.
    fresh : bool
        Keep nothing.

    Returns
    -------
    Checkpoint, str or None
        The checkpoint, and why what was there was not kept, if anything was.

    Raises
    ------
    InputError
        If the folder holds what is not of a checkpoint, or cannot be written.
    """
    arrays = [columns[name] for name in wanted]
    try:
        why = _make_room(root, contents, arrays, kind, fresh)
    except NoisydaskError:
        raise
    except Exception as error:
        raise cannot_write(error, root) from error
    return Checkpoint(root, contents, columns), why


def _make_room(
    root: Location,
    contents: Contents[Kind],
    arrays: Iterable[ChunkedArray],
    kind: Mapping[str, Any],
    fresh: bool,
) -> str | None:
    before = kind_of(root)
    if before is not None:
        differing = _difference(before, kind)
    else:
        differing = None
    if fresh or before is None or differing:
        _refuse_foreign(root, contents)
        root.remove_all()
        _make_folders(root, contents)
        at_once(ChunkedArray.create, [*arrays])
        (root / METADATA).write(group_metadata(kind))  # last: what has no kind is made anew
        return differing or ("it was not asked for" if fresh and before else None)
    at_once(_fit, [*arrays])
    _make_folders(root, contents)  # an older noisydask made fewer
    return None


def _fit(array: ChunkedArray) -> None:
    """Make an array, or give the one that is there its length."""
    shape = _shape(array.root / array.name)
    if shape is None:
        array.create()
    elif shape != array.shape:
        array.resize(array.shape)


def _make_folders(root: Location, contents: Contents[Kind]) -> None:
    for folder in (RECEIPTS, *contents.folders):
        (root / folder).make_folder()


def kind_of(root: Location) -> dict[str, Any] | None:
    """Return the kind of what is there; None if there is nothing, or it is damaged."""
    try:
        return dict(zarr.open_group(zarr_store(root, read_only=True), mode="r").attrs)
    except (FileNotFoundError, ValueError, KeyError, TypeError):
        return None


def _refuse_foreign(root: Location, contents: Contents[Kind]) -> None:
    """Refuse a place that holds anything whose name is not one of ours: it would be deleted."""
    foreign = [name for name in root.list() if not contents.owns(name)]
    if foreign:
        raise InputError(
            f"{root.shown} holds {foreign[0]!r}, which is not evidence, and would be deleted; "
            "give out another place"
        )


def _difference(before: Mapping[str, Any], kind: Mapping[str, Any]) -> str | None:
    """Return what differs, in words."""
    names = [name for name in kind if before.get(name) != kind[name]]
    if not names:
        return None
    words = (
        f"{name.replace('_', ' ')} {before.get(name, 'unknown')} instead of {kind[name]}"
        for name in names
    )
    return f"it has {', '.join(words)}"


def _shape(place: Location) -> tuple[int, ...] | None:
    try:
        return zarr.open_array(zarr_store(place, read_only=True), mode="r").shape
    except (FileNotFoundError, ValueError, KeyError, TypeError):
        return None
