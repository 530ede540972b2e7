"""Places as Zarr's stores, and the end of Zarr's thread."""

from __future__ import annotations

import asyncio
from contextlib import suppress

import zarr
from zarr.abc.store import Store
from zarr.storage import FsspecStore, LocalStore

from noisydask.stores.locations import Location, patient

_PATIENCE_SECONDS = 10.0


def zarr_store(place: Location, read_only: bool = False) -> Store:
    """Return the Zarr store of a place."""
    if place.is_local:
        return LocalStore(place.path, read_only=read_only)
    fs = place.fs
    if fs.async_impl:
        own = patient(type(fs)(*fs.storage_args, **{**fs.storage_options, "asynchronous": True}))
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
