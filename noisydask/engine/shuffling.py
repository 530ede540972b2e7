"""Frames of a pass are brought together part by part, by Dask's shuffle: the other page that builds
a graph.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any

import dask
import pandas as pd
from dask.delayed import Delayed
from dask.highlevelgraph import HighLevelGraph

from noisydask.engine import graph
from noisydask.lazily import Lazy
from noisydask.stores.frames import stacked

if TYPE_CHECKING:
    import dask.dataframe as dd
else:
    dd = Lazy("dask.dataframe")

#: Frames that are shuffled at most, where the parts are few: Dask takes seven tasks for each. For
#: many parts, so many frames of each: a frame is then much smaller than a part.
_FRAMES, _FRAMES_PER_PART = 512, 8


def shuffle_frames(
    frames: graph.Frames,
    meta: pd.DataFrame,
    num_parts: int,
    finish: Callable[[pd.DataFrame], pd.DataFrame],
) -> dd.DataFrame:
    """Bring the rows of each part together by Dask's shuffle; ``finish`` makes one row of objects
    of a part.

    The frames have a column ``part``, 0 to ``num_parts - 1``.
    """
    with dask.config.set({"dataframe.convert-string": False}):
        most = max(_FRAMES, _FRAMES_PER_PART * num_parts)
        table = dd.from_delayed(_joined(frames, most), meta=meta, verify_meta=False)
        parts = table.set_index("part", divisions=tuple(range(num_parts + 1)))
        return parts.map_partitions(
            _Unhashed(finish), meta=pd.DataFrame({"written": pd.Series(dtype=object)})
        )


def _joined(frames: graph.Frames, at_most: int) -> list[Delayed]:
    """Bring frames together in the order in which they are, until there are at most so many."""
    parts = list(frames.to_delayed())
    each = -(-len(parts) // at_most)
    if each <= 1:
        return parts
    layer = graph.token("joined")
    groups = (parts[low : low + each] for low in range(0, len(parts), each))
    tasks: dict[Any, Any] = {
        (layer, number): (stacked, [part.key for part in group])
        for number, group in enumerate(groups)
    }
    joined = HighLevelGraph.from_collections(layer, tasks, dependencies=parts)
    return [Delayed(key, joined, layer=layer) for key in tasks]


@dataclass(frozen=True)
class _Unhashed:
    """A function of which Dask does not hash what it holds: arrays that are open have no hash, and
    secrets need none.
    """

    call: Callable[[pd.DataFrame], pd.DataFrame]
    name: str = field(default_factory=partial(graph.token, "finish"))

    def __call__(self, frame: pd.DataFrame) -> pd.DataFrame:
        return self.call(frame)

    def __dask_tokenize__(self) -> str:
        return self.name
