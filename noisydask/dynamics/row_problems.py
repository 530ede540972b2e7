"""Recorded losses that are refused or left out: counted by kind, and said in one sentence."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from enum import IntEnum
from typing import Any

import numpy as np
import numpy.typing as npt

from noisydask.core.dynamics import LARGEST_LOSS

#: Rows named in an error at most.
FIRST_ROWS = 10
#: Losses that may be left out, as a manifest counts them: more than one of the same example and
#: iteration; negative, infinite or too large; NaN, which stands for "not recorded".
DROPPED = ("duplicates", "invalid", "nan")
#: How an error names the option by which invalid losses are left out.
LEAVE_OUT = "leave them out (on_invalid='skip', --on-invalid skip)"
_TAKE_ONE = (
    "take one of each (on_duplicate='first', 'last' or 'mean'; --on-duplicate first, and so on)"
)


class RowProblem(IntEnum):
    """Why a row was refused."""

    NEGATIVE = 0
    TOO_LARGE = 1
    DUPLICATE = 2
    LABEL = 3


@dataclass(frozen=True)
class RowProblems:
    """Refused rows: how many of each kind, and id and iteration of the first; and how many rows
    were left out on purpose, by :data:`DROPPED`.
    """

    counts: tuple[int, ...] = (0,) * len(RowProblem)
    first: tuple[tuple[Any, int], ...] = ()
    dropped: Counter[str] = field(default_factory=Counter)

    @property
    def total(self) -> int:
        """Number of refused rows; one may count for two reasons."""
        return sum(self.counts)

    def __add__(self, other: RowProblems) -> RowProblems:
        counts = tuple(one + two for one, two in zip(self.counts, other.counts, strict=True))
        first = tuple(sorted({*self.first, *other.first}))[:FIRST_ROWS]
        return RowProblems(counts, first, self.dropped + other.dropped)


_WORDS = {
    RowProblem.NEGATIVE: "negative losses",
    RowProblem.TOO_LARGE: f"infinite losses, or above {LARGEST_LOSS:.4g}",
    RowProblem.DUPLICATE: "duplicate iterations of an example",
    RowProblem.LABEL: "another label than the row before of the same example",
}
_WAYS = {
    RowProblem.NEGATIVE: LEAVE_OUT,
    RowProblem.TOO_LARGE: LEAVE_OUT,
    RowProblem.DUPLICATE: _TAKE_ONE,
}


def recorded(
    losses: npt.NDArray[np.floating], on_invalid: str
) -> tuple[npt.NDArray[np.bool_], Counter[str]]:
    """Return which losses are taken in, and how many are not.

    NaN stands for a loss that was not recorded. Invalid losses are left out here only where
    ``on_invalid`` is "skip"; else they are refused later, by name.

    Examples
    --------
    >>> losses = np.array([0.5, np.nan, np.inf, -1.0])
    >>> recorded(losses, "skip")
    (array([ True, False, False, False]), Counter({'invalid': 2, 'nan': 1}))
    """
    there = ~np.isnan(losses)
    kept = (losses >= 0) & (losses <= LARGEST_LOSS) if on_invalid == "skip" else there
    with_loss = int(there.sum())
    return kept, Counter(invalid=with_loss - int(kept.sum()), nan=len(losses) - with_loss)


def say_problems(problems: RowProblems, rows: int) -> str:
    """Return one sentence about refused rows; ``rows`` were not left out."""
    kinds = [kind for kind, count in zip(RowProblem, problems.counts, strict=True) if count]
    told = "; ".join(f"{problems.counts[kind]:,} with {_WORDS[kind]}" for kind in kinds)
    first = ", ".join(f"id {name} at iteration {iteration}" for name, iteration in problems.first)
    ways = ["Correct them", *dict.fromkeys(_WAYS[kind] for kind in kinds if kind in _WAYS)]
    rows += problems.dropped["duplicates"] + problems.dropped["invalid"]
    return f"of {rows:,} recorded losses, {told}; the first are {first}. {', or '.join(ways)}"
