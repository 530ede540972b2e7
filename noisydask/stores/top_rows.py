"""Rows of which only the most probable classes are known, read from where their parts lie:
probabilities, their classes, and the probability of the given label.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt

from noisydask.core.top_rows import top_dtype, top_rows
from noisydask.errors import InputError
from noisydask.stores.arrays import DaskRows
from noisydask.stores.listing import Listing
from noisydask.stores.rows import Chunk, Rows

Array = npt.NDArray[Any]

#: The word by which the probability of the given label is bounded where it is not known.
BOUND = "bound"
_FLOATS = (np.float16, np.float32, np.float64)


@dataclass(kw_only=True)
class TopRows(Rows):
    """Rows of :func:`noisydask.core.top_rows.top_dtype`, whose parts lie in a store.

    Attributes
    ----------
    parts : dict of str to Rows
        ``pred_probs`` and ``pred_classes``, (N, k); ``given_probs``, (N,), if these are known.
    num_classes : int
        K.
    """

    parts: dict[str, Rows]
    num_classes: int

    @classmethod
    def of(cls, parts: dict[str, Rows], num_classes: int) -> TopRows:
        """Take parts that were opened."""
        probs = parts["pred_probs"]
        return cls(
            url=probs.url,
            shape=probs.shape[:1],
            dtype=top_dtype(probs.shape[1], probs.dtype, "given_probs" in parts),
            chunk_rows=probs.chunk_rows,
            name=probs.name,
            class_names=probs.class_names,
            parts=parts,
            num_classes=num_classes,
        )

    def reopened(self) -> TopRows:
        """Open what lies there now."""
        parts = {name: rows.reopened() for name, rows in self.parts.items()}
        return TopRows.of(parts, self.num_classes)

    @property
    def packages(self) -> frozenset[str]:
        """Packages that any part needs."""
        return frozenset[str]().union(*(rows.packages for rows in self.parts.values()))

    @property
    def layout(self) -> str:
        """Where the parts lie and how."""
        told = ((name, rows.layout, str(rows.dtype)) for name, rows in self.parts.items())
        return f"top {self.num_classes} {[*told]!r}"

    @property
    def edges(self) -> npt.NDArray[np.int64] | None:
        """Where pieces of the probabilities begin."""
        return self.parts["pred_probs"].edges

    @property
    def adds_up(self) -> bool:
        """False: the kept probabilities add up to less than 1, so a lost chunk does not show."""
        return False

    @property
    def pieces_at_once(self) -> int:
        """As the part that allows fewest is best read."""
        return min(rows.pieces_at_once for rows in self.parts.values())

    def objects(self) -> Listing | None:
        """List the objects of all parts, each below its name."""
        found: dict[str, str | None] = {}
        for name, rows in self.parts.items():
            listed = rows.objects()
            if listed is None:
                return None
            found |= {_key(name, key): version for key, version in listed.items()}
        return found

    def chunks(self, start: int, stop: int) -> Iterator[Chunk]:
        """Iterate over the objects of all parts that rows lie in."""
        for name, rows in self.parts.items():
            for chunk in rows.chunks(start, stop):
                yield chunk._replace(key=_key(name, chunk.key))

    def describe(self) -> dict[str, Any]:
        """Return what a manifest says of this input."""
        given = self.parts.get("given_probs")
        return self.parts["pred_probs"].describe() | {
            "num_classes": self.num_classes,
            "pred_classes": self.parts["pred_classes"].url,
            "given_probs": BOUND if given is None else given.url,
        }

    def take_bytes_read(self) -> int:
        """Return stored bytes of all parts fetched since the last call."""
        return sum(rows.take_bytes_read() for rows in self.parts.values())

    def _read(self, start: int, stop: int) -> Array:
        values = {name: rows.read(start, stop) for name, rows in self.parts.items()}
        return top_rows(
            values["pred_probs"],
            values["pred_classes"],
            values.get("given_probs"),
            self.num_classes,
        )


def _key(name: str, key: str) -> str:
    return f"{name}/{key}" if key else name


def combined(parts: dict[str, Rows | DaskRows], num_classes: int) -> Rows | DaskRows:
    """Put the parts of rows together.

    Parameters
    ----------
    parts : dict of str to Rows or DaskRows
        ``pred_probs`` and ``pred_classes``, (N, k); ``given_probs``, (N,), if these are known.
    num_classes : int
        K.

    Raises
    ------
    InputError
        If they do not fit each other.
    """
    _check(parts, num_classes)
    stored = {name: rows for name, rows in parts.items() if isinstance(rows, Rows)}
    if len(stored) == len(parts):
        return TopRows.of(stored, num_classes)
    if stored:
        raise InputError(
            f"{' and '.join(stored)} lie in a store, {' and '.join(parts.keys() - stored.keys())} "
            "do not: give paths or URLs for all, or arrays"
        )
    handed = [rows for rows in parts.values() if isinstance(rows, DaskRows)]
    probs, *others = handed
    combine = partial(_combined, num_classes=num_classes)
    dtype = top_dtype(probs.shape[1], probs.dtype, "given_probs" in parts)
    return probs.joined(others, combine, dtype)


def _combined(
    pred_probs: Array, pred_classes: Array, given_probs: Array | None = None, *, num_classes: int
) -> Array:
    return top_rows(pred_probs, pred_classes, given_probs, num_classes)


def _check(parts: dict[str, Rows | DaskRows], num_classes: int) -> None:
    probs, classes = parts["pred_probs"], parts["pred_classes"]
    given = parts.get("given_probs")
    if len(probs.shape) != 2 or classes.shape != probs.shape:
        raise InputError(
            "pred_probs and pred_classes must have one shape (examples, kept classes), not "
            f"{probs.shape} and {classes.shape}"
        )
    if not 2 <= probs.shape[1] <= num_classes:
        raise InputError(
            f"pred_probs has {probs.shape[1]:,} kept classes an example: they must be 2 to "
            f"num_classes ({num_classes:,})"
        )
    if probs.dtype not in _FLOATS:
        raise InputError(f"pred_probs must be float16, float32 or float64, not {probs.dtype}")
    if classes.dtype.kind not in "iu":
        raise InputError(f"pred_classes must be integers 0 to K-1, not {classes.dtype}")
    if given is not None and given.dtype not in _FLOATS:
        raise InputError(f"given_probs must be float16, float32 or float64, not {given.dtype}")
    if given is not None and given.shape != probs.shape[:1]:
        raise InputError(
            f"given_probs has shape {given.shape}, pred_probs {probs.shape}: it must have a number "
            "for each example"
        )
