"""Storage options of gcsfs as settings of obstore's store for Google Cloud Storage, and credentials
as google-auth finds them.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.util import find_spec
from typing import Any

from noisydask.stores.cloud_options import CloudSettings, Options

_SCOPES = ("https://www.googleapis.com/auth/devstorage.full_control",)


def gcs_settings(bucket: str, options: Mapping[str, Any]) -> CloudSettings:
    """Return how obstore reaches a bucket of Google Cloud Storage.

    Parameters
    ----------
    bucket : str
        Its name, which decides nothing here.
    options : mapping
        As gcsfs takes them: ``token`` (a file of credentials or their content, credentials of
        google-auth, a bearer token, or one of ``google_default``, ``cloud``, ``anon``),
        ``endpoint_url``, ``requester_pays``. What tunes gcsfs alone changes nothing.

    Returns
    -------
    CloudSettings

    Raises
    ------
    InputError
        If an option is not known.

    Examples
    --------
    >>> gcs_settings("data", {"token": "anon"}).config
    {'skip_signature': True}
    """
    settings = CloudSettings()
    given = Options.of("gs", options)
    credentials = given.take("token", "anon" if given.take("anon") else None)
    endpoint = given.take("endpoint_url", os.environ.get("STORAGE_EMULATOR_HOST"))
    payer = given.take("requester_pays")
    project = given.take("project")
    given.ignore({"access", "check_connection", "consistency", "default_location", "timeout"})
    given.refuse_others()
    if endpoint:
        settings.config["base_url"] = endpoint.rstrip("/")
        settings.client["allow_http"] = endpoint.startswith("http://")
    if payer:
        name = payer if isinstance(payer, str) else project
        settings.client["default_headers"] = {"x-goog-user-project": str(name)}
    _identify(settings, credentials)
    return settings


def _identify(settings: CloudSettings, named: Any) -> None:
    """Set the credentials that an option names."""
    if named == "anon":
        settings.config["skip_signature"] = True
    elif isinstance(named, Mapping):
        settings.config["service_account_key"] = json.dumps(dict(named))
    elif isinstance(named, str) and os.path.exists(named):
        settings.config["application_credentials"] = named
    elif isinstance(named, str) and named not in ("google_default", "cloud", "cache", "browser"):
        settings.config["bearer_token"] = named
    elif named is not None and not isinstance(named, str):
        settings.credentials = _GoogleCredentials(named)
    elif named != "cloud":  # of which obstore asks the machine's own service
        settings.credentials = _default()


def _default() -> Callable[[], Any] | None:
    """Return what google-auth finds; without it, or where it finds nothing, obstore looks by
    itself.
    """
    if find_spec("google") is None or find_spec("google.auth") is None:
        return None
    import google.auth  # noqa: PLC0415

    try:
        found, _ = google.auth.default(scopes=_SCOPES)
    except google.auth.exceptions.DefaultCredentialsError:
        return None
    return _GoogleCredentials(found)


@dataclass
class _GoogleCredentials:
    """Hands out tokens of google-auth, which renews them."""

    found: Any

    def __call__(self) -> dict[str, Any]:
        import google.auth.transport.requests as transport  # noqa: PLC0415

        if not self.found.valid:
            self.found.refresh(transport.Request())
        expiry: datetime | None = self.found.expiry
        return {
            "token": self.found.token,
            "expires_at": expiry.replace(tzinfo=UTC) if expiry else None,
        }
