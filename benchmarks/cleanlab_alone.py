"""cleanlab on two ``.npy`` files, timed in a process of its own: python -m
benchmarks.cleanlab_alone LABELS PRED_PROBS.
"""

from __future__ import annotations

import json
import sys
import time

from cleanlab.experimental.label_issues_batched import find_label_issues_batched

from benchmarks.memory import peak

if __name__ == "__main__":
    start = time.perf_counter()
    found = find_label_issues_batched(
        labels_file=sys.argv[1], pred_probs_file=sys.argv[2], verbose=False
    )
    seconds = time.perf_counter() - start
    print(
        json.dumps(
            {
                "cleanlab_seconds": seconds,
                "cleanlab_peak_mib": peak() / 1024**2,
                "cleanlab_issues": len(found),
            }
        )
    )
