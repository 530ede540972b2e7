"""The parts of an order, as tasks know them: which row belongs to which, and what was written.

Rows of exactly the same key that are too many for one part are cut by what comes last in their
order, a position or an id. Where to cut is told by a sample: the tied rows whose last keys have the
lowest hashes. So it is the same however rows lie.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, cast

import numpy as np
import numpy.typing as npt
import pandas as pd

from noisydask.core import ranking
from noisydask.core.ranking import Ints, Keys, Part
from noisydask.stores.chunks import ChunkedArray, StoredObject

Array = npt.NDArray[Any]

#: Rows of a sample, of each :data:`ranking.TIE_ROWS` rows: so many apart are the cuts.
_SAMPLED = 64


@dataclass(frozen=True, eq=False)
class TieSample:
    """The ``size`` tied rows with the lowest hashes, or all if there are less: hash, key, last
    key.
    """

    size: int
    hashes: npt.NDArray[np.uint64]
    keys: Keys
    last: Array

    @classmethod
    def of(cls, keys: Keys, last: Array, ties: Sequence[int], num_rows: int) -> TieSample:
        """Sample those of some rows that have a tied key; ``num_rows`` is the number of all rows.

        Of a last key of several fields, the last field is hashed.
        """
        tied = np.isin(keys, np.array(ties, keys.dtype))
        names = last.dtype.names
        unique = last[tied] if names is None else last[tied][names[-1]]
        hashes = pd.util.hash_array(unique, categorize=False)
        return cls(_SAMPLED * num_pieces(num_rows), hashes, keys[tied], last[tied])._lowest()

    def __add__(self, other: TieSample) -> TieSample:
        columns = ((self.hashes, other.hashes), (self.keys, other.keys), (self.last, other.last))
        return TieSample(self.size, *map(np.concatenate, columns))._lowest()

    def _lowest(self) -> TieSample:
        first = np.argsort(self.hashes, kind="stable")[: self.size]
        return TieSample(self.size, self.hashes[first], self.keys[first], self.last[first])

    def cuts(self, ties: Sequence[int]) -> TieCuts:
        """Return where the rows of each tied key are cut into pieces of about
        :data:`ranking.TIE_ROWS`.
        """
        last = {key: np.sort(self.last[self.keys == key]) for key in ties}
        return TieCuts({key: values[_SAMPLED::_SAMPLED] for key, values in last.items()})


@dataclass(frozen=True, eq=False)
class TieCuts:
    """By tied key the last keys at which its rows are cut, ascending; nothing where no ties need to
    be.
    """

    last: Mapping[int, Array] = field(default_factory=dict)

    def pieces(self, keys: Keys, last: Callable[[], Array]) -> Ints:
        """Return in which piece of its key each row is; ``last`` is called where keys are cut."""
        pieces = np.zeros(len(keys), np.int64)
        values: Any = last() if self.last else ()
        for key, cuts in self.last.items():
            tied = keys == np.uint64(key)
            pieces[tied] = np.searchsorted(cuts, values[tied], side="right")
        return pieces

    def counts(self, keys: Keys, last: Callable[[], Array], num_rows: int) -> Ints:
        """Return per tied key how many of some rows lie in each piece, as
        :meth:`ranking.CutOff.add_ties` takes it.
        """
        pieces = self.pieces(keys, last)
        most = num_pieces(num_rows)
        counts = [np.bincount(pieces[keys == np.uint64(key)], minlength=most) for key in self.last]
        return np.array(counts, np.int64)


def num_pieces(num_rows: int) -> int:
    """Return pieces that tied rows are cut into at most."""
    return -(-num_rows // ranking.TIE_ROWS)


@dataclass(frozen=True)
class ScoredRows:
    """All rows of a stored array of scores, by ascending (score, position)."""

    scores: ChunkedArray = field(repr=False)

    @property
    def num_blocks(self) -> int:
        """Number of chunks."""
        return -(-self.scores.shape[0] // self.scores.chunk_rows)

    @property
    def num_rows(self) -> int:
        """Number of scores."""
        return self.scores.shape[0]

    @property
    def itemsize(self) -> int:
        """Bytes of a score."""
        return self.scores.dtype.itemsize

    def keys(self, block: int) -> Keys:
        """Return the keys of a chunk."""
        return ranking.sort_keys(cast(Array, self.scores.read(block)))

    def last(self, block: int) -> Array:
        """Return the positions of a chunk's rows."""
        return np.arange(*self.scores.bounds(block))


@dataclass(frozen=True)
class Parts:
    """The parts of an order, and where rows of the same key are cut between them."""

    parts: tuple[Part, ...]
    cuts: TieCuts = field(default_factory=TieCuts)

    def __len__(self) -> int:
        return len(self.parts)

    @property
    def last_key(self) -> int:
        """The last key of all parts."""
        if self.parts:
            return self.parts[-1].last_key
        return 0

    @property
    def takes(self) -> list[int]:
        """How many rows each part takes; of an order without rows, there is one that takes none."""
        return [part.take for part in self.parts] or [0]

    def assign(self, keys: Keys, last: Callable[[], Array]) -> Ints:
        """Return the number of the part of each row, -1 for none; ``last`` gives their last
        keys.
        """
        return ranking.assign_parts(keys, self.cuts.pieces(keys, last), self.parts)


@dataclass(frozen=True)
class WrittenPart:
    """A part that lies in the run: its number, its rows, and the objects that were written."""

    number: int
    rows: int
    objects: tuple[StoredObject, ...]


def written_by(parts: Iterable[WrittenPart]) -> Iterator[StoredObject]:
    """Iterate over what was written of parts."""
    for part in parts:
        yield from part.objects


def part_name(folder: str, number: int) -> str:
    """Return the path of a part's Parquet file."""
    return f"{folder}/part-{number:05d}.parquet"
