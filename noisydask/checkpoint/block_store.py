"""What a job keeps of each block for the next run: columns of all rows, one chunk a block, and
receipts that vouch for them.

Below a folder there is one Zarr array a column, one chunk a block, and ``receipts/``, one object a
block, written after the block's chunks. Chunks need not be written in one step: one that was cut
short does not have the checksum that its receipt tells, whether the receipt is of this chunk or of
an older one. What the folder as a whole is of (its *kind*) stands in the attributes of its group.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
import zarr
from fsspec.implementations.local import LocalFileSystem

from noisydask.errors import InputError
from noisydask.stores.chunks import ChunkedArray
from noisydask.stores.locations import Location
from noisydask.stores.zarr_stores import zarr_store

Array = npt.NDArray[np.generic]

RECEIPTS, OPEN_ROWS, SUMS, CROSSINGS, ROWS = (
    "receipts",
    "open_rows",
    "sums",
    "crossings",
    "rows.bin",
)
#: Names of what lies there: metadata, the chunks of columns, and of each block its receipt and what
#: that is too small for.
_OWN_NAME = re.compile(
    rf"zarr\.json|[a-z][a-z0-9_]*/(zarr\.json|\d+)|{RECEIPTS}/\d+\.json|{SUMS}/\d+\.npz|({OPEN_ROWS}|{CROSSINGS})/\d+\.bin"
    r"|rows\.bin"
)


@dataclass(frozen=True)
class BlockStore:
    """Columns and receipts, read and written a block at a time."""

    root: Location
    arrays: Mapping[str, ChunkedArray] = field(repr=False)

    def write(self, block: int, columns: Mapping[str, Array]) -> dict[str, str]:
        """Store a block, and return the checksums of its columns; doing it twice leaves what doing
        it once does.
        """
        return {name: self.arrays[name].write(block, column) for name, column in columns.items()}

    def read(self, block: int, names: Iterable[str]) -> dict[str, Array]:
        """Fetch columns of a block."""
        return {name: self.arrays[name].read(block) for name in names}

    def read_checked(
        self, block: int, names: Iterable[str], checksums: Mapping[str, str]
    ) -> dict[str, Array] | None:
        """Fetch columns of a block, or None where one is not what was written."""
        found = {}
        for name in names:
            column = self.arrays[name].read_checked(block, checksums[name])
            if column is None:
                return None
            found[name] = column
        return found

    def put(self, path: str, content: bytes) -> None:
        """Write an object of a block."""
        place = (self.root / path).path
        if isinstance(self.root.fs, LocalFileSystem):
            with open(place, "wb") as file:
                file.write(content)
        else:
            self.root.fs.pipe_file(place, content)

    def get(self, path: str) -> bytes | None:
        """An object of a block, if it is there."""
        try:
            return bytes(self.root.fs.cat_file((self.root / path).path))
        except FileNotFoundError:
            return None

    def forget(self, block: int) -> None:
        """Remove the receipt of a block, if there is one."""
        self.remove(receipt_name(block))

    def remove(self, path: str) -> None:
        """Remove an object of a block, if it is there."""
        with suppress(FileNotFoundError):
            self.root.fs.rm_file((self.root / path).path)

    def receipts(self) -> set[int]:
        """Blocks that have a receipt, in one listing."""
        names = (
            path.rpartition("/")[2].removesuffix(".json")
            for path in self.root.fs.find((self.root / RECEIPTS).path)
        )
        return {int(name) for name in names if name.isdecimal()}


def receipt_name(block: int) -> str:
    """Path of a block's receipt."""
    return f"{RECEIPTS}/{block:08d}.json"


def open_rows_name(block: int) -> str:
    """Path of the rows kept of a block that its evidence leaves open."""
    return f"{OPEN_ROWS}/{block:08d}.bin"


def sums_name(block: int) -> str:
    """Path of a block's sums."""
    return f"{SUMS}/{block:08d}.npz"


def crossings_name(block: int) -> str:
    """Path of where a block's examples cross a curve."""
    return f"{CROSSINGS}/{block:08d}.bin"


def open_arrays(
    root: Location,
    arrays: Mapping[str, ChunkedArray],
    kind: Mapping[str, Any],
    fresh: bool,
    folders: Iterable[str],
) -> str | None:
    """Make room for columns of all rows, and keep what is there if it is of this kind.

    Parameters
    ----------
    root : Location
        Their folder.
    arrays : mapping of str to ChunkedArray
        The columns wanted. Others that are there stay.
    kind : mapping
        What they depend on as a whole.
    fresh : bool
        Keep nothing.
    folders : iterable of str
        Folders to make for the objects of blocks.

    Returns
    -------
    str or None
        Why what was there was not kept, if anything was.
    """
    found = kind_of(root)
    differing = _difference(found, kind) if found is not None else None
    if fresh or found is None or differing:
        _refuse_foreign(root)
        group = zarr.create_group(zarr_store(root), overwrite=True)
        for array in arrays.values():
            array.create()
        _make_folders(root, folders)
        group.attrs.update(kind)  # last: what has no kind is made anew
        return differing or ("it was not asked for" if fresh and found else None)
    for name, array in arrays.items():
        shape = _shape(root / name)
        if shape is None:
            array.create()
        elif shape != array.shape:
            array.resize(array.shape)
    _make_folders(root, folders)  # an older noisydask made fewer
    return None


def _make_folders(root: Location, folders: Iterable[str]) -> None:
    if isinstance(root.fs, LocalFileSystem):  # s3fs would make a bucket that is gone
        for folder in folders:
            root.fs.makedirs((root / folder).path, exist_ok=True)


def kind_of(root: Location) -> dict[str, Any] | None:
    """The kind of what is there."""
    try:
        return dict(zarr.open_group(zarr_store(root, read_only=True), mode="r").attrs)
    except (FileNotFoundError, ValueError, KeyError, TypeError):  # none, or damaged
        return None


def _refuse_foreign(root: Location) -> None:
    """Refuse a place that holds anything whose name is none of ours: it would be deleted."""
    prefix = root.path.rstrip("/") + "/"
    try:
        found = root.fs.find(root.path)
    except FileNotFoundError:
        return
    # Of an empty folder some stores list the folder itself.
    names = [
        path.removeprefix(prefix)
        for path in found
        if path.startswith(prefix) and not path.endswith("/")
    ]
    foreign = [name for name in names if not _OWN_NAME.fullmatch(name)]
    if foreign:
        name = foreign[0]
        raise InputError(
            f"{root.shown} holds {name!r}, which is no evidence, and would be deleted; give out "
            "another place"
        )


def _difference(found: Mapping[str, Any], kind: Mapping[str, Any]) -> str | None:
    """What differs, in words."""
    names = [name for name in kind if found.get(name) != kind[name]]
    said = (
        f"{name.replace('_', ' ')} {found.get(name, 'unknown')} instead of {kind[name]}"
        for name in names
    )
    return f"it has {', '.join(said)}" if names else None


def _shape(place: Location) -> tuple[int, ...] | None:
    try:
        return zarr.open_array(zarr_store(place, read_only=True), mode="r").shape
    except (FileNotFoundError, ValueError, KeyError, TypeError):
        return None
