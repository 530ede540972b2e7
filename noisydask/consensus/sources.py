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

from noisydask.consensus.passes import Evidence, Sources
from noisydask.core.blocks import BlockGrid
from noisydask.core.choices import JoinKey, check_choice
from noisydask.core.evidence import columns_for
from noisydask.core.thresholds import NEVER
from noisydask.errors import InputError
from noisydask.runs.store import Output, RunStore
from noisydask.stores.arrays import DaskRows, Rows, kept_ids, open_rows
from noisydask.stores.fingerprints import Snapshot, digest, snapshots
from noisydask.stores.listing import list_files
from noisydask.stores.locations import WRITTEN, Location

#: Examples of a block, about.
_BLOCK_ROWS = 1 << 20


@dataclass(frozen=True)
class Opened:
    """A published run."""

    run: RunStore
    manifest: Mapping[str, Any]

    @classmethod
    def of(cls, out: Any, job: str, storage_options: Mapping[str, Any] | None) -> Opened:
        """Open the run of an output, or take that of a results object, and check which job made
        it.
        """
        named = isinstance(out, str | Path)
        opened = (
            cls(*Output.at(out, storage_options).open_run())
            if named
            else cls(out.run, out.manifest)
        )
        if opened.manifest["job"] != job:
            raise InputError(
                f"{opened.run.place.shown} is a run of the job {opened.manifest['job']!r}, not "
                f"of {job!r}"
            )
        return opened

    def has(self, name: str) -> bool:
        """Whether the run has an array."""
        return any(stored["path"].startswith(f"{name}/") for stored in self.manifest["objects"])

    def stored_bytes(self, *names: str) -> int:
        """Bytes of files of the run and of the arrays of these names."""
        return sum(
            stored["size"]
            for stored in self.manifest["objects"]
            if stored["path"].partition("/")[0] in names or stored["path"] in names
        )

    def rows(self, name: str) -> Rows:
        """An array of the run."""
        return _rows(self.run.place / name, name)

    @property
    def output(self) -> Location:
        """The output that the run is in."""
        place = self.run.place
        return Location(place.url.rsplit("/", 2)[0], place.path.rsplit("/", 2)[0], place.options)

    def describe(self) -> dict[str, Any]:
        """Describe this input for a manifest; it is known by the run that its files are of."""
        origin = self.manifest.get("repeats", self.run.run)
        return {"url": self.output.shown, "run": self.run.run, "fingerprint": digest(origin)}


@dataclass(frozen=True)
class Inputs:
    """What the job reads: the sources; the ids that are no rows of a store; how they are joined,
    and the class names.

    ``listed`` is what the ids lie in, as it was before they were read; ``stored_bytes`` how many
    bytes of each run are read, each once.
    """

    sources: Sources
    ids: DaskRows | None
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
    ) -> Inputs:
        """Open both runs and decide by what they are joined."""
        if on is not None:
            check_choice("on", on, JoinKey)
        issues = Opened.of(issues_out, "issues", options.get("issues"))
        dynamics = Opened.of(dynamics_out, "dynamics", options.get("dynamics"))
        dense = dynamics.has("ema.zarr")
        if on is None:
            both = (
                ids is not None or "ids" in issues.manifest["inputs"]
            ) and "ids" in dynamics.manifest["inputs"]
            on = "id" if both or not dense else "index"
        names = _ids(issues, ids, options.get("ids"), on)
        quality = issues.rows("label_quality.zarr")
        if names is not None and names.shape != quality.shape:
            raise InputError(
                f"ids has shape {names.shape}, the issues run {quality.shape}: they must match"
            )
        kind = names.dtype if names is not None else np.dtype(np.int64)
        metric = _metric(dynamics, dense, quality.shape[0]) if on == "index" else None
        if on == "id":
            _check_ranking(dynamics, text=kind.kind not in "iu")
        whole = max(quality.chunk_rows, _BLOCK_ROWS // quality.chunk_rows * quality.chunk_rows)
        sources = Sources(
            BlockGrid(quality.shape[0], whole, 64),
            quality,
            metric,
            names if isinstance(names, Rows) else None,
            np.dtype(np.int64 if kind.kind in "iu" else object),
            _evidence(issues, quality),
            dynamics.run,
            tuple(dynamics.manifest["parts"]) if on == "id" else (),
        )
        described, listed = (
            {"issues": issues.describe(), "dynamics": dynamics.describe()},
            snapshots({"ids": names}),
        )
        if names is not None:
            described["ids"] = names.describe() | (listed["ids"].describe() if listed else {})
        if ids is None and listed:
            _refuse_other_ids(issues.manifest["inputs"]["ids"].get("fingerprint"), listed["ids"])
        classes = tuple(issues.manifest["class_names"] or ()) or None
        array = names if isinstance(names, DaskRows) else None
        read = {
            "issues": issues.stored_bytes("label_quality.zarr")
            + _evidence_bytes(issues, sources.evidence),
            "dynamics": dynamics.stored_bytes(*(sources.dynamics_parts or ("ema.zarr",))),
        }
        return cls(sources, array, listed, on, classes, described, read)

    def urls(self) -> dict[str, str]:
        """Where the ids lie, and all that belongs to the two outputs, by name."""
        ids = {name: self.described[name]["url"] for name in ("ids",) if self.listed}
        return ids | {
            f"{written} of {name}": f"{self.described[name]['url']}/{written}"
            for name in ("issues", "dynamics")
            for written in WRITTEN
        }

    @property
    def packages(self) -> frozenset[str]:
        """Packages, beside those that noisydask requires, that a worker needs to read both."""
        names = self.sources.ids.packages if self.sources.ids else frozenset[str]()
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


def _rows(place: Location, name: str) -> Rows:
    rows = open_rows(place.url, name, place.options)
    assert isinstance(rows, Rows)  # a URL is never rows in memory
    return rows


def _ids(
    issues: Opened, ids: Any, options: Mapping[str, Any] | None, on: str
) -> Rows | DaskRows | None:
    """A name for each example: as given now, or as given to the main job; None where positions are
    the names.
    """
    given = issues.manifest["inputs"].get("ids")
    if ids is None and given is not None:
        if "kept" in given:
            return kept_ids(issues.run.place)
        ids = given.get("url")
        if ids is None and on == "id":
            raise InputError(
                "the ids of the issues run were in memory and an older noisydask did not keep "
                "them: give ids, or join by index (on='index' or --on index)"
            )
    names = None if ids is None else open_rows(ids, "ids", options)
    if names is not None and names.dtype.kind not in "iuUOT":
        raise InputError(f"ids must be integers or text, not {names.dtype}")
    return names


def _refuse_other_ids(known: str | None, now: Snapshot) -> None:
    """The run's examples have the ids that it was given, whatever lies in their place since."""
    if known is not None and now.describe()["fingerprint"] != known:
        raise InputError(
            f"the ids at {now.rows.url} are not those that the issues run was given: run that "
            "job again, or give ids that name"
            " its examples"
        )


def _metric(dynamics: Opened, dense: bool, rows: int) -> Rows:
    """The metric of every example, by position."""
    if not dense:
        raise InputError(
            "the dynamics run was made from a table, whose examples have no positions: join by id"
        )
    metric = dynamics.rows("ema.zarr")
    if metric.shape[0] != rows:
        raise InputError(
            f"the issues run has {rows:,} examples, the dynamics run {metric.shape[0]:,}: they "
            "must match"
        )
    return metric


def _check_ranking(dynamics: Opened, text: bool) -> None:
    """Whether the dynamics run holds the ids and metrics of all its examples, and ids of the kind
    wanted.
    """
    counts, limit = dynamics.manifest["counts"], dynamics.manifest["settings"].get("top_k")
    if limit is not None and limit <= counts["candidates"] < counts["examples"]:
        raise InputError(
            f"the dynamics run kept only its first {limit:,} candidates (top_k); to be joined "
            "by id it must rank all:"
            " run it again without top_k"
        )
    parts = dynamics.manifest["parts"]
    if not parts or not counts["candidates"]:
        raise InputError("the dynamics run has no candidates to join")
    kind = _footer(dynamics.run, parts[0]).schema.to_arrow_schema().field("id").type
    if (np.dtype(kind.to_pandas_dtype()).kind not in "iu") != text:
        kinds = ("text", "integers") if text else ("integers (or there are none)", "text")
        raise InputError(
            f"ids of the issues run are {kinds[0]}, those of the dynamics run {kinds[1]}: they "
            "must match"
        )


def _footer(run: RunStore, name: str) -> Any:
    with run.place.fs.open((run.place / name).path, "rb") as file:
        return pq.read_metadata(file)


def _evidence(issues: Opened, quality: Rows) -> Evidence | None:
    """What tells the labels of each example, if it is still there."""
    settings = issues.manifest["settings"]
    score, adjusted = settings["quality_score"], settings["adjust_pred_probs"]
    thresholds: npt.NDArray[Any] = issues.rows("thresholds.zarr").read(
        0, issues.manifest["counts"]["classes"]
    )
    names = columns_for(
        len(thresholds),
        issues.manifest["inputs"]["pred_probs"]["dtype"],
        score,
        adjusted,
        joint=False,
    )
    try:
        columns = {name: _rows(issues.output / "evidence" / name, name) for name in names}
    except InputError:
        return None
    if any(column.shape != quality.shape for column in columns.values()):
        return None
    return Evidence(columns, np.where(np.isnan(thresholds), NEVER, thresholds), score, adjusted)


def _evidence_bytes(issues: Opened, evidence: Evidence | None) -> int:
    """Bytes of the columns that tell labels."""
    places = (issues.output / "evidence" / name for name in (evidence.columns if evidence else ()))
    return sum(int(info["size"]) for place in places for info in list_files(place).values())
