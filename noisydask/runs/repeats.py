"""A run that comes out as the one before: how that is known before anything is read, and what its
manifest says.

The results of a run follow from its settings, its inputs and the versions of what made it. Where a
store tells the versions of all inputs, these make the run's *identity*. A run of the same identity
writes nothing but a manifest, which refers to the files of the run that computed them: never to
another run that refers to them, so that each is read in one step.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from noisydask.core.versions import EVIDENCE_VERSION
from noisydask.runs.changes import unchanged
from noisydask.runs.manifest import FORMAT_VERSION, Manifest
from noisydask.runs.store import FinishedRun
from noisydask.stores.fingerprints import digest

#: What a run did, of what its manifest counts.
_DONE = ("blocks_read_again", "iterations_read")


def identity_of(
    settings: Mapping[str, Any],
    inputs: Mapping[str, Mapping[str, Any]],
    versions: Mapping[str, str],
    *more: Any,
) -> str | None:
    """Return the fingerprint of all that results follow from; None where an input has none.

    Examples
    --------
    >>> labels = {"url": "l.npy", "fingerprint": "9b"}
    >>> once = identity_of({"alpha": 0.1, "full": True}, {"labels": labels}, {})
    >>> once == identity_of({"alpha": 0.1, "full": False}, {"labels": labels}, {})
    True
    >>> once == identity_of({"alpha": 0.2}, {"labels": labels}, {})
    False
    >>> identity_of({"alpha": 0.1}, {"labels": {"memory": True}}, {}) is None
    True
    """
    if any(told.get("fingerprint") is None for told in inputs.values()):
        return None
    alike = {name: value for name, value in settings.items() if name != "full"}
    # Where an input is said to lie does not count: fingerprints tell that too, in one spelling. A
    # run that is joined may repeat another, of which the files are.
    read = {
        name: {key: value for key, value in told.items() if key not in ("url", "run")}
        for name, told in inputs.items()
    }
    whole = (FORMAT_VERSION, EVIDENCE_VERSION, dict(versions), alike, read, *more)
    return digest(json.dumps(whole, sort_keys=True, default=str))


def is_same(before: Manifest, identity: str | None) -> bool:
    """Return whether a run comes out as the one before. Rows that could not be read then are tried
    again, as by any run.
    """
    known = identity is not None and before.identity == identity
    return known and not before.counts.get("unreadable")


def is_whole(before: FinishedRun) -> bool:
    """Return whether all results of a run are there, by one listing: each of its size."""
    objects = before.store.place.list()
    return all(
        entry.path in objects and objects[entry.path].get("size") == entry.size
        for entry in before.manifest.results
    )


def repeated(before: Manifest) -> dict[str, Any]:
    """Return the fields of a manifest whose results are those of the run before."""
    document = before.document()
    document |= {
        "repeats": before.origin,
        "changes": unchanged(before.run),
        "counts": before.counts | {name: 0 for name in _DONE if name in before.counts},
        "objects": [entry.model_dump() | {"run": before.origin} for entry in before.results],
    }
    if before.bytes_read is not None:
        document["bytes_read"] = dict.fromkeys(before.bytes_read, 0)
    if before.blocks is not None:
        document["blocks"] = blocks_told({}, before.counts["blocks"], None)
    return document


def blocks_told(why: Mapping[str, int], total: int, rebuilt: str | None) -> dict[str, Any]:
    """Return how many blocks were read and why, and why what an earlier run kept was not used, if
    so.
    """
    scanned = sum(why.values())
    reasons = {str(reason): count for reason, count in sorted(why.items())}
    return {
        "scanned": scanned,
        "reused": total - scanned,
        "why": reasons,
        "evidence_not_used": rebuilt,
    }
