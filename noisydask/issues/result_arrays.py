"""Results of the main job that are arrays: rows, and the confident joint."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import zarr
from zarr.abc.buffer import Buffer

from noisydask.core.noise import SparseMatrix
from noisydask.runs.store import NewRun
from noisydask.stores.chunks import ChunkedArray, StoredObject

Array = npt.NDArray[np.generic]


def write_rows(chunks: Sequence[int], rows: Array, array: ChunkedArray) -> tuple[StoredObject, ...]:
    """Write the one chunk that these are the rows of."""
    return tuple(array.write_recorded(chunk, rows) for chunk in chunks)


def write_joint(run: NewRun, joint: SparseMatrix) -> None:
    """Write the K x K confident joint, band by band.

    Of many classes nearly all of it is 0: it is compressed by Zarr, in memory, and what is left of
    it written.
    """
    num_classes = joint.num_classes
    band = max(1, min(num_classes, (1 << 22) // num_classes))
    compressed: dict[str, Buffer] = {}
    array = zarr.create_array(
        compressed,
        shape=(num_classes, num_classes),
        chunks=(band, num_classes),
        dtype=np.int64,
        chunk_key_encoding={"name": "v2", "separator": "."},
    )
    for start in range(0, num_classes, band):
        stop = min(start + band, num_classes)
        rows = np.zeros((stop - start, num_classes), np.int64)
        here = slice(*np.searchsorted(joint.rows, [start, stop]))
        rows[joint.rows[here] - start, joint.columns[here]] = joint.values[here]
        array[start:stop] = rows
    run.store.make_folder("confident_joint.zarr")
    for key, content in compressed.items():
        run.write(f"confident_joint.zarr/{key}", content.to_bytes())
