"""One run on losses that come example by example, step by step: gather, rank, write, publish."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any

import numpy as np
import pandas as pd

from noisydask.core import ranking
from noisydask.core.blocks import plan_tasks
from noisydask.core.settings import LossSettings
from noisydask.dynamics import table_passes
from noisydask.dynamics import tables as loss_tables
from noisydask.dynamics.class_names import check_labels
from noisydask.dynamics.examples import Examples, ema_frame
from noisydask.dynamics.results import LossDynamics
from noisydask.dynamics.row_problems import DROPPED, say_problems
from noisydask.dynamics.sources import LossSource
from noisydask.dynamics.table_passes import CandidatePart, Floats, Gathering, GatherState, Ints
from noisydask.dynamics.ties import TieCuts
from noisydask.engine import graph
from noisydask.engine.progress import listening
from noisydask.errors import InputError
from noisydask.runs.job import Job, check_memory
from noisydask.runs.manifest import Manifest
from noisydask.runs.publish import Publication
from noisydask.runs.store import RunStore


@dataclass
class TableJob(Job[LossDynamics]):
    """One run on losses that come example by example; :meth:`run` is the whole of it."""

    name = "dynamics"
    source: LossSource
    settings: LossSettings
    class_names: tuple[str, ...] | None = None

    @property
    def size(self) -> int | None:
        """Bytes of all rows; of a dataset nobody knows."""
        return self.source.pieces[1] or None

    @property
    def packages(self) -> frozenset[str]:
        """What the source needs where it lies in a store."""
        return self.source.packages

    def _result(self, run: RunStore, manifest: Manifest) -> LossDynamics:
        return LossDynamics(run, manifest)

    def _settings(self) -> dict[str, Any]:
        return asdict(self.settings)

    def _inputs(self) -> dict[str, dict[str, Any]]:
        return {"losses": self.source.describe()}

    def _more(self) -> tuple[Any, ...]:
        return (self.class_names,)

    def _check_unchanged(self) -> None:
        self.source.check_unchanged()

    def _run(self, publication: Publication) -> dict[str, Any]:
        run, alpha, top_k = publication.run, self.settings.alpha, self.settings.top_k
        state = self._gather(run)
        self._timed("gather")
        total = state.examples if top_k is None else min(top_k, state.examples)
        self.reporter.phase(f"ranking {total:,} candidates of {state.examples:,} examples")
        sums, iterations, losses = (
            state.sums.sums,
            state.sums.iterations,
            tuple(part.name for part in state.parts),
        )
        check_labels(sums.labels, self.class_names)
        mean = sums.mean()
        ranked, cuts = _ranked_parts(state, losses, total, run)
        selection = table_passes.LossSelection(
            tuple(ranked), cuts, alpha, iterations, mean, losses, run, self.class_names
        )
        candidates = _write_candidates(
            selection, table_passes.empty_selection(self.source.columns, self.source.text_ids)
        )
        self._timed("rank")
        head = [place for part in candidates for place in part.head][: table_passes.HEAD]
        arrays = {
            "iterations": iterations,
            "mean_loss_dyns": mean,
            "losses_per_iteration": sums.counts.sum(axis=0),
            "top_curves": _curves_at(head, iterations, losses, alpha, run),
        }
        labelled, stored = self.source.columns.label is not None, self.source.stored_bytes
        if labelled:
            arrays |= {
                "label_values": sums.labels,
                "mean_loss_dyns_per_label": sums.mean_per_label(),
            }
        for name, values in arrays.items():
            self.objects += run.write_array(f"{name}.zarr", values)
        self.objects += loss_tables.write_picture(run, iterations, mean, arrays["top_curves"])
        self.objects += [part.written for part in state.parts] + [
            part.written for part in candidates
        ]
        self._timed("write")
        return {
            "class_names": list(self.class_names) if self.class_names is not None else None,
            "counts": {
                "examples": state.examples,
                "iterations": len(iterations),
                "losses": state.rows,
                "labels": len(sums.labels) if labelled else 0,
                "candidates": sum(part.rows for part in candidates),
                **{name: state.problems.dropped[name] for name in DROPPED},
            },
            **({"bytes_read": {"losses": stored}} if stored is not None else {}),
            "parts": [loss_tables.part_name(part.number) for part in candidates],
            "loss_parts": list(losses),
        }

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
            raise InputError(say_problems(state.problems, state.rows))
        if not state.examples:
            raise InputError("no loss is recorded there: there is nothing to look at")
        return state


def _over_parts(name: str, task: Any, parts: Sequence[Any]) -> Any:
    numbers = graph.block_numbers(range(len(parts)), plan_tasks(len(parts), graph.slots(), 2))
    return graph.run_pass(name, task, numbers)


def _ranked_parts(
    state: GatherState, losses: Sequence[str], total: int, run: RunStore
) -> tuple[list[ranking.Part], TieCuts]:
    """The parts of the ranking, and the ids at which examples of exactly the same metric are cut
    between them.
    """
    rows, cuts = state.examples, TieCuts({})
    cut_off = ranking.CutOff(total, 8, rows)
    cut_off.add([ranking.whole_range(8)], state.histogram)
    while bins := cut_off.too_large:
        task = partial(table_passes.refine, bins=bins, losses=losses, run=run)
        cut_off.add(bins, _over_parts("refine", task, losses))
    if ties := cut_off.tied:
        sample = partial(table_passes.sample_ties, ties=ties, rows=rows, losses=losses, run=run)
        cuts = _over_parts("sample", sample, losses).cuts(ties)
        count = partial(table_passes.count_ties, cuts=cuts, rows=rows, losses=losses, run=run)
        cut_off.add_ties(ties, _over_parts("tie", count, losses))
    return cut_off.parts(), cuts


def _write_candidates(
    selection: table_passes.LossSelection, meta: pd.DataFrame
) -> list[CandidatePart]:
    run, parts = selection.run, selection.ranked
    to: dict[str, Any] = {"run": run, "class_names": selection.class_names}
    run.make_folder("candidates")
    tasks = plan_tasks(len(selection.losses), graph.slots(), 2)
    frames = graph.over_blocks(
        "select", selection.select, graph.block_numbers(range(len(selection.losses)), tasks)
    )
    if len(parts) <= 1:
        part = parts[0] if parts else ranking.Part(0, 0, 0, 0, 0, 0)
        finish = partial(table_passes.rank_candidates, number=0, part=part, first_rank=1, **to)
        return [graph.compute(graph.gather_frames("write", frames, finish))]
    firsts = 1 + np.cumsum([0, *(part.take for part in parts[:-1])])
    finish_part = partial(
        table_passes.rank_shuffled, parts=parts, first_ranks=tuple(firsts.tolist()), **to
    )
    table = graph.compute(graph.shuffle_frames(frames, meta, len(parts), finish_part))
    return sorted(table["written"], key=lambda part: part.number)


def _curves_at(
    places: Sequence[tuple[int, int]],
    iterations: Ints,
    losses: Sequence[str],
    alpha: float,
    run: RunStore,
) -> Floats:
    """EMA of some examples at all iterations, NaN where not recorded."""
    if not places:
        return np.zeros((0, len(iterations)))
    files = sorted({file for file, _ in places})
    task = partial(table_passes.examples_at, places=tuple(places), losses=losses, run=run)
    found: tuple[tuple[int, Examples], ...] = graph.run_pass(
        "curves", task, graph.block_numbers(files, (1,) * len(files))
    )
    curves = np.full((len(places), len(iterations)), np.nan)
    for position, example in found:
        curves[position] = ema_frame(example, alpha, iterations)[0]
    return curves
