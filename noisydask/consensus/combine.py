"""Both signals together: the rankings of the two jobs become one."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from noisydask.consensus import consensus_parts, passes
from noisydask.consensus.both_runs import BothRuns
from noisydask.consensus.options import CombineSettings
from noisydask.consensus.passes import CONSENSUS, METRIC, QUALITY, Blocks
from noisydask.consensus.results import Consensus
from noisydask.core import ranking
from noisydask.core.choices import JoinKey
from noisydask.engine import graph
from noisydask.engine.inputs import plan_pass
from noisydask.engine.ordering import count, find_parts, shuffle, write_parts
from noisydask.engine.parts import Parts, WrittenPart, part_name, written_by
from noisydask.engine.progress import Reporter, Silent
from noisydask.errors import InputError
from noisydask.runs.job import Job, Listed, Outcome
from noisydask.runs.manifest import Manifest
from noisydask.runs.options import PublishSettings
from noisydask.runs.overlap import refuse_overlap
from noisydask.runs.publish import Publication
from noisydask.runs.store import Output, RunStore
from noisydask.runs.temporary import run_in_temporary_folder
from noisydask.stores.fingerprints import check_unchanged
from noisydask.stores.locations import options_by_name

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
    arguments = locals()
    settings = CombineSettings.of(arguments)
    publish = PublishSettings.of(arguments)
    options = options_by_name(storage_options, "issues", "dynamics", "ids", "out")
    inputs = BothRuns.open(issues_out, dynamics_out, settings.on, ids, options)
    if out is not None:
        refuse_overlap(str(out), inputs.urls())
    job = CombineJob(
        inputs,
        settings.top,
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
    inputs: BothRuns
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

    def _inputs(self, listed: Listed) -> dict[str, dict[str, Any]]:
        return dict(self.inputs.described)

    def _more(self) -> tuple[Any, ...]:
        return self.inputs.class_names, self.inputs.sources.evidence is not None

    def _list_inputs(self) -> Listed:
        return self.inputs.listed

    def _run(self, publication: Publication, listed: Listed) -> Outcome:
        run = publication.run.store
        run.make_folder(consensus_parts.FOLDER)
        self.reporter.phase(f"joining {self.inputs.rows:,} rows by {self.inputs.on}")
        small = self.inputs.rows <= ranking.ROWS_PER_PART
        if small:
            total, parts = self._at_once(run)
        else:
            total, parts = self._in_parts(run)
        if not total:
            raise InputError("the two runs have no example in common")
        inputs = self.inputs
        publication.run.record(written_by(parts))
        fields = {
            "class_names": inputs.class_names,
            "counts": {
                "examples": inputs.sources.grid.rows,
                "common": total,
                "ranked": sum(part.rows for part in parts),
            },
            "bytes_read": dict(inputs.stored_bytes),
            "parts": [part_name(consensus_parts.FOLDER, part.number) for part in parts],
        }
        return Outcome(fields, partial(check_unchanged, listed))

    def _at_once(self, run: RunStore) -> tuple[int, list[WrittenPart]]:
        join = self.inputs.on == "id"
        write = consensus_parts.Writer(run, self.inputs.class_names)
        finish = partial(consensus_parts.write_at_once, join=join, top=self.top, write=write)
        frames = self._frames(self.inputs.sources)
        if join:
            frames = graph.together(frames, self._dynamics_frames())
        written: consensus_parts.WrittenAtOnce = graph.compute(
            graph.gather_frames("combine", frames, finish)
        )
        self._timed("combine")
        return written.total, [written.part]

    def _in_parts(self, run: RunStore) -> tuple[int, list[WrittenPart]]:
        run.make_folder(consensus_parts.SCRATCH)
        source: Blocks = self.inputs.sources
        if self.inputs.on == "id":
            source = self._join(run)
            self._timed("join")
            if not source.num_blocks:
                return 0, []
        total = 0
        for column in (QUALITY, METRIC):
            rows = self._ranked(source, column)
            histogram = count(rows)
            total = int(histogram.sum())
            if not total:
                return 0, []
            self.reporter.phase(f"ranking {total:,} examples by {column}")
            write = consensus_parts.RankWriter(run, column, total)
            names = self._write(rows, find_parts(rows, total, histogram), write)
            source = consensus_parts.ScratchFiles(run, tuple(names))
            self._timed(column)
        self.reporter.phase("ranking by both")
        rows = self._ranked(source, CONSENSUS)
        take = total if self.top is None else min(total, self.top)
        parts = find_parts(rows, take, count(rows))
        written = self._write(rows, parts, consensus_parts.Writer(run, self.inputs.class_names))
        run.remove_folder(consensus_parts.SCRATCH)
        self._timed(CONSENSUS)
        return total, written

    def _ranked(self, source: Blocks, column: str) -> passes.RankedBlocks:
        return passes.RankedBlocks(source, column, self.inputs.sources.grid.rows)

    def _join(self, run: RunStore) -> consensus_parts.ScratchFiles:
        """Bring rows of the same id together; what both know lies in scratch files."""
        num_parts = -(-self.inputs.rows // ranking.ROWS_PER_PART)
        step = partial(passes.to_id_parts, num_parts=num_parts)
        frames = graph.together(
            self._frames(self.inputs.sources, step), self._dynamics_frames(step)
        )
        finish = partial(consensus_parts.write_joined, run=run)
        names = shuffle(frames, step(self.inputs.sources.empty()), num_parts, finish)
        return consensus_parts.ScratchFiles(run, tuple(names))

    def _write(self, rows: passes.RankedBlocks, parts: Parts, write: Any) -> list[Any]:
        """Bring the rows of each part of an order together, and write them."""
        step = partial(passes.to_parts, column=rows.column, parts=parts)
        meta = partial(_empty, rows.source, step)
        return write_parts(self._frames(rows.source, step), meta, parts, write)

    def _frames(self, source: Blocks, step: passes.Step | None = None) -> graph.Frames:
        """Return a frame for each block."""
        inputs = {}
        grid = self.inputs.sources.grid
        if source is self.inputs.sources and self.inputs.ids is not None:
            inputs["ids"] = self.inputs.ids
        task = partial(passes.all_of, source=source, then=step)
        return plan_pass(inputs, grid, range(source.num_blocks), None).frames("read", task)

    def _dynamics_frames(self, step: passes.Step | None = None) -> graph.Frames:
        """Return a frame for each part of the dynamics job's ranking."""
        sources = self.inputs.sources
        task = partial(passes.all_of_dynamics, source=sources, then=step)
        parts = len(sources.dynamics_parts)
        numbers = graph.block_numbers(range(parts), (1,) * parts)
        return graph.over_blocks("dynamics", task, numbers)


def _empty(source: Blocks, step: passes.Step) -> Any:
    return step(source.empty())
