"""URLs as text: how they are shown, which column they name, and which lies inside which."""

from __future__ import annotations

import os
import posixpath
import re
from urllib.parse import unquote

from fsspec.implementations.local import LocalFileSystem

#: What installs the client of buckets, as pip takes it.
BUCKET_PACKAGES = {
    "s3": "noisydask[s3]",
    "s3a": "noisydask[s3]",
    "gs": "noisydask[gcs]",
    "gcs": "noisydask[gcs]",
    "az": "noisydask[azure]",
    "abfs": "noisydask[azure]",
    "abfss": "noisydask[azure]",
}
_ALIASES = {"s3a": "s3", "gcs": "gs", "abfs": "az", "abfss": "az"}


#: How names of Parquet files end.
PARQUET = (".parquet", ".parq", ".pq")
#: How names of files end of which a column or array is named after a ``#``.
NAMED = (*PARQUET, ".csv", ".tsv", ".arrow", ".feather", ".ipc", ".npz")


_COLUMN = re.compile(rf"(.*(?:{'|'.join(map(re.escape, NAMED))}))#(.+)", re.DOTALL | re.IGNORECASE)


# A secret may hold a slash, so a user with a password reaches to the @, one without only to the
# first slash.
_USER = re.compile(r"://([^/@:]*):([^@]*)@|://[^/@]*@")


def shown(url: str) -> str:
    """Return a URL without user, password or query.

    Examples
    --------
    >>> shown("s3://key:secret/with+slash@bucket/a.zarr?token=1")
    's3://bucket/a.zarr'
    """
    if "://" in url:
        return _USER.sub("://", url.partition("?")[0], count=1)
    return url


def split_column(url: str) -> tuple[str, str]:
    """Return a path or URL of an input, and the column that it names after a ``#``, if it does.

    A ``#`` may also be part of a path. On local disk what is there tells; elsewhere what ends in
    ``.zarr`` or ``.npy`` has no column, and after other names than those of tables a column has no
    slash.

    Examples
    --------
    >>> split_column("s3://bucket/a#1/data.parquet#label"), split_column("s3://bucket/a#1/l.zarr")
    (('s3://bucket/a#1/data.parquet', 'label'), ('s3://bucket/a#1/l.zarr', ''))
    """
    parts = url.split("#")
    for number in range(len(parts), 0, -1) if len(parts) > 1 and _is_local(url) else ():
        path = "#".join(parts[:number])
        if (
            path
            and not path.endswith("/")
            and os.path.exists(LocalFileSystem._strip_protocol(path))
        ):
            return path, "#".join(parts[number:])
    if column_named := _COLUMN.fullmatch(url):
        return column_named[1], column_named[2]
    path, _, column = url.rpartition("#")
    if not path or "/" in column or url.endswith((".zarr", ".npy")):
        return url, ""
    return path, column


def _is_local(url: str) -> bool:
    protocol, separator, _ = url.partition("://")
    return not separator or protocol in ("file", "local")


def is_inside(inner: str, outer: str) -> bool:
    """Return whether a path or URL names the same place as another, or one inside it, whatever
    their spelling; links in local paths are followed.

    Examples
    --------
    >>> is_inside("s3://bucket/a.zarr/out", "s3a://bucket/a.zarr/")
    True
    >>> is_inside("s3://bucket/a.zarr.out", "s3://bucket/a.zarr")
    False
    """
    low = _plain(inner)
    high = _plain(outer)
    return low == high or low.startswith(high.rstrip("/") + "/")


def _plain(url: str) -> str:
    """Return one spelling of a place, for comparison."""
    if _is_local(url):
        return f"file://{os.path.realpath(LocalFileSystem._strip_protocol(url))}"
    protocol, _, path = shown(url).partition("://")
    return f"{_ALIASES.get(protocol, protocol)}://{posixpath.normpath(path.lstrip('/'))}"


def take_credentials(url: str) -> tuple[str, dict[str, str]]:
    """Return an S3 URL without its credentials, and these as options of s3fs."""
    user = _USER.search(url)
    if user is None or user[1] is None:
        return url, {}
    return _USER.sub("://", url, count=1), {"key": unquote(user[1]), "secret": unquote(user[2])}
