"""A folder on a disk or a prefix in a bucket, looked at object by object."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import fsspec
import zarr

from noisydask.stores.locations import Location
from noisydask.stores.zarr_stores import zarr_store


@dataclass(frozen=True)
class Place:
    """A folder on local disk or a prefix in a bucket, and the storage options that open it."""

    url: str
    options: dict[str, Any] = field(default_factory=dict)

    def __truediv__(self, name: str) -> Place:
        return Place(f"{self.url}/{name}", self.options)

    @property
    def fs(self) -> Any:
        """The file system."""
        return fsspec.core.url_to_fs(self.url, use_listings_cache=False, **self.options)[0]

    def path(self, name: str = "") -> str:
        """A path as the file system wants it."""
        return str(self.fs._strip_protocol(f"{self.url}/{name}".rstrip("/")))

    def objects(self) -> dict[str, bytes]:
        """Every object below this place by its relative path."""
        fs = self.fs
        root = fs._strip_protocol(self.url).rstrip("/") + "/"
        paths = [
            path for path in fs.find(root) if path.startswith(root)
        ]  # of an empty folder some stores list itself
        return {
            path.removeprefix(root): content
            for path, content in (fs.cat(paths) if paths else {}).items()
        }

    def write(self, name: str, content: bytes) -> None:
        """Put an object."""
        fs = self.fs
        path = fs._strip_protocol(f"{self.url}/{name}")
        fs.makedirs(fs._parent(path), exist_ok=True)
        fs.pipe_file(path, content)

    def read(self, name: str) -> bytes:
        """Fetch an object."""
        return bytes(self.fs.cat_file(self.path(name)))

    def remove(self, name: str = "") -> None:
        """Remove an object, or all that lies below, if there is any."""
        fs, path = self.fs, self.path(name)
        if fs.find(path):
            fs.rm(path, recursive=True)

    def write_array(self, values: Any, chunk_rows: int) -> None:
        """Store an array as Zarr."""
        chunks = (min(chunk_rows, values.shape[0]), *values.shape[1:])
        store = zarr_store(Location.of(self.url, self.options, "data"))
        zarr.create_array(
            store, data=values, chunks=chunks, overwrite=True, config={"write_empty_chunks": True}
        )
