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
    latest = output.place / LATEST
    pointer = json.loads(latest.read())
    now = _aware(latest.fs.modified(latest.path))  # written a moment ago: the store's clock
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
    """Return the run whose files a run refers to, if there is one; ValueError if its manifest is
    damaged.
    """
    manifest = json.loads((place / MANIFEST).read())
    if not isinstance(manifest, dict):
        raise ValueError("a manifest is not an object")
    return manifest.get("repeats")


def superfluous(
    runs: Iterable[KeptRun], named: set[Any], now: datetime, settings: PublishSettings
) -> list[KeptRun]:
    """Return which runs are no longer kept: by number and age those finished, by age alone those
    that died.

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
    grace = timedelta(seconds=settings.grace_seconds)
    days = timedelta(days=settings.keep_days)
    doomed = []
    finished = 0
    replaced = now
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
    """List all folders that are named as runs are."""
    root = place / RUNS
    for path in root.fs.ls(root.path, detail=False):
        name = path.rstrip("/").rpartition("/")[2]
        if not RUN_NAME.fullmatch(name) or _leads_elsewhere(place, name):
            continue
        folder = root / name
        try:
            manifest = folder.fs.info((folder / MANIFEST).path)
        except FileNotFoundError:
            infos = list(folder.list().values())
            if folder.is_local and not infos:  # it died before its first object
                infos = [folder.fs.info(folder.path)]
            if infos:
                yield KeptRun(name, max(_aware(_written(info)) for info in infos), False)
        else:
            yield KeptRun(name, _aware(_written(manifest)), True)


def _leads_elsewhere(place: Location, run: str) -> bool:
    """Return whether links lead out of the output."""
    if not place.is_local:
        return False
    root = os.path.join(os.path.realpath(place.path), RUNS)
    folder = os.path.realpath((place / RUNS / run).path)
    return os.path.realpath((place / RUNS).path) != root or folder != os.path.join(root, run)


def _written(info: dict[str, Any]) -> Any:
    """Return when an object was written, as the listings of various stores tell."""
    for name in ("LastModified", "mtime", "updated", "last_modified", "created"):
        if info.get(name) is not None:
            return info[name]
    return datetime.now(UTC)  # never old enough to be removed


def _aware(when: Any) -> datetime:
    if isinstance(when, str):
        when = datetime.fromisoformat(when)
    elif isinstance(when, int | float):
        when = datetime.fromtimestamp(when, UTC)
    if when.tzinfo:
        return when
    return when.replace(tzinfo=UTC)


def _remove(place: Location) -> None:
    """Delete a run's objects, the manifest first: from then on it is not a finished run, whatever
    happens.
    """
    objects = place.list()
    own = [name for name in sorted(objects) if OWN.fullmatch(name)]
    doomed = [name for name in own if name != MANIFEST]
    if place.is_local:
        root = os.path.realpath(place.path)
        folders = {name: os.path.dirname((place / name).path) for name in doomed}
        doomed = [n for n in doomed if os.path.realpath(folders[n]).startswith(root)]
    (place / MANIFEST).remove()
    if place.is_local:
        for name in doomed:
            os.remove((place / name).path)
        _remove_empty_folders(place.path)
    elif doomed:
        place.fs.rm([(place / name).path for name in doomed])
    left = len(objects) - len(own)
    if left:
        logger.warning("%s: %d files that are not ours stay", place.shown, left)


def _remove_empty_folders(root: str) -> None:
    for folder, _, _ in os.walk(root, topdown=False):
        try:
            os.rmdir(folder)
        except OSError:  # something is in it that is not ours
            continue
