"""What lies in a store, by one listing: the objects below a path, each with the version that its
store gives it.

A version is the store's own identity of an object: its ETag, else its size and the time of its last
change. Objects of stores that tell neither have the version None.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from noisydask.lazily import Lazy
from noisydask.stores.locations import Location
from noisydask.stores.object_errors import translated_errors

if TYPE_CHECKING:
    import obstore
    from zarr import storage
    from zarr.abc.store import Store
    from zarr.core import sync
else:
    obstore = Lazy("obstore")
    storage = Lazy("zarr.storage")
    sync = Lazy("zarr.core.sync")

Listing = Mapping[str, str | None]

#: The version of an object of no bytes: what a failed upload leaves, never a chunk. Some stores
#: read one as not there.
EMPTY = "empty"
_TIMES = ("mtime", "LastModified", "last_modified", "updated", "created")


def version(info: Mapping[str, Any]) -> str | None:
    """Return the version of an object, from what fsspec tells of it.

    Examples
    --------
    >>> version({"name": "a", "size": 3, "ETag": '"9b"'})
    '9b'
    >>> version({"name": "a", "size": 3, "mtime": 17.5})
    '3 17.5'
    """
    if info.get("size", info.get("Size")) == 0:
        return EMPTY
    tag = info.get("ETag") or info.get("etag")
    if tag:
        return str(tag).strip('"')
    time = next((info[name] for name in _TIMES if info.get(name) is not None), None)
    if time is None:
        return None
    return f"{info.get('size', info.get('Size'))} {time}"


def file_version(status: os.stat_result) -> str:
    """Return the version of a local file."""
    if status.st_size:
        return f"{status.st_size} {status.st_mtime_ns}"
    return EMPTY


def list_files(place: Location) -> Mapping[str, Mapping[str, Any]]:
    """Return files of a dataset in the natural order of their names, ``part.2`` before ``part.10``,
    with what fsspec tells of each: a file, or those anywhere in a folder.

    As in Spark and Arrow, what is called ``_temporary`` or ``.part``, or lies in a folder called
    so, is not part of it.
    """
    infos = place.fs.find(place.path, detail=True) or {place.path: place.fs.info(place.path)}
    names = sorted(sorted(infos), key=_natural)
    inside = {name: name[len(place.path) :].strip("/").split("/") for name in names}
    return {
        name: infos[name]
        for name, parts in inside.items()
        if not any(part.startswith((".", "_")) for part in parts)
    }


def _natural(name: str) -> list[tuple[int, str]]:
    """Return a name by which numbers are compared as such.

    Examples
    --------
    >>> sorted(["part.10", "part.2", "a"], key=_natural)
    ['a', 'part.2', 'part.10']
    """
    return [(int(part), "") if part.isdecimal() else (0, part) for part in re.split(r"(\d+)", name)]


def names_in(place: Location) -> list[str]:
    """Return names of what lies directly in a folder."""
    place.fs.invalidate_cache()
    try:
        paths = [path.rstrip("/") for path in place.fs.ls(place.path, detail=False)]
    except FileNotFoundError:
        return []
    # Some stores list a folder in itself, and all do so with a file.
    return [path.rpartition("/")[2] for path in paths if path != place.path.rstrip("/")]


def list_array(store: Store, path: str) -> Listing | None:
    """Return objects of a Zarr array by their key, in one listing; None where the store cannot be
    listed.
    """
    while isinstance(store, storage.WrapperStore):
        store = store._store
    listing: Listing
    try:
        if isinstance(store, storage.LocalStore):
            listing = _local(str(store.root / path))
        elif isinstance(store, storage.FsspecStore):
            listing = sync.sync(_fsspec(store, path))
        elif isinstance(store, storage.ObjectStore):
            listing = _objects(store, path)
        else:
            listing = sync.sync(_keys(store, path))
    except (PermissionError, NotImplementedError):
        return None
    # A store that does not even list what was opened (plain HTTP) tells nothing by what else it
    # leaves out.
    if "zarr.json" in listing or ".zarray" in listing:
        return listing
    return None


def _local(root: str) -> Listing:
    versions = {}
    waiting = [""]
    while waiting:
        folder = waiting.pop()
        with os.scandir(os.path.join(root, folder)) as entries:
            for entry in entries:
                if entry.is_dir():
                    waiting.append(f"{folder}{entry.name}/")
                else:
                    versions[folder + entry.name] = file_version(entry.stat())
    return versions


async def _fsspec(store: storage.FsspecStore, path: str) -> Listing:
    root = "/".join(part for part in (store.path.rstrip("/"), path) if part)
    store.fs.invalidate_cache()
    found = await store.fs._find(root, detail=True)
    prefix = root.strip("/") + "/"
    return {name.strip("/").removeprefix(prefix): version(info) for name, info in found.items()}


def _objects(store: storage.ObjectStore[Any], path: str) -> Listing:
    """List by obstore, of which the store may be one of its user's own."""
    prefix = getattr(store, "prefix", "") + (f"{path}/" if path else "")
    with translated_errors():
        found = obstore.list(store.store, prefix or None).collect()
    return {
        meta["path"].removeprefix(prefix): version({"size": meta["size"], "ETag": meta["e_tag"]})
        for meta in found
    }


async def _keys(store: Store, path: str) -> Listing:
    prefix = f"{path}/" if path else ""
    return {key.removeprefix(prefix): None async for key in store.list_prefix(prefix)}
