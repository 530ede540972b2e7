"""Files as Arrow reads them: mapped where they are local, else by ranges of bytes."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pyarrow as pa

from noisydask.stores.locations import Location


@contextmanager
def open_source(place: Location) -> Iterator[Any]:
    """Open a file for reading."""
    if place.is_local:
        with pa.memory_map(place.path) as source:
            yield source
        return
    with place.open() as handle, pa.PythonFile(handle, mode="r") as source:
        yield source
