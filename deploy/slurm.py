#!/usr/bin/env python
"""Every night on a SLURM cluster, whose workers dask-jobqueue submits.

It needs `pip install '.[s3,slurm]'` in a clone of noisydask.

Submit this driver itself, once, or every night by a line of `scrontab -e`, from a folder that all
nodes share:

    sbatch --time=06:00:00 --cpus-per-task=1 --mem=4G deploy/slurm.py configs/nightly-s3.yaml

    30 2 * * * cd noisydask && sbatch --time=06:00:00 --mem=4G deploy/slurm.py nightly-s3.yaml

Change: queue, account, size and number of the worker jobs below. A worker job that ends or is
preempted costs the blocks that it was at; another is submitted in its place.
"""

import sys

from dask_jobqueue import SLURMCluster

from noisydask.cli.app import main

if __name__ == "__main__":
    with SLURMCluster(
        queue=None,
        account=None,
        cores=4,
        processes=4,
        memory="16GiB",
        walltime="02:00:00",
        local_directory="/tmp",
        job_script_prologue=[
            "export MALLOC_TRIM_THRESHOLD_=1073741824 MALLOC_MMAP_THRESHOLD_=1073741824"
        ],
    ) as cluster:
        cluster.adapt(minimum_jobs=8, maximum_jobs=8)
        cluster.wait_for_workers(1)  # however long the queue is
        sys.exit(main(["run", *sys.argv[1:], "--scheduler", cluster.scheduler_address]))
