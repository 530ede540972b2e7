"""The receipt of a block: what its evidence was made from, what it holds, and its checksums.

A receipt is stored after the evidence that it vouches for. It carries the block's class totals and
refused rows too, so that a block whose receipt still matches costs neither its probabilities nor
the kernel. A receipt is believed only as a whole: one that was cut short, or of another version, is
no receipt.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from enum import StrEnum
from typing import Any

import google_crc32c
import numpy as np

from noisydask.core.thresholds import ClassTotals

#: Rises with every change of what evidence or receipts mean: evidence of another version is made
#: anew.
EVIDENCE_VERSION = 3

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
        What its probabilities lie in, by the store's own identity of each object; None where the
        store tells none.
    receipt : bool
        Whether a receipt of it is stored.
    why : Why
        The reason to read it, if there is no receipt.
    missing : tuple of (int, int)
        Ranges of rows of which nothing is stored, to be left out.
    partly : tuple of (int, int, str)
        Ranges of rows of which some chunks are not stored, which may be all 0, and the first such
        chunk.
    unstored_labels : tuple of (int, int)
        Ranges of rows whose labels are not stored, and so are the array's fill value.
    """

    number: int
    fingerprint: str | None = None
    receipt: bool = False
    why: Why = Why.UNIDENTIFIED
    missing: tuple[tuple[int, int], ...] = ()
    partly: tuple[tuple[int, int, str], ...] = ()
    unstored_labels: tuple[tuple[int, int], ...] = ()


@dataclass(frozen=True)
class StoredBlock:
    """A block of the evidence: the checksums of its columns, how many of its rows were refused,
    and, with a receipt, the fingerprint of what it was made from.
    """

    number: int
    checksums: Mapping[str, str]
    refused: int
    source: str | None = None


@dataclass(frozen=True)
class Receipt:
    """What is kept of a block beside its evidence.

    Attributes
    ----------
    sources, labels : str
        Fingerprints of what its probabilities lie in, and of its labels.
    rows : int
        Number of rows.
    unstored_labels : tuple of (int, int)
        Ranges of rows whose labels were the array's fill value for want of a chunk.
    labels_layout : str
        How the labels were stored, where they were.
    checksums : mapping of str to str
        CRC-32C of the stored chunk of each column, in hexadecimal.
    totals : ClassTotals
        Class totals of its valid rows.
    problem_counts : tuple of int
        Number of refused rows of each kind.
    first_problems : tuple of (int, int)
        The first refused rows and their kinds.
    """

    sources: str
    labels: str
    rows: int
    unstored_labels: tuple[tuple[int, int], ...]
    labels_layout: str
    checksums: Mapping[str, str]
    totals: ClassTotals
    problem_counts: tuple[int, ...]
    first_problems: tuple[tuple[int, int], ...]

    def to_bytes(self) -> bytes:
        """As it is stored: JSON, with a checksum of its own."""
        return sealed(
            asdict(self) | {"totals": _totals_to_json(self.totals), "version": EVIDENCE_VERSION}
        )

    @classmethod
    def from_bytes(cls, content: bytes, num_classes: int) -> Receipt | None:
        """What :meth:`to_bytes` wrote, or None if this is anything else.

        Examples
        --------
        >>> receipt = Receipt("s", "l", 5, (), "", {"given": "0a"}, ClassTotals.zero(3), (5, 0), ())
        >>> Receipt.from_bytes(receipt.to_bytes(), 3).rows
        5
        >>> Receipt.from_bytes(receipt.to_bytes()[:-5], 3) is None
        True
        """
        try:
            found = unsealed(content)
            if found.pop("version") != EVIDENCE_VERSION:
                return None
            found["totals"] = _totals_from_json(found["totals"], num_classes)
            found["unstored_labels"] = tuple((low, high) for low, high in found["unstored_labels"])
            found["problem_counts"] = tuple(found["problem_counts"])
            found["first_problems"] = tuple((row, kind) for row, kind in found["first_problems"])
            return cls(**found)
        except (ValueError, KeyError, TypeError, IndexError):
            return None

    def refusal(self, sources: str, labels: str, rows: int, columns: Iterable[str]) -> Why | None:
        """Why it does not stand for a block with these sources and labels; None where it does."""
        if (self.sources, self.rows) != (sources, rows):
            return Why.SOURCE
        if self.labels != labels:
            return Why.LABELS
        return None if set(columns) <= set(self.checksums) else Why.COLUMNS


def sealed(content: Mapping[str, Any]) -> bytes:
    """A receipt as it is stored: JSON, with a checksum of its own."""
    text = json.dumps(content, sort_keys=True, separators=(",", ":")).encode()
    return b'{"crc32c": "%08x", "receipt": %b}\n' % (google_crc32c.value(text), text)


def unsealed(content: bytes) -> dict[str, Any]:
    """What :func:`sealed` was given.

    Raises
    ------
    ValueError
        If it is anything else.
    """
    found = _SEALED.fullmatch(content)
    if found is None or int(found[1], 16) != google_crc32c.value(found[2]):
        raise ValueError("it was cut short or altered")
    return dict(json.loads(found[2]))


def _totals_to_json(totals: ClassTotals) -> list[list[int]]:
    """Classes that occur, their counts, and their sums."""
    classes = np.flatnonzero(totals.counts)
    return [classes.tolist(), totals.counts[classes].tolist(), totals.sums(classes)]


def _totals_from_json(stored: list[list[int]], num_classes: int) -> ClassTotals:
    classes, counts, sums = stored
    return ClassTotals.from_sums(num_classes, np.array(classes, np.int64), counts, sums)
