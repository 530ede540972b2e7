"""Made-up datasets, and the ways in which arrays lie in a store."""

from __future__ import annotations

import io
import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq
import zarr

from noisydask.stores.arrays import zarr_store
from noisydask.stores.locations import Location

if TYPE_CHECKING:
    from conftest import Place

Array = npt.NDArray[Any]

#: Chunks of a Zarr array by the name of its layout; ``None`` is the whole of an axis.
ZARR_LAYOUTS: dict[str, dict[str, Any]] = {
    "v2": {"zarr_format": 2, "chunks": (100, None)},
    "v3": {"zarr_format": 3, "chunks": (100, None)},
    "sharded": {"zarr_format": 3, "chunks": (50, None), "shards": (200, None)},
    "split": {"zarr_format": 3, "chunks": (100, 3)},
}


def unlike_the_last(out: Place) -> None:
    """Have the published run, if there is one, say nothing of what it came from, as those of older
    versions do: the next run computes, whatever it finds.
    """
    objects = out.objects()
    if "latest.json" in objects:
        name = f"runs/{json.loads(objects['latest.json'])['run']}/manifest.json"
        out.write(name, json.dumps({**json.loads(objects[name]), "identity": None}).encode())


@dataclass(frozen=True)
class Data:
    """Labels and probabilities."""

    labels: npt.NDArray[np.int64]
    pred_probs: npt.NDArray[np.floating]


def make(
    rows: int = 1030,
    classes: int = 7,
    seed: int = 0,
    noise: float = 0.2,
    digits: int | None = None,
    strength: Any = 3,
) -> Data:
    """A dataset of which a part of the labels is wrong.

    Few ``digits`` make many equal scores, and the ``strength`` of some classes low ones that the
    evidence leaves open."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, classes, rows)
    logits = rng.normal(0, 1, (rows, classes))
    logits[np.arange(rows), labels] += np.broadcast_to(strength, classes)[labels]
    wrong = rng.random(rows) < noise
    labels[wrong] = rng.integers(0, classes, wrong.sum())
    probs = np.exp(logits)
    probs /= probs.sum(1, keepdims=True)
    if digits is not None:
        probs = np.round(probs, digits)
        probs[np.arange(rows), probs.argmax(1)] += 1 - probs.sum(1)
    return Data(labels, probs.astype(np.float32))


def write_zarr(place: Place, values: Array, layout: str = "v3") -> str:
    """Store an array as Zarr in a layout of :data:`ZARR_LAYOUTS`; returns its URL."""
    how = dict(ZARR_LAYOUTS[layout])
    for name in ("chunks", "shards"):
        if name in how:
            chunk = how[name][: values.ndim]
            how[name] = tuple(
                size or whole for size, whole in zip(chunk, values.shape, strict=True)
            )
    if how["zarr_format"] == 2:
        how["chunk_key_encoding"] = {"name": "v2", "separator": "."}
    store = zarr_store(Location.of(place.url, place.options, "test"))
    zarr.create_array(store, data=values, overwrite=True, **how)
    return place.url


def write_npy(place: Place, values: Array) -> str:
    """Store an array as ``.npy``; returns its URL."""
    buffer = io.BytesIO()
    np.save(buffer, values)
    folder, _, name = place.url.rpartition("/")
    type(place)(folder, place.options).write(name, buffer.getvalue())
    return place.url


def chunk_bytes(place: Place) -> int:
    """Stored bytes of the chunks of a Zarr array, without its metadata."""
    metadata = ("zarr.json", ".zarray", ".zattrs", ".zgroup", ".zmetadata")
    return sum(
        len(content) for path, content in place.objects().items() if not path.endswith(metadata)
    )


def write_parquet(place: Place, parts: list[Array], **how: Any) -> str:
    """Store a column ``value`` as a Parquet file, or a folder of several; returns its URL."""
    folder, _, name = place.url.rpartition("/")
    for number, part in enumerate(parts):
        buffer = io.BytesIO()
        pq.write_table(pa.table({"value": part, "other": np.arange(len(part))}), buffer, **how)
        file = name if len(parts) == 1 else f"{name}/{number}.parquet"
        type(place)(folder, place.options).write(file, buffer.getvalue())
    return place.url
