"""Places as Zarr's stores, and the end of Zarr's thread."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import suppress
from typing import TYPE_CHECKING, Any, cast

import zarr
from zarr.abc.store import Store
from zarr.storage import FsspecStore, LocalStore, ObjectStore

from noisydask.stores.locations import Location
from noisydask.stores.object_errors import translated_errors

_PATIENCE_SECONDS = 10.0

if TYPE_CHECKING:
    _ObjectStore = ObjectStore[Any]
else:  # which older versions of Zarr do not have with a type
    _ObjectStore = ObjectStore


class BucketStore(_ObjectStore):
    """A place in a bucket of a cloud as Zarr's store. It uses the connections of its process, and
    those of another one where it travels to.
    """

    def __init__(self, place: Location, read_only: bool = False) -> None:
        store, prefix = place.fs.bucket(place.path)
        super().__init__(store, read_only=read_only)
        self.place = place
        self.prefix = f"{prefix}/" if prefix else ""

    @property
    def path(self) -> str:
        """The bucket and the key, as fsspec's stores tell it."""
        return self.place.path

    def with_read_only(self, read_only: bool = False) -> BucketStore:
        """Return the store with another right to write."""
        return BucketStore(self.place, read_only)

    def __eq__(self, other: object) -> bool:
        same = isinstance(other, BucketStore) and self.read_only == other.read_only
        return same and self.place == cast(BucketStore, other).place

    def __reduce__(self) -> Any:
        return BucketStore, (self.place, self.read_only)

    async def get(self, key: str, *args: Any, **kwargs: Any) -> Any:
        """Fetch a value."""
        with translated_errors():
            return await super().get(self.prefix + key, *args, **kwargs)

    async def get_partial_values(self, prototype: Any, key_ranges: Any) -> list[Any]:
        """Fetch ranges of values."""
        ranges = [(self.prefix + key, part) for key, part in key_ranges]
        with translated_errors():
            return await super().get_partial_values(prototype, ranges)

    async def set(self, key: str, value: Any) -> None:
        """Write a value."""
        with translated_errors():
            await super().set(self.prefix + key, value)

    async def set_if_not_exists(self, key: str, value: Any) -> None:
        """Write a value where there is none."""
        with translated_errors():
            await super().set_if_not_exists(self.prefix + key, value)

    async def exists(self, key: str) -> bool:
        """Return whether there is a value."""
        with translated_errors():
            return await super().exists(self.prefix + key)

    async def getsize(self, key: str) -> int:
        """Return the bytes of a value."""
        with translated_errors():
            return await super().getsize(self.prefix + key)

    async def delete(self, key: str) -> None:
        """Remove a value."""
        with translated_errors():
            await super().delete(self.prefix + key)

    async def delete_dir(self, prefix: str) -> None:
        """Remove all values below a prefix, in as few requests as the cloud needs."""
        whole = f"{self.place.path}/{prefix}".rstrip("/")
        await asyncio.to_thread(self.place.fs.rm, whole, recursive=True)

    async def _list(self, prefix: str | None = None) -> AsyncGenerator[Any, None]:
        length = len(self.prefix)
        with translated_errors():
            async for meta in super()._list(f"{self.prefix}{prefix or ''}" or None):
                yield {**meta, "path": meta["path"][length:]}

    async def _list_dir(self, prefix: str) -> AsyncGenerator[str, None]:
        with translated_errors():
            async for name in super().list_dir(f"{self.prefix}{prefix}".rstrip("/")):
                yield name

    def list_dir(self, prefix: str) -> AsyncGenerator[str, None]:
        """List names directly below a prefix."""
        return self._list_dir(prefix)


def zarr_store(place: Location, read_only: bool = False) -> Store:
    """Return the Zarr store of a place."""
    if place.is_local:
        return LocalStore(place.path, read_only=read_only)
    if place.is_in_cloud:
        return BucketStore(place, read_only)
    fs = place.fs
    if fs.async_impl:
        own = type(fs)(*fs.storage_args, **{**fs.storage_options, "asynchronous": True})
        return FsspecStore(own, read_only=read_only, path=place.path)
    return FsspecStore.from_url(place.url, storage_options=dict(place.options), read_only=read_only)


def end_zarr() -> None:
    """End Zarr's own thread before the process ends.

    At exit Zarr gives it a fifth of a second, which on a busy machine is too little, and lets
    requests hang of which one has failed: tracebacks would follow.
    """
    loop, thread = (getattr(zarr.core.sync, name, [None])[0] for name in ("loop", "iothread"))
    if loop is not None and thread is not None:
        with suppress(TimeoutError):
            asyncio.run_coroutine_threadsafe(_end_tasks(), loop).result(_PATIENCE_SECONDS)
        loop.call_soon_threadsafe(loop.stop)
        thread.join(_PATIENCE_SECONDS)


async def _end_tasks() -> None:
    tasks = asyncio.all_tasks() - {asyncio.current_task()}
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
