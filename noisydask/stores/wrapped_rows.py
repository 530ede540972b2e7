"""Rows that are made of others when they are read: what both have in common."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from noisydask.stores.listing import Listing
from noisydask.stores.rows import Chunk, Rows


@dataclass(kw_only=True)
class WrappedRows(Rows):
    """Rows that lie where others do.

    Attributes
    ----------
    rows : Rows
        The others, as they are stored.
    """

    rows: Rows

    @staticmethod
    def alike(rows: Rows) -> dict[str, Any]:
        """Return the fields that rows made of others share with them."""
        names = ("url", "shape", "chunk_rows", "chunk_columns", "name", "class_names", "fetched")
        return {name: getattr(rows, name) for name in names} | {"rows": rows}

    @property
    def packages(self) -> frozenset[str]:
        """Packages that the others need."""
        return self.rows.packages

    @property
    def layout(self) -> str:
        """Where the others lie and how."""
        return self.rows.layout

    @property
    def edges(self) -> npt.NDArray[np.int64] | None:
        """Where pieces of the others begin."""
        return self.rows.edges

    @property
    def pieces_at_once(self) -> int:
        """As the others are best read."""
        return self.rows.pieces_at_once

    @property
    def fill(self) -> Any:
        """The fill value of the others."""
        return self.rows.fill

    def objects(self) -> Listing | None:
        """List the objects of the others."""
        return self.rows.objects()

    def chunks(self, start: int, stop: int) -> Iterator[Chunk]:
        """Iterate over the objects that rows lie in."""
        return self.rows.chunks(start, stop)

    def foresee(self, start: int, stop: int) -> None:
        """Tell that rows of the others will be read."""
        self.rows.foresee(start, stop)

    def forget(self, start: int, stop: int) -> None:
        """Tell that rows of the others were read."""
        self.rows.forget(start, stop)

    def describe(self) -> dict[str, Any]:
        """Return what a manifest says of the others, as they are stored."""
        return self.rows.describe()
