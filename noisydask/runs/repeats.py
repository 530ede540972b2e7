"""A run that comes out as the one before: how that is known before anything is read, and what its
manifest says.

The results of a run follow from its settings, its inputs and the versions of what made it. Where a
store tells the versions of all inputs, these make the run's *identity*. A run of the same identity
writes nothing but a manifest, which refers to the files of the run that computed them: never to
another run that refers to them, so that each is read in one step.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from noisydask.core.receipts import EVIDENCE_VERSION
from noisydask.runs.changes import unchanged
from noisydask.runs.retention import objects_of
from noisydask.runs.store import FORMAT_VERSION, RunStore
from noisydask.stores.fingerprints import digest

#: Objects that tell of a run itself, not of its results.
_OF_ITSELF = ("status.json", "changes/")
#: What a run did, of what its manifest counts.
_DONE = ("blocks_read_again", "iterations_read")


def identity_of(
    settings: Mapping[str, Any],
    inputs: Mapping[str, Mapping[str, Any]],
    versions: Mapping[str, str],
    *more: Any,
) -> str | None:
    """The fingerprint of all that results follow from; None where an input has none.

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


def is_same(before: Mapping[str, Any], now: Mapping[str, Any]) -> bool:
    """Whether a run comes out as the one before, by their manifests. Rows that could not be read
    then are tried again, as by any run.
    """
    known = now["identity"] is not None and before.get("identity") == now["identity"]
    return known and not before["counts"].get("unreadable")


def is_whole(run: RunStore, manifest: Mapping[str, Any]) -> bool:
    """Whether all results of a run are there, by one listing: each of its size."""
    found = objects_of(run.place.fs, run.place.path)
    return all(
        stored["path"] in found and found[stored["path"]].get("size") == stored["size"]
        for stored in _results(manifest)
    )


def repeated(run: RunStore, before: Mapping[str, Any]) -> dict[str, Any]:
    """What a manifest says of results that are those of the run before."""
    origin, counts = before.get("repeats", run.run), before["counts"]
    told: dict[str, Any] = {
        **before,
        "repeats": origin,
        "changes": unchanged(run.run),
        "counts": counts | {name: 0 for name in _DONE if name in counts},
        "objects": [{**stored, "run": origin} for stored in _results(before)],
    }
    if "bytes_read" in before:
        told["bytes_read"] = dict.fromkeys(before["bytes_read"], 0)
    if "blocks" in before:
        told["blocks"] = blocks_told({}, counts["blocks"], None)
    return told


def blocks_told(why: Mapping[str, int], total: int, rebuilt: str | None) -> dict[str, Any]:
    """How many blocks were read and why, and why what an earlier run kept was not used, if so."""
    scanned = sum(why.values())
    told = {str(reason): count for reason, count in sorted(why.items())}
    return {
        "scanned": scanned,
        "reused": total - scanned,
        "why": told,
        "evidence_not_used": rebuilt,
    }


def _results(manifest: Mapping[str, Any]) -> Sequence[Mapping[str, Any]]:
    """What a manifest says of the objects that are a run's results."""
    return [stored for stored in manifest["objects"] if not stored["path"].startswith(_OF_ITSELF)]
