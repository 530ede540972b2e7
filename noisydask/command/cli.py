"""The old place of :func:`noisydask.cli.app.main`, which job scripts import; until 0.3."""

from __future__ import annotations

import warnings
from typing import Any

from noisydask.cli import app


def __getattr__(name: str) -> Any:
    if name != "main":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    warnings.warn(
        "noisydask.command.cli is noisydask.cli.app now; the old name goes in 0.3",
        DeprecationWarning,
        stacklevel=2,
    )
    return app.main
