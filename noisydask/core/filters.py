"""The filters: which examples are flagged as label issues.

A :class:`Filter` is a value, so that a new one is declared here and nowhere else. ``batched`` is
the rule of ``cleanlab.experimental.label_issues_batched``; the seven that follow are those of
``cleanlab.filter.find_label_issues`` (Northcutt, Jiang, Chuang, "Confident learning", JAIR 70,
2021); ``auto`` is ours (:mod:`noisydask.core.auto_rule`). What a filter must know of all examples
before it can flag one is found by passes over the evidence; then each block is decided by itself.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt

Bools = npt.NDArray[np.bool_]


class Facts(Protocol):
    """Masks of the examples of a block, by which filters decide."""

    @property
    def predicted_other(self) -> Bools:
        """Examples whose prediction is not the given label."""

    @property
    def likely_other(self) -> Bools:
        """Examples that have a likely class other than the given label."""

    @property
    def lowest_quality(self) -> Bools:
        """Examples of the lowest label quality, as many as there are issues by estimate."""

    @property
    def pruned_by_class(self) -> Bools:
        """Examples that are pruned from their class for a low ``p_given``."""

    @property
    def pruned_by_pair(self) -> Bools:
        """Examples that are pruned from their class in favour of another class."""

    @property
    def doubted(self) -> Bools:
        """Examples that our own rule flags."""

    def lowest(self, score: str) -> Bools:
        """Return the examples of the lowest score, as many as ``likely_other`` flags."""


@dataclass(frozen=True)
class Filter:
    """A rule that flags examples.

    Attributes
    ----------
    name : str
        Value of the option ``filter_by``.
    flag : callable
        Gives the mask of the flagged examples of a block from its :class:`Facts`.
    needs : set of str
        What must be found of all examples before: "quality" or a score, by which the lowest are
        taken; "likely", the likely class of each; "class" and "pair", the cut-offs of classes and
        of pairs of them; "auto", the totals of our own rule.
    keeps_agreeing : bool
        Whether an example stays flagged whose given label is the prediction.
    """

    name: str
    flag: Callable[[Facts], Bools]
    needs: frozenset[str] = frozenset()
    keeps_agreeing: bool = False

    @property
    def prunes(self) -> bool:
        """Return whether it flags as many of each class or pair as the confident joint says."""
        return bool(self.needs & {"class", "pair"})


def _lowest(score: str) -> Filter:
    def flag(facts: Facts) -> Bools:
        return facts.lowest(score)

    return Filter(f"low_{score}", flag, frozenset({score}), keeps_agreeing=True)


_ALL = (
    Filter("batched", lambda facts: facts.lowest_quality, frozenset({"quality"})),
    Filter("prune_by_noise_rate", lambda facts: facts.pruned_by_pair, frozenset({"pair"})),
    Filter("prune_by_class", lambda facts: facts.pruned_by_class, frozenset({"class"})),
    Filter(
        "both",
        lambda facts: facts.pruned_by_class & facts.pruned_by_pair,
        frozenset({"class", "pair"}),
    ),
    Filter("confident_learning", lambda facts: facts.likely_other, frozenset({"likely"})),
    Filter("predicted_neq_given", lambda facts: facts.predicted_other),
    _lowest("normalized_margin"),
    _lowest("self_confidence"),
    Filter("auto", lambda facts: facts.doubted, frozenset({"auto"}), keeps_agreeing=True),
)
#: All filters by name.
FILTERS = {each.name: each for each in _ALL}
