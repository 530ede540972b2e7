"""Rows of a table on their way to the parts that take in whole examples.

Each unit of the table leaves one file in the run, its *piece*: the rows of part 0, of part 1, and
so on, each as a stream of Arrow, after the positions at which these begin. A part then reads its
section of every piece. So a worker holds a unit or a part and nothing else, a task that runs twice
leaves the same, and what was moved outlives the worker that moved it.
"""

from __future__ import annotations

import io
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from noisydask.core.row_order import order_of_parts, parts_of_numbers, parts_of_texts
from noisydask.dynamics.loss_rows import LossRows, joined_rows
from noisydask.runs.store import RunStore

Array = npt.NDArray[Any]

#: The folder of a run in which pieces lie until they were read.
FOLDER = "pieces"
#: Sections that a part reads at once.
_READERS = 8
_POSITION = np.dtype("<i8")


@dataclass(frozen=True)
class Pieces:
    """The pieces of all units, each cut into as many sections as there are parts."""

    run: RunStore = field(repr=False)
    units: int
    parts: int

    def write(self, unit: int, rows: LossRows) -> None:
        """Write the piece of a unit; doing it twice leaves what doing it once does."""
        content, begins = io.BytesIO(), []
        content.write(bytes((self.parts + 1) * _POSITION.itemsize))
        for section in sections(rows, self.parts):
            begins.append(content.tell())
            if len(section):
                batch = section.to_arrow()
                with pa.ipc.new_stream(content, batch.schema) as stream:
                    stream.write_batch(batch)
        positions = np.array([*begins, content.tell()], _POSITION)
        content.seek(0)
        content.write(positions.tobytes())
        (self.run.place / self._name(unit)).write(content.getbuffer())

    def read(self, part: int) -> LossRows | None:
        """Return all rows of a part, in order of the units; None where there are none."""
        with ThreadPoolExecutor(_READERS) as pool:
            found = pool.map(lambda unit: self._section(unit, part), range(self.units))
            some = [rows for rows in found if rows is not None]
        return joined_rows(some) if some else None

    def _section(self, unit: int, part: int) -> LossRows | None:
        place, first = self.run.place / self._name(unit), part * _POSITION.itemsize
        begin, end = np.frombuffer(place.read(first, first + 2 * _POSITION.itemsize), _POSITION)
        if begin == end:
            return None
        with pa.ipc.open_stream(pa.py_buffer(place.read(int(begin), int(end)))) as stream:
            return LossRows.of_arrow(stream.read_all())

    def _name(self, unit: int) -> str:
        return f"{FOLDER}/{unit:05d}.arrow"


def sections(rows: LossRows, num_parts: int) -> Iterator[LossRows]:
    """Yield the rows of each part, those of an id in one part only; columns are as narrow as they
    can be, and a section of texts knows no other ids than its own.

    Examples
    --------
    >>> rows = LossRows({"id": np.array([7, 8, 9, 7]), "loss": np.array([1.0, 2, 3, 4])}, {})
    >>> [section["loss"].tolist() for section in sections(rows, 3)]
    [[2.0], [1.0, 3.0, 4.0], []]
    """
    columns, texts_of_part = dict(rows.columns), [rows.texts] * num_parts
    if "id" in rows.texts:
        names = rows.texts["id"]
        parts = parts_of_texts(*_letters(names), num_parts)
        order, starts = order_of_parts(parts, num_parts)
        places = np.empty(len(names), np.int32)
        places[order] = np.arange(len(names)) - np.repeat(starts[:-1], np.diff(starts))
        parts, columns["id"] = parts[columns["id"]], places[columns["id"]]
        own = [names.take(pa.array(order[low:high])) for low, high in pairwise(starts)]
        texts_of_part = [{**rows.texts, "id": some} for some in own]
    else:
        parts = parts_of_numbers(columns["id"], num_parts)
    order, starts = order_of_parts(parts, num_parts)
    columns = {name: np.take(_narrow(column), order) for name, column in columns.items()}
    for (low, high), texts in zip(pairwise(starts), texts_of_part, strict=True):
        yield LossRows({name: column[low:high] for name, column in columns.items()}, texts)


def _letters(texts: Any) -> tuple[npt.NDArray[np.int64], Array]:
    """Return where each text begins, and the bytes of all."""
    _, starts, letters = texts.buffers()
    begins = np.frombuffer(starts, np.int64)[texts.offset : texts.offset + len(texts) + 1]
    return begins, np.frombuffer(letters or b"", np.uint8)


def _narrow(column: Array) -> Array:
    """Return integers in as few bytes as they need."""
    if column.dtype.kind != "i" or not len(column):
        return column
    low, high = column.min(), column.max()
    for kind in (np.int8, np.int16, np.int32):
        if np.iinfo(kind).min <= low and high <= np.iinfo(kind).max:
            return column.astype(kind)
    return column
