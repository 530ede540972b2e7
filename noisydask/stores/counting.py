"""Bytes fetched from a Zarr store, counted where they pass."""

from __future__ import annotations

from typing import Any, cast

from zarr.abc.store import Store
from zarr.storage import WrapperStore


class ByteCount:
    """Bytes fetched, counted by several threads at once. A copy in another process starts from
    nothing.
    """

    def __init__(self) -> None:
        self._sizes: list[int] = []  # appended and popped, each of which is one step

    def __reduce__(self) -> tuple[type[ByteCount], tuple[()]]:
        return ByteCount, ()

    def add(self, size: int) -> None:
        """Count some bytes."""
        self._sizes.append(size)

    def take(self) -> int:
        """Return bytes counted since the last call."""
        total = 0
        while self._sizes:
            total += self._sizes.pop()
        return total


class CountingStore(WrapperStore[Store]):
    """A Zarr store that counts the bytes fetched through it."""

    def __init__(self, store: Store, fetched: ByteCount) -> None:
        super().__init__(store)
        self.fetched = fetched

    def _with_store(self, store: Store) -> CountingStore:
        return CountingStore(store, self.fetched)

    async def get(self, *args: Any, **kwargs: Any) -> Any:
        """Fetch a value and count it."""
        return self._counted(await self._store.get(*args, **kwargs))

    def get_sync(self, *args: Any, **kwargs: Any) -> Any:
        """Fetch a value and count it (zarr 3.4 and later)."""
        return self._counted(cast(Any, self._store).get_sync(*args, **kwargs))

    async def get_partial_values(self, *args: Any, **kwargs: Any) -> Any:
        """Fetch values and count them."""
        return [
            self._counted(value) for value in await self._store.get_partial_values(*args, **kwargs)
        ]

    def get_ranges(self, *args: Any, **kwargs: Any) -> Any:
        """Fetch ranges of a value by :meth:`get` (zarr 3.4 and later), as a store does that is not
        wrapped.
        """
        return cast(Any, Store).get_ranges(self, *args, **kwargs)

    def _counted(self, value: Any) -> Any:
        if value is not None:
            self.fetched.add(len(value))
        return value
