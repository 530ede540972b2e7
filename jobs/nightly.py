"""Submit a night to a running Dask cluster, all jobs of one config: python jobs/nightly.py
CONFIG.yaml [cluster options].

The cluster is, in this order, that of --scheduler, --scheduler-file or --workers; that of the
environment variable DASK_SCHEDULER_ADDRESS, which Dask's own deployments set; the config's.
"""

import os
import sys

from noisydask.cli.environment import scheduler_options
from noisydask.cli.start import start

if __name__ == "__main__":
    start(["run", *scheduler_options(sys.argv[1:], os.environ), *sys.argv[1:]])
