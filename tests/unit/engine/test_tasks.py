"""Blocks become tasks, and plans that do not fit the memory are refused before the first."""

from __future__ import annotations

from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any

import dask
import pytest
from distributed import system

from noisydask.engine import graph
from noisydask.engine.tasks import check_memory, run_over_all, tasks_of
from noisydask.errors import InputError

GIB = 1024**3


@pytest.mark.parametrize("threads", [1, 3])
@pytest.mark.parametrize("blocks", [1, 7, 100, 1000])
def test_each_block_is_of_one_task(blocks: int, threads: int) -> None:
    with dask.config.set(num_workers=threads):
        tasks = tasks_of(blocks, 2)
    assert sum(tasks) == blocks
    assert max(tasks) - min(tasks) <= 1
    assert len(tasks) < max(2 * threads, -(-blocks // 16)) + threads


def once(blocks: Sequence[str]) -> str:
    return "".join(blocks)


def test_a_pass_over_all_blocks() -> None:
    with dask.config.set(scheduler="synchronous", num_workers=2):
        assert run_over_all("test", once, "abcdefghij") == "abcdefghij"


def test_a_block_larger_than_this_machine() -> None:
    check_memory(1024)
    check_memory(system.MEMORY_LIMIT)
    with pytest.raises(InputError, match="does not fit"):
        check_memory(system.MEMORY_LIMIT + 1)


def workers(*each: tuple[int, int]) -> Any:
    """Make a client whose workers have so many threads and bytes."""
    known = {
        str(n): {"nthreads": threads, "memory_limit": limit}
        for n, (threads, limit) in enumerate(each)
    }
    return SimpleNamespace(scheduler_info=lambda n_workers: {"workers": known})


@pytest.mark.parametrize(
    ("client", "most"),
    [
        (workers((1, 10 * GIB)), 2 * GIB),
        (workers((4, 10 * GIB)), GIB // 2),
        (workers((1, 10 * GIB), (1, 5 * GIB)), GIB),
        (workers((1, 0), (2, 10 * GIB)), GIB),
    ],
)
def test_blocks_that_fit_the_smallest_worker(
    client: Any, most: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(graph, "active_client", lambda: client)
    check_memory(most)
    with pytest.raises(InputError, match=f"at most {most:,} fit"):
        check_memory(most + 1)


def test_workers_without_a_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(graph, "active_client", lambda: workers((8, 0)))
    check_memory(1000 * GIB)
