"""Buckets of the three clouds, opened by obstore once in a process: URLs and storage options are
those of fsspec.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from threading import Lock
from typing import TYPE_CHECKING, Any

from noisydask.lazily import Lazy
from noisydask.stores.azure_options import azure_settings
from noisydask.stores.cloud_options import CloudSettings
from noisydask.stores.gcs_options import gcs_settings
from noisydask.stores.s3_options import s3_settings

if TYPE_CHECKING:
    from obstore import store as obstores
else:
    obstores = Lazy("obstore.store")

_SETTINGS: Mapping[str, Callable[[str, Mapping[str, Any]], CloudSettings]] = {
    "s3": s3_settings,
    "gs": gcs_settings,
    "az": azure_settings,
}
_CLASSES = {"s3": "S3Store", "gs": "GCSStore", "az": "AzureStore"}
#: Spellings of the protocols.
CLOUDS = {
    "s3": "s3",
    "s3a": "s3",
    "gs": "gs",
    "gcs": "gs",
    "az": "az",
    "abfs": "az",
    "abfss": "az",
}
#: Stores that are open, by cloud, bucket and options: they hold connections, which tasks
#: that follow one another use again.
_OPEN: dict[tuple[str, str, str], tuple[Any, Mapping[str, Any]]] = {}
_OPENING = Lock()


def split_url(url: str) -> tuple[str, str, dict[str, Any]]:
    """Return the cloud of a URL, its bucket and key as one path, and options that it holds.

    Examples
    --------
    >>> split_url("s3://bucket/a/b/")
    ('s3', 'bucket/a/b', {})
    >>> split_url("abfs://data@account.dfs.core.windows.net/a")
    ('az', 'data/a', {'account_name': 'account'})
    """
    protocol, _, rest = url.partition("://")
    cloud = CLOUDS[protocol]
    path = rest.strip("/")
    options = {}
    bucket, slash, key = path.partition("/")
    container, at, host = bucket.partition("@")
    if cloud == "az" and at:
        path = f"{container}{slash}{key}"
        options["account_name"] = host.partition(".")[0]
    return cloud, path, options


def open_bucket(cloud: str, bucket: str, options: Mapping[str, Any]) -> Any:
    """Return obstore's store of a bucket, which is shared by all of this process.

    Parameters
    ----------
    cloud : {"s3", "gs", "az"}
        The cloud.
    bucket : str
        The bucket.
    options : mapping
        As fsspec's client of the cloud takes them.

    Raises
    ------
    InputError
        If an option is not known.
    ImportError
        If obstore is not installed.
    """
    key = (cloud, bucket, repr(sorted(options.items())))
    with _OPENING:
        if key not in _OPEN:  # with the options: objects among them are known by their address
            _OPEN[key] = _opened(cloud, bucket, options), options
        return _OPEN[key][0]


def _opened(cloud: str, bucket: str, options: Mapping[str, Any]) -> Any:
    settings = _SETTINGS[cloud](bucket, options)
    return getattr(obstores, _CLASSES[cloud])(
        bucket,
        config=settings.config,
        client_options=settings.client,
        retry_config=settings.retry,
        credential_provider=settings.credentials,
    )
