"""How kernels are compiled: to run without Python's lock, and kept on disk for the next process, in
the first folder that can be written: ``NUMBA_CACHE_DIR``, the package's own, the user's. A
``NUMBA_CACHE_DIR`` that cannot be written is read, as it may have been filled beforehand.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable
from contextlib import suppress
from functools import cache
from typing import Any

import numba as nb
from numba.core import caching

logger = logging.getLogger("noisydask")


class _InHome(caching.UserWideCacheLocator):
    """The user's folder; Numba would make one called ``~`` where the user's home is not known."""

    @classmethod
    def from_function(cls, py_func: Any, py_file: str) -> Any:
        """Return a locator if it can write its folder."""
        known = os.path.expanduser("~") != "~" or "XDG_CACHE_HOME" in os.environ
        if known:
            return super().from_function(py_func, py_file)
        return None


class _Prepared(caching.UserProvidedCacheLocator):
    """A folder that can only be read."""

    def ensure_cache_path(self) -> None:
        """Refuse a folder of which nothing is there."""
        if not os.path.isdir(self.get_cache_path()):
            raise OSError(f"{self.get_cache_path()} is not there")


class _Files(caching.CompileResultCacheImpl):
    _locator_classes = [
        caching.UserProvidedCacheLocator,
        _Prepared,
        caching.InTreeCacheLocator,
        _InHome,
    ]


class _Cache(caching.FunctionCache):
    """Numba's cache; where a disk fails it, the kernel is compiled again."""

    _impl_class = _Files

    def load_overload(self, sig: Any, target_context: Any) -> Any:
        """Return what is kept for these types, if anything."""
        with suppress(Exception):
            found = super().load_overload(sig, target_context)
            if found is not None:
                return found
        _say_once()
        return None

    def save_overload(self, sig: Any, data: Any) -> None:
        """Keep what was compiled for these types."""
        with suppress(Exception):
            super().save_overload(sig, data)


@cache
def _say_once() -> None:
    """Say why a first job takes longer, once in a process."""
    logger.info("compiling kernels, which takes some seconds once on each machine")


#: Kernels of which nothing is kept, as there is no folder for it.
not_kept: list[str] = []


def kernel(**options: Any) -> Callable[[Any], Any]:
    """Compile a function by Numba when it is first called; ``options`` are those of ``njit``."""

    def compiled(function: Any) -> Any:
        dispatcher = nb.njit(nogil=True, **options)(function)
        try:
            dispatcher._cache = _Cache(function)
        except RuntimeError:  # no folder
            not_kept.append(function.__name__)
        return dispatcher

    return compiled
