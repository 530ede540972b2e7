"""A manifest is read and written in one way, by this version and the next."""

from __future__ import annotations

import json
from typing import Any

import pytest
from pydantic import ValidationError

from noisydask.runs.manifest import Manifest

DOCUMENT: dict[str, Any] = {
    "format_version": 2,
    "job": "issues",
    "settings": {"quality_score": "self_confidence"},
    "inputs": {"labels": {"url": "labels.npy", "fingerprint": "9b"}},
    "counts": {"issues": 3, "examples": 10},
    "class_names": None,
    "parts": ["issues/part-00000.parquet"],
    "objects": [
        {"path": "label_quality.zarr/c/0", "size": 40, "crc32c": "00000000"},
        {"path": "status.json", "size": 7, "crc32c": "00000000"},
    ],
    "changes": {
        "since": "b",
        "new": 1,
        "gone": 0,
        "moved": 0,
        "gone_because": {},
        "classes": {"4": {"new": 1, "gone": 0, "moved": 0}},
        "parts": [],
    },
}


def test_what_is_read_is_written() -> None:
    newer = DOCUMENT | {"of_a_newer_version": {"a": 1}}
    manifest = Manifest.of_run("a", newer)
    assert json.loads(manifest.content()) == manifest.document() == newer | {"run": "a"}
    assert manifest.more("of_a_newer_version") == {"a": 1}
    assert manifest.more("nothing") is None


def test_what_follows_from_it() -> None:
    manifest = Manifest.of_run("a", DOCUMENT)
    assert manifest.origin == "a"
    assert manifest.model_copy(update={"repeats": "b"}).origin == "b"
    assert [entry.path for entry in manifest.results] == ["label_quality.zarr/c/0"]
    assert manifest.has("label_quality.zarr")
    assert not manifest.has("label_quality")
    assert manifest.changes is not None
    assert manifest.changes.classes == {4: {"new": 1, "gone": 0, "moved": 0}}


@pytest.mark.parametrize(
    "wrong", [{"counts": None}, {"parts": "all"}, {"objects": [{"path": "x"}]}, {"run": "b"}]
)
def test_a_document_that_is_not_one_of_this_run(wrong: dict[str, Any]) -> None:
    with pytest.raises((ValueError, ValidationError)):
        Manifest.of_run("a", DOCUMENT | wrong)
