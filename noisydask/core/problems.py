"""Refused rows: counted by kind, the first of them named, and said in one sentence."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from noisydask.core.row_kernel import Problem

#: Rows named in an error at most.
FIRST_ROWS = 10
#: Said of labels of which the smallest is 1 and the largest K.
FROM_ONE = "The labels are 1 to K: do they count from 1?"
_WORDS = {
    Problem.NOT_FINITE: "NaN or infinite probabilities",
    Problem.OUT_OF_RANGE: "probabilities outside 0 to 1 (are they logits or log-probabilities?)",
    Problem.ROW_SUM: "probabilities that do not sum to 1 (are they logits, or quantised too "
    "coarsely?)",
    Problem.LABEL: "labels outside 0 to K-1",
    Problem.UNREADABLE: "chunks that cannot be read",
}


@dataclass(frozen=True)
class Problems:
    """Refused rows: how many of each kind, and the first of all; the smallest and the largest label
    of blocks with labels that cannot be.
    """

    counts: npt.NDArray[np.int64]
    first: tuple[tuple[int, int], ...] = ()
    labels: tuple[int, int] | None = None

    @classmethod
    def of(cls, problems: npt.NDArray[np.uint8], start: int) -> Problems:
        """Return refused rows of a block whose first row is ``start``."""
        rows = np.flatnonzero(problems)
        invalid = rows[problems[rows] != Problem.UNREADABLE]
        first = tuple((start + int(row), int(problems[row])) for row in invalid[:FIRST_ROWS])
        return cls(np.bincount(problems[rows], minlength=len(Problem)), first)

    def among(self, labels: npt.NDArray[np.integer]) -> Problems:
        """Return the same of a block of which these are the labels."""
        if not self.counts[Problem.LABEL]:
            return self
        return replace(self, labels=(int(labels.min()), int(labels.max())))

    def from_one(self, class_counts: npt.NDArray[np.int64]) -> bool:
        """Return whether the smallest label is 1 and the largest K, of all rows."""
        if self.labels is None:
            return False
        smallest = min([self.labels[0], *np.flatnonzero(class_counts)[:1].tolist()])
        return smallest == 1 and self.labels[1] == len(class_counts)

    @property
    def total(self) -> int:
        """Number of refused rows."""
        return int(self.counts.sum())

    @property
    def unreadable(self) -> int:
        """Number of those that could not be read; they are not named."""
        return int(self.counts[Problem.UNREADABLE])

    def __add__(self, other: Problems) -> Problems:
        first = tuple(sorted(self.first + other.first))[:FIRST_ROWS]
        ends = (self.labels or ()) + (other.labels or ())
        labels = (min(ends), max(ends)) if ends else None
        return Problems(self.counts + other.counts, first, labels)

    def sentence(self, rows: int, class_counts: npt.NDArray[np.int64]) -> str:
        """Return one sentence about refused rows, of ``rows`` in all; the others are counted by
        class.
        """
        kinds = [
            f"{self.counts[kind]:,} with {word}"
            for kind, word in _WORDS.items()
            if self.counts[kind]
        ]
        first = (
            f"; the first are rows {', '.join(str(row) for row, _ in self.first)}"
            if self.first
            else ""
        )
        hint = f" {FROM_ONE}" if self.from_one(class_counts) else ""
        return (
            f"{self.total:,} of {rows:,} rows are invalid: {'; '.join(kinds)}{first}.{hint}"
            " Correct them, or leave them out (on_invalid='skip' of find_label_issues, "
            "--on-invalid skip)"
        )
