"""A small training on two processes, as people write it with PyTorch: a loop over folds by
``DistributedDataParallel`` that records losses and writes predictions of what was held out.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.distributed as dist
from sklearn.datasets import load_digits
from torch.nn.parallel import DistributedDataParallel
from torch.utils.data import DataLoader, Dataset, DistributedSampler, Subset

import noisydask

FOLDS = 3


def noisy_digits() -> tuple[Any, Any, Any]:
    """Return images, labels of which some are wrong, and which."""
    images, truth = load_digits(return_X_y=True)
    rng = np.random.default_rng(0)
    flipped = rng.random(len(truth)) < 0.06
    other = (truth + rng.integers(1, 10, len(truth))) % 10
    pixels = torch.tensor(images / 16, dtype=torch.float32)
    return pixels, torch.tensor(np.where(flipped, other, truth)), flipped


class Digits(Dataset[Any]):
    """Examples with their positions."""

    def __init__(self) -> None:
        self.images, self.labels, _ = noisy_digits()

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, row: int) -> Any:
        return row, self.images[row], self.labels[row]


def train(rank: int, world: int, folder: Path, top: int | None, port: int) -> None:
    """Train on all folds but one, each in turn; the first process puts the predictions in place."""
    os.environ.update(MASTER_ADDR="127.0.0.1", MASTER_PORT=str(port))
    dist.init_process_group("gloo", rank=rank, world_size=world)
    torch.manual_seed(0)
    torch.set_num_threads(1)
    data = Digits()
    folds = np.random.default_rng(1).permutation(len(data)) % FOLDS
    recorder = noisydask.LossRecorder(folder / "losses")
    writer = noisydask.PredictionWriter(folder / "predictions", num_examples=len(data), top=top)
    for fold in range(FOLDS):
        layers = torch.nn.Linear(64, 64), torch.nn.ReLU(), torch.nn.Linear(64, 10)
        model = DistributedDataParallel(torch.nn.Sequential(*layers))
        optimizer = torch.optim.Adam(model.parameters(), 3e-3)
        part = Subset(data, np.flatnonzero(folds != fold).tolist())
        sampler = DistributedSampler(part, seed=fold)
        for epoch in range(8):
            sampler.set_epoch(epoch)
            for rows, images, labels in DataLoader(part, batch_size=64, sampler=sampler):
                losses = torch.nn.functional.cross_entropy(model(images), labels, reduction="none")
                if fold == 0:
                    recorder.record(epoch, rows, losses.detach())
                optimizer.zero_grad()
                losses.mean().backward()
                optimizer.step()
        held = Subset(data, np.flatnonzero(folds == fold).tolist())
        sampler = DistributedSampler(held, shuffle=False)
        for rows, images, labels in DataLoader(held, batch_size=64, sampler=sampler):
            with torch.inference_mode():
                writer.write(rows, model(images).softmax(dim=1), labels)
    recorder.close()
    writer.flush()
    dist.barrier()
    if rank == 0:
        writer.finish()
    writer.close()
    dist.destroy_process_group()
