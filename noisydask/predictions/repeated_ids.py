"""Which ids were written twice: found part by part, of which each holds all rows of its ids."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import reduce
from operator import add
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from noisydask.predictions.placing import FIRST
from noisydask.predictions.written_files import WrittenFile, read_range, read_rows
from noisydask.stores.locations import Location

#: Rows of a part, about.
PART_ROWS = 1 << 22


@dataclass(frozen=True)
class Repeated:
    """Rows that are left out, as (file, row), because their id was written again; how many ids
    have rows that differ, and the first of these.
    """

    dropped: tuple[tuple[int, int], ...] = ()
    differing: int = 0
    first: tuple[Any, ...] = ()

    def __add__(self, other: Repeated) -> Repeated:
        return Repeated(
            self.dropped + other.dropped,
            self.differing + other.differing,
            tuple(sorted(self.first + other.first)[:FIRST]),
        )


@dataclass(frozen=True)
class FindRepeated:
    """The pass over parts: those of which the hash of an id leaves this rest."""

    folder: Location
    files: Sequence[WrittenFile]
    parts: int
    take_last: bool

    def run(self, parts: Sequence[int]) -> Repeated:
        """Look for ids that are there twice."""
        return reduce(add, map(self._part, parts))

    def _part(self, part: int) -> Repeated:
        ids, places = [], []
        for number, file in enumerate(self.files):
            own = read_rows(self.folder, file.name)
            rows = np.flatnonzero(pd.util.hash_array(own, categorize=False) % self.parts == part)
            ids.append(own[rows])
            places.append(np.stack([np.full(len(rows), number), rows], axis=1))
        everything, where = np.concatenate(ids), np.concatenate(places)
        order = np.argsort(everything, kind="stable")
        everything, where = everything[order], where[order]
        same = np.concatenate([[False], everything[1:] == everything[:-1]])
        found = Repeated()
        for end in np.flatnonzero(same & ~np.concatenate([same[1:], [False]])):
            begin = end
            while same[begin]:
                begin -= 1
            found += self._repeated(everything[end], where[begin : end + 1])
        return found

    def _repeated(self, name: Any, where: npt.NDArray[np.int64]) -> Repeated:
        """Leave out all rows of an id but one."""
        rows = [(int(file), int(row)) for file, row in where]
        keep = rows[-1] if self.take_last else rows[0]
        dropped = tuple(row for row in rows if row != keep)
        if self.take_last:
            return Repeated(dropped)
        contents = {self._content(*row) for row in rows}
        if len(contents) == 1:
            return Repeated(dropped)
        plain = name.item() if hasattr(name, "item") else name
        return Repeated(dropped, 1, (plain,))

    def _content(self, number: int, row: int) -> tuple[bytes, bytes]:
        probs, labels = read_range(self.folder, self.files[number], row, row + 1)
        return probs.tobytes(), b"" if labels is None else labels.tobytes()
