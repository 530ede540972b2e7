"""A receipt is believed only as a whole, and only by the version that wrote it."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from noisydask.checkpoint.receipts import Payload, Receipt


class Ranges(Payload):
    """What a job might keep: ranges of rows, and a name."""

    ranges: tuple[tuple[int, int], ...] = ()
    name: str = ""


RECEIPT = Receipt[Ranges](
    source="5e", labels="1a", rows=12, checksums={"given": "0badcafe"}, payload=Ranges(name="x")
)
TEXT = st.text(max_size=20)
RECEIPTS = st.builds(
    Receipt[Ranges],
    source=TEXT,
    labels=TEXT,
    rows=st.integers(0, 2**70),
    checksums=st.dictionaries(TEXT, TEXT, max_size=4),
    payload=st.builds(
        Ranges, ranges=st.lists(st.tuples(st.integers(), st.integers()), max_size=4).map(tuple)
    ),
)


@given(RECEIPTS, st.integers(0, 9))
def test_what_is_written_is_read(receipt: Receipt[Ranges], version: int) -> None:
    content = receipt.to_bytes(version)
    assert Receipt[Ranges].from_bytes(content, version) == receipt
    assert receipt.to_bytes(version) == content
    assert json.loads(content)["receipt"]["rows"] == receipt.rows


def test_another_version_does_not_count() -> None:
    content = RECEIPT.to_bytes(version=3)
    assert Receipt[Ranges].from_bytes(content, version=2) is None
    assert Receipt[Ranges].from_bytes(content, version=4) is None


@pytest.mark.parametrize("size", range(len(RECEIPT.to_bytes(version=1))))
def test_cut_short(size: int) -> None:
    assert Receipt[Ranges].from_bytes(RECEIPT.to_bytes(version=1)[:size], version=1) is None


@given(st.integers(0, 10**6), st.integers(1, 255))
def test_one_byte_altered(place: int, by: int) -> None:
    content = bytearray(RECEIPT.to_bytes(version=1))
    content[place % len(content)] ^= by
    found = Receipt[Ranges].from_bytes(bytes(content), version=1)
    # The checksum may be spelled differently, but nothing else may be told.
    assert found is None or found == RECEIPT


@given(st.binary(max_size=60))
def test_anything_else(content: bytes) -> None:
    assert Receipt[Ranges].from_bytes(content, version=1) is None
    assert Receipt[Ranges].from_bytes(RECEIPT.to_bytes(version=1) + content + b" ", 1) is None


class Other(Payload):
    """The payload of another job."""

    rows_of_it: int


class More(Ranges):
    """The payload of a newer version."""

    more: str = "more"


@pytest.mark.parametrize(
    "receipt",
    [
        Receipt[Other](source="", labels="", rows=1, checksums={}, payload=Other(rows_of_it=1)),
        Receipt[More](source="", labels="", rows=1, checksums={}, payload=More()),
    ],
)
def test_the_receipt_of_another_job_does_not_count(receipt: Receipt[Any]) -> None:
    assert Receipt[Ranges].from_bytes(receipt.to_bytes(version=1), version=1) is None
