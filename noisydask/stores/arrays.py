"""Anything array-like, a path or a URL becomes rows that tasks can read: the only module that opens
inputs.

Rows that live in a store (:mod:`noisydask.stores.rows`) are read by the tasks. Rows that live in
memory or in a Dask graph (:class:`DaskRows`) reach the tasks as blocks of that graph.
"""

from __future__ import annotations

import mmap
import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from math import prod
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import zarr
from dask.base import is_dask_collection
from numpy.lib.format import MAGIC_PREFIX
from zarr.storage import LocalStore

from noisydask.errors import InputError, NoisydaskError
from noisydask.lazily import Lazy
from noisydask.stores.conversion import as_array, as_rows, native
from noisydask.stores.declared import check_rows
from noisydask.stores.failures import blame, explain
from noisydask.stores.frame_columns import columns_of, with_classes
from noisydask.stores.locations import Location
from noisydask.stores.npy_rows import NpyRows
from noisydask.stores.npz_rows import open_npz
from noisydask.stores.rows import READ_BYTES, Rows
from noisydask.stores.tables.class_columns import ClassColumns
from noisydask.stores.tables.formats import PACKED, format_of
from noisydask.stores.tables.open_table import holds_table, table_rows
from noisydask.stores.tables.table_files import TableFiles
from noisydask.stores.urls import split_column
from noisydask.stores.zarr_rows import ZarrRows
from noisydask.stores.zarr_stores import zarr_store

if TYPE_CHECKING:
    import dask.array as da
    import dask.dataframe as dd
else:
    da = Lazy("dask.array")
    dd = Lazy("dask.dataframe")

__all__ = ["DaskRows", "Rows", "all_packages", "differing_indexes", "open_rows", "zarr_store"]

#: Where in a run ids lie that were in memory or in a Dask graph, a Parquet file a block.
IDS = "ids"
#: What may be the cause where blocks are not what a Dask collection declared.
_UNLIKE = "the blocks of a Dask collection must have the shapes and the type that it declares"


@dataclass
class DaskRows:
    """Rows of an array in memory or in a Dask graph; tasks receive its blocks. Columns of a frame
    have names.
    """

    array: da.Array | npt.NDArray[Any]
    chunk_rows: int = 1
    class_names: tuple[str, ...] | None = None

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of the array."""
        return self.array.shape

    @property
    def dtype(self) -> np.dtype[Any]:
        """Type of the array."""
        return self.array.dtype

    @property
    def num_bytes(self) -> int:
        """Bytes of the array in memory."""
        return prod(self.shape) * self.dtype.itemsize

    @property
    def packages(self) -> frozenset[str]:
        """None: the rows travel as they are."""
        return frozenset()

    def read(self, start: int, stop: int) -> npt.NDArray[Any]:
        """Compute rows ``start`` to ``stop`` on the active client or scheduler."""
        return np.asarray(self.array[start:stop])

    def map(
        self, convert: Callable[[npt.NDArray[Any]], npt.NDArray[Any]], dtype: np.dtype[Any]
    ) -> DaskRows:
        """Return the rows converted, as whole rows of a block at a time: of what is in memory there
        is no second copy.
        """
        return replace(self, array=self._whole().map_blocks(convert, dtype=dtype))

    def joined(
        self,
        others: Iterable[DaskRows],
        convert: Callable[..., npt.NDArray[Any]],
        dtype: np.dtype[Any],
    ) -> DaskRows:
        """Return an element of ``dtype`` for each row, made of the rows of this array and of
        others.
        """
        own = self._whole()
        arrays = [own, *(each._whole().rechunk({0: own.chunks[0]}) for each in others)]
        array = da.blockwise(
            convert,
            "i",
            *(part for each in arrays for part in (each, "ijk"[: each.ndim])),
            dtype=dtype,
            concatenate=True,
            meta=np.empty(0, dtype),
        )
        return replace(self, array=array)

    def _whole(self) -> da.Array:
        """Return the array in blocks of whole rows."""
        array = self.array
        if isinstance(array, np.ndarray):
            step = max(1, READ_BYTES // max(1, prod(array.shape[1:]) * array.itemsize))
            return da.from_array(array, chunks=(step, *array.shape[1:]))
        return array.rechunk(dict.fromkeys(range(1, array.ndim), -1))

    def describe(self) -> dict[str, Any]:
        """Return what a manifest says of this input."""
        return {"memory": True, "shape": list(self.shape), "dtype": str(self.dtype)}


def all_packages(opened: Iterable[Rows | DaskRows]) -> frozenset[str]:
    """Return packages that a worker needs to read any of these."""
    return frozenset[str]().union(*(rows.packages for rows in opened))


def open_rows(
    source: Any,
    name: str,
    storage_options: Mapping[str, Any] | None = None,
    classes: ClassColumns | None = None,
    may_lack: bool = False,
) -> Rows | DaskRows:
    """Open an input.

    Parameters
    ----------
    source : str, Path, zarr.Array, Dask array, series or frame, or array-like
        A path or URL is a Zarr array, ends in ``.npy`` or ``.npz``, or is a table (Parquet, CSV,
        Arrow), of which one column may be named (``data.parquet#column``). The rows of a Dask
        series or frame are counted once. For what else is array-like see
        :func:`noisydask.stores.conversion.as_array`.
    name : str
        What errors call it.
    storage_options : mapping, optional
        Passed to fsspec.
    classes : ClassColumns, optional
        What is said of the columns of a table or frame that are classes.
    may_lack : bool
        Whether text may have empty cells, which are None then.

    Raises
    ------
    InputError
        If there is nothing, or nothing readable, in one sentence.

    Examples
    --------
    >>> open_rows([3, 1, 2], "labels").shape
    (3,)
    """
    if isinstance(source, str | Path):
        return _open_url(str(source), name, storage_options, classes or ClassColumns())
    if isinstance(source, zarr.Array):  # as it is now: it may have been resized since
        kind = source.metadata.zarr_format
        source = zarr.open_array(source.store_path, mode="r", zarr_format=kind)
        url = str(source.store_path)
        if isinstance(source.store, LocalStore):  # whose root counts from the working directory
            url = str(source.store.root.absolute() / source.path)
        return replace(ZarrRows.of(source, url), name=name)
    names = None
    if columns_of(source) is not None:
        source, names = with_classes(source, classes or ClassColumns(), name)
    if is_dask_collection(source):  # Dask's packages are imported for no other input
        return DaskRows(_lazy_rows(source, name, may_lack), class_names=names)
    if isinstance(source, np.memmap) and _is_its_file(source):
        place = Location.of(str(source.filename), None, name)
        return replace(NpyRows.at(place, source.shape, source.dtype, source.offset), name=name)
    return DaskRows(as_rows(source, name, may_lack), class_names=names)


def kept_ids(run: Location) -> Rows:
    """Return the ids of all examples that lie in the run at a place."""
    return _open_url(f"{(run / IDS).url}#id", "ids", run.options, ClassColumns())


def differing_indexes(sources: Mapping[str, Any]) -> tuple[str, ...]:
    """Warn of inputs from pandas whose indexes differ: their rows are taken as they come."""
    indexes = {
        name: source.index
        for name, source in sources.items()
        if isinstance(source, pd.Series | pd.DataFrame)
    }
    first, *others = indexes or ("",)
    return tuple(
        f"the indexes of {first} and {name} differ, but rows belong together by position here: "
        "bring them into one order first"
        for name in others
        if not indexes[name].equals(indexes[first])
    )


def _lazy_rows(source: Any, name: str, may_lack: bool) -> da.Array:
    """Return a Dask collection as an array whose blocks are compared with what it declares."""
    if isinstance(source, dd.DataFrame | dd.Series):
        source = _counted(source, name)
    if not isinstance(source, da.Array):
        raise InputError(
            f"{name} is a Dask {type(source).__name__}; give an array, series or frame"
        )
    if any(np.isnan(source.shape)):
        raise InputError(
            f"{name} has an unknown number of rows; call compute_chunk_sizes() on it first"
        )
    return _compared(source, name, may_lack)


def _counted(frame: dd.DataFrame | dd.Series, name: str) -> da.Array:
    """Return a lazy series or frame as an array of as many chunks; of its rows only the number is
    fetched.
    """
    frame = frame.optimize()  # Dask may merge partitions then, as many as suit their columns
    lengths = np.atleast_1d(frame.map_partitions(len, enforce_metadata=False).compute())
    like = as_array(frame._meta, name)
    rows = frame.map_partitions(as_array, name, meta=like)
    chunks = tuple(lengths.tolist()), *((size,) for size in like.shape[1:])
    return da.Array(rows.dask, rows.name, chunks, like.dtype)


def _compared(array: da.Array, name: str, may_lack: bool) -> da.Array:
    """Return an array of which each block is compared with what the array declares of it."""
    text = array.dtype.kind in "UT"  # blocks may differ in length: Dask would cut the longer ones
    kind = np.dtype(object) if text else native(array.dtype)
    check = partial(_checked_block, kind=kind, name=name, may_lack=may_lack)
    like = np.empty((0,) * array.ndim, kind)
    return array.map_blocks(check, dtype=kind, meta=like)


def _checked_block(
    block: Any, kind: np.dtype[Any], name: str, may_lack: bool, block_info: Any = None
) -> npt.NDArray[Any]:
    """Return a block as an array, if it is what was declared."""
    rows = as_rows(block, name, may_lack)
    place = block_info[0]["array-location"]
    shape = tuple(stop - start for start, stop in place)
    where = f"{name}, rows {place[0][0]:,} to {place[0][1] - 1:,}"
    check_rows((rows.shape, rows.dtype), (shape, kind), where, _UNLIKE)
    return rows.astype(kind, copy=False)


def _is_its_file(array: np.memmap[Any, Any]) -> bool:
    """Return whether workers that map the file themselves see this array: it is no slice, and no
    private copy.
    """
    whole = (
        isinstance(array.base, mmap.mmap)
        and array.flags.c_contiguous
        and array.filename is not None
    )
    return whole and array.mode in ("r", "r+") and array.ndim > 0 and not array.dtype.hasobject


def _open_url(
    url: str, name: str, storage_options: Mapping[str, Any] | None, classes: ClassColumns
) -> Rows:
    url, column = split_column(url)
    place = Location.of(url, storage_options, name)
    with _opening(place, name):
        return replace(_open_place(place, column, name, classes), name=name)


def open_table(url: str, name: str, storage_options: Mapping[str, Any] | None = None) -> TableFiles:
    """Open a table in files (Parquet, CSV, Arrow), of which several inputs are columns.

    Raises
    ------
    InputError
        If there is none.
    """
    place = Location.of(url, storage_options, name)
    with _opening(place, name, what="table"):
        _refuse_packed(place, name)
        if place.path.lower().endswith(".npz"):
            raise InputError(
                f"{name} at {place.shown} holds arrays, not a table; name them one by one: "
                f"labels {place.shown}#labels, pred_probs {place.shown}#pred_probs"
            )
        return TableFiles.open(place)


def _open_place(place: Location, column: str, name: str, classes: ClassColumns) -> Rows:
    path = place.path.lower()
    _refuse_packed(place, name)
    if path.endswith(".npz"):
        return open_npz(place, column)
    if path.endswith(".npy") or _is_npy(place):
        if column:
            raise InputError(f"{name} at {place.shown} has no columns: leave out #{column}")
        return NpyRows.open(place)
    if column or format_of(path):
        return table_rows(TableFiles.open(place), column, classes)
    try:
        array = zarr.open_array(zarr_store(place, read_only=True), mode="r")
    except Exception:
        if holds_table(place):
            return table_rows(TableFiles.open(place), column, classes)
        raise
    return ZarrRows.of(array, place.shown)


def _refuse_packed(place: Location, name: str) -> None:
    if place.path.lower().endswith(PACKED):
        raise InputError(
            f"{name} at {place.shown} is packed as a whole, so that no part of it can be read "
            "alone: unpack it, or write it as Parquet"
        )


def _is_npy(place: Location) -> bool:
    """Return whether this is a local file that NumPy wrote, whatever it is called."""
    if not place.is_local or not os.path.isfile(place.path):
        return False
    with open(place.path, "rb") as file:
        return file.read(len(MAGIC_PREFIX)) == MAGIC_PREFIX


@contextmanager
def _opening(place: Location, name: str, what: str = "array") -> Iterator[None]:
    """Turn what storage and formats raise into one sentence."""
    try:
        yield
    except NoisydaskError:
        raise
    except Exception as error:
        raise blame(error)(explain(error, place, name, what=what)) from error
