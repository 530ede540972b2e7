"""Rows that live in a store travel to the workers as a small description and are read there, a
range at a time: what all kinds have in common, and Zarr.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass, field
from math import prod
from typing import Any, NamedTuple, Protocol

import numpy as np
import numpy.typing as npt

from noisydask.core.blocks import MAX_ROWS
from noisydask.errors import InputError, JobError, NoisydaskError
from noisydask.stores.conversion import native
from noisydask.stores.counting import ByteCount
from noisydask.stores.declared import check_rows
from noisydask.stores.failures import reason
from noisydask.stores.hints import cannot_be_read, not_of_data
from noisydask.stores.listing import Listing
from noisydask.stores.urls import shown

Array = npt.NDArray[np.generic]
#: Ranges of rows: the first and the one after the last.
Ranges = tuple[tuple[int, int], ...]

#: Decoded bytes that are read at once: enough to keep a fast pipeline busy, and reused by the next
#: read.
READ_BYTES = 32 * 1024**2


class Chunk(NamedTuple):
    """An object that rows lie in: its key below the array, the rows, and which part of each of
    them.

    Attributes
    ----------
    key : str
        Its path below the array; empty for a file that is the array.
    start, stop : int
        Rows in it that were asked for.
    rest : tuple of slice
        Its part of the other axes.
    within : tuple of int, optional
        Which rows of the object these are, where that does not follow from its key.
    """

    key: str
    start: int
    stop: int
    rest: tuple[slice, ...] = ()
    within: tuple[int, int] | None = None


#: What may be the cause where rows are not what was declared.
CHANGED = "it changed after it was opened: run the job again"


class SizedRows(Protocol):
    """Rows of which it is known how they may best be cut."""

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of the array."""

    @property
    def dtype(self) -> np.dtype[Any]:
        """Type of the array."""

    @property
    def chunk_rows(self) -> int:
        """Rows that are kept together."""

    @property
    def edges(self) -> npt.NDArray[np.int64] | None:
        """Where pieces of unequal length begin, and the number of rows; None where all are of
        ``chunk_rows``.
        """


class UnreadableError(JobError):
    """Stored rows that cannot be decoded: reading them again will not help."""


@dataclass(kw_only=True)
class Rows(ABC):
    """Rows of an array in a store, read a range at a time.

    Attributes
    ----------
    url : str
        Where they are, without anything secret.
    shape : tuple of int
        Shape of the array.
    dtype : dtype
        Its type, in the byte order of this machine whatever the store has.
    chunk_rows : int
        Rows that the store keeps together.
    chunk_columns : int
        Columns that it keeps together; 0 where rows are always whole.
    name : str
        What errors call the input.
    class_names : tuple of str, optional
        What columns are called that are classes.
    """

    url: str
    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    chunk_rows: int = 1
    chunk_columns: int = 0
    name: str = ""
    class_names: tuple[str, ...] | None = None
    fetched: ByteCount = field(default_factory=ByteCount, repr=False)

    def read(self, start: int, stop: int) -> Array:
        """Read rows ``start`` to ``stop``, as far as there are such, compared with what was there
        when the array was opened.
        """
        start, stop, _ = slice(start, stop).indices(self.shape[0])
        try:
            rows = self._decoded(start, stop)
            rows = rows.astype(native(rows.dtype), copy=False)
            declared = (stop - start, *self.shape[1:]), self.dtype
            check_rows((rows.shape, rows.dtype), declared, self.where(start, stop), CHANGED)
            return rows
        except NoisydaskError:
            raise
        except Exception as error:  # no InputError: the job was begun, the array was there
            why = reason(error) or cannot_be_read(error)
            raise JobError(f"{self.where(start, stop)}: {why}") from error

    def read_or_skip(self, start: int, stop: int, skip: bool) -> tuple[Array, Ranges]:
        """Read rows; with ``skip`` also return the ranges of those that cannot be decoded, which
        are zeros then.
        """
        try:
            return self.read(start, stop), ()
        except UnreadableError:
            if not skip:
                raise
        values = np.zeros((stop - start, *self.shape[1:]), self.dtype)
        unread = []
        for low, high in sorted({(chunk.start, chunk.stop) for chunk in self.chunks(start, stop)}):
            try:
                values[low - start : high - start] = self.read(low, high)
            except UnreadableError:
                unread.append((low, high))
        return values, tuple(unread)

    def where(self, start: int, stop: int) -> str:
        """Return rows ``start`` to ``stop`` as errors name them."""
        source = f"{self.name} at {self.url}" if self.name else self.url
        return f"{source}, rows {start:,} to {stop - 1:,}"

    def _refuse_another(self, start: int, stop: int) -> None:
        """Refuse what lies in the place of the array that was opened, if it is another one."""
        try:
            now = self.reopened()
        except InputError:
            raise
        except Exception:
            return  # gone or damaged, as its chunks will tell
        where = self.where(start, stop)
        check_rows((now.shape, now.dtype), (self.shape, self.dtype), where, CHANGED)
        if now.layout != self.layout:
            raise InputError(f"{where}: it is stored in other chunks now; {CHANGED}")

    def _decoded(self, start: int, stop: int) -> Array:
        """Read rows as they are stored; where decoding fails, the first chunk to blame is found one
        by one.
        """
        try:
            return self._read(start, stop)
        except Exception as error:
            if isinstance(error, NoisydaskError) or not_of_data(error):
                raise
        self._refuse_another(start, stop)
        for chunk in self.chunks(start, stop):
            try:
                self._read_chunk(chunk)
            except Exception as error:
                if isinstance(error, NoisydaskError) or not_of_data(error):
                    raise
                where = f"chunk {shown(chunk.key)}, " if chunk.key else ""
                raise UnreadableError(
                    f"{self.url}: {where}rows {chunk.start:,} to {chunk.stop - 1:,} cannot be read"
                    f" ({type(error).__name__}); is it damaged?"
                ) from error
        return self._read(start, stop)  # what came was cut short on its way

    def _read_chunk(self, chunk: Chunk) -> Array:
        """Read what a chunk holds of its rows."""
        return self._read(chunk.start, chunk.stop)

    @abstractmethod
    def reopened(self) -> Rows:
        """Open what lies there now."""

    @property
    def num_bytes(self) -> int:
        """Bytes of all rows in memory."""
        return prod(self.shape) * self.dtype.itemsize

    @property
    @abstractmethod
    def packages(self) -> frozenset[str]:
        """Packages, beside those that noisydask requires, that a worker needs to read the rows."""

    @property
    @abstractmethod
    def layout(self) -> str:
        """What decides, beside the content of the objects, which rows they hold: path, type,
        chunks, codecs.
        """

    @property
    def edges(self) -> npt.NDArray[np.int64] | None:
        """Where pieces of unequal length begin, and the number of rows; None where all are of
        :attr:`chunk_rows`.
        """
        return None

    @property
    def adds_up(self) -> bool:
        """Whether rows of probabilities add up to 1 by themselves: what is lost shows then."""
        return True

    @property
    def pieces_at_once(self) -> int:
        """Pieces that a task best reads at a time: while one is decoded, another is fetched."""
        return 2

    @property
    def fill(self) -> Any:
        """What rows read as whose chunk is not stored, where that may be."""
        return None

    @abstractmethod
    def objects(self) -> Listing | None:
        """Return versions of all stored objects by their key, in one listing; None where the store
        cannot be listed.
        """

    @abstractmethod
    def chunks(self, start: int, stop: int) -> Iterator[Chunk]:
        """Iterate over the objects that hold rows ``start`` to ``stop``, with what they hold of
        these.
        """

    @abstractmethod
    def _read(self, start: int, stop: int) -> Array:
        """Read rows as they are stored, counted in :attr:`fetched`."""

    def foresee(self, start: int, stop: int) -> None:  # noqa: B027  most rows lie alone
        """Tell that rows will be read, before others of the same examples are: they may be decoded
        together.
        """

    def forget(self, start: int, stop: int) -> None:  # noqa: B027
        """Tell that rows were read that were foreseen."""

    def take_bytes_read(self) -> int:
        """Return stored bytes fetched since the last call; a Parquet column, small beside the
        probabilities, counts none.
        """
        return self.fetched.take()

    def describe(self) -> dict[str, Any]:
        """Return what a manifest says of this input; nothing secret."""
        return {
            "url": self.url,
            "shape": list(self.shape),
            "dtype": str(self.dtype),
            "chunk_rows": self.chunk_rows,
        }


def reads(rows: SizedRows, start: int, stop: int) -> Iterator[tuple[int, int]]:
    """Return ranges of whole chunks or pieces in which rows ``start`` to ``stop`` are read."""
    fitting = READ_BYTES // (prod(rows.shape[1:]) * rows.dtype.itemsize)
    if rows.edges is not None:
        return _by_edges(rows.edges, start, stop, max(1, fitting))
    chunk = rows.chunk_rows
    step = min(MAX_ROWS, max(chunk, fitting // chunk * chunk))
    return ((low, min(low + step, stop)) for low in range(start, stop, step))


def _by_edges(
    edges: npt.NDArray[np.int64], start: int, stop: int, fitting: int
) -> Iterator[tuple[int, int]]:
    """Iterate over ranges of as many whole pieces as fit, but at least one.

    Examples
    --------
    >>> list(_by_edges(np.array([0, 4, 6, 9, 30]), 1, 20, 6))
    [(1, 6), (6, 9), (9, 20)]
    """
    low = start
    while low < stop:
        behind = int(np.searchsorted(edges, low, "right"))
        last = max(behind, int(np.searchsorted(edges, low + fitting, "right")) - 1)
        high = min(int(edges[last]), stop, low + MAX_ROWS)
        yield low, high
        low = high
