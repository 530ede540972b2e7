"""The manifest of a run, ``manifest.json``: what it is, read and written in one way.

The fields that all jobs share are typed. A job may add fields of its own, and a newer version may
add more: all are kept as they are.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel, ConfigDict

#: The newest format, and the only one that is written; in the first, no run refers to the files of
#: another. All are read.
FORMAT_VERSION = 2
#: Objects that tell of a run itself, not of its results.
_OF_ITSELF = ("status.json", "changes/")


class Entry(BaseModel):
    """A part of a manifest; what a newer version adds is kept."""

    model_config = ConfigDict(extra="allow", frozen=True)


class ObjectEntry(Entry):
    """An object of a run: its path, bytes and CRC-32C; and the run in whose folder it lies, if that
    is another one.
    """

    path: str
    size: int
    crc32c: str
    run: str | None = None


class BlockCounts(Entry):
    """How many blocks were read and why, and why what an earlier run kept was not used, if so."""

    scanned: int
    reused: int
    why: dict[str, int]
    evidence_not_used: str | None = None


class ChangeCounts(Entry):
    """Changes since the run ``since``, among the ``first`` rows of the ranking or all: how many of
    each kind, and of each given label; why issues are gone; the Parquet parts that hold them.
    """

    since: str
    first: int | None = None
    new: int
    gone: int
    moved: int
    gone_because: dict[str, int]
    classes: dict[int, dict[str, int]] = {}
    parts: list[str] = []


class Manifest(Entry):
    """All that is known of a finished run; ``docs/reference/output.md`` describes each field."""

    format_version: int
    run: str
    job: str
    started: str = ""
    finished: str = ""
    versions: dict[str, str] = {}
    settings: dict[str, Any]
    inputs: dict[str, dict[str, Any]]
    identity: str | None = None
    parent: str | None = None
    generation: int = 0
    repeats: str | None = None
    evidence: str | None = None
    threads: int | None = None
    seconds: dict[str, float] = {}
    counts: dict[str, int]
    bytes_read: dict[str, int] | None = None
    blocks: BlockCounts | None = None
    changes: ChangeCounts | None = None
    class_names: tuple[str, ...] | None = None
    warnings: list[str] = []
    parts: list[str]
    objects: list[ObjectEntry] = []

    @property
    def origin(self) -> str:
        """Name of the run whose files this one has: its own, or of the one that it repeats."""
        return self.repeats or self.run

    @property
    def results(self) -> list[ObjectEntry]:
        """Objects that are results, not those that tell of the run itself."""
        return [entry for entry in self.objects if not entry.path.startswith(_OF_ITSELF)]

    def has(self, name: str) -> bool:
        """Return whether the run has an array."""
        return any(entry.path.startswith(f"{name}/") for entry in self.objects)

    def more(self, name: str) -> Any:
        """Return a field that only one job writes; None where it is not there."""
        return (self.model_extra or {}).get(name)

    def document(self) -> dict[str, Any]:
        """Return the fields that were written, as values of JSON."""
        return self.model_dump(mode="json", exclude_unset=True)

    def content(self) -> bytes:
        """Return the bytes of the file."""
        return self.model_dump_json(exclude_unset=True, indent=1).encode()

    @classmethod
    def of_run(cls, run: str, document: Mapping[str, Any]) -> Manifest:
        """Check the document of a run; ValueError if it is not one, or that of another run."""
        manifest = cls.model_validate({"run": run, **document})
        if manifest.run != run:
            raise ValueError("it is the manifest of another run")
        return manifest
