"""One version of noisydask, asked for timed runs: a child of :mod:`benchmarks.against`.

It uses only what all versions have, since it is run by the Python of an older one as well. Each
line of its input is a job with its options as JSON; it answers with the seconds that the job took.
"""

from __future__ import annotations

import json
import shutil
import sys
import time

from distributed import Client, LocalCluster

import noisydask


def run(job: str, options: dict[str, object]) -> float:
    """Run a job into an output that is made anew; return the seconds that it took."""
    shutil.rmtree(str(options["out"]), ignore_errors=True)
    function = getattr(noisydask, job)
    begun = time.perf_counter()
    function(**options)
    return time.perf_counter() - begun


def main() -> None:
    """Hold a cluster where one is wanted, and answer until the input ends."""
    workers = int(sys.argv[1])
    cluster = None
    if workers:
        cluster = LocalCluster(n_workers=workers, threads_per_worker=1, dashboard_address=":0")
        client = Client(cluster)
    print("ready", flush=True)
    for line in sys.stdin:
        print(run(**json.loads(line)), flush=True)
    if cluster is not None:
        client.close()
        cluster.close()


if __name__ == "__main__":
    main()
