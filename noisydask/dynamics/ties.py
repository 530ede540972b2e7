"""Examples of exactly the same metric that are too many for one part: cut by their ids, which order
them.

Where to cut is told by a sample: the tied examples whose ids have the lowest hashes. So it is the
same however examples lie.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from noisydask.core import ranking
from noisydask.core.ranking import Ints, Keys

Array = npt.NDArray[Any]

#: Examples of a sample, of each :data:`ranking.TIE_ROWS` examples: so many ids apart are the cuts.
_SAMPLED = 64


@dataclass(frozen=True, eq=False)
class TieSample:
    """The ``size`` tied examples with the lowest hashes, or all if there are less: hash, sort key
    of the metric, id.
    """

    size: int
    hashes: npt.NDArray[np.uint64]
    keys: Keys
    ids: Array

    @classmethod
    def of(cls, keys: Keys, ids: Array, ties: Sequence[int], rows: int) -> TieSample:
        """Sample those of some examples that have a tied key; ``rows`` is the number of all
        examples.
        """
        tied = np.isin(keys, np.array(ties, keys.dtype))
        hashes = pd.util.hash_array(ids[tied], categorize=False)
        return cls(_SAMPLED * num_places(rows), hashes, keys[tied], ids[tied])._lowest()

    def __add__(self, other: TieSample) -> TieSample:
        columns = ((self.hashes, other.hashes), (self.keys, other.keys), (self.ids, other.ids))
        return TieSample(self.size, *map(np.concatenate, columns))._lowest()

    def _lowest(self) -> TieSample:
        first = np.argsort(self.hashes, kind="stable")[: self.size]
        return TieSample(self.size, self.hashes[first], self.keys[first], self.ids[first])

    def cuts(self, ties: Sequence[int]) -> TieCuts:
        """Ids that cut the examples of each tied key into pieces of about
        :data:`ranking.TIE_ROWS`.
        """
        ids = {key: np.sort(self.ids[self.keys == key]) for key in ties}
        return TieCuts({key: found[_SAMPLED::_SAMPLED] for key, found in ids.items()})


@dataclass(frozen=True, eq=False)
class TieCuts:
    """By tied key the ids at which its examples are cut, ascending; nothing where no ties need to
    be.
    """

    ids: Mapping[int, Array]

    def index(self, keys: Keys, ids: Array) -> Ints:
        """What stands for the index by which parts tell tied examples apart: the number of the
        piece, in tie rows.
        """
        index = np.zeros(len(keys), np.int64)
        for key, cuts in self.ids.items():
            tied = keys == np.uint64(key)
            index[tied] = np.searchsorted(cuts, ids[tied], side="right") * ranking.TIE_ROWS
        return index

    def counts(self, keys: Keys, ids: Array, rows: int) -> Ints:
        """Per tied key, how many of some examples lie in each piece, as
        :meth:`ranking.CutOff.add_ties` takes it.
        """
        pieces = self.index(keys, ids) // ranking.TIE_ROWS
        found = [
            np.bincount(pieces[keys == np.uint64(key)], minlength=num_places(rows))
            for key in self.ids
        ]
        return np.array(found, np.int64)


def num_places(rows: int) -> int:
    """Pieces that tied examples are cut into at most."""
    return -(-rows // ranking.TIE_ROWS)
