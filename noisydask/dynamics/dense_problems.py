"""Refused rows of dense losses, in one sentence."""

from __future__ import annotations

from typing import TYPE_CHECKING

from noisydask.core.dynamics import LARGEST_LOSS, LossProblem
from noisydask.core.problems import Problems
from noisydask.dynamics.row_problems import LEAVE_OUT
from noisydask.lazily import Lazy

if TYPE_CHECKING:
    from distributed import scheduler
else:
    scheduler = Lazy("distributed.scheduler")

_WORDS = {
    LossProblem.NEGATIVE: "negative losses",
    LossProblem.TOO_LARGE: f"infinite losses or losses above {LARGEST_LOSS:.3g}",
}


def say_refused(problems: Problems, rows: int) -> str:
    """Return one sentence about refused rows."""
    kinds = [
        f"{problems.counts[kind]:,} with {word}"
        for kind, word in _WORDS.items()
        if problems.counts[kind]
    ]
    first = ", ".join(str(row) for row, _ in problems.first)
    return (
        f"{problems.total:,} of {rows:,} examples are invalid: {'; '.join(kinds)}; the first "
        f"are rows {first}. Correct them, or {LEAVE_OUT}"
    )
