"""The old place of :func:`noisydask.cli.app.main`, which job scripts import; until 0.3."""

from __future__ import annotations

import warnings

from noisydask.cli.app import main

__all__ = ["main"]

warnings.warn(
    "noisydask.command.cli is noisydask.cli.app since 0.1, and goes in 0.3",
    DeprecationWarning,
    stacklevel=2,
)
