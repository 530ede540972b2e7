"""Submit the job on training losses to a running Dask cluster: python jobs/loss_dynamics.py
CONFIG.yaml [options].

CONFIG is a file like configs/loss-dynamics.yaml, the options are those of noisydask dynamics. The
cluster is, in this order, that of --scheduler, --scheduler-file or --workers; that of the
environment variable DASK_SCHEDULER_ADDRESS, which Dask's own deployments set; the config's.
"""

import os
import sys

from noisydask.cli.environment import scheduler_options
from noisydask.cli.start import start

if __name__ == "__main__":
    start(["run", *scheduler_options(sys.argv[1:], os.environ), *sys.argv[1:]])
