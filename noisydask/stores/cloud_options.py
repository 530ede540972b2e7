"""Storage options of fsspec's clients for buckets as settings of obstore: what the clouds have in
common.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

import fsspec

from noisydask.errors import InputError

#: Seconds for a connection, and for each piece of an answer. An answer as a whole has no limit: a
#: large object over a slow network takes what it takes.
_CONNECT_SECONDS, _READ_SECONDS = 5, 10
#: A request is sent so many times more, as long as this since it was first sent: on a cluster the
#: task is tried again as well.
_RETRIES, _RETRY_SECONDS = 6, 60
_NO_LIMIT = "1 day"

#: Options of fsspec's clients that tell how they cache, or how they work inside, and change
#: nothing of what is read or written.
_TUNING = frozenset(
    {
        "asynchronous",
        "batch_size",
        "blocksize",
        "cache_regions",
        "cache_timeout",
        "default_block_size",
        "default_cache_type",
        "default_fill_cache",
        "dircache",
        "fixed_upload_size",
        "listings_expiry_time",
        "loop",
        "max_concurrency",
        "max_paths",
        "skip_instance_cache",
        "use_listings_cache",
    }
)


@dataclass
class CloudSettings:
    """How obstore reaches a bucket.

    Attributes
    ----------
    config : dict
        Configuration of the store.
    client : dict
        That of its HTTP client.
    retry : dict
        How often a request is sent, and for how long.
    credentials : callable, optional
        Returns credentials whenever the store needs new ones.
    """

    config: dict[str, Any] = field(default_factory=dict)
    client: dict[str, Any] = field(
        default_factory=lambda: {
            "connect_timeout": f"{_CONNECT_SECONDS} s",
            "read_timeout": f"{_READ_SECONDS} s",
            "timeout": _NO_LIMIT,
        }
    )
    retry: dict[str, Any] = field(
        default_factory=lambda: {
            "max_retries": _RETRIES,
            "retry_timeout": timedelta(seconds=_RETRY_SECONDS),
        }
    )
    credentials: Callable[[], Any] | None = None

    def reach(self, endpoint: str | None) -> None:
        """Set the address of the store; one without TLS is allowed because it was asked for."""
        if endpoint:
            self.config["endpoint"] = endpoint.rstrip("/")
            self.client["allow_http"] = endpoint.startswith("http://")


class Options:
    """Storage options that are taken one by one; what is left over is not known.

    Examples
    --------
    >>> options = Options("s3", {"key": "a", "max_concurrency": 1, "nokey": 1})
    >>> options.take("key")
    'a'
    >>> options.refuse_others()
    Traceback (most recent call last):
    noisydask.errors.InputError: the storage option 'nokey' is not known for s3://; known are: key
    """

    def __init__(self, protocol: str, options: Mapping[str, Any], within: str = "") -> None:
        self._protocol = protocol
        self._within = within
        self._left = {name: value for name, value in options.items() if name not in _TUNING}
        self._known: set[str] = set()

    @classmethod
    def of(cls, protocol: str, options: Mapping[str, Any]) -> Options:
        """Return what was given, and what fsspec's own configuration says of the protocol."""
        return cls(protocol, {**fsspec.config.conf.get(protocol, {}), **options})

    def take(self, name: str, default: Any = None) -> Any:
        """Return an option; the default where it was not given."""
        self._known.add(name)
        value = self._left.pop(name, None)
        return default if value is None else value

    def within(self, name: str) -> Options:
        """Return the options that one of them consists of."""
        inner = self.take(name, {})
        if not isinstance(inner, Mapping):
            raise InputError(f"the storage option {self._within}{name!r} must be a mapping")
        return Options(self._protocol, inner, f"{self._within}{name}.")

    def ignore(self, names: Collection[str]) -> None:
        """Leave out options that change nothing here."""
        for name in names:
            self._left.pop(name, None)

    def refuse_others(self) -> None:
        """Refuse what was not taken.

        Raises
        ------
        InputError
            If anything is left.
        """
        for name in self._left:
            known = ", ".join(sorted(f"{self._within}{one}" for one in self._known))
            raise InputError(
                f"the storage option {self._within + name!r} is not known for "
                f"{self._protocol}://; known are: {known}"
            )
