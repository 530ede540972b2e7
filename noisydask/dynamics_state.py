"""What a run on dense losses leaves for the next: states and sums after the iterations so far, and what they were made of.

``OUT/evidence-dynamics`` holds a folder with the states of all examples and the sums by label and iteration, and
``receipt.json``, which names that folder and is written last: what it does not name does not count. States are kept as of
the last iteration that ends a chunk of the array, since a chunk that is not full is written again when epochs are added.
"""

from __future__ import annotations

import json
import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import zarr

from noisydask.arrays import DaskRows, Rows, zarr_store
from noisydask.chunks import ChunkedArray
from noisydask.dynamics import CurveSums, ExampleStates
from noisydask.dynamics_passes import StateStore
from noisydask.fingerprints import Snapshot, digest, of_labels
from noisydask.locations import Location
from noisydask.loss_inputs import LossInputs
from noisydask.rows import ZarrRows
from noisydask.store import RunStore

Ints = npt.NDArray[np.int64]

#: Of the states and their receipt; another version is not read.
STATE_VERSION = 1
_RECEIPT = "receipt.json"
#: What is kept beside the states: sums of the EMA, losses of the candidates.
_SMALL = ("labels", "limbs", "counts", "candidates", "losses")


@dataclass(frozen=True)
class Fingerprint:
    """What states depend on: settings and layout, the labels, and the objects of each column of chunks."""

    common: str
    columns: tuple[str, ...]
    chunk_columns: int

    def begins_with(self, receipt: Mapping[str, Any]) -> bool:
        """Whether the iterations of a receipt are the first of these, unchanged."""
        chunks = receipt["columns"]
        return bool(receipt["common"] == self.common and chunks == list(self.columns[: len(chunks)]))


def fingerprint(inputs: LossInputs, alpha: float, found: Mapping[str, Snapshot]) -> Fingerprint | None:
    """The fingerprint of inputs whose objects were ``found``; None where a store tells no versions of them."""
    rows, labels = inputs.losses, _whole(inputs.labels, found.get("labels"))
    if not isinstance(rows, ZarrRows) or labels is None or not found["losses"].identified:
        return None
    width, (examples, iterations) = rows.chunk_columns, rows.shape
    common = digest(
        STATE_VERSION, rows.url, examples, str(rows.dtype), rows.chunk_rows, width, alpha, labels,
        str(rows.array.metadata.to_dict().get("codecs")),
    )  # fmt: skip
    columns = []
    for low in range(0, iterations - width + 1, width):
        objects = found["losses"].of(rows.columns(low, low + width).chunks(0, examples))
        columns.append(digest(inputs.iterations[low : low + width].tolist(), objects))
    return Fingerprint(common, tuple(columns), width)


def _whole(labels: Rows | DaskRows | None, found: Snapshot | None) -> str | None:
    """The fingerprint of all labels; None where it cannot be had."""
    if labels is None:
        return "none"
    if isinstance(labels, DaskRows):
        return of_labels(labels.array) if isinstance(labels.array, np.ndarray) else None
    return None if found is None else found.describe()["fingerprint"]


@dataclass(frozen=True)
class Earlier:
    """What an earlier run left of the first iterations.

    Attributes
    ----------
    states : StateStore
        Of all examples after these iterations.
    sums : CurveSums
        Of these iterations.
    iterations, block_rows : int
        How many they are; rows of a block of the states.
    rows : mapping of int to ndarray, (iterations,)
        Losses of the candidates that run had, by position.
    """

    states: StateStore
    sums: CurveSums
    iterations: int
    block_rows: int
    rows: Mapping[int, npt.NDArray[Any]]


@dataclass(frozen=True)
class StateFolder:
    """The place of states under an output."""

    place: Location

    def find(self, now: Fingerprint) -> Earlier | None:
        """What the receipt names, if it is of the first iterations of these inputs."""
        try:
            receipt = json.loads(self.place.fs.cat_file((self.place / _RECEIPT).path))
            if receipt["version"] != STATE_VERSION or not now.begins_with(receipt) or not receipt["columns"]:
                return None
            root = self.place / receipt["folder"]
            dtypes = ExampleStates.dtypes(receipt["dtype"])
            store = _store(root, receipt["examples"], receipt["block_rows"], dtypes)
            labels, limbs, counts, index, rows = (_read(root / f"{name}.zarr") for name in _SMALL)
        except (OSError, ValueError, KeyError, TypeError):
            return None
        iterations = len(receipt["columns"]) * now.chunk_columns
        known = dict(zip(index.tolist(), rows, strict=True))
        return Earlier(store, CurveSums(labels, limbs, counts), iterations, receipt["block_rows"], known)

    def create(self, examples: int, block_rows: int, dtype: np.dtype[Any]) -> tuple[str, StateStore]:
        """Make room for states in a new folder."""
        name = f"state-{secrets.token_hex(4)}"
        store = _store(self.place / name, examples, block_rows, ExampleStates.dtypes(dtype))
        for array in store.arrays.values():
            array.create()
        return name, store

    def keep(
        self, name: str, sums: CurveSums, now: Fingerprint, iterations: int, like: StateStore,
        rows: tuple[Ints, npt.NDArray[Any]] | None,
    ) -> None:  # fmt: skip
        """Say that the states in a folder are those of the inputs after so many iterations."""
        run = RunStore(self.place / name, name)
        ema, last = like.arrays["ema"], like.arrays["last"]
        index, losses = rows or (np.zeros(0, np.int64), np.zeros((0, iterations), last.dtype))
        small = (sums.labels, sums.limbs, sums.counts, index, losses)
        for part, values in zip(_SMALL, small, strict=True):
            run.write_array(f"{part}.zarr", np.ascontiguousarray(values))
        receipt = {
            "version": STATE_VERSION, "folder": name, "common": now.common,
            "columns": list(now.columns[: iterations // now.chunk_columns]), "examples": ema.shape[0],
            "block_rows": ema.chunk_rows, "dtype": str(last.dtype),
        }  # fmt: skip
        RunStore(self.place, "").write(_RECEIPT, json.dumps(receipt).encode())

    def tidy(self) -> None:
        """Remove folders that the receipt does not name."""
        try:
            name = json.loads(self.place.fs.cat_file((self.place / _RECEIPT).path))["folder"]
        except (OSError, ValueError, KeyError, TypeError):
            name = None
        for path in self.place.fs.ls(self.place.path, detail=False) if self.place.fs.exists(self.place.path) else ():
            found = path.rstrip("/").rpartition("/")[2]
            if found.startswith("state-") and found != name:
                self.place.fs.rm(path, recursive=True)


def _store(root: Location, examples: int, block_rows: int, dtypes: Mapping[str, np.dtype[Any]]) -> StateStore:
    rows = min(block_rows, examples)
    return StateStore({name: ChunkedArray(root, f"{name}.zarr", (examples,), rows, kind) for name, kind in dtypes.items()})


def _read(place: Location) -> npt.NDArray[Any]:
    return np.asarray(zarr.open_array(zarr_store(place, read_only=True), mode="r")[...])
