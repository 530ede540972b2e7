"""Data for the benchmark: a model that is mostly right and mostly sure, and labels of which 3 % are
wrong; and the losses of a model in training, which fall for most examples.

3 % is about the mean share of label errors that Northcutt, Athalye and Mueller found in ten test
sets (2021).
"""

from __future__ import annotations

from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import numpy.typing as npt
import zarr

WRONG = 0.03
_CHUNK_BYTES = 16 * 1024**2


def make_data(folder: Path, rows: int, classes: int, npy: bool = True) -> None:
    """Write ``pred_probs`` (float32) and ``labels`` as Zarr with default compression, and as
    ``.npy``, once.
    """
    stem = folder / f"{rows}x{classes}"
    done = Path(f"{stem}.done")
    if done.exists():
        return
    folder.mkdir(parents=True, exist_ok=True)
    chunk = max(1, min(rows, _CHUNK_BYTES // (4 * classes)))
    kind = np.min_scalar_type(classes - 1)
    zarr.create_array(
        f"{stem}-pred_probs.zarr",
        shape=(rows, classes),
        chunks=(chunk, classes),
        dtype="f4",
        overwrite=True,
    )
    zarr.create_array(
        f"{stem}-labels.zarr", shape=(rows,), chunks=(chunk,), dtype=kind, overwrite=True
    )
    if npy:
        np.lib.format.open_memmap(
            f"{stem}-pred_probs.npy", "w+", np.float32, (rows, classes)
        ).flush()
        np.lib.format.open_memmap(f"{stem}-labels.npy", "w+", kind, (rows,)).flush()
    with ProcessPoolExecutor(mp_context=get_context("spawn")) as pool:
        for _ in pool.map(
            _fill,
            (
                (str(stem), low, min(low + chunk, rows), classes, npy)
                for low in range(0, rows, chunk)
            ),
        ):
            pass
    done.touch()


def make_losses(folder: Path, rows: int, iterations: int) -> None:
    """Write ``losses`` (float32) and ``labels`` of ten classes as Zarr with default compression,
    once.
    """
    stem = folder / f"{rows}x{iterations}-dynamics"
    done = Path(f"{stem}.done")
    if done.exists():
        return
    folder.mkdir(parents=True, exist_ok=True)
    chunk = max(1, min(rows, _CHUNK_BYTES // (4 * iterations)))
    zarr.create_array(
        f"{stem}-losses.zarr",
        shape=(rows, iterations),
        chunks=(chunk, iterations),
        dtype="f4",
        overwrite=True,
    )
    zarr.create_array(
        f"{stem}-labels.zarr", shape=(rows,), chunks=(chunk,), dtype="u1", overwrite=True
    )
    with ProcessPoolExecutor(mp_context=get_context("spawn")) as pool:
        parts = (
            (str(stem), low, min(low + chunk, rows), iterations) for low in range(0, rows, chunk)
        )
        for _ in pool.map(_fill_losses, parts):
            pass
    done.touch()


def losses_of(low: int, high: int, iterations: int) -> npt.NDArray[np.float32]:
    """Losses of rows ``low`` to ``high``; those of wrong labels stay high."""
    rng = np.random.default_rng([iterations, low])
    wrong = rng.random((high - low, 1), dtype=np.float32) < WRONG
    scale = np.where(wrong, 3.0, 2.3 * np.exp(-np.linspace(0, 4, iterations))).astype(np.float32)
    return rng.standard_exponential((high - low, iterations), dtype=np.float32) * scale


def _fill_losses(part: tuple[str, int, int, int]) -> None:
    stem, low, high, iterations = part
    zarr.open_array(f"{stem}-losses.zarr", mode="r+")[low:high] = losses_of(low, high, iterations)
    labels = np.random.default_rng(low).integers(0, 10, high - low)
    zarr.open_array(f"{stem}-labels.zarr", mode="r+")[low:high] = labels


def stored_bytes(array: Path) -> int:
    """Bytes of all chunk objects of a Zarr array."""
    return sum(path.stat().st_size for path in (array / "c").rglob("*") if path.is_file())


def rows_of(
    low: int, high: int, classes: int
) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.int64]]:
    """Probabilities and labels of rows ``low`` to ``high``."""
    rng = np.random.default_rng([classes, low])
    rows = np.arange(high - low)
    truth = rng.integers(0, classes, high - low)
    logits = rng.standard_normal((high - low, classes), dtype=np.float32)
    logits[rows, truth] += (
        np.log(classes) + 2.5 + 1.5 * rng.standard_normal(high - low, dtype=np.float32)
    )
    np.exp(logits, out=logits)
    logits /= logits.sum(axis=1, keepdims=True)
    wrong = rng.random(high - low) < WRONG
    labels = np.where(wrong, rng.integers(0, classes, high - low), truth)
    return logits, labels


def _fill(part: tuple[str, int, int, int, bool]) -> None:
    stem, low, high, classes, npy = part
    probs, labels = rows_of(low, high, classes)
    zarr.open_array(f"{stem}-pred_probs.zarr", mode="r+")[low:high] = probs
    zarr.open_array(f"{stem}-labels.zarr", mode="r+")[low:high] = labels
    if npy:
        np.load(f"{stem}-pred_probs.npy", mmap_mode="r+")[low:high] = probs
        np.load(f"{stem}-labels.npy", mmap_mode="r+")[low:high] = labels
