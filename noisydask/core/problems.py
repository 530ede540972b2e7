"""Refused rows: counted by kind, the first of them named, and said in one sentence."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from noisydask.core.row_kernel import Problem

#: Rows named in an error at most.
FIRST_ROWS = 10
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
    """Refused rows: how many of each kind, and the first of all."""

    counts: npt.NDArray[np.int64]
    first: tuple[tuple[int, int], ...] = ()

    @classmethod
    def of(cls, problems: npt.NDArray[np.uint8], start: int) -> Problems:
        """Refused rows of a block whose first row is ``start``."""
        rows = np.flatnonzero(problems)
        invalid = rows[problems[rows] != Problem.UNREADABLE]
        first = tuple((start + int(row), int(problems[row])) for row in invalid[:FIRST_ROWS])
        return cls(np.bincount(problems[rows], minlength=len(Problem)), first)

    @property
    def total(self) -> int:
        """Number of refused rows."""
        return int(self.counts.sum())

    @property
    def unreadable(self) -> int:
        """Number of those that could not be read; they are not named."""
        return int(self.counts[Problem.UNREADABLE])

    def __add__(self, other: Problems) -> Problems:
        return Problems(
            self.counts + other.counts, tuple(sorted(self.first + other.first))[:FIRST_ROWS]
        )

    def sentence(self, rows: int) -> str:
        """One sentence about refused rows, of ``rows`` in all."""
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
        return (
            f"{self.total:,} of {rows:,} rows are invalid: {'; '.join(kinds)}{first}."
            " Correct them, or leave them out (on_invalid='skip' of find_label_issues, "
            "--on-invalid skip)"
        )
