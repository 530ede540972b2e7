"""The health of a run of an output, and that of the run before it."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from typing import Any

from noisydask.errors import InputError, NoisydaskError
from noisydask.issues.health import Health
from noisydask.issues.results import LabelIssues
from noisydask.runs.opening import open_run


def with_parent(
    out: str, run: str | None, storage_options: Mapping[str, Any] | None
) -> tuple[Health, Health | None]:
    """Return the health of a run, by default the published one, and that of its parent; None where
    it has none that is kept and of the same classes.

    Raises
    ------
    InputError
        If the run is not one of the job on issues.
    """
    found = open_run(out, storage_options, run=run)
    if not isinstance(found, LabelIssues):
        raise InputError(
            f"{out} holds runs of the job {found.document.job!r}; health is of the job 'issues'"
        )
    health = found.health()
    parent = found.document.parent
    before = None
    if parent is not None:
        with suppress(NoisydaskError):  # removed meanwhile, or made by an older noisydask
            before = open_run(out, storage_options, run=parent).health()
    if before is not None and len(before.classes) != len(health.classes):
        return health, None
    return health, before
