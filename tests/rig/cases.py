"""Small datasets for the fault trials: an ordinary one, and those at the edges."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

#: Rows of a chunk, and of a block.
CHUNK = 50


@dataclass(frozen=True)
class Case:
    """Labels and probabilities; losses made of these, and another model made of the labels."""

    labels: npt.NDArray[np.int64]
    pred_probs: npt.NDArray[np.float32]

    @property
    def losses(self) -> npt.NDArray[np.float32]:
        """As many iterations as there are classes; some are not recorded."""
        found: npt.NDArray[np.float32] = -np.log(np.maximum(self.pred_probs, 1e-6))
        return np.where(found > 4, np.float32(np.nan), found)

    @property
    def second(self) -> npt.NDArray[np.float32]:
        """Another model: rows that there were before stay what they are where more come."""
        rows, classes = self.pred_probs.shape
        logits = np.random.default_rng(5).normal(0, 1, (rows, classes))
        logits[np.arange(rows), self.labels % classes] += 2
        probs = np.exp(logits)
        return (probs / probs.sum(axis=1, keepdims=True)).astype(np.float32)

    @property
    def block_bytes(self) -> int:
        """Bytes of a block of one chunk."""
        return CHUNK * self.pred_probs.shape[1] * 4

    @property
    def blocks(self) -> int:
        """Number of such blocks."""
        return -(-len(self.labels) // CHUNK)


def ordinary(rows: int = 330, classes: int = 4, seed: int = 0) -> Case:
    """A model that is mostly right, and labels of which a fifth is wrong."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, classes, rows)
    logits = rng.normal(0, 1, (rows, classes))
    logits[np.arange(rows), labels] += 3
    wrong = rng.random(rows) < 0.2
    labels[wrong] = rng.integers(0, classes, wrong.sum())
    probs = np.exp(logits)
    return Case(labels, (probs / probs.sum(axis=1, keepdims=True)).astype(np.float32))


def _no_issue() -> Case:
    probs = ordinary().pred_probs
    return Case(probs.argmax(axis=1), probs)


def _all_issues() -> Case:
    probs = ordinary().pred_probs
    return Case((probs.argmax(axis=1) + 1) % 4, probs)


def _tied() -> Case:
    """Every label has the same score, be it right or wrong."""
    rng = np.random.default_rng(0)
    labels, other = rng.integers(0, 4, 330), rng.integers(1, 4, 330)
    probs = np.full((330, 4), 0.05, np.float32)
    probs[np.arange(330), labels] = 0.35
    probs[np.arange(330), (labels + other) % 4] = 0.55
    return Case(labels, probs)


def _one_class() -> Case:
    return Case(np.zeros(330, np.int64), np.ones((330, 1), np.float32))


#: By name: no issue, all issues, equal scores, one class, one row, and a last chunk of one row.
EDGES: Mapping[str, Callable[[], Case]] = {
    "T = 0": _no_issue,
    "T = N": _all_issues,
    "all tied": _tied,
    "one class": _one_class,
    "one row": lambda: ordinary(rows=1),
    "ragged": lambda: ordinary(rows=4 * CHUNK + 1),
}
