"""Rows of a table of losses in memory: columns of numbers, and texts by their position among the
distinct ones.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from noisydask.core.distinct import distinct

Array = npt.NDArray[Any]
Codes = npt.NDArray[np.int32]

_TEXT = pa.large_string()


@dataclass(frozen=True, eq=False)
class LossRows:
    """Rows by our names of the columns.

    Attributes
    ----------
    columns : mapping of str to ndarray, (n,)
        Integers, and ``loss``, float32 or float64. Of a text its position in ``texts``.
    texts : mapping of str to pyarrow.LargeStringArray
        By the name of a text column the texts that are in it, each once, and maybe more.
    """

    columns: Mapping[str, Array]
    texts: Mapping[str, Any]

    def __len__(self) -> int:
        return len(self.columns["loss"])

    def __contains__(self, name: str) -> bool:
        return name in self.columns

    def __getitem__(self, which: Any) -> Any:
        """Return the values of a column by its name; or some rows, by a mask or their positions."""
        if isinstance(which, str):
            return self.values(which, slice(None))
        return LossRows({name: values[which] for name, values in self.columns.items()}, self.texts)

    def values(self, name: str, rows: Any) -> Array:
        """Return values of a column in some rows; texts as Python's."""
        if name not in self.texts:
            return self.columns[name][rows]
        texts = np.asarray(self.texts[name].to_numpy(zero_copy_only=False), object)
        return texts[self.columns[name][rows]]

    def codes(self, names: Sequence[str]) -> tuple[Codes, int]:
        """Return integers that order like the values of some columns, the first deciding first,
        and how many there are: all below that are in it.
        """
        found, count = self._codes(names[0])
        for name in names[1:]:
            more, times = self._codes(name)
            values, found = distinct(found.astype(np.int64) * times + more)
            count = len(values)
        return found, count

    def _codes(self, name: str) -> tuple[Codes, int]:
        column = self.columns[name]
        if name in self.texts:  # Arrow orders by bytes of UTF-8, which is the order of characters
            order = np.asarray(pc.array_sort_indices(self.texts[name]))
            ranks = np.empty(len(order), np.int64)
            ranks[order] = np.arange(len(order))
            column = ranks[column]
        values, found = distinct(column)
        return found, len(values)

    @classmethod
    def of_frame(cls, frame: pd.DataFrame) -> LossRows:
        """Return the rows of a frame that has our names and types."""
        columns, texts = {}, {}
        for name in frame.columns:
            if frame[name].dtype.kind in "if":
                columns[name] = frame[name].to_numpy()
            else:
                text = pa.array(frame[name].to_numpy(object), _TEXT)
                encoded = text.dictionary_encode()
                columns[name], texts[name] = _positions(encoded), encoded.dictionary
        return cls(columns, texts)

    @classmethod
    def of_arrow(cls, table: pa.Table) -> LossRows:
        """Return the rows of a table that has our names and types."""
        columns, texts = {}, {}
        for name, column in zip(table.column_names, table.columns, strict=True):
            if pa.types.is_integer(column.type) or pa.types.is_floating(column.type):
                columns[name] = column.to_numpy()
                continue
            if not pa.types.is_dictionary(column.type):
                column = column.dictionary_encode()
            column = column.unify_dictionaries().combine_chunks()
            columns[name], texts[name] = _positions(column), column.dictionary.cast(_TEXT)
        return cls(columns, texts)

    def to_arrow(self) -> pa.RecordBatch:
        """Return the rows as Arrow has them."""
        arrays = {
            name: pa.DictionaryArray.from_arrays(values, self.texts[name])
            if name in self.texts
            else pa.array(values)
            for name, values in self.columns.items()
        }
        return pa.RecordBatch.from_arrays(list(arrays.values()), names=list(arrays))


def _positions(encoded: Any) -> Array:
    return np.asarray(encoded.indices)


def joined_rows(pieces: Sequence[LossRows]) -> LossRows:
    """Return rows of at least one piece, one after the other: integers of 64 bits, in arrays of
    their own; a piece without rows has no say in the types.
    """
    pieces = [piece for piece in pieces if len(piece)] or pieces[:1]
    columns, texts = {}, {}
    for name in pieces[0].columns:
        arrays = [piece.columns[name] for piece in pieces]
        if name in pieces[0].texts:
            encoded = pa.concat_arrays([piece.texts[name] for piece in pieces]).dictionary_encode()
            texts[name], where = encoded.dictionary, _positions(encoded)
            firsts = np.cumsum([0, *(len(piece.texts[name]) for piece in pieces)])
            arrays = [
                where[first:last][array]
                for first, last, array in zip(firsts, firsts[1:], arrays, strict=False)
            ]
        kind = np.result_type(*arrays) if name == "loss" else np.int64
        columns[name] = np.concatenate(arrays, dtype=kind)
    return LossRows(columns, texts)
