"""Look at an input: its kind, how the main job would read it, and what is wrong with it. Only its
first rows are read.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, cast

import numpy as np
import numpy.typing as npt
import pandas as pd

from noisydask.core.blocks import BLOCKS_IN_MEMORY, BlockGrid, plan_blocks
from noisydask.core.evidence import scan_rows
from noisydask.core.problems import ROW_KINDS
from noisydask.core.row_kernel import Problem
from noisydask.engine.tasks import SCAN_TASKS, tasks_of
from noisydask.stores.arrays import Rows, open_rows
from noisydask.stores.fingerprints import snapshots
from noisydask.stores.locations import Location
from noisydask.stores.tables.class_columns import ClassColumns
from noisydask.stores.tables.table_column import TableColumn
from noisydask.stores.tables.table_matrix import TableMatrix
from noisydask.stores.urls import split_column
from noisydask.stores.zarr_rows import ZarrRows
from noisydask.text import counted, shortened

#: Rows that are shown; rows, and bytes of them, that are read to see what they hold.
_SHOWN, _LOOKED_AT, _LOOKED_AT_BYTES = 5, 10_000, 1 << 25
#: Values of a column that are named.
_NAMED = 10
#: Bytes of chunks below and above which the job is slow, or takes much memory.
_SMALL, _LARGE = 1 << 18, 1 << 30
#: Bytes of data of which it matters.
_MUCH = 1 << 26


@dataclass(frozen=True)
class Inspection:
    """An input that was looked at.

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
    def chunks(self) -> str:
        """How rows are kept together, in words; empty where each is by itself."""
        if isinstance(self.rows, ZarrRows):
            array = self.rows.array
            shards = f" in shards of {by(array.shards)}" if array.shards else ""
            return f"{by(array.chunks)}{shards}"
        return f"{self.rows.chunk_rows:,} rows" if self.rows.chunk_rows > 1 else ""

    @property
    def num_tasks(self) -> int:
        """Tasks of a pass over all blocks, on the active client or scheduler."""
        return 0 if self.grid is None else len(tasks_of(self.grid.num_blocks, SCAN_TASKS))

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
    ['1 of the first 2 rows with probabilities that do not sum to 1 (are they logits, ...']
    """
    rows = cast(Rows, open_rows(url, "the input", storage_options, ClassColumns(class_columns)))
    place = Location.of(split_column(url)[0], storage_options, "the input")
    looked = _read(rows, _rows_to_look_at(rows))
    first = looked[:_SHOWN].copy()
    found = Inspection(rows.url, _kind(rows), rows, _stored_bytes(place), first, _grid(rows))
    _look_at_chunks(found)
    _look_at_values(found, looked)
    return found


def _read(rows: Rows, stop: int) -> npt.NDArray[Any]:
    """Read the first rows; of a column None where a cell is empty, which labels may be."""
    if not isinstance(rows, TableColumn):
        return rows.read(0, stop)
    parts = [np.asarray(part.to_pandas()) for part in rows.values(0, stop)]
    return np.concatenate(parts) if parts else rows.read(0, 0)


def _rows_to_look_at(rows: Rows) -> int:
    """Return a number of rows of which few bytes are read, however wide they are."""
    row_bytes = max(1, rows.num_bytes // max(1, rows.shape[0]))
    return min(rows.shape[0], _LOOKED_AT, max(_SHOWN, _LOOKED_AT_BYTES // row_bytes))


def by(sizes: tuple[int, ...]) -> str:
    """Return a shape for people.

    Examples
    --------
    >>> by((1000, 10))
    '1,000 x 10'
    """
    return " x ".join(f"{size:,}" for size in sizes)


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
        number = len(missing) + len(empty)
        found.wrong.append(
            f"{counted(number, 'chunk')} {'is' if number == 1 else 'are'} not stored, or empty; "
            f"the first is {first.key}, rows {first.start:,} to {first.stop - 1:,}"
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


def _look_at_values(found: Inspection, looked: npt.NDArray[Any]) -> None:
    """Check the first rows as the job does."""
    shape = found.rows.shape
    if not all(shape):
        found.wrong.append("it is empty: there is nothing to look at")
    elif len(shape) == 2:
        found.wrong.extend(_ails_probabilities(looked))
    elif len(shape) == 1:
        found.notes.append(_values_told(looked))
        found.wrong.extend(_ails_labels(looked))
    else:
        found.wrong.append(f"it has {len(shape)} dimensions, not one or two")


def _ails_probabilities(looked: npt.NDArray[Any]) -> Iterator[str]:
    if looked.dtype.kind in "iu":
        yield (
            f"pred_probs of {looked.dtype} must be said to be quantised (--scale) or votes "
            "(--normalize)"
        )
    elif looked.dtype not in (np.float16, np.float32, np.float64):
        yield f"pred_probs must be float16, float32 or float64, not {looked.dtype}"
    else:
        problems = scan_rows(looked, np.zeros(len(looked), np.int64)).problems
        for kind in (Problem.NOT_FINITE, Problem.OUT_OF_RANGE, Problem.ROW_SUM):
            count = int(np.count_nonzero(problems == kind))
            if count:
                yield f"{count:,} of the first {len(looked):,} rows with {ROW_KINDS.words[kind]}"


def _ails_labels(looked: npt.NDArray[Any]) -> Iterator[str]:
    empty = int(pd.isna(looked).sum())
    values = looked[~pd.isna(looked)]
    if empty:
        yield f"{counted(empty, 'empty cell')} in the first {len(looked):,} rows"
    elif looked.dtype.kind not in "iubOUT":
        yield f"neither labels nor ids: these are integers or text, not {looked.dtype}"
    if values.dtype.kind in "if" and (values < 0).any():
        count = int(np.count_nonzero(values < 0))
        yield f"labels below 0 are no classes: {count:,} of the first {len(looked):,} values"


def _values_told(looked: npt.NDArray[Any]) -> str:
    values, counts = np.unique(looked[~pd.isna(looked)], return_counts=True)
    where = f"in the first {len(looked):,} rows"
    if len(values) == len(looked) > _NAMED:
        return f"{len(values):,} values {where}, each once"
    named = zip(values[:_NAMED], counts[:_NAMED], strict=True)
    told = ", ".join(f"{shortened(str(value), 24)} ({count:,})" for value, count in named)
    more = f", and {len(values) - _NAMED:,} more" if len(values) > _NAMED else ""
    return f"{counted(len(values), 'value')} {where}: {told}{more}"
