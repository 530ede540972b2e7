"""What an input is, what the main job would do with it, and what is wrong with it: a look that
reads its first rows only.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, cast

import numpy as np
import numpy.typing as npt

from noisydask.core.blocks import BLOCKS_IN_MEMORY, BlockGrid, plan_blocks
from noisydask.core.evidence import scan_rows
from noisydask.core.problems import ROW_KINDS
from noisydask.core.row_kernel import Problem
from noisydask.stores.arrays import Rows, open_rows
from noisydask.stores.fingerprints import snapshots
from noisydask.stores.locations import Location
from noisydask.stores.tables.class_columns import ClassColumns
from noisydask.stores.tables.table_column import TableColumn
from noisydask.stores.tables.table_matrix import TableMatrix
from noisydask.stores.urls import split_column
from noisydask.stores.zarr_rows import ZarrRows
from noisydask.text import counted

#: Rows that are shown, and read to see what they hold.
_SHOWN, _LOOKED_AT = 5, 10_000
#: Bytes of chunks below and above which the job is slow, or takes much memory.
_SMALL, _LARGE = 1 << 18, 1 << 30
#: Bytes of data of which it matters.
_MUCH = 1 << 26


@dataclass(frozen=True)
class Inspection:
    """What is known of an input.

    Attributes
    ----------
    url, kind : str
        Where it lies, and what it is.
    rows : Rows
        The input, opened.
    stored_bytes : int
        Bytes of all its objects.
    first : ndarray
        Its first rows.
    grid : BlockGrid, optional
        The blocks of a job on probabilities.
    notes : list of str
        What else is to be said.
    wrong : list of str
        What is wrong with it.
    """

    url: str
    kind: str
    rows: Rows
    stored_bytes: int
    first: npt.NDArray[Any]
    grid: BlockGrid | None
    notes: list[str] = field(default_factory=list)
    wrong: list[str] = field(default_factory=list)

    @property
    def block_bytes(self) -> int:
        """Bytes of a block, decoded."""
        if self.grid is None:
            return 0
        return min(self.grid.block_rows, self.grid.rows) * self.grid.row_bytes

    @property
    def worker_bytes(self) -> int:
        """Bytes that a thread of a worker holds at most, about."""
        return BLOCKS_IN_MEMORY * self.block_bytes


def inspect(
    url: str,
    class_columns: str | None = None,
    storage_options: Mapping[str, Any] | None = None,
) -> Inspection:
    """Look at an input.

    Parameters
    ----------
    url : str
        As the job takes ``pred_probs``, ``labels`` or ``ids``.
    class_columns : str, optional
        Columns of a table that are classes.
    storage_options : mapping, optional
        fsspec options.

    Raises
    ------
    InputError
        If there is nothing that can be read.

    Examples
    --------
    >>> import tempfile
    >>> file = tempfile.mkdtemp() + "/p.npy"
    >>> np.save(file, np.array([[0.9, 0.1], [0.2, 0.9]], np.float32))
    >>> inspect(file).wrong
    ['1 of the first 2 rows with probabilities that do not sum to 1 (are they logits, or ...']
    """
    rows = cast(Rows, open_rows(url, "the input", storage_options, ClassColumns(class_columns)))
    place = Location.of(split_column(url)[0], storage_options, "the input")
    found = Inspection(
        rows.url,
        _kind(rows),
        rows,
        _stored_bytes(place),
        rows.read(0, min(_SHOWN, rows.shape[0])),
        _grid(rows),
    )
    _look_at_chunks(found)
    _look_at_rows(found)
    return found


def _kind(rows: Rows) -> str:
    if isinstance(rows, ZarrRows):
        sharded = ", sharded" if rows.array.shards else ""
        codecs = ", ".join(type(codec).__name__ for codec in rows.array.compressors)
        packed = f", {codecs}" if codecs else ", not compressed"
        return f"Zarr array, format {rows.array.metadata.zarr_format}{packed}{sharded}"
    if isinstance(rows, TableMatrix | TableColumn):
        files = rows.files
        name = {"parquet": "Parquet", "csv": "CSV", "arrow": "Arrow"}[files.format]
        what = "a column" if isinstance(rows, TableColumn) else "columns of classes"
        if isinstance(rows, TableMatrix) and rows.listed:
            what = "a column of lists"
        many = counted(len(files.files), "file"), counted(len(files.file_of), "piece")
        return f"{what} of {name}, {' in '.join(reversed(many))}"
    return "NumPy array"


def _stored_bytes(place: Location) -> int:
    sizes = [int(info.get("size") or 0) for info in place.list().values()]
    return sum(sizes) if sizes else int(place.fs.size(place.path) or 0)


def _grid(rows: Rows) -> BlockGrid | None:
    if len(rows.shape) != 2 or not all(rows.shape) or rows.dtype.kind not in "fiu":
        return None
    width = rows.shape[1] * rows.dtype.itemsize
    return plan_blocks(rows.shape[0], width, max(1, rows.chunk_rows))


def _look_at_chunks(found: Inspection) -> None:
    rows = found.rows
    snapshot = snapshots({"input": rows})["input"]
    if not snapshot.identified:
        found.notes.append("the store tells no versions: every run reads all of it")
    missing, empty = snapshot.absent
    if missing or empty:
        first = (missing + empty)[0]
        found.wrong.append(
            f"{len(missing) + len(empty):,} chunks are not stored, or empty; the first is "
            f"{first.key}, rows {first.start:,} to {first.stop - 1:,}"
        )
    if found.grid is None:
        return
    chunk_bytes = rows.chunk_rows * rows.shape[1] * rows.dtype.itemsize
    if rows.chunk_columns not in (0, rows.shape[1]):
        found.notes.append("chunks split the classes: each row is put together of several")
    if isinstance(rows, ZarrRows) and chunk_bytes < _SMALL < _MUCH < rows.num_bytes:
        found.notes.append("chunks are small: convert it for faster reading (noisydask convert)")
    if chunk_bytes > _LARGE:
        found.notes.append("chunks are large, and a worker holds three: convert it")


def _look_at_rows(found: Inspection) -> None:
    """Check the first rows as the job does."""
    rows = found.rows
    looked = rows.read(0, min(_LOOKED_AT, rows.shape[0]))
    if len(rows.shape) == 2 and rows.dtype.kind == "f" and all(rows.shape):
        evidence = scan_rows(looked, np.zeros(len(looked), np.int64))
        for kind in (Problem.NOT_FINITE, Problem.OUT_OF_RANGE, Problem.ROW_SUM):
            count = int(np.count_nonzero(evidence.problems == kind))
            if count:
                words = ROW_KINDS.words[kind]
                found.wrong.append(f"{count:,} of the first {len(looked):,} rows with {words}")
    elif len(rows.shape) == 2:
        found.wrong.append(
            f"pred_probs of {rows.dtype} must be said to be quantised (--scale) or votes "
            "(--normalize)"
        )
    elif len(rows.shape) == 1:
        values, counts = np.unique(looked, return_counts=True)
        told = ", ".join(
            f"{value} ({count:,})" for value, count in zip(values[:10], counts[:10], strict=True)
        )
        more = f", and {len(values) - 10:,} more" if len(values) > 10 else ""
        found.notes.append(
            f"{len(values):,} values in the first {len(looked):,} rows: {told}{more}"
        )
    else:
        found.wrong.append(f"it has {len(rows.shape)} dimensions, not one or two")
