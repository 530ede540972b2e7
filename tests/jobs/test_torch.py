"""What PyTorch's processes record and write while they train goes through the whole circle."""

from __future__ import annotations

import socket
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import noisydask

torch = pytest.importorskip("torch", reason="its wheels take 6 GB: make test-torch installs it")


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # those of PyTorch itself
@pytest.mark.parametrize("top", [None, 3])
def test_two_processes_write_what_both_jobs_read(top: int | None, tmp_path: Path) -> None:
    from training_loop import noisy_digits, train  # noqa: PLC0415  needs PyTorch

    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    torch.multiprocessing.spawn(train, (2, tmp_path, top, port), nprocs=2)
    _, _, flipped = noisy_digits()
    arrays = {path.stem: path for path in (tmp_path / "predictions").glob("*.zarr")}
    more: dict[str, Any] = {} if top is None else {"num_classes": 10}
    issues = noisydask.find_label_issues(**arrays, **more, out=tmp_path / "issues")
    found = np.count_nonzero(flipped[issues.indices])
    assert found > 0.7 * flipped.sum()
    assert found > 0.8 * issues.num_issues
    ranked = noisydask.analyze_loss_dynamics(table=tmp_path / "losses", out=tmp_path / "dynamics")
    both = noisydask.combine(issues, ranked, out=tmp_path / "both")
    first = both.to_dataframe(int(flipped.sum()))["index"].to_numpy()
    assert np.count_nonzero(flipped[first]) > 0.5 * len(first)
