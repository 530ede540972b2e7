"""Label quality and agreement of several models: from the evidence of each.

The scores are those of ``cleanlab.rank.get_label_quality_ensemble_scores`` of cleanlab 2.9. What a
task does; storage is handed in, Dask is not known here.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from noisydask.core.label_quality import label_quality
from noisydask.issues.aligned import model_name
from noisydask.issues.mean import MeanBlock
from noisydask.issues.passes import IssueData, evidence_of
from noisydask.stores.task_rows import TaskRows

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Ensemble:
    """The evidence of several models, and how much each counts.

    Attributes
    ----------
    models : tuple of IssueData
        Where the evidence of each is kept.
    thresholds : tuple of ndarray of float64, (K,)
        The confident thresholds of each.
    weights : ndarray of float64, (M,)
        As they are given: they need not add up to 1.
    """

    models: tuple[IssueData, ...]
    thresholds: tuple[Floats, ...] = field(repr=False)
    weights: Floats = field(repr=False)

    def scores(
        self,
        block: MeanBlock,
        quality_score: str,
        adjust_pred_probs: bool,
        inputs: Mapping[str, TaskRows] | None,
    ) -> tuple[Floats, npt.NDArray[np.bool_]]:
        """Score the labels of a block: the weighted sum of the models' scores; NaN for rows that
        are refused of any.

        Returns
        -------
        scores : ndarray of float64, (n,)
        unresolved : ndarray of bool, (n,)
            Rows whose score the evidence does not give, where no ``inputs`` are read.
        """
        total: Any = 0.0
        unresolved: Any = False
        chosen = quality_score, adjust_pred_probs
        for number, (data, stored) in enumerate(zip(self.models, block.models, strict=True)):
            columns = _wide(evidence_of(stored, data.columns, data))
            limits = self.thresholds[number]
            scores, open_rows = label_quality(columns, limits, *chosen)
            if inputs is not None and open_rows.any():
                bounds = data.grid.bounds(block.number)
                rows = inputs[model_name(number)].read(*bounds).astype(np.float64)
                scores, _ = label_quality(columns, limits, *chosen, rows)
                open_rows = np.zeros_like(open_rows)
            total = total + self.weights[number] * scores
            unresolved = unresolved | open_rows
        return total, unresolved

    def agreement(
        self, block: Any, rows: npt.NDArray[np.intp], suggested: npt.NDArray[Any]
    ) -> npt.NDArray[np.float32]:
        """Return the share of the models that predict the suggested class of some rows of a
        MeanBlock.
        """
        votes = np.zeros(len(rows), np.float32)
        for data, stored in zip(self.models, block.models, strict=True):
            top1 = evidence_of(stored, ("top1",), data)["top1"]
            votes += top1[rows] == suggested
        return votes / np.float32(len(self.models))


def _wide(columns: Mapping[str, Any]) -> dict[str, Any]:
    """Return evidence in float64, in which scores of several models are added up."""
    return {
        name: column.astype(np.float64) if column.dtype.kind == "f" else column
        for name, column in columns.items()
    }
