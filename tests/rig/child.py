"""What a job of the fault trials runs in its own process."""

from __future__ import annotations

import logging
import os
import sys
import traceback
from collections.abc import Callable, Mapping
from typing import Any

import dask

import noisydask

#: The jobs, by what they read.
JOBS: Mapping[str, Callable[..., Any]] = {
    "pred_probs": noisydask.find_label_issues,
    "models": noisydask.find_label_issues,
    "losses": noisydask.analyze_loss_dynamics,
}


def run(reads: str, how: dict[str, Any], said: str) -> None:
    """Run a job; what it says goes to a file, how it ends is its exit status."""
    file = os.open(said, os.O_WRONLY | os.O_TRUNC)
    os.dup2(file, 1)
    os.dup2(file, 2)
    logging.basicConfig(level=logging.INFO, stream=sys.stderr)
    try:
        with dask.config.set(scheduler="threads", num_workers=2):
            JOBS[reads](**how)
    except noisydask.NoisydaskError as error:
        print(f"error: {error}", file=sys.stderr, flush=True)
        os._exit(error.exit_status)
    except BaseException:
        traceback.print_exc()
        sys.stderr.flush()
        os._exit(70)
    os._exit(0)
