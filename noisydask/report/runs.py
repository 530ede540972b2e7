"""Runs of any job on a terminal and for machines: what changed, what was read, which are kept."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from rich.console import Console
from rich.filesize import decimal

from noisydask.report.printing import Column, printable, show_columns
from noisydask.runs.published import PublishedRun
from noisydask.runs.store import RunStore


class AnyRun(Protocol):
    """What is shown of a run of any job."""

    run: RunStore
    manifest: dict[str, Any]


#: Why an issue is gone.
WHY = {
    "corrected": "label corrected",
    "risen": "score above the cut-off",
    "left_out": "row left out as invalid",
    "removed": "removed",
    "displaced": "not in its place any more",
    "unknown": "",
}
#: What a manifest says that machines are told of any run.
_TOLD = (
    *("run", "job", "parent", "repeats", "started", "finished", "seconds", "settings", "inputs"),
    *("counts", "bytes_read", "blocks", "changes", "warnings"),
)


def run_lines(found: AnyRun) -> list[tuple[str, str]]:
    """The last lines of a summary, the same for all jobs."""
    return [
        ("changed", what_changed(found.manifest)),
        ("read", what_was_read(found.manifest)),
        ("time", f"{found.manifest['seconds']['total']:.1f} s"),
        ("run", found.run.shown),
    ]


def what_changed(manifest: Mapping[str, Any]) -> str:
    """What a run says of the changes since the one before; nothing where it is the first.

    Examples
    --------
    >>> changes = {"new": 3, "gone": 5, "moved": 0, "gone_because": {"corrected": 5}}
    >>> what_changed({"changes": changes, "parent": "x"})
    '3 new, 5 gone (5 label corrected)'
    """
    changes = manifest.get("changes")
    if changes is None:
        return "not known" if manifest["parent"] is not None else ""
    if "repeats" in manifest:
        return f"nothing; the files are those of the run {manifest['repeats']}"
    return counted(changes, changes["gone_because"], changes.get("first"))


def counted(
    counts: Mapping[str, int], gone_because: Mapping[str, int], first: int | None = None
) -> str:
    """Counts of changes, and why issues are gone."""
    why = ", ".join(f"{count:,} {WHY[reason] or reason}" for reason, count in gone_because.items())
    moved = f", {counts['moved']:,} moved" if counts["moved"] else ""
    among = "" if first is None else f" among the first {first:,}"
    why = f" ({why})" if why else ""
    return f"{counts['new']:,} new, {counts['gone']:,} gone{why}{moved}{among}"


def what_was_read(manifest: Mapping[str, Any]) -> str:
    """What a run read; nothing where its job does not count that."""
    blocks, told = manifest.get("blocks"), []
    if "bytes_read" in manifest:
        told.append(decimal(sum(manifest["bytes_read"].values())))
    elif "repeats" in manifest:
        told.append("nothing")
    if blocks is not None:
        told.append(f"{blocks['reused']:,} of {manifest['counts']['blocks']:,} blocks reused")
    return ", ".join(told)


def run_as_json(found: AnyRun, top: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """The summary of a run and the first rows of its ranking, for machines."""
    return _of_manifest(found.manifest) | {"top": top}


def runs_as_json(runs: Sequence[PublishedRun]) -> list[dict[str, Any]]:
    """What is known of runs, for machines."""
    return [_of_manifest(found.manifest) for found in runs]


def _of_manifest(manifest: Mapping[str, Any]) -> dict[str, Any]:
    return {name: manifest[name] for name in _TOLD if name in manifest}


def show_runs(console: Console, runs: Sequence[PublishedRun]) -> None:
    """Print runs as a table."""
    manifests = [found.manifest for found in runs]
    ranked = [
        next(
            each["counts"][name]
            for name in ("issues", "candidates", "ranked")
            if name in each["counts"]
        )
        for each in manifests
    ]
    columns = [
        Column("run", [found.run.run for found in runs]),
        Column("job", [each["job"] for each in manifests]),
        Column("ranked", [f"{count:,}" for count in ranked]),
        Column("changed", [printable(_short(each)) for each in manifests], text=True),
        Column("read", [printable(what_was_read(each).partition(",")[0]) for each in manifests]),
        Column("finished", [each["finished"][:19].replace("T", " ") for each in manifests]),
    ]
    show_columns(console, f"{len(runs):,} runs are kept, newest first", columns, 4)


def _short(manifest: Mapping[str, Any]) -> str:
    """What changed, in few words."""
    return "nothing" if "repeats" in manifest else what_changed(manifest).partition(" (")[0]
