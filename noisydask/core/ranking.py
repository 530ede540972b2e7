"""The exact order of the issues without sorting all scores: histograms, cut-off, parts.

Issues are the first T examples in ascending (score, index). Scores become integers of the same
order; a histogram of their leading bits tells in which bin the T-th lies and how many come before
it. Bins become *parts*, each small enough to be sorted by one worker; a bin that holds more is
split by its next bits, and a single score that too many share into pieces of what comes last in the
order, positions or ids. Parts depend on the examples alone, so they are the same for any blocks,
workers or order. Pure.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, cast

import numpy as np
import numpy.typing as npt

from noisydask.core.compiled import kernel

Ints = npt.NDArray[np.int64]
Keys = npt.NDArray[np.unsignedinteger]

#: Rows that one worker sorts and one Parquet part holds, about.
ROWS_PER_PART = 1 << 21
#: Examples that share one score are split, where needed, into pieces of about so many.
TIE_ROWS = 1 << 20

_DIGIT = 16
#: More pieces than a score is split into.
_ALL = 1 << 62


@dataclass(frozen=True, order=True)
class Bin:
    """All keys from ``key`` on that share its bits above ``shift``."""

    key: int
    shift: int

    @property
    def last_key(self) -> int:
        """Last key of the bin."""
        return self.key + (1 << self.shift) - 1


@dataclass(frozen=True)
class Part:
    """Consecutive examples of the ranking: those of keys ``key`` to ``last_key``, and of a single
    key that is split only those in its pieces [first, last).

    ``rows`` are in it, of which the first ``take`` in order belong to the T lowest.
    """

    key: int
    last_key: int
    first: int
    last: int
    rows: int
    take: int


def sort_keys(scores: npt.NDArray[np.floating]) -> Keys:
    """Return unsigned integers that order like the scores; NaN comes last.

    Examples
    --------
    >>> sort_keys(np.array([-0.5, 0.0, 0.25, np.nan], np.float32)).argsort().tolist()
    [0, 1, 2, 3]
    """
    if scores.ndim != 1 or scores.dtype.kind != "f":
        raise ValueError(f"scores must be floats of shape (n,), not {scores.dtype} {scores.shape}")
    keys = np.empty(len(scores), f"u{scores.itemsize}")
    _sort_keys(
        scores, scores.view(keys.dtype), keys.dtype.type(1 << (8 * scores.itemsize - 1)), keys
    )
    return keys


@kernel()
def _sort_keys(scores, bits, sign, keys):
    for i in range(scores.size):
        if scores[i] > 0:
            keys[i] = bits[i] | sign
        elif scores[i] == 0:
            keys[i] = sign  # -0.0 too
        elif scores[i] < 0:
            keys[i] = ~bits[i]
        else:
            keys[i] = ~(sign & ~sign)


def order_of(scores: npt.NDArray[np.floating], *ties: npt.NDArray[Any]) -> Ints:
    """Return the positions of rows in ascending order of (scores, *ties), all of one length.

    Rows whose scores are sorted in runs, as blocks of them come together, are merged; only rows
    of equal scores are looked at again.

    Examples
    --------
    >>> order_of(np.array([0.5, 0.1, 0.5]), np.array([7, 8, 6])).tolist()
    [1, 2, 0]
    """
    order = np.argsort(scores, kind="stable")
    ranked = scores[order]
    new = np.append(True, ranked[1:] != ranked[:-1])
    tied = np.flatnonzero(~new | ~np.append(new[1:], True))
    if len(tied):
        rows = order[tied]
        group = np.cumsum(new)[tied]
        order[tied] = rows[np.lexsort((*(column[rows] for column in reversed(ties)), group))]
    return order


def score_of(key: int, dtype: npt.DTypeLike) -> np.floating:
    """Return the score whose sort key this is, or NaN if it is past all scores.

    Examples
    --------
    >>> float(score_of(int(sort_keys(np.array([-0.25]))[0]), np.float64))
    -0.25
    """
    return cast(np.floating, scores_of(np.array([key], np.uint64), dtype)[0])


def scores_of(keys: Keys, dtype: npt.DTypeLike) -> npt.NDArray[np.floating]:
    """Return the scores whose sort keys these are; NaN for what is past all scores."""
    kind = np.dtype(dtype)
    unsigned = np.dtype(f"u{kind.itemsize}")
    narrow = keys.astype(unsigned)
    sign = unsigned.type(1 << (8 * kind.itemsize - 1))
    bits = np.where(narrow & sign, narrow ^ sign, ~narrow)
    return cast(npt.NDArray[np.floating], bits.astype(unsigned).view(kind))


def whole_range(itemsize: int) -> Bin:
    """Return the bin of all keys of ``itemsize`` bytes."""
    return Bin(0, 8 * itemsize)


def split(wide: Bin) -> int:
    """Return shift of the bins into which a histogram divides ``wide``."""
    return max(0, wide.shift - _DIGIT)


def histogram(keys: Keys, bins: Sequence[Bin]) -> Ints:
    """Return how many keys lie in each of the ``2 ** 16`` (or fewer) equal pieces of each bin.

    Parameters
    ----------
    keys : ndarray of unsigned integers, (n,)
    bins : sequence of Bin

    Returns
    -------
    ndarray of int64, (len(bins), 65536)
    """
    counts = np.zeros((len(bins), 1 << _DIGIT), np.int64)
    for row, wide in enumerate(bins):
        _histogram(
            keys, np.uint64(wide.key), np.uint64(wide.last_key), np.uint64(split(wide)), counts[row]
        )
    return counts


@kernel()
def _histogram(keys, first, last, shift, counts):
    for i in range(keys.size):
        key = np.uint64(keys[i])
        if first <= key <= last:
            counts[(key - first) >> shift] += 1


@dataclass
class CutOff:
    """Search for the parts that hold the T lowest: ask for histograms until every part is small,
    then for ties.

    Parameters
    ----------
    total : int
        T, how many examples are wanted.
    itemsize : int
        Bytes of a score.
    rows_per_part : int
        Examples a part should hold at most.
    """

    total: int
    itemsize: int
    rows_per_part: int

    def __post_init__(self) -> None:
        self._counts: dict[Bin, int] = {}
        self._ties: dict[int, Ints] = {}

    @property
    def too_large(self) -> tuple[Bin, ...]:
        """Bins that hold too many examples and can be split by a histogram: to be counted next."""
        if not self._counts:
            if self.total:
                return (whole_range(self.itemsize),)
            return ()
        return tuple(b for b, n in self._needed().items() if n > self.rows_per_part and b.shift)

    @property
    def tied(self) -> tuple[int, ...]:
        """Single keys that too many examples share: to be counted by piece, once nothing is
        :attr:`too_large`.
        """
        return tuple(
            b.key
            for b, n in self._needed().items()
            if n > self.rows_per_part and b.key not in self._ties
        )

    def add(self, bins: Sequence[Bin], counts: Ints) -> None:
        """Take in the histogram of ``bins`` over all examples."""
        for wide, row in zip(bins, counts, strict=True):
            self._counts.pop(wide, None)
            shift = split(wide)
            for piece in np.flatnonzero(row):
                self._counts[Bin(wide.key + (int(piece) << shift), shift)] = int(row[piece])

    def add_ties(self, keys: Sequence[int], counts: Ints) -> None:
        """Take in the tie counts of ``keys`` over all examples."""
        self._ties.update(zip(keys, counts, strict=True))

    def _needed(self) -> dict[Bin, int]:
        """Return bins in order, as far as the T-th example."""
        needed = {}
        before = 0
        for piece in sorted(self._counts):
            if before >= self.total:
                break
            needed[piece] = self._counts[piece]
            before += self._counts[piece]
        return needed

    def parts(self) -> list[Part]:
        """Return the ranking's parts in order; together they take exactly T examples."""
        parts: list[Part] = []
        left = self.total
        for piece, count in self._needed().items():
            if piece.key in self._ties and not piece.shift:
                pieces = list(self._split_tie(piece, self._ties[piece.key]))
            else:
                pieces = [Part(piece.key, piece.last_key, 0, _ALL, count, count)]
            for new in pieces:
                take = min(left, new.rows)
                left -= take
                if take == 0:
                    break
                last = parts[-1] if parts else None
                whole = last is not None and last.last == new.last == _ALL
                if last is not None and whole and last.rows + new.rows <= self.rows_per_part:
                    parts[-1] = Part(
                        last.key, new.last_key, 0, _ALL, last.rows + new.rows, last.take + take
                    )
                else:
                    parts.append(Part(new.key, new.last_key, new.first, new.last, new.rows, take))
        return parts

    def _split_tie(self, piece: Bin, counts: Ints) -> list[Part]:
        """Return one key's examples, as parts of some of its pieces."""
        cuts = np.flatnonzero(np.diff(np.cumsum(counts) // self.rows_per_part, prepend=0)) + 1
        edges = [0, *cuts.tolist(), len(counts)]
        split_parts = []
        for low, high in pairwise(edges):
            rows = int(counts[low:high].sum())
            if rows:
                split_parts.append(Part(piece.key, piece.last_key, low, high, rows, rows))
        return split_parts


def assign_parts(keys: Keys, pieces: Ints, parts: Sequence[Part]) -> Ints:
    """Return part of each example, -1 for none; ``pieces`` says in which piece of its key each is,
    0 where that is not split.
    """
    if not parts:
        return np.full(len(keys), -1, np.int64)
    firsts, stops, lows, highs = (
        np.array([getattr(part, name) for part in parts], kind)
        for name, kind in (
            ("key", np.uint64),
            ("last_key", np.uint64),
            ("first", np.int64),
            ("last", np.int64),
        )
    )
    found = np.searchsorted(firsts, keys.astype(np.uint64), side="right") - 1
    for number, part in enumerate(parts):
        if part.last_key == part.key:  # several parts may share a single key
            same = keys == keys.dtype.type(part.key)
            found[same & (pieces >= part.first) & (pieces < part.last)] = number
    outside = (keys > stops[found]) | (found < 0)
    outside |= (pieces < lows[found]) | (pieces >= highs[found])
    return np.where(outside, -1, found)
