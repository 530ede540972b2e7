"""The receipt of a block: what was kept of it was made from this, and has these checksums.

A receipt is stored after all that it vouches for, and believed only as a whole: one that was cut
short, or of another version, does not count. What a job needs to know of a block beside is the
receipt's payload, whose model the job declares.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Generic, TypeVar

import google_crc32c
from pydantic import BaseModel, ConfigDict

_SEALED = re.compile(rb'\{"crc32c": "([0-9a-f]{8})", "receipt": (.*)\}\n', re.DOTALL)


class Why(StrEnum):
    """Why a block was read."""

    NEW = "new"
    SOURCE = "source changed"
    LABELS = "labels changed"
    COLUMNS = "evidence lacks columns"
    DAMAGED = "evidence damaged or missing"
    UNIDENTIFIED = "source without identity"
    APPENDED = "iterations appended"


@dataclass(frozen=True)
class BlockSource:
    """What the client knows of a block before it is read.

    Attributes
    ----------
    number : int
        The block.
    fingerprint : str or None
        What the block lies in, by the store's own identity of each object; None where the store
        tells none, or nothing is kept of the block.
    receipt : bool
        Whether a receipt of it is stored.
    why : Why
        The reason to read it, if there is no receipt.
    """

    number: int
    fingerprint: str | None = None
    receipt: bool = False
    why: Why = Why.UNIDENTIFIED


class Payload(BaseModel):
    """What a job keeps in a receipt; the fields are the job's."""

    model_config = ConfigDict(frozen=True, extra="forbid")


Kind = TypeVar("Kind", bound=Payload)


class Receipt(BaseModel, Generic[Kind]):
    """What is kept of a block beside its columns.

    Attributes
    ----------
    source, labels : str
        Fingerprints of what the block lies in, and of its labels.
    rows : int
        Number of rows.
    checksums : dict of str to str
        CRC-32C of the stored chunk of each column, in hexadecimal.
    payload : Payload
        What else the job knows of the block.

    Examples
    --------
    >>> receipt = Receipt[Payload](source="s", labels="l", rows=5, checksums={}, payload=Payload())
    >>> Receipt[Payload].from_bytes(receipt.to_bytes(version=1), version=1).rows
    5
    >>> Receipt[Payload].from_bytes(receipt.to_bytes(version=1)[:-5], version=1) is None
    True
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    source: str
    labels: str
    rows: int
    checksums: dict[str, str]
    payload: Kind

    def to_bytes(self, version: int) -> bytes:
        """Return the receipt as it is stored: JSON, with a checksum of its own."""
        return _sealed(self.model_dump() | {"version": version})

    @classmethod
    def from_bytes(cls, content: bytes, version: int) -> Receipt[Kind] | None:
        """Read what :meth:`to_bytes` wrote; None if this is anything else."""
        try:
            document = _unsealed(content)
            if document.pop("version") != version:
                return None
            return cls.model_validate(document)
        except (ValueError, KeyError):
            return None


def _sealed(document: Mapping[str, Any]) -> bytes:
    text = json.dumps(document, sort_keys=True, separators=(",", ":")).encode()
    return b'{"crc32c": "%08x", "receipt": %b}\n' % (google_crc32c.value(text), text)


def _unsealed(content: bytes) -> dict[str, Any]:
    sealed = _SEALED.fullmatch(content)
    if sealed is None or int(sealed[1], 16) != google_crc32c.value(sealed[2]):
        raise ValueError("it was cut short or altered")
    return dict(json.loads(sealed[2]))
