"""Inputs read by tasks: the same rows, wherever they lie."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import dask.array as da
import numpy as np
import pytest
import zarr

from noisydask.core.blocks import BlockGrid
from noisydask.engine.inputs import number_of, plan_pass
from noisydask.stores.arrays import open_rows
from noisydask.stores.task_rows import TaskRows

ROWS = 103
GRID = BlockGrid(ROWS, 10, 80)
VALUES = np.random.default_rng(1).integers(0, 1000, (ROWS, 3))
LABELS = np.arange(ROWS)


@dataclass(frozen=True)
class Block:
    """A block that is known by more than its number."""

    number: int


def weighted(blocks: Sequence[Any], inputs: Mapping[str, TaskRows], grid: BlockGrid) -> int:
    """Sum up all values, each times its label."""
    total = 0
    for block in blocks:
        bounds = grid.bounds(number_of(block))
        rows, unread = inputs["values"].read_or_skip(*bounds, skip=True)
        assert unread == ()
        total += int((rows.sum(axis=1) * inputs["labels"].read(*bounds)).sum())
    return total


def source(kind: str, values: Any, folder: Path) -> Any:
    """Put an array where inputs lie."""
    if kind == "memory":
        return values
    if kind == "dask":
        return da.from_array(values, chunks=17)
    path = folder / f"{values.ndim}.zarr"
    zarr.create_array(str(path), data=values, chunks=(7, *values.shape[1:]))
    return str(path)


@pytest.mark.parametrize("values", ["store", "memory", "dask"])
@pytest.mark.parametrize("labels", ["store", "memory", "dask"])
@pytest.mark.parametrize("numbers", [range(11), range(10, -1, -1), (2, 5, 10)])
@pytest.mark.parametrize("per_slot", [None, 2])
def test_a_pass_reads_the_same(
    tmp_path: Path, values: str, labels: str, numbers: Sequence[int], per_slot: int | None
) -> None:
    inputs = {
        "values": open_rows(source(values, VALUES, tmp_path), "values"),
        "labels": open_rows(source(labels, LABELS, tmp_path), "labels"),
    }
    blocks = [Block(number) for number in numbers]
    planned = plan_pass(inputs, GRID, blocks, per_slot)
    here = np.concatenate([np.arange(*GRID.bounds(number)) for number in numbers])
    expected = (VALUES[here].sum(axis=1) * LABELS[here]).sum()
    assert planned.run("test", partial(weighted, grid=GRID)) == expected
