"""A finished run of any job, read lazily: what the results of all jobs have in common."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, cast

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import zarr

from noisydask.storage.arrays import zarr_store
from noisydask.storage.store import RunStore


@dataclass(eq=False)
class PublishedRun:
    """A finished run of any job: its folder and its manifest."""

    run: RunStore = field(repr=False)
    manifest: dict[str, Any] = field(repr=False)

    def remove_with_me(self, remove: Callable[[], None]) -> None:
        """Call ``remove`` when this object is no longer used: the run lies in a temporary place."""
        weakref.finalize(self, remove)

    def _open(self, name: str) -> zarr.Array[Any]:
        return zarr.open_array(zarr_store(self.run.place / name, read_only=True), mode="r")

    def _array(self, name: str) -> npt.NDArray[np.generic]:
        return cast(npt.NDArray[np.generic], self._open(name)[...])


def read_parts(run: RunStore, names: Sequence[str], rows: int) -> pd.DataFrame:
    """The first ``rows`` rows of a ranking in Parquet parts."""
    tables: list[pa.Table] = []
    for name in names:
        with run.place.fs.open((run.place / name).path, "rb") as file:
            tables.append(pq.read_table(file).slice(0, rows))
        rows -= len(tables[-1])
        if rows <= 0:
            break
    if not tables:
        return pd.DataFrame()
    # Names are text, whether they came in one part or in several with a dictionary each.
    text = [field.with_type(pa.string()) if pa.types.is_dictionary(field.type) else field for field in tables[0].schema]
    return pa.concat_tables(table.cast(pa.schema(text)) for table in tables).to_pandas()
