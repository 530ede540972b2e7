"""Rows of an input as a task reads them, from a store or as they were handed to it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from noisydask.stores.rows import Ranges

Array = npt.NDArray[Any]


class TaskRows(Protocol):
    """Rows of an input, as a task reads them."""

    @property
    def url(self) -> str:
        """Where they are, without anything secret."""

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of the whole input."""

    @property
    def dtype(self) -> np.dtype[Any]:
        """Type of the input."""

    @property
    def chunk_rows(self) -> int:
        """Rows that are read together at no cost."""

    @property
    def edges(self) -> npt.NDArray[np.int64] | None:
        """Where pieces of unequal length begin; None where there are none."""

    @property
    def pieces_at_once(self) -> int:
        """Pieces that a task best reads at a time."""

    def read(self, start: int, stop: int) -> Array:
        """Read rows ``start`` to ``stop``."""

    def read_or_skip(self, start: int, stop: int, skip: bool) -> tuple[Array, Ranges]:
        """Read rows; with ``skip`` also return ranges of those that cannot be decoded."""

    def take_bytes_read(self) -> int:
        """Return the stored bytes fetched since the last call."""


@dataclass(frozen=True)
class HandedRows:
    """The rows of one block, handed to the task that reads them.

    Attributes
    ----------
    url : str
        The name of the input.
    values : ndarray
        The rows of the block.
    first : int
        Its first row.
    """

    url: str
    values: Array = field(repr=False)
    first: int

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of the block."""
        return self.values.shape

    @property
    def dtype(self) -> np.dtype[Any]:
        """Type of the block."""
        return self.values.dtype

    @property
    def chunk_rows(self) -> int:
        """All rows: they are there."""
        return max(1, len(self.values))

    @property
    def edges(self) -> None:
        """None: all rows are there."""

    @property
    def pieces_at_once(self) -> int:
        """One: nothing is fetched."""
        return 1

    def read(self, start: int, stop: int) -> Array:
        """Return rows ``start`` to ``stop``."""
        return self.values[start - self.first : stop - self.first]

    def read_or_skip(self, start: int, stop: int, skip: bool) -> tuple[Array, Ranges]:
        """Return rows, all of which are there."""
        return self.read(start, stop), ()

    def take_bytes_read(self) -> int:
        """Return 0: nothing was fetched."""
        return 0
