"""What the main job reads, opened and checked before anything is written."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence, Set
from dataclasses import dataclass
from typing import Any

import numpy as np

from noisydask.errors import InputError
from noisydask.storage.arrays import DaskRows, Rows, open_rows
from noisydask.storage.conversion import is_unicode


@dataclass(frozen=True)
class Inputs:
    """What a job reads."""

    labels: Rows | DaskRows
    pred_probs: Rows | DaskRows
    ids: Rows | DaskRows | None
    class_names: tuple[str, ...] | None

    def __post_init__(self) -> None:
        probs, labels = self.pred_probs, self.labels
        if len(probs.shape) != 2 or probs.shape[1] < 1:
            raise InputError(
                f"pred_probs must have two dimensions (examples, classes), not shape {probs.shape}"
            )
        if len(labels.shape) != 1:
            raise InputError(f"labels must have one dimension, not shape {labels.shape}")
        if labels.shape[0] == probs.shape[0] == 0:
            raise InputError("pred_probs and labels are empty: there is nothing to look at")
        if probs.dtype not in (np.float16, np.float32, np.float64):
            raise InputError(f"pred_probs must be float16, float32 or float64, not {probs.dtype}")
        if labels.dtype.kind not in "iu":
            raise InputError(
                f"labels must be integers 0 to K-1, not {labels.dtype}; encode them first"
            )
        if labels.shape[0] != probs.shape[0]:
            raise InputError(
                f"labels has {labels.shape[0]:,} examples, pred_probs {probs.shape[0]:,}: they "
                "must match"
            )
        if self.ids is not None and self.ids.dtype.kind not in "iuUO":
            raise InputError(f"ids must be integers or text, not {self.ids.dtype}")
        if self.ids is not None and self.ids.shape != labels.shape:
            raise InputError(
                f"ids has shape {self.ids.shape}, labels {labels.shape}: they must match"
            )
        if self.class_names is not None and len(self.class_names) != probs.shape[1]:
            raise InputError(
                f"{len(self.class_names)} class names for {probs.shape[1]} classes: they must match"
            )

    @classmethod
    def open(
        cls,
        labels: Any,
        pred_probs: Any,
        ids: Any,
        class_names: Sequence[str] | None,
        storage_options: Mapping[str, Mapping[str, Any]],
    ) -> Inputs:
        """Open all inputs."""
        for name, source in (("labels", labels), ("pred_probs", pred_probs)):
            if source is None:
                raise InputError(f"{name} is missing: give an array, a path or a URL")
        opened = {
            name: open_rows(source, name, storage_options.get(name))
            for name, source in (("labels", labels), ("pred_probs", pred_probs), ("ids", ids))
            if source is not None
        }
        names = None if class_names is None else _names(class_names)
        return cls(opened["labels"], opened["pred_probs"], opened.get("ids"), names)

    def urls(self) -> dict[str, str]:
        """Where the inputs lie that lie in a store, by name."""
        opened = {"labels": self.labels, "pred_probs": self.pred_probs, "ids": self.ids}
        return {name: rows.url for name, rows in opened.items() if isinstance(rows, Rows)}


def _names(given: Sequence[str]) -> tuple[str, ...]:
    """Names as text that can be written."""
    if isinstance(given, str | Mapping | Set) or not isinstance(given, Iterable):
        raise InputError(f"class_names must be a list of names, not {given!r}")
    names = tuple(str(name) for name in given)
    for name in names:
        if not is_unicode(name):
            raise InputError(f"class_names holds {name!r}, which is no text that a file can hold")
    return names
