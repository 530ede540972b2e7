"""The cluster that the environment names, for the scripts that are submitted to one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

_WAYS = ("--scheduler", "--scheduler-file", "--workers")


def scheduler_options(arguments: Sequence[str], environment: Mapping[str, str]) -> list[str]:
    """Return options for the scheduler of ``DASK_SCHEDULER_ADDRESS``; none, where the command line
    says where to run.

    Examples
    --------
    >>> named = {"DASK_SCHEDULER_ADDRESS": "tcp://10.0.0.1:8786"}
    >>> scheduler_options(["job.yaml"], named)
    ['--scheduler', 'tcp://10.0.0.1:8786']
    >>> scheduler_options(["job.yaml", "--workers=2"], named)
    []
    """
    address = environment.get("DASK_SCHEDULER_ADDRESS")
    stated = any(argument.partition("=")[0] in _WAYS for argument in arguments)
    if address and not stated:
        return ["--scheduler", address]
    return []
