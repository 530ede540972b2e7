"""Datumaro on a dataset of its format, timed in a Python of its own: PYTHON datumaro_alone.py
FOLDER ROUNDS.
"""

import json
import sys
import time

from datumaro import Dataset
from datumaro.components.algorithms.noisy_label_detection import LossDynamicsAnalyzer

if __name__ == "__main__":
    dataset = Dataset.import_from(sys.argv[1], "datumaro")
    seconds = []
    for _ in range(int(sys.argv[2])):
        start = time.perf_counter()
        LossDynamicsAnalyzer(dataset).get_top_k_cands(20)
        seconds.append(time.perf_counter() - start)
    print(json.dumps(seconds))
