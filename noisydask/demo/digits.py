"""The demo: scikit-learn's handwritten digits, one label in twenty flipped, so that the truth is
known.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import zarr

from noisydask.errors import InputError
from noisydask.issues.results import LabelIssues

FLIPPED = 0.05
NAMES = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
_SEED = 0


def make_data(folder: Path) -> None:
    """Write labels, out-of-sample probabilities and class names of the digits, and which labels
    were flipped; the same as one table in CSV.

    The probabilities come from five-fold cross-validation of a logistic regression trained on the
    flipped labels: no example is judged by a model that has seen it.
    """
    try:
        from sklearn.datasets import load_digits  # noqa: PLC0415  the demo alone needs scikit-learn
        from sklearn.linear_model import LogisticRegression  # noqa: PLC0415
        from sklearn.model_selection import cross_val_predict  # noqa: PLC0415
    except ImportError as error:
        raise InputError("the demo needs scikit-learn: pip install scikit-learn") from error
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"cannot make the folder {folder}: {error.strerror}") from error
    images, truth = load_digits(return_X_y=True)
    rng = np.random.default_rng(_SEED)
    flipped = np.sort(rng.choice(len(truth), round(FLIPPED * len(truth)), replace=False))
    labels = truth.astype(np.uint8)
    labels[flipped] = (labels[flipped] + rng.integers(1, 10, len(flipped))) % 10
    model = LogisticRegression(max_iter=1000)
    pred_probs = cross_val_predict(
        model, images / 16.0, labels, cv=5, method="predict_proba"
    ).astype(np.float32)
    for name, values, chunks in (
        ("labels", labels, (500,)),
        ("pred_probs", pred_probs, (500, 10)),
        ("flipped", flipped, (len(flipped),)),
    ):
        array = zarr.create_array(
            folder / f"{name}.zarr",
            shape=values.shape,
            chunks=chunks,
            dtype=values.dtype,
            overwrite=True,
        )
        array[...] = values
    (folder / "class_names.txt").write_text("\n".join(NAMES) + "\n", encoding="utf-8")
    table = pd.DataFrame(pred_probs, columns=[f"p_{name}" for name in NAMES])
    table.insert(0, "id", [f"digit-{number:04}" for number in range(len(table))])
    table.insert(1, "label", np.array(NAMES)[labels])
    table.to_csv(folder / "predictions.csv", index=False)


def options(folder: Path) -> dict[str, Any]:
    """Return the demo's job, as a configuration."""
    paths = {name: str(folder / f"{name}.zarr") for name in ("labels", "pred_probs")}
    names = {"url": str(folder / "class_names.txt")}
    return paths | {"out": str(folder / "out"), "class_names": names, "cluster": {"workers": 2}}


def verdict(folder: Path, issues: LabelIssues) -> str:
    """Say how many of the flipped labels were found."""
    flipped = np.asarray(zarr.open_array(folder / "flipped.zarr", mode="r")[...])
    hits = int(np.isin(issues.indices, flipped).sum())
    return (
        f"{hits} of the {len(flipped)} flipped labels were found, among {issues.num_issues} issues:"
        f" recall {hits / len(flipped):.0%}, precision {hits / max(issues.num_issues, 1):.0%}"
    )
