"""A pass does the same for inputs in a store, in memory and in a Dask graph."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import dask
import dask.array as da
import numpy as np
import pytest
from conftest import Place
from layouts import write_npy, write_zarr

from noisydask.core.blocks import BlockGrid
from noisydask.engine.inputs import number_of, plan_pass
from noisydask.stores.arrays import open_rows
from noisydask.stores.task_rows import TaskRows

ROWS, BLOCK = 103, 10
GRID = BlockGrid(ROWS, BLOCK, 8)
VALUES = np.random.default_rng(1).integers(0, 1000, (ROWS, 3))
WEIGHTS = np.arange(ROWS)
SOME = [0, 3, 4, 10]


@dataclass(frozen=True)
class Named:
    """What has the number of a block."""

    number: int


def task(blocks: Sequence[Any], inputs: Mapping[str, TaskRows]) -> Any:
    """Return a sum that tells which rows were read, and how often."""
    total = np.zeros(4, np.int64)
    for block in blocks:
        start, stop = GRID.bounds(number_of(block))
        values, weights = (inputs[name].read(start, stop) for name in ("values", "weights"))
        assert inputs["values"].dtype == VALUES.dtype
        total += [*(values * weights[:, None]).sum(axis=0), stop - start]
    return total


def opened(kind: str, values: Any, folder: Path) -> Any:
    place = Place(str(folder))
    sources = {
        "zarr": lambda: write_zarr(place / f"{values.ndim}.zarr", values),
        "npy": lambda: write_npy(place / f"{values.ndim}.npy", values),
        "memory": lambda: values,
        "graph": lambda: da.from_array(values, chunks=(7, 2)[: values.ndim]),
    }
    return open_rows(sources[kind](), "values")


@pytest.mark.parametrize("per_slot", [None, 1, 4])
@pytest.mark.parametrize("weights", ["npy", "memory", "graph"])
@pytest.mark.parametrize("values", ["zarr", "npy", "memory", "graph"])
def test_the_same_sums(values: str, weights: str, per_slot: int | None, tmp_path: Path) -> None:
    inputs = {
        "values": opened(values, VALUES, tmp_path),
        "weights": opened(weights, WEIGHTS, tmp_path),
    }
    for numbers in (list(range(GRID.num_blocks)), SOME, [10]):
        rows = np.concatenate([np.arange(*GRID.bounds(number)) for number in numbers])
        right = [*(VALUES[rows] * WEIGHTS[rows, None]).sum(axis=0), len(rows)]
        for blocks in (numbers, [Named(number) for number in numbers]):
            planned = plan_pass(inputs, GRID, blocks, per_slot)
            with dask.config.set(scheduler="synchronous", num_workers=2):
                assert planned.run("test", task).tolist() == right
                frames = [part.compute() for part in planned.frames("test", task).to_delayed()]
            assert np.sum(frames, axis=0).tolist() == right


@pytest.mark.parametrize(("per_slot", "tasks"), [(None, 11), (1, 2), (2, 4), (100, 6)])
def test_tasks_that_read_by_themselves_take_more(
    per_slot: int | None, tasks: int, tmp_path: Path
) -> None:
    with dask.config.set(num_workers=2):
        for kind, expected in (("npy", tasks), ("memory", 11), ("graph", 11)):
            inputs = {"values": opened(kind, VALUES, tmp_path)}
            planned = plan_pass(inputs, GRID, range(GRID.num_blocks), per_slot)
            assert len(planned.numbers.values) == expected
            done = sorted(block for blocks in planned.numbers.values.values() for block in blocks)
            assert done == list(range(11))
