"""Files that appear whole or not at all, under names that no other process uses."""

from __future__ import annotations

import os
import secrets
from datetime import UTC, datetime

from noisydask.stores.locations import Location


def own_prefix() -> str:
    """Return how names of files begin that one process writes: by the time at which it began."""
    return f"{datetime.now(UTC):%Y%m%dT%H%M%S%fZ}-{secrets.token_hex(6)}"


def write_whole(folder: Location, name: str, content: bytes) -> None:
    """Write a file in one step: a PUT is one; a local file is written beside it and renamed."""
    target = folder / name
    if not folder.is_local:
        target.write(content)
        return
    beside = (folder / f".{name}.part").path
    with open(beside, "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    os.replace(beside, target.path)
