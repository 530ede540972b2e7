"""Rows of values that are no probabilities yet, read as probabilities."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from noisydask.core.row_values import converted_dtype, normalized, scaled, softmax
from noisydask.stores.arrays import DaskRows
from noisydask.stores.listing import Listing
from noisydask.stores.rows import Chunk, Rows

Array = npt.NDArray[Any]


@dataclass(frozen=True)
class RowValues:
    """What values are, and so how they become probabilities.

    Attributes
    ----------
    logits : bool
        Logits, divided by ``temperature``.
    temperature : float
        Of the softmax.
    scale : float, optional
        What quantised values are multiplied by.
    normalize : bool
        Votes, or whatever is divided by the sum of its row.
    """

    logits: bool = False
    temperature: float = 1.0
    scale: float | None = None
    normalize: bool = False

    @property
    def are_probabilities(self) -> bool:
        """Whether nothing is to be done."""
        return not (self.logits or self.normalize or self.scale is not None)

    def convert(self, values: Array) -> Array:
        """Turn rows of values into rows of probabilities."""
        if self.logits:
            return softmax(values, self.temperature)
        if self.normalize:
            return normalized(values)
        if self.scale is not None:
            return scaled(values, self.scale)
        return values

    def of(self, rows: Rows | DaskRows) -> Rows | DaskRows:
        """Return rows of values as rows of probabilities."""
        if self.are_probabilities or len(rows.shape) != 2 or rows.dtype.kind not in "fiu":
            return rows
        if isinstance(rows, Rows):
            return ConvertedRows.of(rows, self)
        return rows.map(self.convert, converted_dtype(rows.dtype))


#: Values that are probabilities.
PROBABILITIES = RowValues()


@dataclass(kw_only=True)
class ConvertedRows(Rows):
    """Rows of probabilities that are made of others when they are read.

    Attributes
    ----------
    rows : Rows
        The values as they are stored.
    values : RowValues
        What they are.
    """

    rows: Rows
    values: RowValues

    @classmethod
    def of(cls, rows: Rows, values: RowValues) -> ConvertedRows:
        """Take rows that were opened; they are always read whole."""
        return cls(
            url=rows.url,
            shape=rows.shape,
            dtype=converted_dtype(rows.dtype),
            chunk_rows=rows.chunk_rows,
            chunk_columns=rows.chunk_columns,
            name=rows.name,
            class_names=rows.class_names,
            fetched=rows.fetched,
            rows=rows,
            values=values,
        )

    def reopened(self) -> ConvertedRows:
        """Open what lies there now."""
        return ConvertedRows.of(self.rows.reopened(), self.values)

    @property
    def packages(self) -> frozenset[str]:
        """Packages that the values need."""
        return self.rows.packages

    @property
    def layout(self) -> str:
        """How the values lie, and what they are."""
        return f"{self.rows.layout} {self.values!r}"

    @property
    def edges(self) -> npt.NDArray[np.int64] | None:
        """Where pieces of the values begin."""
        return self.rows.edges

    @property
    def adds_up(self) -> bool:
        """Not where they are made to add up to 1."""
        return self.values.scale is not None

    @property
    def pieces_at_once(self) -> int:
        """As the values are best read."""
        return self.rows.pieces_at_once

    @property
    def fill(self) -> Any:
        """The fill value of what is stored: a chunk that is not stored holds no values."""
        return self.rows.fill

    def objects(self) -> Listing | None:
        """List the objects."""
        return self.rows.objects()

    def chunks(self, start: int, stop: int) -> Iterator[Chunk]:
        """Iterate over the objects that rows lie in."""
        return self.rows.chunks(start, stop)

    def _read(self, start: int, stop: int) -> Array:
        return self.values.convert(self.rows.read(start, stop))

    def describe(self) -> dict[str, Any]:
        """Return what a manifest says of the values, as they are stored."""
        return self.rows.describe()
