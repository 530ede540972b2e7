"""Rows of values that are no probabilities yet, read as probabilities."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy.typing as npt

from noisydask.core.row_values import converted_dtype, normalized, scaled, softmax
from noisydask.stores.arrays import DaskRows
from noisydask.stores.rows import Rows
from noisydask.stores.wrapped_rows import WrappedRows

Array = npt.NDArray[Any]


@dataclass(frozen=True)
class RowValues:
    """The kind of values, by which they become probabilities.

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
class ConvertedRows(WrappedRows):
    """Rows of probabilities that are made of other values; they are always read whole.

    Attributes
    ----------
    values : RowValues
        The kind of these values.
    """

    values: RowValues

    @classmethod
    def of(cls, rows: Rows, values: RowValues) -> ConvertedRows:
        """Take rows that were opened."""
        return cls(**cls.alike(rows), dtype=converted_dtype(rows.dtype), values=values)

    def reopened(self) -> ConvertedRows:
        """Open what lies there now."""
        return ConvertedRows.of(self.rows.reopened(), self.values)

    @property
    def layout(self) -> str:
        """Where the values lie and how, and of which kind they are."""
        return f"{self.rows.layout} {self.values!r}"

    @property
    def adds_up(self) -> bool:
        """Whether rows add up to 1 by themselves: not where they are made to."""
        return self.values.scale is not None

    def _read(self, start: int, stop: int) -> Array:
        return self.values.convert(self.rows.read(start, stop))
