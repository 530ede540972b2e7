"""Ranked issues become Parquet parts and the array of their indices."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import zarr
from zarr.abc.buffer import Buffer

from noisydask.core.confident import SparseCounts
from noisydask.core.ranking import Part
from noisydask.issues.passes import candidates, rank
from noisydask.runs.store import RunStore
from noisydask.stores.chunks import ChunkedArray, StoredObject

Array = npt.NDArray[np.generic]

#: Rows of a chunk of ``issue_indices.zarr``.
INDEX_CHUNK = 1 << 20


@dataclass(frozen=True)
class WrittenPart:
    """A Parquet part that lies in the run."""

    number: int
    rows: int
    objects: tuple[StoredObject, ...]


def part_name(number: int) -> str:
    """Path of a part in its run."""
    return f"issues/part-{number:05d}.parquet"


def write_part(
    ranked: pd.DataFrame, number: int, run: RunStore, class_names: Sequence[str] | None
) -> WrittenPart:
    """Write the rows of a part."""
    return WrittenPart(
        number, len(ranked), (write_table(named(ranked, class_names), part_name(number), run),)
    )


def named(ranked: pd.DataFrame, class_names: Sequence[str] | None) -> pa.Table:
    """Rows as a table, with the names of their given and suggested labels where classes have
    names.
    """
    table = pa.Table.from_pandas(ranked, preserve_index=False).replace_schema_metadata(None)
    if class_names is not None:
        names = pa.array(list(class_names), pa.string())
        for side in ("given", "suggested"):
            codes = pa.array(ranked[f"{side}_label"].to_numpy(np.int32))
            table = table.append_column(
                f"{side}_name", pa.DictionaryArray.from_arrays(codes, names)
            )
    return table


def write_table(table: pa.Table, path: str, run: RunStore) -> StoredObject:
    """Write a table as a Parquet file of a run."""
    buffer = io.BytesIO()
    pq.write_table(table, buffer, compression="snappy", use_dictionary=False)
    return run.write(path, buffer.getvalue())


def write_only_part(
    frame: pd.DataFrame, part: Part, run: RunStore, class_names: Sequence[str] | None
) -> WrittenPart:
    """Rank the candidates of a ranking of one part; write them and their indices."""
    ranked = rank(frame, part, 1, runs=True)
    written = write_part(ranked, 0, run, class_names)
    indices, values = index_array(run, len(ranked)), ranked["index"].to_numpy()
    chunks = range(-(-len(values) // INDEX_CHUNK))
    objects = [
        indices.create(),
        *(indices.write_recorded(k, values[slice(*indices.bounds(k))]) for k in chunks),
    ]
    return WrittenPart(0, written.rows, written.objects + tuple(objects))


def write_shuffled_part(
    frame: pd.DataFrame,
    parts: Sequence[Part],
    first_ranks: Sequence[int],
    run: RunStore,
    class_names: Sequence[str] | None,
) -> pd.DataFrame:
    """Rank and write the candidates of the part whose number is the frame's index; what was
    written, as a table's row.
    """
    number = int(frame.index[0])
    ranked = rank(frame.reset_index(drop=True), parts[number], first_ranks[number], runs=False)
    written = write_part(ranked, number, run, class_names)
    return pd.DataFrame({"written": pd.Series([written], dtype=object)})


def index_array(run: RunStore, rows: int) -> ChunkedArray:
    """The array of the issues' indices."""
    return run.array("issue_indices.zarr", (rows,), INDEX_CHUNK, np.int64)


def write_ids(
    blocks: Sequence[int], ids: Array, run: RunStore, folder: str
) -> tuple[StoredObject, ...]:
    """Write the ids of the one block that these are."""
    table = pa.table({"id": pa.array(ids)})
    return tuple(write_table(table, f"{folder}/part-{block:05d}.parquet", run) for block in blocks)


def write_indices(
    chunks: Sequence[int], parts: Sequence[WrittenPart], run: RunStore, indices: ChunkedArray
) -> tuple[StoredObject, ...]:
    """Write chunks of ``issue_indices.zarr`` from the parts that they span."""
    written = []
    for chunk in chunks:
        start, stop = indices.bounds(chunk)
        found, first = [], 0
        for part in parts:
            low, high = max(start - first, 0), min(stop - first, part.rows)
            if low < high:
                with run.place.fs.open((run.place / part_name(part.number)).path, "rb") as file:
                    found.append(
                        pq.read_table(file, columns=["index"]).column(0).to_numpy()[low:high]
                    )
            first += part.rows
        written.append(indices.write_recorded(chunk, np.concatenate(found)))
    return tuple(written)


def write_rows(chunks: Sequence[int], rows: Array, array: ChunkedArray) -> tuple[StoredObject, ...]:
    """Write the one chunk that these are the rows of."""
    return tuple(array.write_recorded(chunk, rows) for chunk in chunks)


def write_joint(run: RunStore, joint: SparseCounts, num_classes: int) -> list[StoredObject]:
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
    run.make_folder("confident_joint.zarr")
    return [
        run.write(f"confident_joint.zarr/{key}", content.to_bytes())
        for key, content in compressed.items()
    ]


def empty_candidates(
    data_dtype: np.dtype[Any], scores: np.dtype[Any], ids: np.dtype[Any]
) -> pd.DataFrame:
    """A candidate table without rows, of the types of those with."""
    none = np.zeros(0, np.int64)
    probability = np.float64 if data_dtype == np.float64 else np.float32
    columns: Mapping[str, Array] = {
        "given": none,
        "top1": none,
        "p_given": none.astype(probability),
        "p_top1": none.astype(probability),
    }
    return candidates(none, none, none.astype(ids), none.astype(scores), columns, data_dtype)
