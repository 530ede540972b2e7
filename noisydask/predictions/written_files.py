"""What processes wrote of predictions: files of rows, each with the rows' positions or ids.

A file is Arrow's, of record batches of one length; its rows are in the order of their positions or
ids, and its metadata say what each batch begins with: the rows of a range are read alone.
"""

from __future__ import annotations

import hashlib
import json
from bisect import bisect_left, bisect_right
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from io import BytesIO
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from noisydask.errors import InputError
from noisydask.stores.arrow_sources import open_source
from noisydask.stores.locations import Location

Array = npt.NDArray[Any]
Int64s = npt.NDArray[np.int64]
#: A position or an id.
Name = int | str

#: Folder of the files, below the one of the writer.
FOLDER = "written"
ENDING = ".arrow"
VERSION = 1
_ABOUT = "noisydask"
#: Bytes of a record batch.
_BATCH_BYTES = 1 << 21


class Part(NamedTuple):
    """Rows: positions (int64) or ids (int64, or text as objects), probabilities, and labels where
    there are any.

    Where only the most probable of ``all_classes`` are kept, a row of ``pred_probs`` is what
    :func:`flat_rows` makes of it.
    """

    rows: Array
    pred_probs: Array
    labels: Array | None
    all_classes: int = 0

    @property
    def top(self) -> int:
        """Classes that are kept of a row of :func:`flat_rows`."""
        return (self.pred_probs.shape[1] - 1) // 2


def flat_rows(probs: Array, classes: Array, given: Array) -> Array:
    """Return rows of k probabilities, the bits of their classes, and the probability of the given
    label: (n, 2 k + 1), of one type.
    """
    bits = classes.astype(f"u{probs.itemsize}").view(probs.dtype)
    return np.concatenate([probs, bits, given[:, None]], axis=1)


def parts_of(flat: Array) -> tuple[Array, Array, Array]:
    """Return what :func:`flat_rows` put together.

    Examples
    --------
    >>> flat = flat_rows(np.ones((1, 2), "f4"), np.array([[70_000, 3]]), np.zeros(1, "f4"))
    >>> parts_of(flat)[1].tolist()
    [[70000, 3]]
    """
    k = (flat.shape[1] - 1) // 2
    bits = np.ascontiguousarray(flat[:, k : 2 * k]).view(f"u{flat.itemsize}")
    return flat[:, :k], bits.astype(np.uint32), flat[:, 2 * k]


@dataclass(frozen=True)
class Kind:
    """The kind of predictions, which all files of a folder have alike.

    Attributes
    ----------
    num_classes : int
        Columns of the probabilities.
    dtype : str
        Their type.
    rows : str
        How rows are named: "position", "number" or "text".
    labeled : bool
        Whether they have labels.
    num_examples : int or None
        Number of examples, where rows have positions.
    names : str
        Digest of the names of the classes; empty where there are none.
    top, all_classes : int
        Where only the most probable classes are kept: how many of how many; else 0.
    """

    num_classes: int
    dtype: str
    rows: str
    labeled: bool
    num_examples: int | None
    names: str
    top: int = 0
    all_classes: int = 0

    @classmethod
    def of(cls, part: Part, num_examples: int | None, class_names: Sequence[str] | None) -> Kind:
        """Return what a part is like."""
        rows = "number" if part.rows.dtype.kind == "i" else "text"
        if num_examples is not None:
            rows = "position"
        names = ""
        if class_names is not None:
            names = hashlib.sha256(json.dumps(class_names).encode()).hexdigest()[:16]
        width, dtype = part.pred_probs.shape[1], str(part.pred_probs.dtype)
        labeled = part.labels is not None
        top = part.top if part.all_classes else 0
        return cls(width, dtype, rows, labeled, num_examples, names, top, part.all_classes)

    @property
    def told(self) -> str:
        """What this is, in words."""
        rows = f"rows by {'id, a number' if self.rows == 'number' else 'id, a text'}"
        if self.num_examples is not None:
            rows = f"rows by position among {self.num_examples:,}"
        labels = "labels" if self.labeled else "no labels"
        names = "names of classes" if self.names else "no names of classes"
        if self.top:
            kept = f"the first {self.top:,} of {self.all_classes:,} classes"
            return f"{kept}, of {self.dtype}, {rows}, {labels}, {names}"
        return f"{self.num_classes:,} classes of {self.dtype}, {rows}, {labels}, {names}"


def packed(
    parts: Sequence[Part], num_examples: int | None, class_names: Sequence[str] | None
) -> bytes:
    """Return a file of the rows of parts of one kind; those of one name stay in their order."""
    kind = Kind.of(parts[0], num_examples, class_names)
    rows = np.concatenate([part.rows for part in parts])
    order = np.argsort(rows, kind="stable")
    rows = rows[order]
    probs = np.concatenate([part.pred_probs for part in parts])[order]
    lists = pa.FixedSizeListArray.from_arrays(pa.array(probs.ravel()), kind.num_classes)
    columns = {"row": pa.array(rows), "probs": lists}
    if kind.labeled:
        columns["label"] = pa.array(np.concatenate([part.labels for part in parts])[order])
    step = max(1, _BATCH_BYTES // (probs.itemsize * kind.num_classes))
    about = {
        "version": VERSION,
        "kind": asdict(kind),
        "class_names": class_names,
        "rows": len(rows),
        "firsts": rows[::step].tolist(),
        "last": rows[-1:].tolist()[0],
    }
    table = pa.table(columns).replace_schema_metadata({_ABOUT: json.dumps(about)})
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
    kind : Kind
        What it is like.
    rows : int
        Its rows.
    low, high : int or str
        Its smallest and largest position or id.
    firsts : tuple of str or int
        Ids that its batches begin with; none where it has positions.
    """

    name: str
    kind: Kind
    rows: int
    low: Name
    high: Name
    firsts: tuple[Name, ...]

    @classmethod
    def look(cls, folder: Location, name: str) -> WrittenFile:
        """Look at a file.

        Raises
        ------
        InputError
            If it is of another version of this format.
        """
        with _opened(folder / name) as file:
            about = _about(file)
        version = about.get("version")
        if version != VERSION:
            raise InputError(
                f"{(folder / name).shown} is of version {version} of this format, not {VERSION}: "
                "finish with the noisydask that wrote it"
            )
        kind, firsts = Kind(**about["kind"]), about["firsts"]
        kept = () if kind.rows == "position" else tuple(firsts)
        return cls(name, kind, about["rows"], firsts[0], about["last"], kept)


def class_names_of(folder: Location, name: str) -> list[str] | None:
    """Return what the columns are called, as the writer of a file was told."""
    with _opened(folder / name) as file:
        names: list[str] | None = _about(file)["class_names"]
        return names


def batches_between(
    folder: Location, name: str, low: Name, high: Name, names_alone: bool = False
) -> Iterator[pa.RecordBatch]:
    """Iterate over the batches of a file that may hold positions or ids from ``low`` to ``high``,
    both included; with ``names_alone`` nothing else is read of them.
    """
    with _opened(folder / name, [0] if names_alone else None) as file:
        firsts = _about(file)["firsts"]
        # Rows of one name may begin at the end of the batch before.
        begin = max(0, bisect_left(firsts, low) - 1)
        for number in range(begin, bisect_right(firsts, high)):
            yield file.get_batch(number)


class Range(NamedTuple):
    """Ids from ``low`` to ``high``, which is one of them in the last range alone."""

    low: Name
    high: Name
    last: bool

    def of(self, names: pa.Array) -> pa.Array:
        """Return those of some ids that are in the range."""
        below = (pc.less_equal if self.last else pc.less)(names, self.high)
        return names.filter(pc.and_(pc.greater_equal(names, self.low), below))


def names_between(folder: Location, files: Sequence[str], ids: Range) -> pa.Array:
    """Return distinct ids of files that are in a range, ascending."""
    found = [
        ids.of(batch.column("row"))
        for name in files
        for batch in batches_between(folder, name, ids.low, ids.high, names_alone=True)
    ]
    distinct = pc.unique(pa.chunked_array(found))
    return distinct.take(pc.sort_indices(distinct))


def _about(file: Any) -> dict[str, Any]:
    about: dict[str, Any] = json.loads((file.schema.metadata or {}).get(_ABOUT.encode(), "{}"))
    return about


@contextmanager
def _opened(place: Location, fields: list[int] | None = None) -> Iterator[Any]:
    options = pa.ipc.IpcReadOptions(use_threads=False)
    if fields is not None:
        options.included_fields = fields
    with open_source(place) as source:
        yield pa.ipc.open_file(source, options=options)


def list_written(folder: Location) -> list[str]:
    """Return the names of the files that were written, in order.

    Raises
    ------
    InputError
        If there are none.
    """
    names = [name for name in folder.list() if name.endswith(ENDING) and not name.startswith(".")]
    if not names:
        raise InputError(f"there are no predictions in {folder.shown}: was anything written?")
    return sorted(names)
