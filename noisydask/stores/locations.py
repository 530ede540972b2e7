"""Paths and URLs: what fsspec makes of them, how they are shown, and what their failures mean.

Credentials stay in here: what is shown, logged, hashed or written of a location is
:attr:`Location.shown` alone.
"""

from __future__ import annotations

import errno
import os
import posixpath
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import PurePath
from socket import gethostname
from typing import Any
from urllib.parse import unquote

import fsspec
from fsspec.implementations.local import LocalFileSystem

from noisydask.errors import InputError, JobError, NoisydaskError
from noisydask.stores.hints import cannot_be_read, not_an_array

#: What an object store needs to be read rightly and fast; the user's own options win. A listing
#: cache would hide what others wrote, and several ranges of one object in flight can mix two
#: versions of it.
_S3_DEFAULTS: Mapping[str, Any] = {
    "use_listings_cache": False,
    "max_concurrency": 1,
    "config_kwargs": {
        "retries": {"mode": "standard", "max_attempts": 3},
        "connect_timeout": 5,
        "read_timeout": 10,
    },
}
#: Times that s3fs sends a request, each with the attempts above, and times that it asks for a body,
#: each with those tries: a body cut short has 2 chances (on a cluster the task has more), and a
#: store that is silent ends a read after 12 timeouts.
_S3_TRIES = 2
#: Codes of errors that tell of a full disk.
_NO_SPACE = (errno.ENOSPC, errno.EDQUOT)
#: What jobs write and replace below their output.
WRITTEN = ("latest.json", "lock.json", "evidence", "evidence-dynamics", "runs")
_ALIASES = {"s3a": "s3", "gcs": "gs", "abfs": "az", "abfss": "az"}
#: Packages that buckets need, as pip takes them.
_PACKAGES = {
    "s3": "s3fs>=2026.9",
    "s3a": "s3fs>=2026.9",
    "gs": "gcsfs>=2025.9",
    "gcs": "gcsfs>=2025.9",
    "az": "adlfs>=2025.8",
    "abfs": "adlfs>=2025.8",
    "abfss": "adlfs>=2025.8",
}
#: How names of Parquet files end; such a file, and the name of a column after it.
PARQUET = (".parquet", ".parq", ".pq")
_COLUMN = re.compile(rf"(.*(?:{'|'.join(map(re.escape, PARQUET))}))#(.+)", re.DOTALL)
# A secret may hold a slash, so a user with a password reaches to the @, one without only to the
# first slash.
_USER = re.compile(r"://([^/@:]*):([^@]*)@|://[^/@]*@")


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
        where, options, protocol = shown(url), dict(storage_options or {}), url.partition("://")[0]
        if protocol in ("s3", "s3a"):
            url, credentials = _take_credentials(url)
            options = {**_S3_DEFAULTS, **credentials, **options}
        try:
            fs, path = fsspec.core.url_to_fs(url, **options)
        except ImportError as error:
            package = _PACKAGES.get(protocol)
            what = f": pip install '{package}'" if package else f" ({error})"
            raise InputError(
                f"{name}: {protocol}:// needs a package that is not installed{what}"
            ) from error
        except Exception as error:  # its text may quote the options
            given = f", with the options {', '.join(options)}" if options else ""
            raise InputError(
                f"{name}: fsspec cannot use {where}{given} ({type(error).__name__})"
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
            return patient(fsspec.core.url_to_fs(self.url, **self.options)[0])
        except ImportError as error:
            raise lacking(error, self.shown) from error

    @property
    def packages(self) -> frozenset[str]:
        """Packages that the file system is of."""
        return packages_of(self.fs)

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in self.__dict__.items() if name != "fs"}

    @property
    def shown(self) -> str:
        """The URL without anything secret."""
        return shown(self.url)

    def __truediv__(self, name: str) -> Location:
        # Names come from pointers and manifests too: none may lead out, nor chain to another file
        # system.
        if "::" in name or not {"", ".", ".."}.isdisjoint(name.split("/")):
            raise InputError(f"{name!r} names nothing inside {self.shown}")
        return Location(
            posixpath.join(self.url.rstrip("/"), name),
            posixpath.join(self.path, name),
            self.options,
        )


def options_by_name(given: Any, *names: str) -> Mapping[str, Mapping[str, Any]]:
    """The storage options of each place, by the places' names.

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
    given = {} if given is None else given
    maps = f"it maps {', '.join(names)} to the fsspec options of each"
    if not isinstance(given, Mapping):
        raise InputError(f"storage_options must be a mapping: {maps}")
    for name, options in given.items():
        if name not in names or not isinstance(options, Mapping):
            raise InputError(f"storage_options has {name!r}: {maps}")
    return given


def packages_of(holder: Any) -> frozenset[str]:
    """Packages of a file system or Zarr store, and of those that it wraps.

    Examples
    --------
    >>> sorted(packages_of(fsspec.filesystem("simplecache", target_protocol="local")))
    ['fsspec']
    """
    names = set()
    while holder is not None:
        module = type(holder).__module__
        names.add("aiohttp" if module.endswith("implementations.http") else module.split(".")[0])
        wrapped = (getattr(holder, name, None) for name in ("fs", "sync_fs", "store", "_store"))
        holder = next((inner for inner in wrapped if inner is not None), None)
    return frozenset(names)


def lacking(error: ImportError, where: str) -> JobError:
    """The error of a machine that cannot read or write a place for want of a package."""
    cause = error.__cause__ or error.__context__
    name = error.name or getattr(cause, "name", None)
    what = f"the package {name}" if name else "a package"
    return JobError(
        f"{where} needs {what}, which {gethostname()} lacks; install on all workers what is "
        "installed where the job was started"
    )


def patient(fs: Any) -> Any:
    """A file system that tries what fails for a moment again, for a bounded time; how often is no
    option of s3fs.
    """
    if hasattr(fs, "call_s3"):
        fs.retries = _S3_TRIES
    return fs


def shown(url: str) -> str:
    """A URL without user, password or query.

    Examples
    --------
    >>> shown("s3://key:secret/with+slash@bucket/a.zarr?token=1")
    's3://bucket/a.zarr'
    """
    return _USER.sub("://", url.partition("?")[0], count=1) if "://" in url else url


def split_column(url: str) -> tuple[str, str]:
    """A path or URL of an input, and the Parquet column that it names after a ``#``, if it does.

    A ``#`` may also be part of a path. On local disk what is there tells; elsewhere what ends in
    ``.zarr`` or ``.npy`` has no column, and after other names than those of Parquet files a column
    has no slash.

    Examples
    --------
    >>> split_column("s3://bucket/a#1/data.parquet#label"), split_column("s3://bucket/a#1/l.zarr")
    (('s3://bucket/a#1/data.parquet', 'label'), ('s3://bucket/a#1/l.zarr', ''))
    """
    parts = url.split("#")
    for number in range(len(parts), 0, -1) if len(parts) > 1 and _is_local(url) else ():
        path = "#".join(parts[:number])
        if not path.endswith("/") and os.path.exists(LocalFileSystem._strip_protocol(path)):
            return path, "#".join(parts[number:])
    if found := _COLUMN.fullmatch(url):
        return found[1], found[2]
    path, _, column = url.rpartition("#")
    if not path or "/" in column or url.endswith((".zarr", ".npy")):
        return url, ""
    return path, column


def _is_local(url: str) -> bool:
    protocol, found, _ = url.partition("://")
    return not found or protocol in ("file", "local")


def is_inside(inner: str, outer: str) -> bool:
    """Whether a path or URL names the same place as another, or one inside it, whatever their
    spelling; links in local paths are followed.

    Examples
    --------
    >>> is_inside("s3://bucket/a.zarr/out", "s3a://bucket/a.zarr/")
    True
    >>> is_inside("s3://bucket/a.zarr.out", "s3://bucket/a.zarr")
    False
    """
    low, high = _plain(inner), _plain(outer)
    return low == high or low.startswith(high.rstrip("/") + "/")


def refuse_overlap(out: str, inputs: Mapping[str, str]) -> None:
    """Refuse an output that lies in an input, or an input that lies in what a job writes and
    replaces there.

    Parameters
    ----------
    out : str
        Path or URL of the output.
    inputs : mapping of name to str
        Paths or URLs of the inputs, by what an error calls them.

    Raises
    ------
    InputError
        If the job could damage an input.
    """
    for name, (url, _) in ((name, split_column(url)) for name, url in inputs.items()):
        if is_inside(out, url):
            raise InputError(
                f"out at {shown(out)} lies in {name} at {shown(url)}, and would damage it; give "
                "another place"
            )
        if any(is_inside(url, f"{out.rstrip('/')}/{written}") for written in WRITTEN):
            raise InputError(
                f"{name} at {shown(url)} lies in what the job writes at {shown(out)}; give out "
                "another place"
            )


def _plain(url: str) -> str:
    """One spelling of a place, for comparison."""
    if _is_local(url):
        return f"file://{os.path.realpath(LocalFileSystem._strip_protocol(url))}"
    protocol, _, path = shown(url).partition("://")
    return f"{_ALIASES.get(protocol, protocol)}://{posixpath.normpath(path.lstrip('/'))}"


def _take_credentials(url: str) -> tuple[str, dict[str, str]]:
    """An S3 URL without its credentials, and these as the options that s3fs takes them by."""
    found = _USER.search(url)
    if found is None or found[1] is None:
        return url, {}
    return _USER.sub("://", url, count=1), {"key": unquote(found[1]), "secret": unquote(found[2])}


def reason(error: BaseException) -> str | None:
    """Why a store or file system failed, as far as its error tells; None where it is something
    else.

    The text of errors is not passed on: a store's client may quote what it was configured with.
    """
    kind, text = type(error).__name__, str(error)
    if (
        isinstance(error, PermissionError)
        or "AccessDenied" in text
        or "Forbidden" in text
        or "SignatureDoes" in text
    ):
        return "access refused; check the credentials and the rights they have"
    if (
        "NoCredentials" in kind
        or "InvalidAccessKeyId" in text
        or "Unable to locate credentials" in text
    ):
        return (
            "no valid credentials; set them where fsspec looks (environment, profile) or as "
            "storage options"
        )
    if _is_lost(error):
        return "the store cannot be reached; check the endpoint and the network"
    if is_full(error):
        return "no space left; free some or give another place"
    if isinstance(error, MemoryError):
        return (
            "not enough memory; use smaller blocks (block_bytes), fewer threads or larger workers"
        )
    if "NoSuchBucket" in text or "bucket does not exist" in text.lower():
        return "the bucket does not exist"
    return None


def _is_lost(error: BaseException) -> bool:
    """Whether a store did not answer, or its answers were cut short, every time."""
    known = any(word in type(error).__name__ for word in ("Connect", "Timeout", "PayloadError"))
    if known or isinstance(error, ConnectionError | TimeoutError):
        return True
    # Over HTTP whatever fails is told as a file that is not there.
    return error.__cause__ is not None and _is_lost(error.__cause__)


def is_full(error: BaseException) -> bool:
    """Whether a disk had no room, or a user's share of it."""
    return isinstance(error, OSError) and error.errno in _NO_SPACE


def blame(error: BaseException) -> type[JobError | InputError]:
    """Whose fault it is that a place cannot be used: JobError where that may pass (no network, no
    room), else InputError.
    """
    return (
        JobError
        if is_full(error) or _is_lost(error) or isinstance(error, MemoryError)
        else InputError
    )


def explain(error: BaseException, place: Location, name: str) -> str:
    """What an error of a store or format means, in one sentence for its user."""
    why = reason(error) or (_what_ails_output(error, place) if name == "out" else None)
    if why is None and (isinstance(error, IsADirectoryError) or "NodeType" in type(error).__name__):
        why = not_an_array(place.path, folder=True)
    if why is None and (
        isinstance(error, FileNotFoundError | NotADirectoryError)
        or "NotFound" in type(error).__name__
    ):
        why = _what_is_missing(place)
    if why is None:
        why = cannot_be_read(error, opening=True)
    return f"{name} at {place.shown}: {why}"


def cannot_write(error: BaseException, place: Location) -> NoisydaskError:
    """The error of an output that cannot be begun."""
    return blame(error)(explain(error, place, "out").replace("cannot be read", "cannot be written"))


def _what_ails_output(error: BaseException, place: Location) -> str | None:
    """Why a place is no output; None where it is not for the lack of a folder."""
    if isinstance(error, OSError) and isinstance(place.fs, LocalFileSystem):
        for path in (place.path, *map(str, PurePath(place.path).parents)):
            if os.path.isfile(path):
                return f"{path} is a file, and out must be a folder"
    no_bucket = isinstance(error, FileNotFoundError) and place.url.partition("://")[0] in _PACKAGES
    system = isinstance(error, OSError) and error.strerror
    return None if no_bucket else f"cannot be read ({system or type(error).__name__})"


def _what_is_missing(place: Location) -> str:
    """Which part of a place is not there."""
    try:
        if place.fs.exists(place.path):
            return not_an_array(place.path, place.fs.isdir(place.path))
        bucket = place.path.split("/", 1)[0]
        if place.url.partition("://")[0] in _PACKAGES and not place.fs.exists(bucket):
            return f"the bucket {bucket!r} does not exist"
    except Exception as error:
        return reason(error) or f"nothing can be read there ({type(error).__name__})"
    return "there is no array; check the path"
