"""The process of the command, from its first import to its end: signals leave no traceback, and
what a machine may lack is looked at.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

from noisydask.interrupts import end_at_once_on_signals


def start(arguments: Sequence[str] | None = None) -> NoReturn:
    """Run the command with these arguments, or those of the process, and end the process."""
    end_at_once_on_signals()
    try:
        Path.home()
    except RuntimeError:  # a number without a name, as in containers: libraries fail at it
        os.environ["HOME"] = "/"
    try:
        # What this imports takes a while.
        from noisydask.cli.app import main  # noqa: PLC0415

        status = main(arguments)
    except Exception:
        if sys.platform != "linux" or os.access("/proc/meminfo", os.R_OK):
            raise
        sys.exit("error: Dask needs /proc, which is not mounted here, or not all of it")
    if "zarr" in sys.modules:
        from noisydask.stores.zarr_stores import end_zarr  # noqa: PLC0415

        end_zarr()
    sys.exit(status)
