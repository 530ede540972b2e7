"""Results of the main job that are arrays: rows, and the confident joint."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import zarr
from zarr.abc.buffer import Buffer

from noisydask.core.confident import SparseCounts
from noisydask.runs.store import NewRun
from noisydask.stores.chunks import ChunkedArray, StoredObject

Array = npt.NDArray[np.generic]


def write_rows(chunks: Sequence[int], rows: Array, array: ChunkedArray) -> tuple[StoredObject, ...]:
    """Write the one chunk that these are the rows of."""
    return tuple(array.write_recorded(chunk, rows) for chunk in chunks)


def write_joint(run: NewRun, joint: SparseCounts, num_classes: int) -> None:
    """Write the K x K confident joint, band by band; its diagonal is at least 1, as in cleanlab.

    Of many classes nearly all of it is 0: it is compressed by Zarr, in memory, and what is left of
    it written.
    """
    band = max(1, min(num_classes, (1 << 22) // num_classes))
    compressed: dict[str, Buffer] = {}
    array = zarr.create_array(
        compressed,
        shape=(num_classes, num_classes),
        chunks=(band, num_classes),
        dtype=np.int64,
        chunk_key_encoding={"name": "v2", "separator": "."},
    )
    given, likely = np.divmod(joint.pairs, num_classes)
    for start in range(0, num_classes, band):
        stop = min(start + band, num_classes)
        rows = np.zeros((stop - start, num_classes), np.int64)
        here = slice(*np.searchsorted(given, [start, stop]))
        rows[given[here] - start, likely[here]] = joint.counts[here]
        diagonal = np.arange(stop - start), np.arange(start, stop)
        rows[diagonal] = np.maximum(rows[diagonal], 1)
        array[start:stop] = rows
    run.store.make_folder("confident_joint.zarr")
    for key, content in compressed.items():
        run.write(f"confident_joint.zarr/{key}", content.to_bytes())
