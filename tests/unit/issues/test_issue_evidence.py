"""What a receipt tells of a block is what the scan found, and when it counts."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from noisydask.checkpoint.receipts import Receipt, Why
from noisydask.core.blocks import BlockGrid
from noisydask.core.kept_rows import KeptRows
from noisydask.core.problems import Problems
from noisydask.core.thresholds import ClassTotals
from noisydask.issues.evidence import (
    OPEN_ROWS,
    BlockPayload,
    EvidenceCheckpoint,
    StoredBlock,
    keep_rows,
    kept_rows,
    open_evidence,
    refusal,
)
from noisydask.stores.locations import Location

F4 = np.dtype("f4")
ROW = np.dtype((F4, (3,)))
COLUMNS = ("given", "top1", "p_given", "p_top1")


def payload(
    sums: Iterable[tuple[int, int]] = (), kinds: Iterable[int] = ()
) -> tuple[BlockPayload, ClassTotals, Problems]:
    counts, fixed = np.array([*sums, (0, 0)], np.int64).T
    totals = ClassTotals.of(counts, fixed)
    problems = Problems.of(np.array([*kinds], np.uint8), 100)
    return BlockPayload.of(totals, problems, ((3, 5),), "layout"), totals, problems


SUMS = st.lists(
    st.one_of(st.just((0, 0)), st.tuples(st.integers(1, 2**22), st.integers(0, 2**62))), max_size=6
)


@given(SUMS, st.lists(st.integers(0, 5), max_size=30))
def test_what_was_scanned_is_told(sums: list[tuple[int, int]], kinds: list[int]) -> None:
    told, totals, problems = payload(sums, kinds)
    receipt = Receipt[BlockPayload](source="s", labels="l", rows=5, checksums={}, payload=told)
    again = Receipt[BlockPayload].from_bytes(receipt.to_bytes(1), 1)
    assert again is not None
    found = again.payload.totals(len(sums) + 1)
    assert found.sums() == totals.sums() == [total for _, total in sums] + [0]
    assert found.counts.tolist() == totals.counts.tolist()
    assert again.payload.problems.counts.tolist() == problems.counts.tolist()
    assert again.payload.problems.first == problems.first
    assert again.payload.unstored_labels == ((3, 5),)


@pytest.mark.parametrize(
    ("source", "labels", "rows", "columns", "why"),
    [
        ("s", "l", 5, ("given", "top1"), None),
        ("s", "l", 5, (), None),
        ("x", "x", 5, ("top2",), Why.SOURCE),
        ("s", "l", 6, ("given",), Why.SOURCE),
        ("s", "x", 5, ("top2",), Why.LABELS),
        ("s", "l", 5, ("given", "top2"), Why.COLUMNS),
    ],
)
def test_when_a_receipt_counts(
    source: str, labels: str, rows: int, columns: tuple[str, ...], why: Why | None
) -> None:
    receipt = Receipt[BlockPayload](
        source="s", labels="l", rows=5, checksums={"given": "", "top1": ""}, payload=payload()[0]
    )
    assert refusal(receipt, source, labels, rows, columns) is why


def opened(
    folder: Path, rows: int = 25, classes: int = 3, block_rows: int = 10, dtype: str = "f4"
) -> tuple[EvidenceCheckpoint, str | None]:
    root = Location.of(str(folder), None, "out")
    grid = BlockGrid(rows, block_rows, 1)
    return open_evidence(root, grid, classes, np.dtype(dtype), COLUMNS, fresh=False)


def test_rows_are_kept_for_their_source(tmp_path: Path) -> None:
    evidence, _ = opened(tmp_path)
    rows = KeptRows(np.array([2, 7]), np.eye(3, dtype="f4")[:2])
    stored = StoredBlock(1, {}, 0, "source")
    keep_rows(evidence, OPEN_ROWS, StoredBlock(0, {}, 0, None), rows)
    keep_rows(evidence, OPEN_ROWS, stored, rows)
    found = kept_rows(evidence, OPEN_ROWS, stored, ROW)
    assert found is not None
    np.testing.assert_array_equal(found.positions, rows.positions)
    np.testing.assert_array_equal(found.pred_probs, rows.pred_probs)
    for other in (StoredBlock(1, {}, 0, "x"), StoredBlock(1, {}, 0), StoredBlock(0, {}, 0, "")):
        assert kept_rows(evidence, OPEN_ROWS, other, ROW) is None


@pytest.mark.parametrize(
    ("change", "stays"),
    [
        ({}, True),
        ({"rows": 47}, True),
        ({"classes": 4}, False),
        ({"dtype": "f8"}, False),
        ({"block_rows": 5}, False),
        ({"rows": 9}, False),  # chunks as short as the data
    ],
)
def test_evidence_of_another_kind(change: dict[str, int], stays: bool, tmp_path: Path) -> None:
    evidence, why = opened(tmp_path)
    assert why is None
    given = np.arange(10, dtype="u1")
    evidence.write(1, {"given": given})
    again, why = opened(tmp_path, **change)  # type: ignore[arg-type]
    assert (why is None) is stays
    if stays:
        np.testing.assert_array_equal(again.read(1, ["given"])["given"], given)
