"""Results whose chunks or partitions are read when they are computed."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import dask.array as da
import numpy.typing as npt
import pandas as pd
from dask.delayed import delayed

from noisydask.lazily import Lazy

if TYPE_CHECKING:
    import dask.dataframe as dd

    Table = dd.DataFrame
else:
    dd = Lazy("dask.dataframe")
from noisydask.engine.graph import token


def lazy_array(parts: Sequence[Callable[[], npt.NDArray[Any]]], like: Any) -> da.Array:
    """Return an array whose chunks along the first axis, of ``like.chunk_rows`` rows, are made by
    calls.
    """
    rows = like.shape[0]
    name = token("array")
    sizes = tuple(min(like.chunk_rows, rows - low) for low in range(0, rows, like.chunk_rows))
    keys = {(name, number): (part,) for number, part in enumerate(parts)}
    return da.Array(keys, name, (sizes,), like.dtype)


def lazy_frame(parts: Sequence[Callable[[], pd.DataFrame]], meta: pd.DataFrame) -> dd.DataFrame:
    """Return a table whose partitions are made by calls, in order."""
    made = [delayed(part, pure=False)(dask_key_name=token("part")) for part in parts]
    return dd.from_delayed(made, meta=meta, verify_meta=False)
