"""Paths and URLs: what fsspec makes of them, how they are shown, and what their failures mean.

Credentials stay in here: what is shown, logged, hashed or written of a location is :attr:`Location.shown` alone.
"""

from __future__ import annotations

import errno
import posixpath
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any
from urllib.parse import urlsplit, urlunsplit

import fsspec
from fsspec.implementations.local import LocalFileSystem

from noisydask.errors import InputError

#: What an object store needs to be read rightly and fast; the user's own options win. A listing cache would hide what
#: others wrote, and several ranges of one object in flight can mix two versions of it.
_DEFAULTS: dict[str, dict[str, Any]] = {
    "s3": {
        "use_listings_cache": False,
        "max_concurrency": 1,
        "config_kwargs": {"retries": {"mode": "standard", "max_attempts": 3}},
    }
}


@dataclass(frozen=True)
class Location:
    """A place in a file system or object store.

    Attributes
    ----------
    url : str
        As given; may hold credentials, never shown.
    path : str
        The path as the file system wants it.
    options : mapping
        Storage options; may hold credentials, never shown.
    """

    url: str = field(repr=False)
    path: str
    options: Mapping[str, Any] = field(default_factory=dict, repr=False)

    @classmethod
    def of(cls, url: str, storage_options: Mapping[str, Any] | None, name: str) -> Location:
        """Parse a path or URL; ``name`` is what an error calls it."""
        protocol = urlsplit(url).scheme if "://" in url else "file"
        options = {**_DEFAULTS.get(protocol, {}), **(storage_options or {})}
        try:
            fs, path = fsspec.core.url_to_fs(url, **options)
        except ImportError as error:
            extra = {"s3": "s3", "gs": "gcs", "gcs": "gcs", "az": "azure", "abfs": "azure"}.get(protocol, protocol)
            raise InputError(f"{name}: {protocol}:// needs a package: pip install 'noisydask[{extra}]'") from error
        except (ValueError, TypeError) as error:
            raise InputError(f"{name}: cannot use {shown(url)}: {type(error).__name__}: {error}") from error
        return cls(url, path if isinstance(fs, LocalFileSystem) else path.rstrip("/"), options)

    @cached_property
    def fs(self) -> Any:
        """The file system; made anew in each process."""
        return fsspec.core.url_to_fs(self.url, **self.options)[0]

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in self.__dict__.items() if name != "fs"}

    @property
    def shown(self) -> str:
        """The URL without anything secret."""
        return shown(self.url)

    def __truediv__(self, name: str) -> Location:
        return Location(posixpath.join(self.url.rstrip("/"), name), posixpath.join(self.path, name), self.options)


def shown(url: str) -> str:
    """A URL without user, password or query.

    Examples
    --------
    >>> shown("s3://key:secret@bucket/a.zarr?token=1")
    's3://bucket/a.zarr'
    """
    if "://" not in url:
        return url
    parts = urlsplit(url)
    return urlunsplit((parts.scheme, parts.netloc.rpartition("@")[2], parts.path, "", ""))


def explain(error: BaseException, place: Location, name: str) -> str:
    """What an error of a store or format means, in one sentence for its user.

    The text of unknown errors is not passed on: a store's client may quote what it was configured with.
    """
    kind, text = type(error).__name__, str(error)
    where = f"{name} at {place.shown}"
    if isinstance(error, PermissionError) or "AccessDenied" in text or "Forbidden" in text or "SignatureDoes" in text:
        return f"{where}: access refused; check the credentials and the rights they have"
    if "NoCredentials" in kind or "InvalidAccessKeyId" in text or "Unable to locate credentials" in text:
        return f"{where}: no valid credentials; set them where fsspec looks (environment, profile) or as storage options"
    if "EndpointConnection" in kind or "ConnectTimeout" in kind or isinstance(error, ConnectionError | TimeoutError):
        return f"{where}: the store cannot be reached; check the endpoint and the network"
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
        return f"{where}: no space left; free some or give another place"
    if "NoSuchBucket" in text or "bucket does not exist" in text.lower():
        return f"{where}: the bucket does not exist"
    if isinstance(error, FileNotFoundError | NotADirectoryError) or "NotFound" in kind:
        return f"{where}: {_what_is_missing(place)}"
    return f"{where}: cannot be read ({kind}); is it a Zarr array, a .npy file, or file.parquet#column?"


def _what_is_missing(place: Location) -> str:
    """Which part of a place is not there."""
    bucket = place.path.split("/", 1)[0]
    if isinstance(place.fs, LocalFileSystem) or "://" not in place.url:
        return "there is no array; check the path" if not place.fs.exists(place.path) else "that is not an array"
    try:
        if place.fs.find(place.path, maxdepth=1):
            return "that is not an array; name the array inside it"
        place.fs.ls(bucket)
    except FileNotFoundError:
        return f"the bucket {bucket!r} does not exist"
    except PermissionError:
        return "access refused; check the credentials and the rights they have"
    except Exception as error:
        return f"nothing can be read there ({type(error).__name__})"
    return "there is no array; check the path"
