"""What processes wrote of predictions: files of rows, each with the rows' positions or ids.

A file is Arrow's, of record batches of one length, so that a range of its rows is read alone; its
rows are in the order of their positions.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from io import BytesIO
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from noisydask.errors import InputError
from noisydask.stores.locations import Location

Array = npt.NDArray[Any]
Int64s = npt.NDArray[np.int64]

#: Folder of the files, below the one of the writer.
FOLDER = "written"
ENDING = ".arrow"
#: Bytes of a record batch.
_BATCH_BYTES = 1 << 21


def packed(rows: Array, pred_probs: Array, labels: Array | None) -> bytes:
    """Return a file of rows: positions (int64) or ids (int64, or text as objects), probabilities,
    and labels where there are any.
    """
    order = np.argsort(rows, kind="stable")
    probs = np.ascontiguousarray(pred_probs[order])
    lists = pa.FixedSizeListArray.from_arrays(pa.array(probs.ravel()), probs.shape[1])
    columns = {"row": pa.array(rows[order]), "probs": lists}
    if labels is not None:
        columns["label"] = pa.array(labels[order])
    table = pa.table(columns)
    step = max(1, _BATCH_BYTES // max(1, probs.itemsize * probs.shape[1]))
    table = table.replace_schema_metadata({"batch_rows": str(step)})
    buffer = BytesIO()
    with pa.ipc.new_file(buffer, table.schema) as writer:
        writer.write_table(table, max_chunksize=step)
    return buffer.getvalue()


@dataclass(frozen=True)
class WrittenFile:
    """A file, as a task saw it.

    Attributes
    ----------
    name : str
        Its name.
    rows : int
        Its rows.
    low, high : int
        Its smallest and largest position; 0 where it has ids.
    num_classes : int
        Columns of the probabilities.
    dtype : str
        Their type.
    row_kind : str
        Type of positions or ids: "int64" or "text".
    labeled : bool
        Whether it has labels.
    """

    name: str
    rows: int
    low: int
    high: int
    num_classes: int
    dtype: str
    row_kind: str
    labeled: bool

    @classmethod
    def look(cls, folder: Location, name: str) -> WrittenFile:
        """Look at a file."""
        with _opened(folder / name) as file:
            kind = file.schema.field("probs").type
            numbers = pa.types.is_integer(file.schema.field("row").type)
        rows = read_rows(folder, name)
        ends = (int(rows[0]), int(rows[-1])) if numbers and len(rows) else (0, 0)
        return cls(
            name,
            len(rows),
            *ends,
            kind.list_size,
            str(np.dtype(kind.value_type.to_pandas_dtype())),
            "int64" if numbers else "text",
            "label" in file.schema.names,
        )

    @property
    def kind(self) -> tuple[Any, ...]:
        """What all files must have alike."""
        return self.num_classes, self.dtype, self.row_kind, self.labeled


def read_rows(folder: Location, name: str) -> Array:
    """Read positions or ids of all rows of a file."""
    with _opened(folder / name, [0]) as file:
        parts = [file.get_batch(k).column(0) for k in range(file.num_record_batches)]
        return np.concatenate([part.to_numpy(zero_copy_only=False) for part in parts])


def read_range(
    folder: Location, file: WrittenFile, start: int, stop: int
) -> tuple[Array, Array | None]:
    """Read probabilities and labels of a range of rows of a file."""
    probs = np.empty((stop - start, file.num_classes), file.dtype)
    labels = np.empty(stop - start, np.int64) if file.labeled else None
    with _opened(folder / file.name) as opened:
        step = int(opened.schema.metadata[b"batch_rows"])
        for number in range(start // step, -(-stop // step)):
            batch = opened.get_batch(number)
            first = number * step
            low, high = max(start, first), min(stop, first + batch.num_rows)
            part = slice(low - start, high - start)
            some = batch.slice(low - first, high - low)
            probs[part] = some.column("probs").flatten().to_numpy().reshape(high - low, -1)
            if labels is not None:
                labels[part] = some.column("label").to_numpy()
    return probs, labels


@contextmanager
def _opened(place: Location, fields: list[int] | None = None) -> Iterator[Any]:
    options = pa.ipc.IpcReadOptions(use_threads=False)
    if fields is not None:
        options.included_fields = fields
    if place.is_local:
        with pa.memory_map(place.path) as source:
            yield pa.ipc.open_file(source, options=options)
        return
    with place.open() as handle, pa.PythonFile(handle, mode="r") as source:
        yield pa.ipc.open_file(source, options=options)


def list_written(folder: Location) -> Mapping[str, Any]:
    """Return the files that were written, by name, in order.

    Raises
    ------
    InputError
        If there are none.
    """
    names = {name: info for name, info in folder.list().items() if name.endswith(ENDING)}
    names = {name: info for name, info in names.items() if not name.startswith(".")}
    if not names:
        raise InputError(f"there are no predictions in {folder.shown}: was anything written?")
    return dict(sorted(names.items()))
