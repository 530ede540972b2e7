"""Labels in a store that are no codes, read as such."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from noisydask.stores.label_codes import LabelCodes
from noisydask.stores.rows import Rows
from noisydask.stores.tables.table_column import TableColumn
from noisydask.stores.wrapped_rows import WrappedRows

Array = npt.NDArray[Any]


@dataclass(kw_only=True)
class EncodedLabels(WrappedRows):
    """Labels as codes 0 to K-1; -1 of those that are missing or no class. Their meaning is part of
    their content, not of how they lie.

    Attributes
    ----------
    codes : LabelCodes
        The way in which they become codes.
    """

    codes: LabelCodes

    @classmethod
    def of(cls, rows: Rows, codes: LabelCodes) -> EncodedLabels:
        """Take labels that were opened."""
        return cls(**cls.alike(rows), dtype=np.dtype(np.int64), codes=codes)

    def reopened(self) -> EncodedLabels:
        """Open what lies there now."""
        return EncodedLabels.of(self.rows.reopened(), self.codes)

    @property
    def fill(self) -> Any:
        """The code of what labels are whose chunk is not stored."""
        value = self.rows.fill
        return None if value is None else int(self.codes.encode(np.array([value]))[0])

    def values(self, start: int, stop: int) -> Iterator[Array | pa.ChunkedArray]:
        """Iterate over labels as they are, a part at a time."""
        if isinstance(self.rows, TableColumn):
            yield from self.rows.values(start, stop)
        else:
            yield self.rows.read(start, stop)

    def _read(self, start: int, stop: int) -> Array:
        parts = [self.codes.encode(values) for values in self.values(start, stop)]
        return np.concatenate(parts) if parts else np.empty(0, np.int64)
