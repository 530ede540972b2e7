"""Labels in a store that are no codes, read as such."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from noisydask.stores.label_codes import LabelCodes
from noisydask.stores.listing import Listing
from noisydask.stores.rows import Chunk, Rows
from noisydask.stores.tables.table_column import TableColumn

Array = npt.NDArray[Any]


@dataclass(kw_only=True)
class EncodedLabels(Rows):
    """Labels as codes 0 to K-1; -1 of those that are missing or no class.

    Attributes
    ----------
    rows : Rows
        The labels as they are.
    codes : LabelCodes
        How they become codes.
    """

    rows: Rows
    codes: LabelCodes

    @classmethod
    def of(cls, rows: Rows, codes: LabelCodes) -> EncodedLabels:
        """Take labels that were opened."""
        return cls(
            url=rows.url,
            shape=rows.shape,
            dtype=np.dtype(np.int64),
            chunk_rows=rows.chunk_rows,
            name=rows.name,
            fetched=rows.fetched,
            rows=rows,
            codes=codes,
        )

    def reopened(self) -> EncodedLabels:
        """Open what lies there now."""
        return EncodedLabels.of(self.rows.reopened(), self.codes)

    @property
    def packages(self) -> frozenset[str]:
        """Packages that the labels need."""
        return self.rows.packages

    @property
    def layout(self) -> str:
        """How the labels lie; what they mean is part of their content."""
        return self.rows.layout

    @property
    def fill(self) -> Any:
        """The code of what labels are whose chunk is not stored."""
        value = self.rows.fill
        return None if value is None else int(self.codes.encode(np.array([value]))[0])

    def objects(self) -> Listing | None:
        """List the objects."""
        return self.rows.objects()

    def chunks(self, start: int, stop: int) -> Iterator[Chunk]:
        """Iterate over the objects that labels lie in."""
        return self.rows.chunks(start, stop)

    def values(self, start: int, stop: int) -> Iterator[Array | pa.ChunkedArray]:
        """Iterate over labels as they are, a part at a time."""
        if isinstance(self.rows, TableColumn):
            yield from self.rows.values(start, stop)
        else:
            yield self.rows.read(start, stop)

    def _read(self, start: int, stop: int) -> Array:
        parts = [self.codes.encode(values) for values in self.values(start, stop)]
        return np.concatenate(parts) if parts else np.empty(0, np.int64)

    def describe(self) -> dict[str, Any]:
        """Return what a manifest says of the labels, as they are stored."""
        return self.rows.describe()
