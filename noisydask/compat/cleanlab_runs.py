"""One run of the main job for one call of a compatible name."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from noisydask.core.noise import SparseMatrix
from noisydask.engine.progress import Silent
from noisydask.errors import InputError
from noisydask.issues.inputs import IssueInputs
from noisydask.issues.job import IssueJob
from noisydask.issues.options import IssueSettings
from noisydask.issues.results import LabelIssues
from noisydask.runs.temporary import run_in_temporary_folder
from noisydask.stores.arrays import open_rows


def run_job(
    labels: Any,
    pred_probs: Any,
    *,
    confident_joint: SparseMatrix | None = None,
    thresholds: npt.NDArray[np.float64] | None = None,
    keep_agreeing: bool = False,
    **settings: Any,
) -> LabelIssues:
    """Run the job on what a caller of cleanlab hands in; its files go with the result."""
    inputs = IssueInputs.open(labels, pred_probs, None, None, {})
    job = IssueJob(
        inputs,
        IssueSettings.of(settings),
        reporter=Silent(),
        keep=False,
        confident_joint=confident_joint,
        thresholds=thresholds,
        keep_agreeing=keep_agreeing,
    )
    return run_in_temporary_folder(job)


def counts_of(labels: Any, num_classes: int) -> npt.NDArray[np.int64]:
    """Count the examples given each class, block by block."""
    rows = open_rows(labels, "labels")
    counts = np.zeros(num_classes, np.int64)
    step = 1 << 22
    for start in range(0, rows.shape[0], step):
        block: npt.NDArray[Any] = rows.read(start, min(start + step, rows.shape[0]))
        if block.dtype.kind not in "iu" or block.min() < 0 or block.max() >= num_classes:
            raise InputError(f"labels must be integers 0 to {num_classes - 1}")
        counts += np.bincount(block, minlength=num_classes)
    return counts


def refuse_multi_label(multi_label: bool) -> None:
    """Refuse labels of several classes an example."""
    if multi_label:
        raise InputError(
            "multi_label=True is not supported: these functions take one class an example"
        )
