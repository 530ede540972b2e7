"""Compile what the tests need once, on two cores, before each of their processes does all of it by itself."""

from __future__ import annotations

from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context

import dask
import numpy as np
import pandas as pd

import noisydask


def issues(dtype: str) -> None:
    rng = np.random.default_rng(0)
    for classes in (3, 300):  # rows of few and of many classes have kernels of their own
        pred_probs = rng.dirichlet([1.0] * classes, 400)
        labels = rng.integers(0, classes, 400)
        for score in ("self_confidence", "confidence_weighted_entropy"):
            noisydask.find_label_issues(labels, pred_probs.astype(dtype), quality_score=score)


def dynamics(dtype: str) -> None:
    losses = np.random.default_rng(0).random((300, 20)).astype(dtype)
    noisydask.analyze_loss_dynamics(losses)
    losses[3, 4] = np.nan
    noisydask.analyze_loss_dynamics(losses, labels=np.arange(300) % 3).ema([1])


def table(_: str) -> None:
    noisydask.analyze_loss_dynamics(table=pd.DataFrame({"id": [1, 2], "iteration": [0, 0], "loss": [0.5, 0.25]})).ema([1])


def main() -> None:
    jobs = [(issues, "f8"), (dynamics, "f4"), (issues, "f4"), (dynamics, "f8"), (issues, "f2"), (dynamics, "f2"), (table, "")]
    with ProcessPoolExecutor(2, get_context("spawn"), dask.config.set, ({"scheduler": "synchronous"},)) as pool:
        for done in [pool.submit(job, dtype) for job, dtype in jobs]:
            done.result()


if __name__ == "__main__":
    main()
