"""Recorded losses that are refused or left out: counted by kind, and said in one sentence."""

from __future__ import annotations

from collections import Counter
from enum import IntEnum

import numpy as np
import numpy.typing as npt

from noisydask.core.dynamics import LARGEST_LOSS, LossProblem
from noisydask.core.problems import ProblemKinds, Problems
from noisydask.errors import InputError, Setting

#: Losses that may be left out, as a manifest counts them: more than one of the same example and
#: iteration; negative, infinite or too large; NaN, which stands for "not recorded".
DROPPED = ("duplicates", "invalid", "nan")
_SKIP = Setting("on_invalid", "skip")


class RowProblem(IntEnum):
    """Why a row was refused: the bits of :mod:`noisydask.core.row_flags`, by their numbers."""

    NEGATIVE = 0
    TOO_LARGE = 1
    DUPLICATE = 2
    LABEL = 3


#: How kinds of refused losses of dense arrays are named, and of those that come example by example.
DENSE_KINDS = ProblemKinds(
    {
        LossProblem.NEGATIVE: "negative losses",
        LossProblem.TOO_LARGE: f"infinite losses or losses above {LARGEST_LOSS:.3g}",
    },
    dict.fromkeys(LossProblem, _SKIP),
)
RECORDED_KINDS = ProblemKinds(
    {
        RowProblem.NEGATIVE: "negative losses",
        RowProblem.TOO_LARGE: f"infinite losses or losses above {LARGEST_LOSS:.3g}",
        RowProblem.DUPLICATE: "duplicate iterations of an example",
        RowProblem.LABEL: "another label than the row before of the same example",
    },
    {
        RowProblem.NEGATIVE: _SKIP,
        RowProblem.TOO_LARGE: _SKIP,
        RowProblem.DUPLICATE: Setting("on_duplicate", "first"),
    },
)


def no_problems(dropped: Counter[str] | None = None) -> Problems:
    """Return that no recorded loss is refused; some may have been left out."""
    return Problems(np.zeros(len(RowProblem), np.int64), dropped=Counter(dropped))


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
    if on_invalid == "skip":
        kept = (losses >= 0) & (losses <= LARGEST_LOSS)
    else:
        kept = there
    with_loss = int(there.sum())
    return kept, Counter(invalid=with_loss - int(kept.sum()), nan=len(losses) - with_loss)


def refusal(problems: Problems, losses: int) -> InputError:
    """Return the error for refused losses; ``losses`` were not left out."""
    losses += problems.dropped["duplicates"] + problems.dropped["invalid"]
    return problems.error(
        f"of {losses:,} recorded losses", RECORDED_KINDS, "", "id {0} at iteration {1}"
    )
