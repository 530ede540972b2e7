"""How blocks become tasks: how many a task takes, and whether they fit the workers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from noisydask.core.blocks import BLOCKS_IN_MEMORY, DEFAULT_BLOCK_BYTES, plan_tasks
from noisydask.engine import graph
from noisydask.errors import InputError
from noisydask.lazily import Lazy

if TYPE_CHECKING:
    from distributed import system
else:
    system = Lazy("distributed.system")

#: Tasks of a thread: of the scan, as many as there are blocks for up to this; of the passes over
#: evidence.
SCAN_TASKS, EVIDENCE_TASKS = 32, 2


def tasks_of(num_blocks: int, per_slot: int) -> tuple[int, ...]:
    """Return how many blocks each task takes, of so many tasks for each thread of the cluster."""
    return plan_tasks(num_blocks, graph.slots(), per_slot)


def run_over_all(name: str, task: Any, blocks: Sequence[Any]) -> Any:
    """Do a pass over all blocks that reads no inputs."""
    return graph.run_pass(
        name, task, graph.block_numbers(blocks, tasks_of(len(blocks), EVIDENCE_TASKS))
    )


def check_memory(
    block_bytes: int,
    advice: str = "lower block_bytes, rewrite the array with smaller chunks, or use larger workers",
) -> None:
    """Refuse a plan that does not fit the workers, before the first task; ``advice`` is what would
    help.
    """
    client = graph.active_client()
    if client is None:
        # What the usual block needs any machine has; to ask takes importing all of distributed.
        if block_bytes > DEFAULT_BLOCK_BYTES and block_bytes > system.MEMORY_LIMIT:
            raise InputError(
                f"a block of {block_bytes:,} bytes does not fit this machine's memory, "
                f"{system.MEMORY_LIMIT:,} bytes"
            )
        return
    for worker in client.scheduler_info(n_workers=-1)["workers"].values():
        limit = worker["memory_limit"]
        threads = worker["nthreads"]
        need = threads * block_bytes * BLOCKS_IN_MEMORY
        if limit and need > 0.6 * limit:
            fits = int(0.6 * limit / threads / BLOCKS_IN_MEMORY)
            raise InputError(
                f"blocks of {block_bytes:,} bytes need {need:,} bytes on a worker of {threads} "
                f"threads and {limit:,} bytes;"
                f" at most {fits:,} fit: {advice}"
            )
