"""Compile kernels into ``NUMBA_CACHE_DIR``, as an image does when it is built: its workers begin at
once then, on processors of the kind that compiled.
"""

from __future__ import annotations

import sys
import time

import numpy as np

import noisydask

ROWS = 200


def main() -> None:
    """Run small jobs with the types that probabilities and losses usually have."""
    begun = time.monotonic()
    rng = np.random.default_rng(0)
    for classes in (2, 10, 30):
        mostly_sure = rng.dirichlet(np.full(classes, 0.1), ROWS)
        labels = mostly_sure.argmax(axis=1)
        for kind in (np.float16, np.float32, np.float64):
            probs = mostly_sure.astype(kind)
            for score in ("self_confidence", "normalized_margin", "confidence_weighted_entropy"):
                noisydask.find_label_issues(labels, probs, quality_score=score)
    for kind in (np.float32, np.float64):
        noisydask.find_label_issues(labels, mostly_sure.astype(kind), normalize=True)
        noisydask.find_label_issues(labels, np.log(mostly_sure + 1e-9).astype(kind), logits=True)
        losses = rng.random((ROWS, 20)).astype(kind)
        noisydask.analyze_loss_dynamics(losses, labels=labels)
    print(f"kernels compiled in {time.monotonic() - begun:.0f} s", file=sys.stderr)


if __name__ == "__main__":
    main()
