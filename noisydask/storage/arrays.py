"""Anything array-like, a path or a URL becomes rows that tasks can read: the only module that opens
inputs.

Rows that live in a store (:mod:`noisydask.storage.rows`) are read by the tasks. Rows that live in
memory or in a Dask graph (:class:`DaskRows`) reach the tasks as blocks of that graph.
"""

from __future__ import annotations

import mmap
import os
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import zarr
from fsspec.implementations.local import LocalFileSystem
from numpy.lib.format import MAGIC_PREFIX
from zarr.storage import LocalStore

from noisydask.errors import InputError, NoisydaskError
from noisydask.lazily import Lazy
from noisydask.storage.file_rows import NpyRows, ParquetColumn
from noisydask.storage.locations import Location, blame, explain, split_column
from noisydask.storage.rows import Rows, ZarrRows, native
from noisydask.storage.zarr_stores import zarr_store

if TYPE_CHECKING:
    import dask.array as da
else:
    da = Lazy("dask.array")

__all__ = [
    "DaskRows",
    "Rows",
    "all_packages",
    "differing_indexes",
    "is_unicode",
    "open_rows",
    "zarr_store",
]


@dataclass
class DaskRows:
    """Rows of an array in memory or in a Dask graph; tasks receive its blocks."""

    array: da.Array | npt.NDArray[Any]
    chunk_rows: int = 1

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

    def describe(self) -> dict[str, Any]:
        """What a manifest says of this input."""
        return {"memory": True, "shape": list(self.shape), "dtype": str(self.dtype)}


def all_packages(opened: Iterable[Rows | DaskRows]) -> frozenset[str]:
    """Packages that a worker needs to read any of these."""
    return frozenset[str]().union(*(rows.packages for rows in opened))


def open_rows(
    source: Any, name: str, storage_options: Mapping[str, Any] | None = None
) -> Rows | DaskRows:
    """Open an input.

    Parameters
    ----------
    source : str, Path, zarr.Array, dask.array.Array, ndarray or sequence
        A path or URL ends in ``.npy``, or names a Parquet file and column
        (``data.parquet#column``), or is a Zarr array.
    name : str
        What errors call it.
    storage_options : mapping, optional
        Passed to fsspec.

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
        return _open_url(str(source), name, storage_options)
    if isinstance(source, zarr.Array):
        if isinstance(source.store, LocalStore):  # whose root counts from the working directory
            return ZarrRows.of(source, str(source.store.root.absolute() / source.path))
        return ZarrRows.of(source, str(source.store_path))
    if isinstance(source, da.Array):
        if any(np.isnan(source.shape)):
            raise InputError(
                f"{name} has an unknown number of rows; call compute_chunk_sizes() on it first"
            )
        return DaskRows(source.astype(native(source.dtype), copy=False))
    return _in_memory(source, name)


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


def _in_memory(source: Any, name: str) -> Rows | DaskRows:
    if isinstance(source, np.memmap) and _is_its_file(source):
        place = Location.of(str(source.filename), None, name)
        return NpyRows.at(place, source.shape, source.dtype, source.offset)
    if np.ma.is_masked(source):
        raise InputError(f"{name} is a masked array; fill it first")
    try:
        array = np.asarray(source)
    except ValueError as error:
        raise InputError(f"{name} is no array: its rows differ in length") from error
    array = array.astype(native(array.dtype), copy=False)
    if array.dtype.hasobject and not all(isinstance(value, str) for value in array.flat):
        raise InputError(f"{name} holds Python objects; give an array of numbers or of text")
    if not _is_unicode(array):
        raise InputError(
            f"{name} holds text that no file can: names of files that were not decoded; encode "
            "them otherwise"
        )
    return DaskRows(array)


def _is_unicode(array: npt.NDArray[Any]) -> bool:
    """Whether all text of an array can be stored."""
    if array.dtype.kind == "U" and array.dtype.itemsize:
        letters = np.ascontiguousarray(array).view(np.uint32)
        return not ((letters & 0xFFFFF800) == 0xD800).any()
    return array.dtype.kind != "O" or all(map(is_unicode, array.flat))


def is_unicode(text: str) -> bool:
    """Whether text can be stored: Python keeps bytes of a name that are no text as halves of a
    character.
    """
    return text.isascii() or not any("\ud800" <= letter <= "\udfff" for letter in text)


def _is_its_file(array: np.memmap[Any, Any]) -> bool:
    """Whether workers that map the file themselves see this array: it is no slice, and no private
    copy.
    """
    whole = (
        isinstance(array.base, mmap.mmap)
        and array.flags.c_contiguous
        and array.filename is not None
    )
    return whole and array.mode in ("r", "r+") and array.ndim > 0 and not array.dtype.hasobject


def _open_url(url: str, name: str, storage_options: Mapping[str, Any] | None) -> Rows:
    url, column = split_column(url)
    place = Location.of(url, storage_options, name)
    with _opening(place, name):
        if place.path.endswith(".npy") or _is_npy(place):
            if column:
                raise InputError(f"{name} at {place.shown} has no columns: leave out #{column}")
            return NpyRows.open(place)
        if column:
            return ParquetColumn.open(place, column)
        return ZarrRows.of(
            zarr.open_array(zarr_store(place, read_only=True), mode="r"), place.shown
        )


def _is_npy(place: Location) -> bool:
    """Whether this is a local file that NumPy wrote, whatever it is called."""
    if not isinstance(place.fs, LocalFileSystem) or not os.path.isfile(place.path):
        return False
    with open(place.path, "rb") as file:
        return file.read(len(MAGIC_PREFIX)) == MAGIC_PREFIX


@contextmanager
def _opening(place: Location, name: str) -> Iterator[None]:
    """Turn what storage and formats raise into one sentence."""
    try:
        yield
    except NoisydaskError:
        raise
    except Exception as error:
        raise blame(error)(explain(error, place, name)) from error
