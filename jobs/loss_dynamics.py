"""Submit the job on training losses to a running Dask cluster: python jobs/loss_dynamics.py CONFIG.yaml [options].

CONFIG is a file like configs/loss-dynamics.yaml, the options are those of noisydask dynamics. The cluster is the config's,
that of --scheduler or --scheduler-file, or that of the environment variable DASK_SCHEDULER_ADDRESS, which Dask's own
deployments set.
"""

import os
import sys

from noisydask.command.cli import main

if __name__ == "__main__":
    address = os.environ.get("DASK_SCHEDULER_ADDRESS")
    sys.exit(main(["run", *sys.argv[1:], *(["--scheduler", address] if address else [])]))
