"""Recorded losses as a dense array, with iterations, labels and names, opened and checked before
anything is written.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from noisydask.core.whole_numbers import whole_numbers
from noisydask.errors import InputError
from noisydask.stores.arrays import DaskRows, Rows, differing_indexes, open_rows


@dataclass(frozen=True)
class LossInputs:
    """What the dense job reads: ``losses`` (N, T), ``iterations`` (T,), and of each example label
    and name where known.
    """

    losses: Rows | DaskRows
    iterations: npt.NDArray[np.int64]
    labels: Rows | DaskRows | None = None
    ids: Rows | DaskRows | None = None
    warnings: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        losses = self.losses
        if len(losses.shape) != 2:
            raise InputError(
                f"losses must have two dimensions (examples, iterations), not shape {losses.shape}"
            )
        if losses.dtype not in (np.float16, np.float32, np.float64):
            raise InputError(f"losses must be float16, float32 or float64, not {losses.dtype}")
        if 0 in losses.shape:
            raise InputError(
                f"losses is empty, of shape {losses.shape}: there is nothing to look at"
            )
        _check_iterations(self.iterations, losses.shape[1])
        for name, rows in (("labels", self.labels), ("ids", self.ids)):
            if name == "ids" and rows is not None and rows.dtype.kind not in "iuUO":
                raise InputError(f"ids must be integers or text, not {rows.dtype}")
            if rows is not None and rows.shape != losses.shape[:1]:
                raise InputError(
                    f"{name} has shape {rows.shape}, losses {losses.shape[0]:,} examples: they "
                    "must match"
                )
        if self.labels is not None and self.labels.dtype.kind not in "iu":
            raise InputError(f"labels must be integers, not {self.labels.dtype}; encode them first")

    @classmethod
    def open(
        cls,
        losses: Any,
        iters: Any,
        labels: Any,
        ids: Any,
        storage_options: Mapping[str, Mapping[str, Any]],
    ) -> LossInputs:
        """Open all inputs."""
        sources = {"losses": losses, "labels": labels, "ids": ids}
        opened = {
            name: open_rows(source, name, storage_options.get(name))
            for name, source in {**sources, "iters": iters}.items()
            if source is not None
        }
        values = opened["losses"]
        iterations = opened.get("iters")
        columns = values.shape[1] if len(values.shape) > 1 else 0
        return cls(
            values,
            np.arange(columns) if iterations is None else _whole(_all(iterations)),
            opened.get("labels"),
            opened.get("ids"),
            differing_indexes(sources),
        )

    @property
    def opened(self) -> dict[str, Rows | DaskRows]:
        """Losses, and labels and names where these are known, by name."""
        inputs = {"losses": self.losses, "labels": self.labels, "ids": self.ids}
        return {name: rows for name, rows in inputs.items() if rows is not None}

    def urls(self) -> dict[str, str]:
        """Return where the inputs lie that lie in a store, by name."""
        return {name: rows.url for name, rows in self.opened.items() if isinstance(rows, Rows)}


def _all(rows: Rows | DaskRows) -> npt.NDArray[Any]:
    """Return the iterations themselves, which are few."""
    if len(rows.shape) != 1:
        raise InputError(f"iters must have one dimension, not shape {rows.shape}")
    return rows.read(0, rows.shape[0])


def _whole(iterations: npt.NDArray[Any]) -> npt.NDArray[np.int64]:
    if iterations.dtype.kind not in "iu" and len(iterations):
        raise InputError(f"iters must be integers, not {iterations.dtype}")
    return whole_numbers(iterations, "iters")


def _check_iterations(iterations: npt.NDArray[Any], columns: int) -> None:
    if len(iterations) != columns:
        raise InputError(
            f"iters has {len(iterations):,} iterations, losses {columns:,}: they must match"
        )
    values, counts = np.unique(iterations, return_counts=True)
    if len(values) < len(iterations):
        raise InputError(
            f"iters holds iteration {values[counts > 1][0]} {counts.max()} times: each may come "
            "once"
        )
    if (values != iterations).any():
        raise InputError("iters must rise: put the columns of losses in order of iteration")
