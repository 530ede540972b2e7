"""Requests of a job to an object store, counted and timed by what they are for.

The job runs in this process, on one thread of Dask, so that every request is seen.
"""

from __future__ import annotations

import re
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any
from unittest.mock import patch

import dask
import obstore
from rich import box
from rich.table import Table

#: What a request is for, by the path that it names; the first that fits.
_KINDS = (
    ("lock", r"/lock\.json"),
    ("pointer", r"/latest\.json"),
    ("manifests and status", r"(manifest|status)\.json"),
    ("receipts", r"/receipts/"),
    ("metadata", r"zarr\.json|\.zarray|\.zattrs|\.zgroup|\.zmetadata"),
    ("evidence", r"/evidence/\w+/\d"),
    ("probabilities", r"pred_probs\.zarr/c/"),
    ("labels", r"labels\.zarr/c/"),
    ("files of the run", r"/runs/[^/]+/."),
)
_PLAIN = ("get", "put", "head", "delete", "list_with_delimiter", "get_range")
_ASYNC = ("get_async", "put_async", "head_async", "delete_async")


class Requests:
    """Counts requests of this process and their seconds, by what they are for."""

    def __init__(self) -> None:
        self.seen: dict[str, list[float]] = defaultdict(list)
        self._alone = threading.Lock()

    def add(self, path: Any, seconds: float) -> None:
        """Count a request."""
        kind = next((kind for kind, words in _KINDS if re.search(words, str(path))), "listings")
        with self._alone:
            self.seen[kind].append(seconds)

    @contextmanager
    def watching(self) -> Iterator[None]:
        """Count all requests of the context; a listing counts one for each thousand objects."""
        with ExitStack() as stack:
            for name in _PLAIN:
                wrapped = self._plain(getattr(obstore, name))
                stack.enter_context(patch.object(obstore, name, wrapped))
            for name in _ASYNC:
                awaited = self._awaited(getattr(obstore, name))
                stack.enter_context(patch.object(obstore, name, awaited))
            stack.enter_context(patch.object(obstore, "list", self._listing(obstore.list)))
            yield

    def _plain(self, call: Callable[..., Any]) -> Callable[..., Any]:
        def counted(store: Any, path: Any, *args: Any, **how: Any) -> Any:
            begun = time.perf_counter()
            try:
                return call(store, path, *args, **how)
            finally:
                self.add(path, time.perf_counter() - begun)

        return counted

    def _awaited(self, call: Callable[..., Any]) -> Callable[..., Any]:
        async def counted(store: Any, path: Any, *args: Any, **how: Any) -> Any:
            begun = time.perf_counter()
            try:
                return await call(store, path, *args, **how)
            finally:
                self.add(path, time.perf_counter() - begun)

        return counted

    def _listing(self, call: Callable[..., Any]) -> Callable[..., Any]:
        def counted(store: Any, prefix: Any = None, **how: Any) -> Any:
            begun = time.perf_counter()
            found = list(call(store, prefix, **how))
            self.add(prefix, time.perf_counter() - begun)
            return _Pages(found)

        return counted


class _Pages(list[Any]):
    """Pages of a listing that is over."""

    def collect(self) -> list[Any]:
        """Return all objects."""
        return [meta for page in self for meta in page]


def count_requests(job: Callable[[], Any]) -> dict[str, tuple[int, float]]:
    """Run a job in this process; how many requests it made of each kind, and their seconds."""
    requests = Requests()
    with dask.config.set(scheduler="sync"), requests.watching():
        job()
    return {kind: (len(seconds), sum(seconds)) for kind, seconds in requests.seen.items()}


def requests_table(counts: dict[str, tuple[int, float]]) -> Table:
    """The counts as a table, the fixed ones first."""
    shown = Table(box=box.SIMPLE_HEAD, padding=0, collapse_padding=True)
    shown.add_column("requests for")
    shown.add_column("number", justify="right")
    shown.add_column("seconds, summed", justify="right")
    for kind in ("listings", *(kind for kind, _ in _KINDS)):
        number, seconds = counts.get(kind, (0, 0.0))
        shown.add_row(kind, str(number), f"{seconds:.3f}")
    return shown
