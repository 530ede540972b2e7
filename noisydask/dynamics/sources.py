"""Where recorded losses come from, other than dense arrays: tables in files, frames, datasets of
Datumaro.

Each brings the losses of every example together in one place, where they are taken in and written
to the run.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Protocol

import pandas as pd

from noisydask.dynamics.annotations import Batch
from noisydask.dynamics.datumaro_format import (
    DatumaroFiles,
    DatumaroObject,
    loss_attribute,
    open_dataset,
)
from noisydask.dynamics.examples import Examples
from noisydask.dynamics.file_source import FileSource
from noisydask.dynamics.files import LossFiles
from noisydask.dynamics.loss_rows import LossRows
from noisydask.dynamics.table import LossColumns, checked_rows, is_text, row_numbers
from noisydask.dynamics.table_passes import Gathering, GatherState
from noisydask.engine import graph
from noisydask.errors import InputError
from noisydask.stores.fingerprints import check_files_unchanged
from noisydask.stores.locations import Location


class RecordedLosses(Protocol):
    """Where examples with their losses come from."""

    @property
    def columns(self) -> LossColumns:
        """What is known of a loss."""
        ...

    @property
    def text_ids(self) -> bool:
        """Whether ids are text; integers otherwise."""
        ...

    @property
    def pieces(self) -> tuple[int, int]:
        """How often :meth:`gather` says that a piece is done, and the bytes of all, or 0 where
        those are not known.
        """
        ...

    @property
    def stored_bytes(self) -> int | None:
        """Bytes of files that are read; None where it does not lie in files."""
        ...

    @property
    def packages(self) -> frozenset[str]:
        """Packages, beside those that noisydask requires, that a worker needs to read it."""
        ...

    def gather(self, gathering: Gathering) -> GatherState:
        """Bring the losses of each example together and take them in."""
        ...

    def describe(self) -> dict[str, Any]:
        """Return what a manifest says of this input; nothing secret."""
        ...

    def check_unchanged(self) -> None:
        """JobError if it is not what it was before it was read, as far as its store tells."""
        ...


@dataclass(frozen=True)
class FrameSource:
    """A frame of pandas or Dask; ``by_index`` says that the ids are its index, and each of them in
    one partition only.
    """

    frame: Any = field(repr=False)
    columns: LossColumns
    text_ids: bool
    by_index: bool
    block_bytes: int

    @classmethod
    def of(cls, frame: Any, columns: LossColumns, block_bytes: int) -> FrameSource:
        """Look at a frame."""
        names = list(frame.columns)
        indexed = frame.index.name == columns.id and columns.id not in frame.columns
        columns.require([*names, *([columns.id] if indexed else [])], "the table")
        text = is_text(frame.index.dtype if indexed else frame.dtypes[columns.id], columns.id)
        if isinstance(frame, pd.DataFrame):
            return cls(frame.reset_index() if indexed else frame, columns, text, False, block_bytes)
        if indexed and not frame.known_divisions:
            frame = frame.reset_index()
            indexed = False
        return cls(frame, columns, text, indexed, block_bytes)

    @property
    def stored_bytes(self) -> None:
        """None: a frame lies in memory, or in a graph that does not tell."""
        return None

    @property
    def packages(self) -> frozenset[str]:
        """None: the rows travel as they are."""
        return frozenset()

    @property
    def pieces(self) -> tuple[int, int]:
        """Partitions, or slices of what lies in memory."""
        if isinstance(self.frame, pd.DataFrame):
            slices = -(-max(1, len(self.frame)) // self._block_rows)
        else:
            slices = 0
        return slices or self.frame.npartitions, 0

    @property
    def _block_rows(self) -> int:
        return max(1, self.block_bytes // self.columns.row_bytes(self.text_ids))

    def gather(self, gathering: Gathering) -> GatherState:
        """Take each partition once; where ids lie in several, shuffle their rows."""
        parts = graph.frame_parts(self.frame, self._block_rows)
        parts = graph.map_parts(
            "rows", partial(_check_part, columns=self.columns, text_ids=self.text_ids), parts
        )
        if len(parts) > 1 and not self.by_index:
            parts = graph.shuffle_rows(parts, self.columns.meta(self.text_ids), "id", len(parts))
        take = partial(_take_frame, gathering=gathering)
        state: GatherState = graph.total("examples", graph.map_parts("examples", take, parts))
        return state

    def describe(self) -> dict[str, Any]:
        """Return what a manifest says of this input."""
        return {"memory": True, "columns": self.columns.names}

    def check_unchanged(self) -> None:
        """Nothing tells versions of what lies in memory."""


def open_table(
    source: Any, columns: LossColumns, storage_options: Mapping[str, Any] | None, block_bytes: int
) -> FileSource | FrameSource:
    """Open a table of losses.

    Parameters
    ----------
    source : str, Path, pandas.DataFrame or dask.dataframe.DataFrame
        A Parquet or CSV file or a folder of them by path or URL, or a frame.
    columns : LossColumns
        What its columns are called.
    storage_options : mapping, optional
        Passed to fsspec.
    block_bytes : int
        Bytes of rows that a task takes.

    Raises
    ------
    InputError
        If there is no table, or without one of the columns.
    """
    if isinstance(source, str | Path):
        place = Location.of(str(source), storage_options, "table")
        return FileSource(LossFiles.open(place, columns, block_bytes), block_bytes)
    if graph.is_frame(source):
        return FrameSource.of(source, columns, block_bytes)
    raise InputError(
        f"table must be a path, a URL or a frame of pandas or Dask, not {type(source).__name__}"
    )


def _take_frame(frame: pd.DataFrame, number: int, gathering: Gathering) -> GatherState:
    return gathering.gather_rows(LossRows.of_frame(frame), number)


def _check_part(
    frame: pd.DataFrame, number: int, columns: LossColumns, text_ids: bool
) -> pd.DataFrame:
    if columns.id not in frame.columns:
        rows = frame.reset_index()
    else:
        rows = frame
    checked = checked_rows(rows, columns, text_ids)
    if columns.numbered and len(checked):
        return checked.assign(row=row_numbers([(number, len(rows))]))
    return checked


@dataclass(frozen=True)
class DatumaroSource:
    """A dataset of Datumaro; ``attribute`` holds the losses of an annotation."""

    dataset: DatumaroFiles | DatumaroObject
    attribute: str
    columns: LossColumns = LossColumns(label="label", subset="subset", ann_id="ann_id")  # noqa: RUF009  frozen
    text_ids: bool = True

    @classmethod
    def open(
        cls, source: Any, tracking_loss_type: str | None, storage_options: Mapping[str, Any] | None
    ) -> DatumaroSource:
        """Open a dataset.

        Raises
        ------
        DatasetError
            If it is not one, or made for something else.
        """
        dataset = open_dataset(source, storage_options)
        return cls(dataset, loss_attribute(dataset.infos(), tracking_loss_type))

    @property
    def pieces(self) -> tuple[int, int]:
        """Files; 0 where it lies in memory."""
        return (0 if isinstance(self.dataset, DatumaroObject) else len(self.dataset.files)), 0

    @property
    def stored_bytes(self) -> int | None:
        """Bytes of the files, each read once."""
        if isinstance(self.dataset, DatumaroObject):
            return None
        return self.dataset.stored_bytes

    @property
    def packages(self) -> frozenset[str]:
        """What the place of the files needs."""
        if isinstance(self.dataset, DatumaroObject):
            return frozenset()
        return self.dataset.place.packages

    def gather(self, gathering: Gathering) -> GatherState:
        """Read each file once, as a stream; what lies in memory is taken in here."""
        if isinstance(self.dataset, DatumaroObject):
            return _take_in(self.dataset.batches(self.attribute), "00000", gathering)
        files = range(len(self.dataset.files))
        task = partial(
            _gather_files, dataset=self.dataset, attribute=self.attribute, gathering=gathering
        )
        state: GatherState = graph.run_pass(
            "datumaro", task, graph.block_numbers(files, (1,) * len(files))
        )
        return state

    def describe(self) -> dict[str, Any]:
        """Return what a manifest says of this input."""
        return {**self.dataset.describe(), "attribute": self.attribute}

    def check_unchanged(self) -> None:
        """List the files again, where there are such."""
        if isinstance(self.dataset, DatumaroFiles):
            check_files_unchanged(
                "the Datumaro dataset", self.dataset.folder, self.dataset.versions
            )


def _gather_files(
    numbers: Sequence[int], dataset: DatumaroFiles, attribute: str, gathering: Gathering
) -> GatherState:
    (number,) = numbers
    state = _take_in(dataset.batches_of(number, attribute), f"{number:05d}", gathering)
    gathering.done(0)
    return state


def _take_in(batches: Iterable[Batch], name: str, gathering: Gathering) -> GatherState:
    state = GatherState.zero()
    for number, batch in enumerate(batches):
        examples, problems = Examples.of_series(*batch, gathering.settings)
        state += gathering.gather(examples.sorted(), problems, f"{name}-{number:05d}")
    return state
