"""Both signals together: the rankings of the two jobs become one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from numbers import Integral
from pathlib import Path
from typing import Any

from noisydask.consensus import passes, tables
from noisydask.consensus.passes import CONSENSUS, METRIC, QUALITY, Blocks
from noisydask.consensus.results import Consensus
from noisydask.consensus.sources import Inputs
from noisydask.consensus.tables import Pieces
from noisydask.core import ranking
from noisydask.core.blocks import plan_tasks
from noisydask.core.choices import JoinKey
from noisydask.core.settings import PublishSettings
from noisydask.engine import graph
from noisydask.engine.progress import Reporter, Silent
from noisydask.errors import InputError
from noisydask.issues.find import run_in_temporary_folder
from noisydask.issues.tables import WrittenPart
from noisydask.runs.job import Job
from noisydask.runs.manifest import Manifest
from noisydask.runs.publish import Publication
from noisydask.runs.store import Output, RunStore
from noisydask.stores.fingerprints import check_unchanged
from noisydask.stores.locations import options_by_name, refuse_overlap

#: Tasks of a thread in a pass that counts.
_TASKS = 2
#: Bytes of a row in memory, about.
_ROW_BYTES = 64


def combine(
    issues_out: Any,
    dynamics_out: Any,
    *,
    on: JoinKey | None = None,
    ids: Any = None,
    top: int | None = None,
    full: bool = False,
    out: str | Path | None = None,
    allow_unsafe_store: bool = False,
    lease_seconds: float = 60.0,
    keep_runs: int = 10,
    keep_days: float = 0.0,
    grace_seconds: float = 3600.0,
    storage_options: Mapping[str, Mapping[str, Any]] | None = None,
    reporter: Reporter | None = None,
) -> Consensus:
    """Join the rankings of the two jobs into one, on the active Dask client or scheduler.

    Examples that both jobs know get two rank percentiles, 0 for the worst label to 1 for the best,
    of their exact places among these examples: by ascending (label quality, index) and by
    descending EMA, then ascending index. The consensus is the mean of the two percentiles; the
    ranking is by ascending (consensus, index), so worst label first.

    Parameters
    ----------
    issues_out : str, Path or LabelIssues
        Output of :func:`find_label_issues`.
    dynamics_out : str, Path or LossDynamics
        Output of :func:`analyze_loss_dynamics`. Joined by id, it must have ranked all (no ``top_k``
        that left any out).
    on : {"id", "index"}, optional
        What an example is recognised by. By default its id where both runs have ids (the positions
        of an issues run without ids serve as such, beside a dynamics run of a table), else its
        position.
    ids : optional
        The ids of the issues run, given as to :func:`find_label_issues`; only needed where they
        were not given then, or lie in another place now.
    top : int, optional
        How many examples the ranking holds; all that both know by default.
    full : bool
        Join them again, even where nothing changed since the run before.
    out : str or Path, optional
        Path or URL of the output, as of :func:`find_label_issues`; without it, results go with the
        returned object.
    allow_unsafe_store, lease_seconds, keep_runs, keep_days, grace_seconds
        How the run is locked, published and kept, as in :func:`find_label_issues`.
    storage_options : mapping of name to mapping, optional
        fsspec options for ``issues``, ``dynamics``, ``ids`` and ``out``, by these names.
    reporter : ProgressBar or ProgressLog, optional
        Shows progress, as in :func:`find_label_issues`.

    Returns
    -------
    Consensus

    Raises
    ------
    InputError
        If a run is missing, they cannot be joined, or no example is in both.
    JobError
        If the cluster or a store fails.
    """
    if top is not None and (not isinstance(top, Integral) or top < 1):
        raise InputError(f"top must be an integer of at least 1, not {top!r}")
    options = options_by_name(storage_options, "issues", "dynamics", "ids", "out")
    publish = PublishSettings(
        allow_unsafe_store, lease_seconds, keep_runs, keep_days, grace_seconds
    )
    inputs = Inputs.open(issues_out, dynamics_out, on, ids, options)
    if out is not None:
        refuse_overlap(str(out), inputs.urls())
    job = CombineJob(
        inputs,
        None if top is None else int(top),
        reporter=reporter or Silent(),
        publish=publish,
        full=full,
    )
    if out is not None:
        return job.run(Output.at(out, options.get("out")))
    return run_in_temporary_folder(job)


@dataclass
class CombineJob(Job[Consensus]):
    """One run of the job: what fits one worker is done at once; more is joined, then sorted three
    times.
    """

    name = "combine"
    inputs: Inputs
    top: int | None

    @property
    def size(self) -> int:
        """Bytes of the rows that are joined, about."""
        return self.inputs.rows * _ROW_BYTES

    @property
    def packages(self) -> frozenset[str]:
        """Packages that both runs and the ids need."""
        return self.inputs.packages

    def _result(self, run: RunStore, manifest: Manifest) -> Consensus:
        return Consensus(run, manifest)

    def _settings(self) -> dict[str, Any]:
        return {"on": self.inputs.on, "top": self.top}

    def _inputs(self) -> dict[str, dict[str, Any]]:
        return dict(self.inputs.described)

    def _more(self) -> tuple[Any, ...]:
        return self.inputs.class_names, self.inputs.sources.evidence is not None

    def _check_unchanged(self) -> None:
        check_unchanged(self.inputs.listed)

    def _run(self, publication: Publication) -> dict[str, Any]:
        run = publication.run
        run.make_folder("candidates")
        self.reporter.phase(f"joining {self.inputs.rows:,} rows by {self.inputs.on}")
        small = self.inputs.rows <= ranking.ROWS_PER_PART
        total, parts = self._at_once(run) if small else self._in_parts(run)
        if not total:
            raise InputError("the two runs have no example in common")
        inputs = self.inputs
        self.objects += [stored for part in parts for stored in part.objects]
        return {
            "class_names": list(inputs.class_names) if inputs.class_names is not None else None,
            "counts": {
                "examples": inputs.sources.grid.rows,
                "common": total,
                "ranked": sum(part.rows for part in parts),
            },
            "bytes_read": dict(inputs.stored_bytes),
            "parts": [tables.part_name(part.number) for part in parts],
        }

    def _at_once(self, run: RunStore) -> tuple[int, list[WrittenPart]]:
        join = self.inputs.on == "id"
        finish = partial(
            tables.write_at_once,
            join=join,
            top=self.top,
            run=run,
            class_names=self.inputs.class_names,
        )
        frames = self._frames(self.inputs.sources)
        if join:
            frames = graph.together(frames, self._dynamics_frames())
        written: tables.WrittenAtOnce = graph.compute(
            graph.gather_frames("combine", frames, finish)
        )
        self._timed("combine")
        return written.total, [written.part]

    def _in_parts(self, run: RunStore) -> tuple[int, list[WrittenPart]]:
        run.make_folder(tables.SCRATCH)
        source: Blocks = self.inputs.sources
        if self.inputs.on == "id":
            source = self._join(run)
            self._timed("join")
            if not source.names:
                return 0, []
        total = 0
        for column in (QUALITY, METRIC):
            parts, total = self._parts(source, column, None)
            if not total:
                return 0, []
            self.reporter.phase(f"ranking {total:,} examples by {column}")
            finish = partial(tables.write_ranked, column=column, parts=parts, total=total, run=run)
            source = _pieces(run, self._in_order(source, column, parts, finish))
            self._timed(column)
        parts, total = self._parts(source, CONSENSUS, self.top)
        self.reporter.phase("ranking by both")
        finish = partial(
            tables.write_part, parts=parts, run=run, class_names=self.inputs.class_names
        )
        written = _in_number(self._in_order(source, CONSENSUS, parts, finish))
        run.remove_folder(tables.SCRATCH)
        self._timed(CONSENSUS)
        return total, written

    def _join(self, run: RunStore) -> Pieces:
        """Bring rows of the same id together; what both know lies in scratch files."""
        num_parts = -(-self.inputs.rows // ranking.ROWS_PER_PART)
        step = partial(passes.to_id_parts, num_parts=num_parts)
        frames = graph.together(
            self._frames(self.inputs.sources, step), self._dynamics_frames(step)
        )
        finish = partial(tables.write_joined, run=run)
        return _pieces(
            run, graph.shuffle_frames(frames, step(self.inputs.sources.empty()), num_parts, finish)
        )

    def _parts(
        self, source: Blocks, column: str, top: int | None
    ) -> tuple[list[ranking.Part], int]:
        """Parts of the order of a column, each small enough for a worker; and how many examples
        there are.
        """
        itemsize, rows = source.empty()[column].to_numpy().itemsize, self.inputs.sources.grid.rows
        numbers = graph.block_numbers(
            range(source.num_blocks), plan_tasks(source.num_blocks, graph.slots(), _TASKS)
        )
        bins: tuple[ranking.Bin, ...] = (ranking.whole_range(itemsize),)
        count = partial(passes.count, source=source, column=column)
        counts = graph.run_pass("count", partial(count, bins=bins), numbers)
        total = int(counts.sum())
        cut_off = ranking.CutOff(
            total if top is None else min(total, top), itemsize, rows, ranking.ROWS_PER_PART
        )
        cut_off.add(bins, counts)
        while bins := cut_off.too_large:
            cut_off.add(bins, graph.run_pass("refine", partial(count, bins=bins), numbers))
        if ties := cut_off.tied:
            task = partial(passes.count_ties, source=source, column=column, ties=ties, rows=rows)
            cut_off.add_ties(ties, graph.run_pass("tie", task, numbers))
        return cut_off.parts(), total

    def _in_order(
        self, source: Blocks, column: str, parts: Sequence[ranking.Part], finish: passes.Step
    ) -> graph.Table:
        """Bring the rows of each part of an order together."""
        step = partial(passes.to_parts, column=column, parts=tuple(parts))
        return graph.shuffle_frames(
            self._frames(source, step), step(source.empty()), len(parts), finish
        )

    def _frames(self, source: Blocks, step: passes.Step | None = None) -> graph.Frames:
        """A frame for each block; ids in memory reach the tasks by blocks."""
        grid, ids = (
            self.inputs.sources.grid,
            self.inputs.ids if source is self.inputs.sources else None,
        )
        array = None if ids is None else graph.block_rows(ids.array, grid)
        numbers = graph.block_numbers(range(source.num_blocks), (1,) * source.num_blocks)
        return graph.over_blocks(
            "read", partial(passes.all_of, source=source, then=step), numbers, array
        )

    def _dynamics_frames(self, step: passes.Step | None = None) -> graph.Frames:
        """A frame for each part of the dynamics job's ranking."""
        sources = self.inputs.sources
        numbers = graph.block_numbers(
            range(len(sources.dynamics_parts)), (1,) * len(sources.dynamics_parts)
        )
        return graph.over_blocks(
            "dynamics", partial(passes.all_of_dynamics, source=sources, then=step), numbers
        )


def _pieces(run: RunStore, written: graph.Table) -> Pieces:
    """The scratch files that a shuffle leaves, in their order."""
    return Pieces(run, tuple(piece.name for piece in _in_number(written)))


def _in_number(written: graph.Table) -> list[Any]:
    """What was written of each part."""
    return sorted(graph.compute(written)["written"], key=lambda one: one.number)
