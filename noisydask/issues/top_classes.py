"""Inputs of which only the most probable classes are kept: checked, opened and put together."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from noisydask.errors import InputError, Setting
from noisydask.stores.arrays import DaskRows, Rows, open_rows, open_table
from noisydask.stores.converted_rows import RowValues
from noisydask.stores.top_rows import BOUND, combined

#: Said of a run whose given labels have bounded probabilities.
BOUNDED = (
    "the probability of each given label that is not among pred_classes is bounded, not known: the "
    "result is an approximation"
)


@dataclass(frozen=True)
class TopClasses:
    """Where the classes of the probabilities are, and the probability of the given label.

    Attributes
    ----------
    pred_classes : str, Path or array-like, (N, k)
        Classes.
    given_probs : str, Path or array-like, (N,), optional
        Probabilities; or ``"bound"``.
    num_classes : int
        K; 0 where that is not said.
    """

    pred_classes: Any
    given_probs: Any
    num_classes: int

    @classmethod
    def of(cls, pred_classes: Any, given_probs: Any, num_classes: int | None) -> TopClasses | None:
        """Take what was said; None of predictions of all classes.

        Raises
        ------
        InputError
            If something is said that belongs to the most probable classes, but not these.
        """
        if pred_classes is not None:
            return cls(pred_classes, given_probs, num_classes or 0)
        for name, value in (("given_probs", given_probs), ("num_classes", num_classes)):
            if value is not None:
                raise InputError(f"{name} belongs to pred_classes, which is missing")
        return None

    @property
    def bounded(self) -> bool:
        """True if the probability of the given label is bounded where it is not known."""
        return isinstance(self.given_probs, str | Path) and str(self.given_probs) == BOUND

    def checked(
        self, class_names: tuple[str, ...] | None, num_models: int, values: RowValues
    ) -> TopClasses:
        """Return the same with a number of classes.

        Raises
        ------
        InputError
            If something is missing, or said that works with whole rows only.
        """
        if num_models > 1:
            raise InputError("pred_classes belong to one model: several need all classes of a row")
        if not values.are_probabilities:
            raise InputError(
                "logits, scale and normalize need all classes of a row: with pred_classes, "
                "pred_probs must be probabilities"
            )
        num_classes = self.num_classes or len(class_names or ())
        if not num_classes:
            raise InputError(
                "with pred_classes, say how many classes there are (num_classes), or what they are "
                "called (class_names)"
            )
        if self.given_probs is None:
            raise InputError(
                "with pred_classes, give the probability of each given label (given_probs), as "
                "thresholds need it. Without it, those that are not among the kept ones can be "
                "bounded by what the row leaves; the result is then an approximation",
                Setting("given_probs", BOUND),
            )
        return replace(self, num_classes=num_classes)

    def rows(
        self,
        pred_probs: Rows | DaskRows,
        table: Any,
        storage_options: Mapping[str, Mapping[str, Any]],
    ) -> Rows | DaskRows:
        """Open the other parts, and put all together; where there is a table in files, they may be
        columns of it, by name.
        """
        options = storage_options.get("pred_probs")
        columns: list[str] = []
        if isinstance(table, str | Path):
            columns = open_table(str(table), "table", storage_options.get("table")).names
        sources = {"pred_classes": self.pred_classes, "given_probs": self.given_probs}
        if self.bounded:
            del sources["given_probs"]
        parts: dict[str, Rows | DaskRows] = {"pred_probs": pred_probs}
        for name, source in sources.items():
            own = storage_options.get(name, options)
            if isinstance(source, str) and source in columns:
                own, source = storage_options.get("table"), f"{table}#{source}"
            parts[name] = open_rows(source, name, own)
        return combined(parts, self.num_classes)
