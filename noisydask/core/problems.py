"""What is refused of the data: counted by kind, the first named, and said in one sentence."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from noisydask.core.row_kernel import Problem
from noisydask.errors import InputError, Setting

#: Rows or losses named in an error at most.
FIRST = 10
#: Said of labels of which the smallest is 1 and the largest K.
FROM_ONE = "The labels are 1 to K: do they count from 1?"


@dataclass(frozen=True)
class ProblemKinds:
    """Kinds of problems, as errors name them.

    Attributes
    ----------
    words : mapping of int to str
        What a row of each kind has.
    settings : mapping of int to Setting
        The option by which rows of a kind are left out, where there is one.
    """

    words: Mapping[int, str]
    settings: Mapping[int, Setting]


_SKIP = Setting("on_invalid", "skip")
#: Of rows of probabilities and labels.
ROW_KINDS = ProblemKinds(
    {
        Problem.NOT_FINITE: "NaN or infinite probabilities",
        Problem.OUT_OF_RANGE: "probabilities outside 0 to 1 (are they logits or "
        "log-probabilities?)",
        Problem.ROW_SUM: "probabilities that do not sum to 1 (are they logits, quantised too "
        "coarsely, or the first of more classes?)",
        Problem.LABEL: "labels outside 0 to K-1",
        Problem.UNREADABLE: "chunks that cannot be read",
        Problem.CLASSES: "classes that repeat, do not exist, or are not the most probable ones",
    },
    dict.fromkeys(Problem, _SKIP),
)


#: The same where labels are names of classes.
NAMED_KINDS = replace(
    ROW_KINDS,
    words={**ROW_KINDS.words, Problem.LABEL: "labels that are missing or no class"},
)


@dataclass(frozen=True)
class Problems:
    """What is refused: how many of each kind, and the first of all.

    Attributes
    ----------
    counts : ndarray of int64
        Number of each kind.
    first : tuple of (name, int)
        The first, ascending: of rows their positions and kinds, of losses their ids and iterations.
    labels : (int, int), optional
        The smallest and the largest label of blocks with labels that cannot be.
    dropped : Counter of str
        What was left out on purpose.
    """

    counts: npt.NDArray[np.int64]
    first: tuple[tuple[Any, int], ...] = ()
    labels: tuple[int, int] | None = None
    dropped: Counter[str] = field(default_factory=Counter)

    @classmethod
    def of(cls, problems: npt.NDArray[np.uint8], start: int) -> Problems:
        """Count refused rows of a block whose first row is ``start``, by :class:`Problem`."""
        rows = np.flatnonzero(problems)
        invalid = rows[problems[rows] != Problem.UNREADABLE]
        first = tuple((start + int(row), int(problems[row])) for row in invalid[:FIRST])
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

    def labels_hint(self, class_counts: npt.NDArray[np.int64]) -> str:
        """Return what is said of labels that cannot be, where there are any."""
        if self.labels is None:
            return ""
        if self.from_one(class_counts):
            return f" {FROM_ONE}"
        return f" Labels from {self.labels[0]:,} to {self.labels[1]:,} are among them."

    def values_hint(self, rows: int) -> tuple[str, tuple[Setting, ...]]:
        """Return what is said of values of which most are no probabilities, and the options that
        would take them.

        Examples
        --------
        >>> problems = Problems.of(np.array([2, 2, 2, 0], np.uint8), 0)
        >>> problems.values_hint(4)[0]
        ' If they are logits or votes, say so.'
        """
        if 2 * self.counts[Problem.OUT_OF_RANGE] > rows:
            return " If they are logits or votes, say so.", (
                Setting("logits", True),
                Setting("normalize", True),
            )
        if 2 * self.counts[Problem.ROW_SUM] > rows:
            return (
                " If they are votes, have them divided by their sums; if they are the most "
                "probable of more classes, say which (pred_classes).",
                (Setting("normalize", True),),
            )
        return "", ()

    @property
    def total(self) -> int:
        """Number of all; one may count for two kinds."""
        return int(self.counts.sum())

    @property
    def unreadable(self) -> int:
        """Number of rows that could not be read; they are not named."""
        return int(self.counts[Problem.UNREADABLE])

    def __add__(self, other: Problems) -> Problems:
        first = tuple(sorted({*self.first, *other.first}))[:FIRST]
        ends = (self.labels or ()) + (other.labels or ())
        labels = (min(ends), max(ends)) if ends else None
        dropped = self.dropped + other.dropped
        return Problems(self.counts + other.counts, first, labels, dropped)

    def error(
        self,
        what: str,
        kinds: ProblemKinds,
        names: str = "rows ",
        each: str = "{0}",
        hint: str = "",
        more: Sequence[Setting] = (),
    ) -> InputError:
        """Return the error that says what is refused, and what may be done.

        Parameters
        ----------
        what : str
            How many of how many are invalid.
        kinds : ProblemKinds
            How its kinds are named.
        names, each : str
            Said before the first, and the format of each.
        hint : str
            Said of all.
        more : sequence of Setting
            Further options that may help.
        """
        there = [kind for kind in kinds.words if self.counts[kind]]
        kinds_told = "; ".join(f"{self.counts[kind]:,} with {kinds.words[kind]}" for kind in there)
        first = ", ".join(each.format(*name) for name in self.first)
        named = f"; the first are {names}{first}" if first else ""
        settings = dict.fromkeys(kinds.settings[kind] for kind in there if kind in kinds.settings)
        if settings:
            ways = "Correct them, or leave them out"
        else:
            ways = "Correct them"
        return InputError(f"{what}: {kinds_told}{named}.{hint} {ways}", *settings, *more)
