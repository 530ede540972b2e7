"""Old runs and the remains of dead ones are removed, with time for whoever still reads them.

Only what can be proved to be ours is deleted: objects below ``OUT/runs/<name of a run>`` that a
listing shows, that no link leads out of, and whose names are those of a run's objects. What a
manifest says is never used to find a path; it may only keep another run, whose files it refers to.
"""

from __future__ import annotations

import json
import logging
import os
import re
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from fsspec.implementations.local import LocalFileSystem

from noisydask.runs.kinds import JOBS
from noisydask.runs.options import PublishSettings
from noisydask.runs.store import LATEST, MANIFEST, RUN_NAME, RUNS, Output
from noisydask.stores.locations import Location

logger = logging.getLogger("noisydask")

#: Names of the objects of a run: documents, figures, arrays, and parts in the folders that jobs
#: declare.
OWN = re.compile(
    r"(manifest|status)\.json|[a-z_]+\.(png|html)|[a-z_]+\.zarr/(zarr\.json|\d+(\.\d+)*)"
    rf"|({'|'.join(sorted({name for kind in JOBS.values() for name in kind.folders}))})"
    r"/[a-z_]+(-\d{5,}){1,2}\.parquet"
)


@dataclass(frozen=True)
class KeptRun:
    """A run's folder as the store shows it.

    Attributes
    ----------
    name : str
        The run.
    touched : datetime
        When the newest of its objects was written, by the store's clock: the manifest, if there is
        one.
    finished : bool
        Whether it has a manifest.
    """

    name: str
    touched: datetime
    finished: bool


def clean_up(output: Output, settings: PublishSettings) -> list[str]:
    """Remove what the settings no longer keep; the names of the runs removed.

    The caller holds the output's lock. What is published, its parent, what was written to or
    ceased to be published within the time of grace, and what any of these refers to stays.
    """
    fs = output.place.fs
    pointer = json.loads(fs.cat_file((output.place / LATEST).path))
    now = _aware(
        fs.modified((output.place / LATEST).path)
    )  # written a moment ago: the store's clock
    runs = list(runs_of(output.place))
    named = {pointer["run"], pointer.get("parent")}
    doomed = superfluous(runs, named, now, settings)
    if doomed:
        kept = [run.name for run in runs if run.finished and run not in doomed]
        needed = {_repeated(output.place / RUNS / name) for name in kept}
        doomed = [run for run in doomed if run.name not in needed]
    # The newest first: no run that is still there refers to files that are gone.
    for run in reversed(doomed):
        _remove(output.place / RUNS / run.name)
    return [run.name for run in doomed]


def _repeated(place: Location) -> Any:
    """The run whose files a run refers to, if there is one; ValueError if its manifest is
    damaged.
    """
    found = json.loads(place.fs.cat_file((place / MANIFEST).path))
    if not isinstance(found, dict):
        raise ValueError("a manifest is not an object")
    return found.get("repeats")


def superfluous(
    runs: Iterable[KeptRun], named: set[Any], now: datetime, settings: PublishSettings
) -> list[KeptRun]:
    """Which runs are no longer kept: by number and age those finished, by age alone those that
    died.

    Examples
    --------
    >>> start = datetime(2026, 1, 1, tzinfo=UTC)
    >>> names = {day: f"2026010{day}T000000Z-00000000" for day in range(1, 6)}
    >>> runs = [KeptRun(name, start + timedelta(day), True) for day, name in names.items()]
    >>> kept = PublishSettings(keep_runs=2)
    >>> [run.name[:8] for run in superfluous(runs, {runs[-1].name}, start + timedelta(5), kept)]
    ['20260101', '20260102', '20260103']
    """
    # Names tell seconds only; which of two runs is newer, their objects do.
    newest = sorted(runs, key=lambda run: (run.touched, run.name), reverse=True)
    grace, days = timedelta(seconds=settings.grace_seconds), timedelta(days=settings.keep_days)
    doomed, finished, replaced = [], 0, now
    for run in newest:
        if not run.finished:
            if run.name not in named and now - run.touched > grace:
                doomed.append(run)
            continue
        finished += 1
        spare = finished > settings.keep_runs and now - run.touched > days
        # A run is read until the next newer one was published, and by those who opened it then for
        # a while longer.
        if run.name not in named and spare and now - replaced >= grace:
            doomed.append(run)
        replaced = run.touched
    return doomed[::-1]


def runs_of(place: Location) -> Iterable[KeptRun]:
    """All folders that are named as runs are."""
    fs, root = place.fs, (place / RUNS).path
    for path in fs.ls(root, detail=False):
        name = path.rstrip("/").rpartition("/")[2]
        folder = f"{root}/{name}"
        if not RUN_NAME.fullmatch(name) or _leads_elsewhere(fs, root, folder, place):
            continue
        try:
            manifest = fs.info(f"{folder}/{MANIFEST}")
        except FileNotFoundError:
            infos = list(objects_of(fs, folder).values())
            if isinstance(fs, LocalFileSystem) and not infos:  # it died before its first object
                infos = [fs.info(folder)]
            if infos:
                yield KeptRun(name, max(_aware(_written(info)) for info in infos), False)
        else:
            yield KeptRun(name, _aware(_written(manifest)), True)


def objects_of(fs: Any, folder: str) -> dict[str, dict[str, Any]]:
    """What is in a run's folder, by paths relative to it."""
    found = fs.find(folder, detail=True)
    return {
        path.removeprefix(f"{folder}/"): info
        for path, info in found.items()
        if path.startswith(f"{folder}/")
    }


def _leads_elsewhere(fs: Any, root: str, folder: str, place: Location) -> bool:
    """Whether links lead out of the output."""
    return isinstance(fs, LocalFileSystem) and (
        os.path.realpath(root) != os.path.join(os.path.realpath(place.path), RUNS)
        or os.path.realpath(folder)
        != os.path.join(os.path.realpath(root), os.path.basename(folder))
    )


def _written(info: dict[str, Any]) -> Any:
    """When an object was written, as the listings of various stores tell."""
    for name in ("LastModified", "mtime", "updated", "last_modified", "created"):
        if info.get(name) is not None:
            return info[name]
    return datetime.now(UTC)  # never old enough to be removed


def _aware(when: Any) -> datetime:
    if isinstance(when, str):
        when = datetime.fromisoformat(when)
    elif isinstance(when, int | float):
        when = datetime.fromtimestamp(when, UTC)
    return when if when.tzinfo else when.replace(tzinfo=UTC)


def _remove(place: Location) -> None:
    """Delete a run's objects, the manifest first: from then on it is no finished run, whatever
    happens.
    """
    fs = place.fs
    found = objects_of(fs, place.path)
    own = [name for name in sorted(found) if OWN.fullmatch(name)]
    paths = [(place / name).path for name in own]
    if isinstance(fs, LocalFileSystem):
        root = os.path.realpath(place.path)
        paths = [path for path in paths if os.path.realpath(os.path.dirname(path)).startswith(root)]
    manifest = (place / MANIFEST).path
    if manifest in paths:
        fs.rm_file(manifest)
        paths.remove(manifest)
    if isinstance(fs, LocalFileSystem):
        for path in paths:
            os.remove(path)
        _remove_empty_folders(place.path)
    elif paths:
        fs.rm(paths)
    left = len(found) - len(own)
    if left:
        logger.warning("%s: %d files that are not ours stay", place.shown, left)


def _remove_empty_folders(root: str) -> None:
    for folder, _, _ in os.walk(root, topdown=False):
        try:
            os.rmdir(folder)
        except OSError:  # something is in it that is not ours
            continue
