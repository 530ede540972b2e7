"""Blocks that are read again for rows that the evidence leaves open: of one model, or the mean of
several.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt

from noisydask.core.blocks import BlockGrid
from noisydask.engine.inputs import plan_pass
from noisydask.issues.aligned import model_name
from noisydask.issues.mean import MeanRows
from noisydask.stores.arrays import DaskRows, Rows
from noisydask.stores.task_rows import TaskRows


@dataclass(frozen=True)
class Rereading:
    """The rows of one model, or of several with their weights, as a pass reads them again.

    Attributes
    ----------
    grid : BlockGrid
        All blocks.
    models : tuple of Rows or DaskRows
        The rows of each model.
    weights : ndarray of float64, (M,), optional
        Weights of the mean, where there are several.
    """

    grid: BlockGrid
    models: tuple[Rows | DaskRows, ...]
    weights: npt.NDArray[np.float64] | None = field(default=None, repr=False)

    def run(self, name: str, task: Callable[..., Any], blocks: Sequence[Any]) -> Any:
        """Do ``task(blocks, inputs)``, which finds the rows as ``inputs["pred_probs"]``, for some
        blocks; return the sum of what it returned.
        """
        inputs = {model_name(number): rows for number, rows in enumerate(self.models)}
        reading = partial(_reading, task, self.weights)
        return plan_pass(inputs, self.grid, blocks, None).run(name, reading)


def _reading(
    task: Callable[..., Any],
    weights: npt.NDArray[np.float64] | None,
    blocks: Sequence[Any],
    inputs: Mapping[str, TaskRows],
) -> Any:
    models = tuple(inputs[model_name(number)] for number in range(len(inputs)))
    if weights is None:
        return task(blocks, {**inputs, "pred_probs": models[0]})
    return task(blocks, {**inputs, "pred_probs": MeanRows(models, weights)})
