"""The page that builds graphs: passes over blocks as Dask collections, reduced in a tree. (What a
shuffle takes beside is in :mod:`noisydask.engine.shuffling`.)

A pass is an array of block numbers, chunked by task; a task turns its blocks into a state, states
are added in a tree. Building computes nothing. The names of the graph's keys come from the pass and
a random token, never from a hash of the inputs: two stores may hold other data at the same path,
and a hash of credentials is still theirs.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial, reduce
from itertools import accumulate, pairwise
from operator import add
from typing import TYPE_CHECKING, Any

import dask
import dask.array as da
import numpy as np
import numpy.typing as npt
import pandas as pd
from dask.delayed import Delayed, delayed
from dask.highlevelgraph import HighLevelGraph
from dask.layers import ArrayValuesDep

from noisydask.core.blocks import BlockGrid
from noisydask.lazily import Lazy
from noisydask.stores.frames import stacked

if TYPE_CHECKING:
    import dask.dataframe as dd
    from distributed.scheduler import KilledWorker

    Table = dd.DataFrame
else:
    dd = Lazy("dask.dataframe")

Frames = LazyArray = da.Array

_SPLIT_EVERY = 8
#: How often a failed task is tried again, for a store that fails for longer than its client
#: retries.
_RETRIES = 2
_OBJECT = np.empty((0,), dtype=object)


def token(name: str) -> str:
    """Return a key name that no other pass has."""
    return f"noisydask-{name}-{secrets.token_hex(8)}"


def block_numbers(blocks: Sequence[Any], tasks: Sequence[int]) -> ArrayValuesDep:
    """Return block numbers of each task, or what else names a block, as an argument of a blockwise
    graph: no tasks of their own.
    """
    ends = list(accumulate(tasks, initial=0))
    ranges = {(k,): tuple(blocks[low:high]) for k, (low, high) in enumerate(pairwise(ends))}
    return ArrayValuesDep((tuple(tasks),), ranges)


def block_rows(
    array: da.Array | npt.NDArray[Any], grid: BlockGrid, blocks: Sequence[int] | None = None
) -> da.Array:
    """Return whole rows of an array, one chunk a block; only some of the blocks where they are
    named.
    """
    chunks = {0: grid.block_rows} | dict.fromkeys(range(1, array.ndim), -1)
    if isinstance(array, np.ndarray):
        # The content is not hashed for a name: it may be large, and one name is as good as another
        # here.
        rows = da.from_array(array, chunks=tuple(chunks.values()), name=False)
    else:
        rows = array.rechunk(chunks)
    if blocks is None:
        return rows
    return rows.blocks[list(blocks)]


def over_blocks(
    name: str, task: Callable[..., Any], numbers: ArrayValuesDep, *inputs: da.Array | None
) -> da.Array:
    """Return ``task(blocks, *inputs)`` for each chunk of block numbers, as an array of whatever it
    returns.

    Inputs that are arrays have one chunk a block, and then so have the numbers; None is passed as
    it is.
    """
    arguments: list[Any] = []
    for array in inputs:
        arguments += [array, None if array is None else ("i", "k")[: array.ndim]]
    return da.blockwise(
        partial(_call, task),
        "i",
        numbers,
        "i",
        *arguments,
        name=token(name),
        dtype=object,
        meta=_OBJECT,
        align_arrays=False,
    )


# Functions of the module, not of a call: the scheduler pickles one with each task, and by name that
# takes a third of the time.
def _call(task: Callable[..., Any], blocks: Any, *parts: Any) -> Any:
    # Blockwise hands the one chunk along a contracted axis as a list.
    return task(blocks, *(part[0] if isinstance(part, list) else part for part in parts))


def rows_of_blocks(
    name: str,
    task: Callable[..., Any],
    numbers: ArrayValuesDep,
    sizes: Sequence[int],
    chunk_rows: int,
    dtype: npt.DTypeLike,
) -> da.Array:
    """Return the rows that each task returns, one after the other, cut into chunks anew; ``sizes``
    tells how many they are.
    """
    rows = da.blockwise(
        task,
        "i",
        numbers,
        "i",
        name=token(name),
        dtype=dtype,
        meta=np.empty(0, dtype),
        align_arrays=False,
        adjust_chunks={"i": tuple(sizes)},
    )
    return rows.rechunk(chunk_rows, method="tasks")


@dataclass
class _Total:
    """What is left of all states; Dask would take a bare tuple for a nested array."""

    state: Any


def tree(name: str, states: da.Array, combine: Callable[[Any, Any], Any] = add) -> da.Array:
    """Add all states up in a tree; return the sum as an array of one."""
    return da.reduction(
        states,
        chunk=_itself,
        combine=partial(_combined, combine),
        aggregate=partial(_whole, combine),
        axis=0,
        keepdims=False,
        concatenate=False,
        dtype=object,
        meta=np.empty((), dtype=object),
        split_every=_SPLIT_EVERY,
        name=token(name),
    )


def _itself(state: Any, axis: Any = None, keepdims: Any = None) -> Any:
    return state


def _combined(
    combine: Callable[[Any, Any], Any], states: list[Any], axis: Any = None, keepdims: Any = None
) -> Any:
    return reduce(combine, states)


def _whole(
    combine: Callable[[Any, Any], Any], states: list[Any], axis: Any = None, keepdims: Any = None
) -> _Total:
    return _Total(reduce(combine, states))


def run_pass(
    name: str, task: Callable[..., Any], numbers: ArrayValuesDep, *inputs: da.Array | None
) -> Any:
    """Do a pass and return its state, on the active client or scheduler."""
    states = over_blocks(name, task, numbers, *inputs)
    if (
        states.numblocks[0] <= _SPLIT_EVERY
    ):  # so few are added here: a task for it would cost more than it does
        return reduce(add, compute_all(states.to_delayed()))
    return compute(tree(name, states)).state


def task_of(error: KilledWorker, numbers: ArrayValuesDep) -> tuple[Any, ...]:
    """Return what :func:`block_numbers` gave the task of a pass at which workers died; nothing, if
    it was none of those.
    """
    if isinstance(error.task, tuple):
        name, *where = error.task
    else:
        name, *where = (error.task,)
    summing = "-partial-" in str(name) or "-aggregate-" in str(name)
    blocks: tuple[Any, ...] = () if summing else numbers.values.get(tuple(where), ())
    return blocks


def compute(collection: Any) -> Any:
    """Compute on the active client or scheduler."""
    (result,) = compute_all([collection])
    return result


def compute_all(collections: Iterable[Any]) -> tuple[Any, ...]:
    """Compute at once on the active client, which tries a task that fails a few times, or on the
    active scheduler.
    """
    return dask.compute(
        *collections, **({"retries": _RETRIES} if active_client() is not None else {})
    )


def optimized(collection: Any) -> Any:
    """Return the collection as it would be computed."""
    (result,) = dask.optimize(collection)
    return result


def gather_frames(name: str, frames: da.Array, finish: Callable[[pd.DataFrame], Any]) -> Delayed:
    """Bring all frames to one place and give them to ``finish`` there."""

    def together(parts: Sequence[pd.DataFrame]) -> Any:
        return finish(stacked(parts))

    return delayed(together, pure=False)(list(frames.to_delayed()), dask_key_name=token(name))


def frame_parts(frame: dd.DataFrame | pd.DataFrame, rows: int) -> list[Delayed]:
    """Return partitions of a Dask frame; of a frame in memory, slices of so many rows."""
    if isinstance(frame, pd.DataFrame):
        cuts = range(0, max(1, len(frame)), rows)
        return [
            delayed(frame.iloc[low : low + rows], name=token("rows"), pure=False) for low in cuts
        ]
    return list(frame.to_delayed())


def shuffle_rows(
    parts: Sequence[Delayed], meta: pd.DataFrame, column: str, num_parts: int
) -> list[Delayed]:
    """Bring all rows with the same value of a column together, by Dask's shuffle: over the disks of
    a cluster's workers, or of this machine.
    """
    with dask.config.set({"dataframe.convert-string": False}):
        table = dd.from_delayed(list(parts), meta=meta, verify_meta=False, prefix=token("table"))
        return list(table.shuffle(on=column, npartitions=num_parts, ignore_index=True).to_delayed())


def map_parts(name: str, task: Callable[..., Any], parts: Iterable[Delayed]) -> list[Delayed]:
    """Return ``task(part, number)`` of each part."""
    key = token(name)
    call = delayed(task, name=f"{key}-task", pure=False)
    return [
        call(part, number, dask_key_name=f"{key}-{number}") for number, part in enumerate(parts)
    ]


def total(name: str, states: Sequence[Delayed]) -> Any:
    """Add all states up in a tree, on the active client or scheduler; there is at least one."""
    if len(states) > 1:
        return compute(_tree_of_parts(name, states))
    return compute(states[0])


def _tree_of_parts(name: str, states: Sequence[Delayed]) -> Delayed:
    """Add all states up, as one layer above theirs: Dask would copy the whole graph for each call
    of a delayed function.
    """
    layer = token(name)
    tasks: dict[Any, Any] = {}
    keys: list[Any] = [state.key for state in states]
    while len(keys) > 1:
        groups = [keys[low : low + _SPLIT_EVERY] for low in range(0, len(keys), _SPLIT_EVERY)]
        keys = [(layer, len(tasks) + number) for number in range(len(groups))]
        tasks |= {key: (_subtotal, group) for key, group in zip(keys, groups, strict=True)}
    return Delayed(
        keys[0], HighLevelGraph.from_collections(layer, tasks, dependencies=states), layer=layer
    )


def _subtotal(states: Sequence[Any]) -> Any:
    return reduce(add, states)


def is_frame(source: Any) -> bool:
    """Return whether this is a frame of pandas or Dask."""
    return isinstance(source, pd.DataFrame | dd.DataFrame)


def together(*frames: da.Array) -> da.Array:
    """Return the frames of several passes, one after the other."""
    return da.concatenate(frames)


def slots() -> int:
    """Return threads that work for us: those of the active client, or of this machine."""
    client = active_client()
    if client is not None:
        return max(1, sum(client.nthreads().values()))
    return int(dask.config.get("num_workers", None) or dask.system.CPU_COUNT)


def active_client() -> Any | None:
    """Return the ``distributed`` client that Dask would use now, if any."""
    get = dask.base.get_scheduler(cls=da.Array)
    owner = getattr(get, "__self__", None)
    if hasattr(owner, "scheduler_info"):
        return owner
    return None
