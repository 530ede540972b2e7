"""Places as Zarr's stores, and the end of Zarr's thread."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import Any

import zarr
from zarr.abc.store import Store
from zarr.storage import FsspecStore, LocalStore, ObjectStore

from noisydask.stores.locations import Location
from noisydask.stores.object_errors import told

_PATIENCE_SECONDS = 10.0


class BucketStore(ObjectStore[Any]):
    """A place in a bucket of a cloud as Zarr's store; in each process that it travels to it uses
    the connections that are there.
    """

    def __init__(self, place: Location, read_only: bool = False) -> None:
        super().__init__(place.fs.folder(place.path), read_only=read_only)
        self.place = place

    @property
    def path(self) -> str:
        """The bucket and the key, as fsspec's stores tell it."""
        return self.place.path

    @property
    def fs(self) -> Any:
        """The file system of the place."""
        return self.place.fs

    def with_read_only(self, read_only: bool = False) -> BucketStore:
        """Return the store with another right to write."""
        return BucketStore(self.place, read_only)

    def __reduce__(self) -> Any:
        return BucketStore, (self.place, self.read_only)

    async def get(self, *args: Any, **kwargs: Any) -> Any:
        """Fetch a value, with errors as they are of files."""
        with told():
            return await super().get(*args, **kwargs)

    async def set(self, *args: Any, **kwargs: Any) -> None:
        """Write a value, with errors as they are of files."""
        with told():
            await super().set(*args, **kwargs)


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
