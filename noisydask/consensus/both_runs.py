"""The two runs that are to be joined, opened and checked before anything is written."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow.parquet as pq

from noisydask.consensus.passes import LabelEvidence, Sources
from noisydask.core.blocks import BlockGrid
from noisydask.core.choices import JoinKey
from noisydask.core.evidence import columns_for
from noisydask.core.thresholds import NEVER
from noisydask.errors import InputError, Setting
from noisydask.runs.overlap import WRITTEN
from noisydask.runs.store import FinishedRun, Output, RunStore
from noisydask.stores.arrays import DaskRows, Rows, kept_ids, open_rows
from noisydask.stores.fingerprints import Snapshot, digest, snapshots
from noisydask.stores.listing import list_files
from noisydask.stores.locations import Location

#: Examples of a block, about.
_BLOCK_ROWS = 1 << 20


def _open(out: Any, job: str, storage_options: Mapping[str, Any] | None) -> FinishedRun:
    """Open the run of an output, or take that of a results object, and check which job made it."""
    if isinstance(out, str | Path):
        finished = Output.at(out, storage_options).open_run()
    else:
        finished = FinishedRun(out.run, out.document)
    if finished.manifest.job != job:
        raise InputError(
            f"{finished.store.place.shown} is a run of the job {finished.manifest.job!r}, not of "
            f"{job!r}"
        )
    return finished


def _stored_bytes(run: FinishedRun, *names: str) -> int:
    """Return bytes of files of the run and of the arrays of these names."""
    return sum(
        entry.size
        for entry in run.manifest.objects
        if entry.path.partition("/")[0] in names or entry.path in names
    )


def _output(run: FinishedRun) -> Location:
    """Return the output that a run is in."""
    place = run.store.place
    return Location(place.url.rsplit("/", 2)[0], place.path.rsplit("/", 2)[0], place.options)


def _describe(run: FinishedRun) -> dict[str, Any]:
    """Describe an input for a manifest; it is known by the run that its files are of."""
    name = run.manifest.run
    return {"url": _output(run).shown, "run": name, "fingerprint": digest(run.manifest.origin)}


@dataclass(frozen=True)
class BothRuns:
    """What the job reads: the sources; the ids, where examples have such; how they are joined, and
    the class names.

    ``listed`` is what the ids lie in, as it was before they were read; ``stored_bytes`` how many
    bytes of each run are read, each once.
    """

    sources: Sources
    ids: Rows | DaskRows | None
    listed: Mapping[str, Snapshot]
    on: str
    class_names: tuple[str, ...] | None
    described: Mapping[str, Any]
    stored_bytes: Mapping[str, int]

    @classmethod
    def open(
        cls,
        issues_out: Any,
        dynamics_out: Any,
        on: JoinKey | None,
        ids: Any,
        options: Mapping[str, Mapping[str, Any]],
    ) -> BothRuns:
        """Open both runs and decide by what they are joined."""
        issues = _open(issues_out, "issues", options.get("issues"))
        dynamics = _open(dynamics_out, "dynamics", options.get("dynamics"))
        dense = dynamics.manifest.has("ema.zarr")
        if on is None:
            both = (
                ids is not None or "ids" in issues.manifest.inputs
            ) and "ids" in dynamics.manifest.inputs
            on = "id" if both or not dense else "index"
        names = _ids(issues, ids, options.get("ids"), on)
        quality = _array(issues, "label_quality.zarr")
        if names is not None and names.shape != quality.shape:
            raise InputError(
                f"ids has shape {names.shape}, the issues run {quality.shape}: they must match"
            )
        kind = names.dtype if names is not None else np.dtype(np.int64)
        if on == "index":
            metric = _metric(dynamics, dense, quality.shape[0])
        else:
            metric = None
        if on == "id":
            _check_ranking(dynamics, text=kind.kind not in "iu")
        whole = max(quality.chunk_rows, _BLOCK_ROWS // quality.chunk_rows * quality.chunk_rows)
        sources = Sources(
            BlockGrid(quality.shape[0], whole, 64),
            quality,
            metric,
            np.dtype(np.int64 if kind.kind in "iu" else object),
            _evidence(issues, quality),
            dynamics.store,
            tuple(dynamics.manifest.parts) if on == "id" else (),
        )
        described = {"issues": _describe(issues), "dynamics": _describe(dynamics)}
        listed = snapshots({"ids": names})
        if names is not None:
            described["ids"] = names.describe() | (listed["ids"].describe() if listed else {})
        if ids is None and listed:
            _refuse_other_ids(issues.manifest.inputs["ids"].get("fingerprint"), listed["ids"])
        classes = issues.manifest.class_names
        read = {
            "issues": _stored_bytes(issues, "label_quality.zarr")
            + _evidence_bytes(issues, sources.evidence),
            "dynamics": _stored_bytes(dynamics, *(sources.dynamics_parts or ("ema.zarr",))),
        }
        return cls(sources, names, listed, on, classes, described, read)

    def urls(self) -> dict[str, str]:
        """Return where the ids lie, and all that belongs to the two outputs, by name."""
        ids = {name: self.described[name]["url"] for name in ("ids",) if self.listed}
        return ids | {
            f"{written} of {name}": f"{self.described[name]['url']}/{written}"
            for name in ("issues", "dynamics")
            for written in WRITTEN
        }

    @property
    def packages(self) -> frozenset[str]:
        """Packages, beside those that noisydask requires, that a worker needs to read both."""
        if self.ids is not None:
            names = self.ids.packages
        else:
            names = frozenset[str]()
        return self.sources.quality.packages | self.sources.dynamics.place.packages | names

    @property
    def rows(self) -> int:
        """Rows that are read of both sides, at most."""
        return self.sources.grid.rows + (self.dynamics_rows if self.on == "id" else 0)

    @cached_property
    def dynamics_rows(self) -> int:
        """Rows of the dynamics job's ranking."""
        return sum(
            _footer(self.sources.dynamics, name).num_rows for name in self.sources.dynamics_parts
        )


def _array(run: FinishedRun, name: str) -> Rows:
    """Return an array of a run."""
    return _rows(run.store.place / name, name)


def _rows(place: Location, name: str) -> Rows:
    rows = open_rows(place.url, name, place.options)
    assert isinstance(rows, Rows)  # a URL is never rows in memory
    return rows


def _ids(
    issues: FinishedRun, ids: Any, options: Mapping[str, Any] | None, on: str
) -> Rows | DaskRows | None:
    """Return a name for each example: as given now, or as given to the main job; None where
    positions are the names.
    """
    recorded = issues.manifest.inputs.get("ids")
    if ids is None and recorded is not None:
        if "kept" in recorded:
            return kept_ids(issues.store.place)
        ids = recorded.get("url")
        if ids is None and on == "id":
            raise InputError(
                "the ids of the issues run were in memory and an older noisydask did not keep "
                "them: give ids, or join by index",
                Setting("on", "index"),
            )
    names = None if ids is None else open_rows(ids, "ids", options)
    if names is not None and names.dtype.kind not in "iuUOT":
        raise InputError(f"ids must be integers or text, not {names.dtype}")
    return names


def _refuse_other_ids(known: str | None, now: Snapshot) -> None:
    """Refuse ids that are not those that the run was given, whatever lies in their place since."""
    if known is not None and now.describe()["fingerprint"] != known:
        raise InputError(
            f"the ids at {now.rows.url} are not those that the issues run was given: run that "
            "job again, or give ids that name"
            " its examples"
        )


def _metric(dynamics: FinishedRun, dense: bool, rows: int) -> Rows:
    """Return the metric of every example, by position."""
    if not dense:
        raise InputError(
            "the dynamics run was made from a table, whose examples have no positions: join by id"
        )
    metric = _array(dynamics, "ema.zarr")
    if metric.shape[0] != rows:
        raise InputError(
            f"the issues run has {rows:,} examples, the dynamics run {metric.shape[0]:,}: they "
            "must match"
        )
    return metric


def _check_ranking(dynamics: FinishedRun, text: bool) -> None:
    """Check that the dynamics run holds the ids and metrics of all its examples, and ids of the
    kind wanted.
    """
    counts = dynamics.manifest.counts
    limit = dynamics.manifest.settings.get("top_k")
    if limit is not None and limit <= counts["candidates"] < counts["examples"]:
        raise InputError(
            f"the dynamics run kept only its first {limit:,} candidates (top_k); to be joined "
            "by id it must rank all:"
            " run it again without top_k"
        )
    parts = dynamics.manifest.parts
    if not parts or not counts["candidates"]:
        raise InputError("the dynamics run has no candidates to join")
    kind = _footer(dynamics.store, parts[0]).schema.to_arrow_schema().field("id").type
    if (np.dtype(kind.to_pandas_dtype()).kind not in "iu") != text:
        if text:
            kinds = ("text", "integers")
        else:
            kinds = ("integers (or there are none)", "text")
        raise InputError(
            f"ids of the issues run are {kinds[0]}, those of the dynamics run {kinds[1]}: they "
            "must match"
        )


def _footer(run: RunStore, name: str) -> Any:
    with (run.place / name).open() as file:
        return pq.read_metadata(file)


def _evidence(issues: FinishedRun, quality: Rows) -> LabelEvidence | None:
    """Return what tells the labels of each example, if it is still there; None of several models,
    whose scores the evidence of their mean does not prove.
    """
    settings = issues.manifest.settings
    if "pred_probs" not in issues.manifest.inputs:
        return None
    score = settings["quality_score"]
    adjusted = settings["adjust_pred_probs"]
    thresholds: npt.NDArray[Any] = _array(issues, "thresholds.zarr").read(
        0, issues.manifest.counts["classes"]
    )
    names = columns_for(
        len(thresholds),
        issues.manifest.inputs["pred_probs"]["dtype"],
        score,
        adjusted,
        joint=False,
    )
    try:
        place = Output(_output(issues)).checkpoint("issues")
        columns = {name: _rows(place / name, name) for name in names}
    except InputError:
        return None
    if any(column.shape != quality.shape for column in columns.values()):
        return None
    return LabelEvidence(
        columns, np.where(np.isnan(thresholds), NEVER, thresholds), score, adjusted
    )


def _evidence_bytes(issues: FinishedRun, evidence: LabelEvidence | None) -> int:
    """Return bytes of the columns that tell labels."""
    if evidence is None:
        return 0
    checkpoint = Output(_output(issues)).checkpoint("issues")
    places = (checkpoint / name for name in evidence.columns)
    return sum(int(info["size"]) for place in places for info in list_files(place).values())
