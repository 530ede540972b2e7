"""Make an archive of outputs of all jobs, by the version of noisydask that is installed.

Run it where an older commit is installed; the archive is named after that commit::

    python make.py COMMIT
"""

from __future__ import annotations

import sys
import tarfile
import tempfile
from pathlib import Path

import numpy as np
import pandas as pd
import zarr

import noisydask

ROWS, CLASSES, EPOCHS = 300, 4, 6
HERE = Path(__file__).parent


def write_inputs(root: Path) -> None:
    """Write probabilities, labels, ids, and losses as an array and as a table."""
    rng = np.random.default_rng(11)
    labels = rng.integers(0, CLASSES, ROWS)
    weights = rng.integers(1, 8, (ROWS, CLASSES)) + 24 * np.eye(CLASSES, dtype=int)[labels]
    probs = (weights / weights.sum(axis=1, keepdims=True)).astype(np.float32)
    wrong = rng.random(ROWS) < 0.1
    labels[wrong] = rng.integers(0, CLASSES, wrong.sum())
    zarr.create_array(str(root / "probs.zarr"), data=probs, chunks=(100, CLASSES))
    np.save(root / "labels.npy", labels)
    np.save(root / "ids.npy", np.arange(ROWS) * 7)
    losses = (rng.integers(1, 64, (ROWS, EPOCHS)) / 32).astype(np.float32)
    zarr.create_array(str(root / "losses.zarr"), data=losses, chunks=(100, EPOCHS))
    index = np.repeat(np.arange(ROWS) * 7, EPOCHS)
    columns = {"id": index, "iteration": np.tile(np.arange(EPOCHS), ROWS), "loss": losses.ravel()}
    pd.DataFrame(columns).to_parquet(root / "losses.parquet")


def run_jobs(root: Path) -> None:
    """Run all jobs, the first of them twice, with labels corrected between."""
    path = {name: str(root / name) for name in ("probs.zarr", "labels.npy", "ids.npy")}
    labels = np.load(root / "labels.npy")
    flipped = labels.copy()
    flipped[:10] = (flipped[:10] + 1) % CLASSES
    given = {"ids": path["ids.npy"], "block_bytes": 1600, "out": str(root / "issues")}
    np.save(root / "labels.npy", flipped)
    noisydask.find_label_issues(path["labels.npy"], path["probs.zarr"], **given)
    np.save(root / "labels.npy", labels)
    noisydask.find_label_issues(path["labels.npy"], path["probs.zarr"], **given)
    for name, losses in (("dense", "losses.zarr"), ("table", "losses.parquet")):
        source = {"losses": str(root / losses), "ids": path["ids.npy"]}
        if name == "table":
            source = {"table": str(root / losses)}
        noisydask.analyze_loss_dynamics(**source, out=str(root / name))
    noisydask.combine(str(root / "issues"), str(root / "dense"), out=str(root / "both"))


def main() -> None:
    """Write the archive."""
    sys.modules["matplotlib"] = None  # a picture would be most of it
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder) / "old"
        root.mkdir()
        write_inputs(root)
        run_jobs(root)
        with tarfile.open(HERE / f"{sys.argv[1]}.tar.xz", "w:xz") as archive:
            archive.add(root, "old")


if __name__ == "__main__":
    main()
