"""Where recorded losses lie in files: each unit is read once, and rows of an example that lie in
several move to one part.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from noisydask.dynamics.files import LossFiles
from noisydask.dynamics.loss_rows import LossRows
from noisydask.dynamics.pieces import FOLDER, Pieces
from noisydask.dynamics.table import LossColumns
from noisydask.dynamics.table_passes import Gathering, GatherState
from noisydask.engine import graph
from noisydask.errors import JobError
from noisydask.stores.fingerprints import check_files_unchanged


@dataclass(frozen=True)
class FileSource:
    """A table in files."""

    files: LossFiles
    block_bytes: int

    @property
    def columns(self) -> LossColumns:
        """Return the names of its columns."""
        return self.files.columns

    @property
    def text_ids(self) -> bool:
        """Return whether ids are text."""
        return self.files.text_ids

    @property
    def pieces(self) -> tuple[int, int]:
        """Units that are read, and then units or parts that are taken in."""
        units = len(self.files.units)
        return units + (units if self.files.whole else self._num_parts), self.files.num_bytes

    @property
    def stored_bytes(self) -> int:
        """Bytes of the columns that are read, as they are stored."""
        return self.files.stored_bytes

    @property
    def packages(self) -> frozenset[str]:
        """Return the packages that the place of the files needs."""
        return self.files.place.packages

    def gather(self, gathering: Gathering) -> GatherState:
        """Read each unit once; where ids lie in several, move their rows."""
        units = len(self.files.units)
        if not units:
            return GatherState.zero()
        numbers = graph.block_numbers(range(units), (1,) * units)
        if self.files.whole:
            state = graph.run_pass(
                "examples", partial(_take_unit, files=self.files, gathering=gathering), numbers
            )
        else:
            state = self._moved(gathering, numbers)
        if self.files.rows not in (None, state.taken):
            raise JobError(
                f"{state.taken:,} rows were taken in of the {self.files.rows:,} of the table at "
                f"{self.files.place.shown}:"
                " it was changed while it was read, or its statistics of column "
                f"{self.columns.id!r} are wrong"
            )
        return state

    def _moved(self, gathering: Gathering, numbers: Any) -> GatherState:
        """Bring the rows of each example to one part, by way of the run."""
        pieces = Pieces(gathering.run, len(self.files.units), self._num_parts)
        gathering.run.make_folder(FOLDER)
        graph.run_pass(
            "pieces",
            partial(_write_piece, files=self.files, pieces=pieces, done=gathering.done),
            numbers,
        )
        state: GatherState = graph.run_pass(
            "examples",
            partial(_take_part, pieces=pieces, gathering=gathering),
            graph.block_numbers(range(pieces.parts), (1,) * pieces.parts),
        )
        gathering.run.remove_folder(FOLDER)
        return state

    @property
    def _num_parts(self) -> int:
        return max(1, -(-self.files.num_bytes // self.block_bytes))

    def describe(self) -> dict[str, Any]:
        """Return what a manifest says of this input."""
        return self.files.describe()

    def check_unchanged(self) -> None:
        """List the files again."""
        check_files_unchanged("table", self.files.place, self.files.versions)


def _read_unit(units: Sequence[int], files: LossFiles, done: Callable[[int], None]) -> LossRows:
    (unit,) = units
    rows = files.read(unit)
    done(files.columns.row_bytes(files.text_ids) * len(rows))
    return rows


def _take_unit(units: Sequence[int], files: LossFiles, gathering: Gathering) -> GatherState:
    return gathering.gather_rows(_read_unit(units, files, gathering.done), units[0])


def _write_piece(
    units: Sequence[int], files: LossFiles, pieces: Pieces, done: Callable[[int], None]
) -> int:
    rows = _read_unit(units, files, done)
    pieces.write(units[0], rows)
    return len(rows)


def _take_part(parts: Sequence[int], pieces: Pieces, gathering: Gathering) -> GatherState:
    (part,) = parts
    return gathering.gather_rows(pieces.read(part), part)
