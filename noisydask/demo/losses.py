"""The demo's second part: the losses of a small model in training, recorded as a training loop
would, and both signals.
"""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import zarr

from noisydask.consensus.results import Consensus
from noisydask.dynamics.recorder import LossRecorder
from noisydask.errors import InputError

EPOCHS = 30
#: Weight of a new loss: about the last ten of thirty epochs. (The default suits thousands of
#: iterations.)
ALPHA = 0.1
_STEP = 0.01
_SEED = 0


def record_losses(folder: Path) -> None:
    """Train a model on the flipped labels, and record the loss of every example after each epoch.

    A linear model of constant step, so that an epoch's losses can be compared with the next one's.
    It is as good as the model of the first part, no better, so that both signals are worth about
    the same.
    """
    try:
        from sklearn.datasets import load_digits  # noqa: PLC0415  the demo alone needs scikit-learn
        from sklearn.linear_model import SGDClassifier  # noqa: PLC0415
    except ImportError as error:
        raise InputError("the demo needs scikit-learn: pip install scikit-learn") from error
    images = load_digits(return_X_y=True)[0] / 16.0
    labels = np.asarray(zarr.open_array(folder / "labels.zarr", mode="r")[...])
    examples = np.arange(len(labels))
    model = SGDClassifier(loss="log_loss", learning_rate="constant", eta0=_STEP, random_state=_SEED)
    shutil.rmtree(folder / "losses", ignore_errors=True)
    with LossRecorder(folder / "losses") as recorder:
        for epoch in range(EPOCHS):
            model.partial_fit(images, labels, classes=np.arange(10))
            label_probs = model.predict_proba(images)[examples, labels]
            recorder.record(
                epoch, examples, -np.log(np.maximum(label_probs, np.finfo(np.float32).tiny)), labels
            )


def options(folder: Path) -> dict[str, Any]:
    """Return the options of the dynamics job."""
    return {
        "table": str(folder / "losses"),
        "label_column": "label",
        "alpha": ALPHA,
        "out": str(folder / "dynamics"),
    }


def verdict(folder: Path, both: Consensus) -> str:
    """Say how many flipped labels are among the first of each ranking, as many as were flipped."""
    flipped = np.asarray(zarr.open_array(folder / "flipped.zarr", mode="r")[...])
    ranked = both.to_dataframe()
    count = len(flipped)
    lines = [f"flipped labels among the first {count} examples, as many as were flipped, by"]
    for name, column in (
        ("label quality", "quality_percentile"),
        ("EMA of the loss", "metric_percentile"),
        ("both", "rank"),
    ):
        hits = int(np.isin(ranked.nsmallest(count, column)["index"], flipped).sum())
        lines.append(f"  {name:<16} {hits} ({hits / count:.0%})")
    return "\n".join(lines)
