"""Objects of a cloud's buckets as a file system of fsspec, read and written by obstore.

Nothing is cached: what others wrote is seen at once. All calls are plain ones, of any thread; there
is no event loop that threads would wait for.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from contextlib import suppress
from datetime import datetime
from typing import TYPE_CHECKING, Any, NamedTuple

from fsspec.spec import AbstractBufferedFile, AbstractFileSystem

from noisydask.lazily import Lazy
from noisydask.stores.buckets import CLOUDS, open_bucket
from noisydask.stores.object_errors import translated_errors

if TYPE_CHECKING:
    import obstore
else:
    obstore = Lazy("obstore")

Info = dict[str, Any]


class Version(NamedTuple):
    """Which version of an object it is: the store's ETag, and its generation where it has such."""

    e_tag: str | None
    version: str | None


class ObjectFiles(AbstractFileSystem):
    """Buckets of one cloud; a path is a bucket, then the key.

    Parameters
    ----------
    cloud : {"s3", "gs", "az"}
        The cloud.
    **options
        As fsspec's own client of the cloud takes them.
    """

    protocol = tuple(CLOUDS)
    cachable = False

    def __init__(self, cloud: str, **options: Any) -> None:
        super().__init__()
        self.cloud = cloud
        self.options = options
        #: Packages that a worker needs for it.
        self.packages = frozenset({"obstore"})

    def bucket(self, path: str) -> tuple[Any, str]:
        """Return obstore's store of the bucket that a path begins with, and the key."""
        bucket, _, key = path.strip("/").partition("/")
        return open_bucket(self.cloud, bucket, self.options), key

    def info(self, path: str, **_: Any) -> Info:
        """Return what is known of an object, or of a folder that holds any."""
        store, key = self.bucket(path)
        if key:
            with suppress(FileNotFoundError), translated_errors():
                return self._info(path, obstore.head(store, key))
        if next(iter(self._listed(path)), None) is None and key:
            raise FileNotFoundError(path)
        return {"name": path, "size": 0, "type": "directory"}

    def exists(self, path: str, **_: Any) -> bool:
        """Return whether there is such an object, folder or bucket."""
        try:
            self.info(path)
        except FileNotFoundError:
            return False
        return True

    def ls(self, path: str, detail: bool = True, **_: Any) -> list[Any]:
        """List what lies directly in a folder."""
        store, key = self.bucket(path)
        with translated_errors():
            found = obstore.list_with_delimiter(store, f"{key}/" if key else None)
        bucket = path.strip("/").partition("/")[0]
        infos = [
            {"name": f"{bucket}/{prefix.strip('/')}", "size": 0, "type": "directory"}
            for prefix in found["common_prefixes"]
        ]
        infos += self._objects(path, found["objects"])
        if not infos:
            infos = [self.info(path)]
            if infos[0]["type"] == "directory":
                infos = []
        return infos if detail else [info["name"] for info in infos]

    def find(self, path: str, *_: Any, detail: bool = False, **__: Any) -> Any:
        """List all objects below a folder; an object itself."""
        pages = self._listed(path)
        infos = {info["name"]: info for page in pages for info in self._objects(path, page)}
        infos = _without_markers(infos)
        if not infos:
            with suppress(FileNotFoundError):
                info = self.info(path)
                if info["type"] == "file":
                    infos = {info["name"]: info}
        return infos if detail else list(infos)

    def modified(self, path: str) -> datetime:
        """Return when an object was written, by the clock of the store."""
        when: datetime = self.info(path)["LastModified"]
        return when

    def cat_file(
        self, path: str, start: int | None = None, end: int | None = None, **_: Any
    ) -> Any:
        """Read an object, or a range of its bytes; what is returned is a buffer."""
        if end is not None and end <= (start or 0):
            return b""
        store, key = self.bucket(path)
        with translated_errors():
            if start is None and end is None:
                return obstore.get(store, key).bytes()
            if end is None:
                options: Any = {"range": {"offset": start}}
                return obstore.get(store, key, options=options).bytes()
            return obstore.get_range(store, key, start=start or 0, end=end)

    def read_version(self, path: str) -> tuple[bytes, Version, datetime]:
        """Read an object with its version, and when it was written."""
        store, key = self.bucket(path)
        with translated_errors():
            answer = obstore.get(store, key)
            meta = answer.meta
            content = bytes(answer.bytes())
        return content, Version(meta["e_tag"], meta["version"]), meta["last_modified"]

    def pipe_file(self, path: str, value: Any, mode: str = "overwrite", **_: Any) -> Version:
        """Write an object; with the mode ``create``, only where there is none."""
        return self._put(path, value, mode)

    def replace(self, path: str, content: Any, seen: Version) -> Version:
        """Write an object in place of a version of it.

        Raises
        ------
        FileExistsError
            If another version is there, or none.
        """
        known = {name: value for name, value in seen._asdict().items() if value is not None}
        return self._put(path, content, known)

    def _put(self, path: str, value: Any, mode: Any) -> Version:
        store, key = self.bucket(path)
        with translated_errors():
            # In one request: of an object in parts the conditions are not kept everywhere.
            answer = obstore.put(
                store, key, memoryview(value).cast("B"), mode=mode, use_multipart=False
            )
        return Version(answer["e_tag"], answer["version"])

    def rm_file(self, path: str) -> None:
        """Remove an object; of some stores FileNotFoundError where there is none."""
        store, key = self.bucket(path)
        with translated_errors():
            obstore.delete(store, key)

    def rm(self, path: Any, recursive: bool = False, maxdepth: int | None = None) -> None:
        """Remove objects, of one bucket; with ``recursive`` all below a folder."""
        paths = [path] if isinstance(path, str) else list(path)
        if recursive:
            paths = [name for one in paths for name in self.find(one)]
        if not paths:
            return
        store, _ = self.bucket(paths[0])
        keys = [self.bucket(one)[1] for one in paths]
        try:
            with translated_errors():
                obstore.delete(store, keys)
        except FileNotFoundError:  # one is gone: some stores leave the others then
            for one in paths:
                with suppress(FileNotFoundError):
                    self.rm_file(one)

    def _open(self, path: str, mode: str = "rb", **how: Any) -> _ObjectFile:
        how.pop("autocommit", None)
        block_size = how.pop("block_size", None) or "default"
        how.pop("cache_options", None)
        return _ObjectFile(self, path, mode, block_size=block_size, **how)

    def _listed(self, path: str) -> Iterable[Any]:
        """Iterate over pages of the objects below a folder."""
        store, key = self.bucket(path)
        pages = iter(obstore.list(store, f"{key}/" if key else None, chunk_size=1000))
        while True:
            with translated_errors():
                page = next(pages, None)
            if page is None:
                return
            yield page

    def _objects(self, folder: str, found: Iterable[Mapping[str, Any]]) -> list[Info]:
        """Describe objects as fsspec does; what marks a folder in a bucket is not one of them."""
        bucket, _, key = folder.strip("/").partition("/")
        return [
            self._info(f"{bucket}/{meta['path']}", meta) for meta in found if meta["path"] != key
        ]

    def _info(self, path: str, meta: Mapping[str, Any]) -> Info:
        return {
            "name": path.strip("/"),
            "size": meta["size"],
            "type": "file",
            "ETag": meta["e_tag"],
            "LastModified": meta["last_modified"],
        }


def _without_markers(infos: dict[str, Info]) -> dict[str, Info]:
    """Leave out objects without bytes that only mark a folder, as consoles of clouds make them:
    obstore lists them without the slash at their end.
    """
    empty = {name for name, info in infos.items() if not info["size"]}
    folders = {name.rpartition("/")[0] for name in infos} if empty else set()
    return {name: info for name, info in infos.items() if name not in empty & folders}


class _ObjectFile(AbstractBufferedFile):
    """An object, open for reading."""

    def _fetch_range(self, start: int, end: int) -> bytes:
        return bytes(self.fs.cat_file(self.path, start, end))
