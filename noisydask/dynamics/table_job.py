"""One run on losses that come example by example, step by step: gather, rank, write, publish."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from noisydask.dynamics import candidate_parts, table_passes
from noisydask.dynamics.examples import Examples, ema_frame
from noisydask.dynamics.results import LossDynamics
from noisydask.dynamics.row_problems import DROPPED, refusal
from noisydask.dynamics.settings import LossSettings
from noisydask.dynamics.sources import RecordedLosses
from noisydask.dynamics.table_passes import Floats, Gathering, GatherState, Ints, TablePart
from noisydask.engine import graph
from noisydask.engine.ordering import find_parts, write_parts
from noisydask.engine.parts import part_name, written_by
from noisydask.engine.progress import listening
from noisydask.engine.tasks import EVIDENCE_TASKS, check_memory, tasks_of
from noisydask.errors import InputError
from noisydask.runs.class_names import check_labels
from noisydask.runs.job import Job, Listed, Outcome
from noisydask.runs.manifest import Manifest
from noisydask.runs.publish import Publication
from noisydask.runs.store import RunStore


@dataclass
class TableJob(Job[LossDynamics]):
    """One run on losses that come example by example; :meth:`run` is the whole of it."""

    name = "dynamics"
    source: RecordedLosses
    settings: LossSettings
    class_names: tuple[str, ...] | None = None

    @property
    def size(self) -> int | None:
        """Bytes of all rows; None where they are not known."""
        return self.source.pieces[1] or None

    @property
    def packages(self) -> frozenset[str]:
        """What the source needs where it lies in a store."""
        return self.source.packages

    def _result(self, run: RunStore, manifest: Manifest) -> LossDynamics:
        return LossDynamics(run, manifest)

    def _settings(self) -> dict[str, Any]:
        return self.settings.model_dump()

    def _inputs(self, listed: Listed) -> dict[str, dict[str, Any]]:
        return {"losses": self.source.describe()}

    def _more(self) -> tuple[Any, ...]:
        return (self.class_names,)

    def _check_unchanged(self, listed: Listed) -> None:
        self.source.check_unchanged()

    def _run(self, publication: Publication, listed: Listed) -> Outcome:
        run = publication.run
        alpha = self.settings.alpha
        state = self._gather(run.store)
        self._timed("gather")
        total = min(self.settings.top_k or state.examples, state.examples)
        self.reporter.phase(f"ranking {total:,} candidates of {state.examples:,} examples")
        sums = state.sums.sums
        iterations = state.sums.iterations
        losses = tuple(part.name for part in state.parts)
        check_labels(sums.labels, self.class_names)
        mean = sums.mean()
        rows = table_passes.RankedLosses(losses, state.examples, run.store)
        parts = find_parts(rows, total, state.histogram)
        selection = table_passes.LossSelection(parts, alpha, iterations, mean, losses, run.store)
        candidates = self._write_candidates(selection)
        self._timed("rank")
        head = [place for part in candidates for place in part.head][: table_passes.HEAD]
        labelled = self.source.columns.label is not None
        stored = self.source.stored_bytes
        candidate_parts.write_means(run, iterations, sums, mean, labelled)
        curves = _curves_at(head, iterations, losses, alpha, run.store)
        candidate_parts.write_curves(run, iterations, mean, curves)
        run.record(part.written for part in state.parts)
        run.record(written_by(candidates))
        self._timed("write")
        fields = {
            "class_names": self.class_names,
            "counts": {
                "examples": state.examples,
                "iterations": len(iterations),
                "losses": state.rows,
                "labels": len(sums.labels) if labelled else 0,
                "candidates": sum(part.rows for part in candidates),
                **{name: state.problems.dropped[name] for name in DROPPED},
            },
            **({"bytes_read": {"losses": stored}} if stored is not None else {}),
            "parts": [part_name(candidate_parts.FOLDER, part.number) for part in candidates],
            "loss_parts": list(losses),
        }
        return Outcome(fields, self.source.check_unchanged)

    def _write_candidates(self, selection: table_passes.LossSelection) -> list[TablePart]:
        """Sort and write the parts of the ranking."""
        selection.run.make_folder(candidate_parts.FOLDER)
        tasks = tasks_of(len(selection.losses), EVIDENCE_TASKS)
        numbers = graph.block_numbers(range(len(selection.losses)), tasks)
        frames = graph.over_blocks("select", selection.select, numbers)
        columns = self.source.columns
        text_ids = self.source.text_ids
        meta = partial(table_passes.empty_selection, columns, text_ids)
        write = table_passes.Writer(selection.run, self.class_names)
        return write_parts(frames, meta, selection.ranked, write)

    def _gather(self, run: RunStore) -> GatherState:
        self.reporter.phase("bringing the losses of each example together")
        run.make_folder(table_passes.LOSSES)
        check_memory(self.settings.block_bytes)
        pieces, num_bytes = self.source.pieces
        if pieces:
            with (
                self.reporter.reading(pieces, num_bytes, "pieces") as advance,
                listening(advance) as notify,
            ):
                state = self.source.gather(Gathering(self.settings, run, notify))
        else:
            state = self.source.gather(Gathering(self.settings, run))
        if state.problems.total:
            raise refusal(state.problems, state.rows)
        if not state.examples:
            raise InputError("no loss is recorded there: there is nothing to look at")
        return state


def _curves_at(
    places: Sequence[tuple[int, int]],
    iterations: Ints,
    losses: Sequence[str],
    alpha: float,
    run: RunStore,
) -> Floats:
    """Return EMA of some examples at all iterations, NaN where not recorded."""
    if not places:
        return np.zeros((0, len(iterations)))
    files = sorted({file for file, _ in places})
    task = partial(table_passes.examples_at, places=tuple(places), losses=losses, run=run)
    pieces: tuple[tuple[int, Examples], ...] = graph.run_pass(
        "curves", task, graph.block_numbers(files, (1,) * len(files))
    )
    curves = np.full((len(places), len(iterations)), np.nan)
    for position, example in pieces:
        curves[position] = ema_frame(example, alpha, iterations)[0]
    return curves
