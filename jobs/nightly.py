"""Submit a night to a running Dask cluster, all jobs of one config: python jobs/nightly.py CONFIG.yaml [cluster options].

The cluster is the config's, that of --scheduler or --scheduler-file, or that of the environment variable
DASK_SCHEDULER_ADDRESS, which Dask's own deployments set.
"""

import os
import sys

from noisydask.command.cli import main

if __name__ == "__main__":
    address = os.environ.get("DASK_SCHEDULER_ADDRESS")
    sys.exit(main(["run", *sys.argv[1:], *(["--scheduler", address] if address else [])]))
