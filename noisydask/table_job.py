"""A table of losses becomes examples, curves and a ranking in a run: the steps between input and publication."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import pandas as pd

from noisydask import graph, ranking, table_passes
from noisydask.blocks import plan_tasks
from noisydask.errors import InputError
from noisydask.locations import Location
from noisydask.loss_examples import LARGEST_LOSS, Examples, RowProblem, RowProblems, ema_frame
from noisydask.loss_files import LossFiles
from noisydask.loss_table import LossColumns, checked_rows, is_text
from noisydask.store import RunStore
from noisydask.table_passes import CandidatePart, Floats, Gathering, GatherState, Ints

_WORDS = {
    RowProblem.NEGATIVE: "negative losses",
    RowProblem.TOO_LARGE: f"infinite losses, or above {LARGEST_LOSS:.4g}",
    RowProblem.DUPLICATE: "duplicate iterations of an example",
    RowProblem.LABEL: "another label than the row before of the same example",
}


class LossSource(Protocol):
    """Where examples with their losses come from."""

    columns: LossColumns

    @property
    def text_ids(self) -> bool:
        """Whether ids are text; integers otherwise."""
        ...

    def gather(self, gathering: Gathering) -> GatherState:
        """Bring the losses of each example together and take them in."""
        ...

    def describe(self) -> dict[str, Any]:
        """What a manifest says of this input; nothing secret."""
        ...


@dataclass(frozen=True)
class FileSource:
    """A table in files."""

    files: LossFiles
    block_bytes: int

    @property
    def columns(self) -> LossColumns:
        """What its columns are called."""
        return self.files.columns

    @property
    def text_ids(self) -> bool:
        """Whether ids are text."""
        return self.files.text_ids

    def gather(self, gathering: Gathering) -> GatherState:
        """Read each unit once; where ids lie in several, shuffle their rows."""
        units = len(self.files.units)
        if not units:
            return GatherState.zero()
        numbers = graph.block_numbers(range(units), (1,) * units)
        parts = list(graph.over_blocks("table", partial(_read_unit, files=self.files), numbers).to_delayed())
        if not self.files.whole:
            num_parts = max(1, -(-self.files.num_bytes // self.block_bytes))
            parts = graph.shuffle_rows(parts, self.columns.meta(self.text_ids), "id", num_parts)
        return _gathered(parts, gathering)

    def describe(self) -> dict[str, Any]:
        """What a manifest says of this input."""
        return self.files.describe()


@dataclass(frozen=True)
class FrameSource:
    """A frame of pandas or Dask; ``by_index`` says that the ids are its index, and each of them in one partition only."""

    frame: Any = field(repr=False)
    columns: LossColumns
    text_ids: bool
    by_index: bool
    block_bytes: int

    @classmethod
    def of(cls, frame: Any, columns: LossColumns, block_bytes: int) -> FrameSource:
        """Look at a frame."""
        names, indexed = list(frame.columns), frame.index.name == columns.id and columns.id not in frame.columns
        columns.require([*names, *([columns.id] if indexed else [])], "the table")
        text = is_text(frame.index.dtype if indexed else frame.dtypes[columns.id], columns.id)
        if isinstance(frame, pd.DataFrame):
            return cls(frame.reset_index() if indexed else frame, columns, text, False, block_bytes)
        if indexed and not frame.known_divisions:
            frame, indexed = frame.reset_index(), False
        return cls(frame, columns, text, indexed, block_bytes)

    def gather(self, gathering: Gathering) -> GatherState:
        """Take each partition once; where ids lie in several, shuffle their rows."""
        block_rows = max(1, self.block_bytes // self.columns.row_bytes(self.text_ids))
        parts = graph.frame_parts(self.frame, block_rows)
        parts = graph.map_parts("rows", partial(_check_part, columns=self.columns, text_ids=self.text_ids), parts)
        if len(parts) > 1 and not self.by_index:
            parts = graph.shuffle_rows(parts, self.columns.meta(self.text_ids), "id", len(parts))
        return _gathered(parts, gathering)

    def describe(self) -> dict[str, Any]:
        """What a manifest says of this input."""
        return {"memory": True, "columns": self.columns.names}


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
    raise InputError(f"table must be a path, a URL or a frame of pandas or Dask, not {type(source).__name__}")


def _read_unit(units: Sequence[int], files: LossFiles) -> pd.DataFrame:
    (unit,) = units
    return files.read(unit)


def _check_part(frame: pd.DataFrame, number: int, columns: LossColumns, text_ids: bool) -> pd.DataFrame:
    rows = frame.reset_index() if columns.id not in frame.columns else frame
    return checked_rows(rows, columns, text_ids)


def _gathered(parts: Sequence[Any], gathering: Gathering) -> GatherState:
    state: GatherState = graph.total("examples", graph.map_parts("examples", gathering.gather_rows, parts))
    return state


@dataclass(frozen=True, eq=False)
class RankedExamples:
    """What was made of a source: the state of the first pass, the mean curve, the ranking, curves of its first examples."""

    state: GatherState
    mean: Floats
    candidates: tuple[CandidatePart, ...]
    top_curves: Floats

    @property
    def iterations(self) -> Ints:
        """All iterations, ascending: int64, (T,)."""
        return self.state.sums.iterations


def rank_examples(source: LossSource, alpha: float, top_k: int | None, run: RunStore) -> RankedExamples:
    """Gather the losses of each example, and rank them.

    Raises
    ------
    InputError
        If there are no losses, or some are invalid; one sentence that says what, how many and where.
    """
    run.make_folder(table_passes.LOSSES)
    state = source.gather(Gathering(alpha, run))
    if state.problems.total:
        raise InputError(_say(state.problems, state.rows))
    if not state.examples:
        raise InputError("the table holds no recorded loss: there is nothing to look at")
    mean = state.sums.sums.mean()
    total = state.examples if top_k is None else min(top_k, state.examples)
    ranked = _ranked_parts(state, total, run)
    selection = table_passes.LossSelection(tuple(ranked), alpha, state.sums.iterations, mean, state.parts, run)
    candidates = _write_candidates(selection, table_passes.empty_selection(source.columns, source.text_ids))
    head = [place for part in candidates for place in part.head][: table_passes.HEAD]
    return RankedExamples(state, mean, tuple(candidates), _curves_at(head, state, alpha, run))


def _over_parts(name: str, task: Any, parts: Sequence[Any]) -> Any:
    numbers = graph.block_numbers(range(len(parts)), plan_tasks(len(parts), graph.slots(), 2))
    return graph.run_pass(name, task, numbers)


def _ranked_parts(state: GatherState, total: int, run: RunStore) -> list[ranking.Part]:
    """The parts of the ranking. Examples of exactly the same metric are never split: they are one part, however many."""
    cut_off = ranking.CutOff(total, 8, state.examples)
    cut_off.add([ranking.whole_range(8)], state.histogram)
    while bins := cut_off.too_large:
        task = partial(table_passes.refine, bins=bins, parts=state.parts, run=run)
        cut_off.add(bins, _over_parts("refine", task, state.parts))
    return cut_off.parts()


def _write_candidates(selection: table_passes.LossSelection, meta: pd.DataFrame) -> list[CandidatePart]:
    run, parts = selection.run, selection.ranked
    run.make_folder("candidates")
    tasks = plan_tasks(len(selection.parts), graph.slots(), 2)
    frames = graph.over_blocks("select", selection.select, graph.block_numbers(range(len(selection.parts)), tasks))
    if len(parts) <= 1:
        part = parts[0] if parts else ranking.Part(0, 0, 0, 0, 0, 0)
        finish = partial(table_passes.rank_candidates, number=0, part=part, first_rank=1, run=run)
        return [graph.compute(graph.gather_frames("write", frames, finish))]
    firsts = 1 + np.cumsum([0, *(part.take for part in parts[:-1])])
    finish_part = partial(table_passes.rank_shuffled, parts=parts, first_ranks=tuple(firsts.tolist()), run=run)
    table = graph.compute(graph.shuffle_frames(frames, meta, len(parts), finish_part))
    return sorted(table["written"], key=lambda part: part.number)


def _curves_at(places: Sequence[tuple[int, int]], state: GatherState, alpha: float, run: RunStore) -> Floats:
    """EMA of some examples at all iterations, NaN where not recorded."""
    iterations = state.sums.iterations
    if not places:
        return np.zeros((0, len(iterations)))
    files = sorted({file for file, _ in places})
    task = partial(table_passes.examples_at, places=tuple(places), parts=state.parts, run=run)
    found: tuple[tuple[int, Examples], ...] = graph.run_pass("curves", task, graph.block_numbers(files, (1,) * len(files)))
    curves = np.full((len(places), len(iterations)), np.nan)
    for position, example in found:
        curves[position] = ema_frame(example, alpha, iterations)[0]
    return curves


def _say(problems: RowProblems, rows: int) -> str:
    """One sentence about refused rows."""
    kinds = [f"{count:,} with {_WORDS[kind]}" for kind, count in zip(RowProblem, problems.counts, strict=True) if count]
    first = ", ".join(f"id {name} at iteration {iteration}" for name, iteration in problems.first)
    return f"of {rows:,} recorded losses, {'; '.join(kinds)}; the first are {first}. Correct them, or leave them out"
