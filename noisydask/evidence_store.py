"""The evidence of all rows as it is stored, and the receipts that make it the checkpoint.

Below ``OUT/evidence`` there is one Zarr array a column, one chunk a block, and ``receipts/``, one object a block, written
after the block's chunks. Chunks need not be written in one step: one that was cut short does not have the checksum that its
receipt tells, whether the receipt is of this chunk or of an older one.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
import zarr
from fsspec.implementations.local import LocalFileSystem

from noisydask.arrays import zarr_store
from noisydask.blocks import BlockGrid
from noisydask.chunks import ChunkedArray
from noisydask.errors import InputError
from noisydask.evidence import column_dtypes
from noisydask.locations import Location
from noisydask.receipts import EVIDENCE_VERSION, Receipt

Array = npt.NDArray[np.generic]

#: Names of what lies in the evidence: its metadata, the chunks of its columns, the receipts of its blocks.
_EVIDENCE_NAME = re.compile(r"zarr\.json|[a-z][a-z0-9_]*/(zarr\.json|\d+)|receipts/\d+\.json")


@dataclass(frozen=True)
class EvidenceStore:
    """Evidence and receipts, read and written a block at a time."""

    root: Location
    num_classes: int
    arrays: Mapping[str, ChunkedArray] = field(repr=False)

    def write(self, block: int, columns: Mapping[str, Array]) -> dict[str, str]:
        """Store a block, and return the checksums of its columns; doing it twice leaves what doing it once does."""
        return {name: self.arrays[name].write(block, column) for name, column in columns.items()}

    def read(self, block: int, names: Iterable[str]) -> dict[str, Array]:
        """Fetch columns of a block."""
        return {name: self.arrays[name].read(block) for name in names}

    def read_checked(self, block: int, names: Iterable[str], checksums: Mapping[str, str]) -> dict[str, Array] | None:
        """Fetch columns of a block, or None where one is not what was written."""
        found = {}
        for name in names:
            column = self.arrays[name].read_checked(block, checksums[name])
            if column is None:
                return None
            found[name] = column
        return found

    def write_receipt(self, block: int, receipt: Receipt) -> None:
        """Vouch for a block whose evidence is stored."""
        path, content = self._receipt(block), receipt.to_bytes()
        if isinstance(self.root.fs, LocalFileSystem):
            with open(path, "wb") as file:
                file.write(content)
        else:
            self.root.fs.pipe_file(path, content)

    def read_receipt(self, block: int) -> Receipt | None:
        """The receipt of a block, if there is one and it is whole."""
        try:
            return Receipt.from_bytes(self.root.fs.cat_file(self._receipt(block)), self.num_classes)
        except FileNotFoundError:
            return None

    def receipts(self) -> set[int]:
        """Blocks that have a receipt, in one listing."""
        names = (path.rpartition("/")[2].removesuffix(".json") for path in self.root.fs.find((self.root / "receipts").path))
        return {int(name) for name in names if name.isdecimal()}

    def _receipt(self, block: int) -> str:
        return (self.root / f"receipts/{block:08d}.json").path


def open_evidence(
    root: Location, grid: BlockGrid, num_classes: int, dtype: np.dtype[Any], columns: Iterable[str], fresh: bool
) -> tuple[EvidenceStore, str | None]:
    """Make room for the evidence of all rows, and keep what is there if it is of this kind.

    Parameters
    ----------
    root : Location
        The folder of the evidence.
    grid : BlockGrid
        The blocks; where rows were appended, all blocks but the last keep their place.
    num_classes, dtype, columns
        Number of classes and type of the probabilities, and the columns wanted. Others that are there stay.
    fresh : bool
        Keep nothing.

    Returns
    -------
    EvidenceStore, str or None
        The store, and why what was there was not kept, if anything was.
    """
    chunk_rows = min(grid.block_rows, grid.rows)
    kind: dict[str, Any] = {
        "evidence_version": EVIDENCE_VERSION, "classes": num_classes, "dtype": str(dtype), "block_rows": grid.block_rows,
        "chunk_rows": chunk_rows,
    }  # fmt: skip
    dtypes = column_dtypes(num_classes, dtype, columns)
    arrays = {name: ChunkedArray(root, name, (grid.rows,), chunk_rows, kinds) for name, kinds in dtypes.items()}
    store = EvidenceStore(root, num_classes, arrays)
    found = _what_is_there(root)
    differing = _difference(found, kind) if found is not None else None
    if fresh or found is None or differing:
        _refuse_foreign(root)
        group = zarr.create_group(zarr_store(root), overwrite=True)
        for array in arrays.values():
            array.create()
        if isinstance(root.fs, LocalFileSystem):  # s3fs would make a bucket that is gone
            root.fs.makedirs((root / "receipts").path, exist_ok=True)
        group.attrs.update(kind)  # last: what has no kind is made anew
        return store, differing or ("it was not asked for" if fresh and found else None)
    for name, array in arrays.items():
        shape = _shape(root / name)
        if shape is None:
            array.create()
        elif shape != array.shape:
            array.resize(array.shape)
    return store, None


def _refuse_foreign(evidence: Location) -> None:
    """Refuse a place for evidence that holds anything whose name is none of evidence's: it would be deleted."""
    prefix = evidence.path.rstrip("/") + "/"
    try:
        found = evidence.fs.find(evidence.path)
    except FileNotFoundError:
        return
    # Of an empty folder some stores list the folder itself.
    names = [path.removeprefix(prefix) for path in found if path.startswith(prefix) and not path.endswith("/")]
    foreign = [name for name in names if not _EVIDENCE_NAME.fullmatch(name)]
    if foreign:
        name = foreign[0]
        raise InputError(f"{evidence.shown} holds {name!r}, which is no evidence, and would be deleted; give out another place")


def _what_is_there(root: Location) -> dict[str, Any] | None:
    """The attributes of the evidence's group."""
    try:
        return dict(zarr.open_group(zarr_store(root, read_only=True), mode="r").attrs)
    except (FileNotFoundError, ValueError, KeyError, TypeError):  # none, or damaged
        return None


def _difference(found: Mapping[str, Any], kind: Mapping[str, Any]) -> str | None:
    """What differs, in words."""
    names = [name for name in kind if found.get(name) != kind[name]]
    said = (f"{name.replace('_', ' ')} {found.get(name, 'unknown')} instead of {kind[name]}" for name in names)
    return f"it has {', '.join(said)}" if names else None


def _shape(place: Location) -> tuple[int, ...] | None:
    try:
        return zarr.open_array(zarr_store(place, read_only=True), mode="r").shape
    except (FileNotFoundError, ValueError, KeyError, TypeError):
        return None
