"""Predictions of which only the most probable classes are kept: three arrays, written as one."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from noisydask.predictions.written_files import parts_of
from noisydask.stores.array_draft import ArrayDraft
from noisydask.stores.locations import Location

Array = npt.NDArray[Any]

#: What the arrays are called.
CLASSES, GIVEN = "pred_classes.zarr", "given_probs.zarr"


@dataclass(frozen=True)
class TopDraft:
    """Arrays of which a row is what :func:`noisydask.predictions.written_files.flat_rows` makes.

    Attributes
    ----------
    probs, classes, given : ArrayDraft
        Probabilities and classes, (N, k), and the probability of the given label, (N,).
    """

    probs: ArrayDraft
    classes: ArrayDraft
    given: ArrayDraft

    @classmethod
    def of(
        cls,
        folder: Location,
        probs: str,
        shape: tuple[int, int],
        dtype: np.dtype[Any],
        chunk_rows: int,
        attributes: Mapping[str, Any],
    ) -> TopDraft:
        """Draft the arrays of ``shape`` (N, k) in a folder, with the same rows in a chunk of each,
        so that a task owns whole chunks of all.
        """
        return cls(
            ArrayDraft(folder / probs, shape, dtype, chunk_rows, attributes=attributes),
            ArrayDraft(folder / CLASSES, shape, np.dtype(np.uint32), chunk_rows),
            ArrayDraft(folder / GIVEN, shape[:1], dtype, chunk_rows),
        )

    @property
    def place(self) -> Location:
        """Where the probabilities lie."""
        return self.probs.place

    @property
    def shape(self) -> tuple[int, int]:
        """Shape of the rows that are written."""
        rows, k = self.probs.shape
        return rows, 2 * k + 1

    @property
    def dtype(self) -> np.dtype[Any]:
        """Type of the rows that are written."""
        return self.probs.dtype

    @property
    def object_rows(self) -> int:
        """Rows of an object of each array."""
        return self.probs.object_rows

    def begin(self, overwrite: bool = False) -> None:
        """Make room for the arrays."""
        for draft in (self.probs, self.classes, self.given):
            draft.begin(overwrite=overwrite)

    def write(self, start: int, rows: Array) -> None:
        """Write whole objects of all arrays."""
        drafts = (self.probs, self.classes, self.given)
        for draft, values in zip(drafts, parts_of(rows), strict=True):
            draft.write(start, values)

    def publish(self) -> None:
        """Make the arrays such."""
        for draft in (self.classes, self.given, self.probs):
            draft.publish()
