"""Places in file systems and object stores, with all that is done there by name.

Credentials stay in here: what is shown, logged, hashed or written of a location is
:attr:`Location.shown` alone.
"""

from __future__ import annotations

import os
import posixpath
import shutil
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cached_property
from socket import gethostname
from typing import Any

import fsspec
from fsspec.implementations.local import LocalFileSystem

from noisydask.errors import InputError, JobError
from noisydask.stores.buckets import CLOUDS, open_bucket, split_url
from noisydask.stores.object_files import ObjectFiles
from noisydask.stores.urls import BUCKET_PACKAGES, shown, take_credentials


@dataclass(frozen=True, repr=False)
class Location:
    """A place in a file system or object store.

    Attributes
    ----------
    url : str
        May hold credentials, never shown.
    path : str
        The path as the file system wants it; of some it is the URL.
    options : mapping
        Storage options; may hold credentials, never shown.
    """

    url: str
    path: str
    options: Mapping[str, Any] = field(default_factory=dict)

    @classmethod
    def of(cls, url: str, storage_options: Mapping[str, Any] | None, name: str) -> Location:
        """Parse a path or URL; ``name`` is what an error calls it.

        The URL of a local place is its absolute path, which means the same in any other process.
        """
        if not url.strip():
            raise InputError(f"{name} is empty: give a path or URL")
        # Through a cache new versions of objects would be listed and old ones read.
        if "::" in url:
            raise InputError(
                f"{name} at {shown(url)}: URLs that are chained with '::' are not supported; give "
                "the place itself, without a cache, or unpack the archive"
            )
        where = shown(url)
        options = dict(storage_options or {})
        protocol = url.partition("://")[0]
        if protocol in ("s3", "s3a"):
            url, credentials = take_credentials(url)
            options = {**credentials, **options}
        try:
            if protocol in CLOUDS:
                cloud, path, more = split_url(url)
                open_bucket(cloud, path.partition("/")[0], {**more, **options})
                return cls(url.rstrip("/"), path, options)
            fs, path = fsspec.core.url_to_fs(url, **options)
        except InputError as error:
            raise InputError(f"{name} at {where}: {error}") from error
        except ImportError as error:
            package = BUCKET_PACKAGES.get(protocol)
            what = f": pip install '{package}'" if package else f" ({error})"
            raise InputError(
                f"{name}: {protocol}:// needs a package that is not installed{what}"
            ) from error
        except Exception as error:  # its text may quote the options
            if options:
                with_options = f", with the options {', '.join(options)}"
            else:
                with_options = ""
            raise InputError(
                f"{name}: fsspec cannot use {where}{with_options} ({type(error).__name__})"
            ) from error
        if isinstance(fs, LocalFileSystem):
            return cls(path, path, options)
        return cls(url, path.rstrip("/"), options)

    def __repr__(self) -> str:
        return f"Location({self.shown})"

    @cached_property
    def fs(self) -> Any:
        """The file system; made anew in each process."""
        try:
            if self.is_in_cloud:
                cloud, _, more = split_url(self.url)
                fs = ObjectFiles(cloud, **{**more, **self.options})
                fs.bucket(self.path)  # opened here: what is missing is said now
                return fs
            return fsspec.core.url_to_fs(self.url, **self.options)[0]
        except ImportError as error:
            raise lacking(error, self.shown) from error

    @cached_property
    def is_local(self) -> bool:
        """Whether this is a path on this machine: folders are made there, and are not objects."""
        return isinstance(self.fs, LocalFileSystem)

    @property
    def is_in_cloud(self) -> bool:
        """Whether this is in a bucket of a cloud, where obstore is the client."""
        return self.url.partition("://")[0] in CLOUDS

    def read(self, start: int | None = None, stop: int | None = None) -> bytes:
        """Read an object, or a range of its bytes.

        Raises
        ------
        FileNotFoundError
            If there is none.
        """
        return bytes(self.fs.cat_file(self.path, start=start, end=stop))

    def open(self, **how: Any) -> Any:
        """Open an object for reading as a binary file; ``how`` goes to fsspec."""
        return self.fs.open(self.path, "rb", **how)

    def write(self, content: bytes | memoryview) -> None:
        """Write an object, in place of any that was there."""
        if self.is_local:  # fsspec would copy it, and make folders that were removed
            with open(self.path, "wb") as file:
                file.write(content)
        else:
            self.fs.pipe_file(self.path, content if self.is_in_cloud else bytes(content))

    def remove(self) -> None:
        """Remove an object, if it is there."""
        with suppress(FileNotFoundError):
            self.fs.rm_file(self.path)

    def remove_all(self) -> None:
        """Remove whatever lies in this folder, and the folder; a file of this name stays."""
        if self.is_local:
            if os.path.isdir(self.path):
                shutil.rmtree(self.path)
        elif names := self.list():
            self.fs.rm([(self / name).path for name in names])

    def list(self) -> dict[str, Mapping[str, Any]]:
        """List the objects anywhere below this folder, by their paths in it, with what fsspec
        tells of each; nothing is taken from a cache. Empty where there is no folder.
        """
        self.fs.invalidate_cache()
        prefix = self.path.rstrip("/") + "/"
        try:
            infos = self.fs.find(self.path, detail=True)
        except FileNotFoundError:
            return {}
        # Of an empty folder some stores list the folder itself.
        return {
            path.removeprefix(prefix): info
            for path, info in infos.items()
            if path.startswith(prefix) and not path.endswith("/")
        }

    def make_folder(self) -> None:
        """Make this folder, where the file system has folders."""
        if self.is_local:  # s3fs would make a bucket that is gone
            os.makedirs(self.path, exist_ok=True)

    @property
    def packages(self) -> frozenset[str]:
        """Packages that the file system is of."""
        return packages_of(self.fs)

    def __getstate__(self) -> dict[str, Any]:
        return {
            name: value for name, value in self.__dict__.items() if name not in ("fs", "is_local")
        }

    @property
    def shown(self) -> str:
        """The URL without anything secret."""
        return shown(self.url)

    def __truediv__(self, name: str) -> Location:
        # Names come from pointers and manifests too: none may lead out, nor chain to another file
        # system.
        if "::" in name or not {"", ".", ".."}.isdisjoint(name.split("/")):
            raise InputError(f"{name!r} names nothing inside {self.shown}")
        inside = Location(
            posixpath.join(self.url.rstrip("/"), name),
            posixpath.join(self.path, name),
            self.options,
        )
        if "fs" in self.__dict__:  # of which there is one for all that lies below
            inside.__dict__["fs"] = self.fs
        return inside


def options_by_name(storage_options: Any, *names: str) -> Mapping[str, Mapping[str, Any]]:
    """Return the storage options of each place, by the places' names.

    Raises
    ------
    InputError
        If they are anything else, or there is no place of that name.

    Examples
    --------
    >>> options_by_name({"lables": {"anon": True}}, "labels", "out")
    Traceback (most recent call last):
    noisydask.errors.InputError: storage_options has 'lables': it maps labels, out to the ...
    """
    storage_options = {} if storage_options is None else storage_options
    maps = f"it maps {', '.join(names)} to the fsspec options of each"
    if not isinstance(storage_options, Mapping):
        raise InputError(f"storage_options must be a mapping: {maps}")
    for name, options in storage_options.items():
        known = str(name).partition("[")[0] in names  # of several places, name[0] and so on
        if not known or not isinstance(options, Mapping):
            raise InputError(f"storage_options has {name!r}: {maps}")
    return storage_options


def packages_of(holder: Any) -> frozenset[str]:
    """Return packages of a file system or Zarr store, and of those that it wraps.

    Examples
    --------
    >>> sorted(packages_of(fsspec.filesystem("simplecache", target_protocol="local")))
    ['fsspec']
    """
    names = set[str]()
    while holder is not None:
        if isinstance(holder, ObjectFiles):
            return frozenset(names) | holder.packages
        module = type(holder).__module__
        names.add("aiohttp" if module.endswith("implementations.http") else module.split(".")[0])
        wrapped = (getattr(holder, name, None) for name in ("fs", "sync_fs", "store", "_store"))
        holder = next((inner for inner in wrapped if inner is not None), None)
    return frozenset(names)


def lacking(error: ImportError, where: str) -> JobError:
    """Return the error of a machine that cannot read or write a place for want of a package."""
    cause = error.__cause__ or error.__context__
    name = error.name or getattr(cause, "name", None)
    what = f"the package {name}" if name else "a package"
    return JobError(
        f"{where} needs {what}, which {gethostname()} lacks; install on all workers what is "
        "installed where the job was started"
    )
