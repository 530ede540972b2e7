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

from noisydask.confident import SparseCounts
from noisydask.passes import candidates, rank
from noisydask.ranking import Part
from noisydask.store import RunStore, StoredObject, written_to

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
    frame: pd.DataFrame, number: int, part: Part, first_rank: int, run: RunStore, class_names: Sequence[str] | None
) -> WrittenPart:
    """Rank the complete rows of a part and write them."""
    ranked = rank(frame, part, first_rank)
    table = pa.Table.from_pandas(ranked, preserve_index=False).replace_schema_metadata(None)
    if class_names is not None:
        names = pa.array(list(class_names), pa.string())
        for side in ("given", "suggested"):
            codes = pa.array(ranked[f"{side}_label"].to_numpy(np.int32))
            table = table.append_column(f"{side}_name", pa.DictionaryArray.from_arrays(codes, names))
    buffer = io.BytesIO()
    pq.write_table(table, buffer, compression="zstd", use_dictionary=False)
    return WrittenPart(number, len(ranked), (run.write(part_name(number), buffer.getvalue()),))


def write_shuffled(
    frame: pd.DataFrame, parts: Sequence[Part], first_ranks: Sequence[int], run: RunStore,
    class_names: Sequence[str] | None,
) -> pd.DataFrame:  # fmt: skip
    """:func:`write_part` for a part whose number is the frame's index; returns what was written as a table's row."""
    number = int(frame.index[0])
    ordered = frame.reset_index(drop=True)
    written = write_part(ordered, number, parts[number], first_ranks[number], run, class_names)
    return pd.DataFrame({"written": pd.Series([written], dtype=object)})


def write_indices(
    chunks: Sequence[int], parts: Sequence[WrittenPart], run: RunStore, indices: Any
) -> tuple[StoredObject, ...]:
    """Write chunks of ``issue_indices.zarr`` from the parts that they span."""
    for chunk in chunks:
        start, stop = chunk * INDEX_CHUNK, min((chunk + 1) * INDEX_CHUNK, indices.shape[0])
        found, first = [], 0
        for part in parts:
            low, high = max(start - first, 0), min(stop - first, part.rows)
            if low < high:
                with run.place.fs.open((run.place / part_name(part.number)).path, "rb") as file:
                    found.append(pq.read_table(file, columns=["index"]).column(0).to_numpy()[low:high])
            first += part.rows
        indices[start:stop] = np.concatenate(found)
    return written_to(indices)


def write_joint(run: RunStore, joint: SparseCounts, num_classes: int) -> tuple[StoredObject, ...]:
    """Write the K x K confident joint, band by band; its diagonal is at least 1, as in cleanlab."""
    band = max(1, min(num_classes, (1 << 22) // num_classes))
    array = run.create_array("confident_joint.zarr", (num_classes, num_classes), (band, num_classes), np.int64)
    given, likely = np.divmod(joint.pairs, num_classes)
    for start in range(0, num_classes, band):
        rows = np.zeros((min(band, num_classes - start), num_classes), np.int64)
        here = slice(*np.searchsorted(given, [start, start + len(rows)]))
        rows[given[here] - start, likely[here]] = joint.counts[here]
        diagonal = np.arange(len(rows)), np.arange(start, start + len(rows))
        rows[diagonal] = np.maximum(rows[diagonal], 1)
        array[start : start + len(rows)] = rows
    return written_to(array)


def empty_candidates(data_dtype: np.dtype[Any], scores: np.dtype[Any], ids: np.dtype[Any]) -> pd.DataFrame:
    """A candidate table without rows, of the types of those with."""
    none = np.zeros(0, np.int64)
    probability = np.float64 if data_dtype == np.float64 else np.float32
    columns: Mapping[str, Array] = {
        "given": none, "top1": none, "p_given": none.astype(probability), "p_top1": none.astype(probability)
    }  # fmt: skip
    return candidates(none, none, none.astype(ids), none.astype(scores), columns, data_dtype)
