"""Runs of any job on a terminal and for machines: what changed, what was read, which are kept."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from rich.console import Console
from rich.filesize import decimal

from noisydask.report.printing import Column, printable, show_columns
from noisydask.runs.kinds import JOBS
from noisydask.runs.manifest import ChangeCounts, Manifest
from noisydask.runs.published import PublishedRun

#: Why an issue is gone.
WHY = {
    "corrected": "label corrected",
    "risen": "not flagged any more",
    "left_out": "row left out as invalid",
    "removed": "removed",
    "displaced": "not in its place any more",
    "unknown": "",
}
#: Fields of a manifest that the documents for machines have, of any run.
_FIELDS = (
    *("run", "job", "parent", "repeats", "started", "finished", "seconds", "settings", "inputs"),
    *("counts", "bytes_read", "blocks", "changes", "warnings"),
)


def run_lines(run: PublishedRun) -> list[tuple[str, str]]:
    """Return the last lines of a summary, the same for all jobs."""
    return [
        ("changed", what_changed(run.document)),
        ("read", what_was_read(run.document)),
        ("time", f"{run.document.seconds['total']:.1f} s"),
        ("run", run.run.shown),
    ]


def what_changed(manifest: Manifest) -> str:
    """Return the changes since the run before in words; nothing where a run is the first."""
    if manifest.changes is None:
        if manifest.parent is not None:
            return "not known"
        return ""
    if manifest.repeats is not None:
        return f"nothing; the files are those of the run {manifest.repeats}"
    return counted(manifest.changes)


def counted(changes: ChangeCounts) -> str:
    """Return counts of changes, and why issues are gone, in words.

    Examples
    --------
    >>> reasons = {"corrected": 5}
    >>> counted(ChangeCounts(since="x", new=3, gone=5, moved=0, gone_because=reasons, classes={}))
    '3 new, 5 gone (5 label corrected)'
    """
    reasons = changes.gone_because.items()
    why = ", ".join(f"{count:,} {WHY[reason] or reason}" for reason, count in reasons)
    text = f"{changes.new:,} new, {changes.gone:,} gone"
    text += f" ({why})" if why else ""
    text += f", {changes.moved:,} moved" if changes.moved else ""
    return text + ("" if changes.first is None else f" among the first {changes.first:,}")


def what_was_read(manifest: Manifest) -> str:
    """Return what a run read in words; nothing where its job does not count that."""
    parts = []
    if manifest.bytes_read is not None:
        parts.append(decimal(sum(manifest.bytes_read.values())))
    if manifest.blocks is not None:
        blocks = manifest.counts["blocks"]
        parts.append(f"{manifest.blocks.reused:,} of {blocks:,} blocks reused")
    return ", ".join(parts)


def run_as_json(run: PublishedRun, top: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Return the summary of a run and the first rows of its ranking, for machines."""
    return _fields(run) | {"top": top}


def runs_as_json(runs: Sequence[PublishedRun]) -> list[dict[str, Any]]:
    """Return the summaries of runs, for machines."""
    return [_fields(run) for run in runs]


def _fields(run: PublishedRun) -> dict[str, Any]:
    return {name: run.manifest[name] for name in _FIELDS if name in run.manifest}


def show_runs(console: Console, runs: Sequence[PublishedRun]) -> None:
    """Print runs as a table."""
    manifests = [run.document for run in runs]
    read = [what_was_read(manifest).partition(",")[0] for manifest in manifests]
    columns = [
        Column("run", [manifest.run for manifest in manifests]),
        Column("job", [manifest.job for manifest in manifests]),
        Column("ranked", [f"{_ranked(manifest):,}" for manifest in manifests]),
        Column("changed", [printable(_short(manifest)) for manifest in manifests], text=True),
        Column("read", [printable(size) for size in read]),
        Column("finished", [manifest.finished[:19].replace("T", " ") for manifest in manifests]),
    ]
    show_columns(console, f"{len(runs):,} runs are kept, newest first", columns, 4)


def _ranked(manifest: Manifest) -> int:
    return manifest.counts[JOBS[manifest.job].ranked]


def _short(manifest: Manifest) -> str:
    """Return what changed in few words."""
    if manifest.repeats:
        return "nothing"
    return what_changed(manifest).partition(" (")[0]
