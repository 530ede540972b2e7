"""Receipts of the main job, and rows that are kept for the next run."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from noisydask.checkpoint.receipts import Receipt, Why
from noisydask.core.blocks import BlockGrid
from noisydask.core.evidence import columns_for
from noisydask.core.kept_rows import KeptRows
from noisydask.core.problems import Problems
from noisydask.core.thresholds import ClassTotals
from noisydask.issues.evidence import (
    OPEN_ROWS,
    BlockPayload,
    StoredBlock,
    keep_rows,
    kept_rows,
    open_evidence,
    refusal,
)
from noisydask.stores.locations import Location

CLASSES = 5
DTYPE = np.dtype(np.float32)
ROW = np.dtype((DTYPE, (CLASSES,)))


def payload(seed: int = 0) -> BlockPayload:
    rng = np.random.default_rng(seed)
    counts = rng.integers(0, 5, CLASSES)
    totals = ClassTotals.of(counts, counts * rng.integers(1, 1 << 50, CLASSES))
    problems = Problems.of(rng.integers(0, 3, 40).astype(np.uint8), 1000)
    return BlockPayload.of(totals, problems, ((3, 9),), "layout")


def receipt(**changes: Any) -> Receipt[BlockPayload]:
    fields = {"source": "s", "labels": "l", "rows": 40, "checksums": {"given": "0", "top1": "1"}}
    return Receipt[BlockPayload](**fields | {"payload": payload()} | changes)


@pytest.mark.parametrize("seed", range(5))
def test_totals_and_problems_come_back_exactly(seed: int) -> None:
    kept = payload(seed)
    stored = Receipt[BlockPayload].from_bytes(receipt(payload=kept).to_bytes(4), 4)
    assert stored is not None
    assert stored.payload == kept
    rng = np.random.default_rng(seed)
    counts = rng.integers(0, 5, CLASSES)
    sums = (counts * rng.integers(1, 1 << 50, CLASSES)).tolist()
    totals = stored.payload.totals(CLASSES)
    assert (totals.counts.tolist(), totals.sums()) == (counts.tolist(), sums)
    assert stored.payload.problems.first == kept.first_problems


def test_a_receipt_counts_for_its_own_block_alone() -> None:
    same = ("s", "l", 40, ["given"])
    assert refusal(receipt(), *same) is None
    assert refusal(receipt(source="t"), *same) is Why.SOURCE
    assert refusal(receipt(rows=41), *same) is Why.SOURCE
    assert refusal(receipt(labels="m"), *same) is Why.LABELS
    assert refusal(receipt(), *same[:3], ["entropy"]) is Why.COLUMNS


def test_rows_are_kept_for_the_same_source(tmp_path: Path) -> None:
    root = Location.of(str(tmp_path / "evidence"), None, "out")
    grid = BlockGrid(100, 40, 800)
    columns = columns_for(CLASSES, DTYPE, "self_confidence", False, True)
    evidence, _ = open_evidence(root, grid, CLASSES, DTYPE, columns, fresh=False)
    rows = KeptRows(np.array([2, 30]), np.eye(CLASSES, dtype=DTYPE)[:2])
    keep_rows(evidence, OPEN_ROWS, StoredBlock(1, {}, 0, "source"), rows)
    kept = kept_rows(evidence, OPEN_ROWS, StoredBlock(1, {}, 0, "source"), ROW)
    assert kept is not None
    np.testing.assert_array_equal(kept.positions, rows.positions)
    np.testing.assert_array_equal(kept.pred_probs, rows.pred_probs)
    for other in (StoredBlock(1, {}, 0, "another"), StoredBlock(2, {}, 0, "source")):
        assert kept_rows(evidence, OPEN_ROWS, other, ROW) is None
    keep_rows(
        evidence, OPEN_ROWS, StoredBlock(2, {}, 0), rows
    )  # nothing tells what it was made from
    assert kept_rows(evidence, OPEN_ROWS, StoredBlock(2, {}, 0), ROW) is None
