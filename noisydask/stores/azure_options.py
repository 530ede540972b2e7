"""Storage options of adlfs as settings of obstore's store for Azure, and credentials as
azure-identity finds them.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.util import find_spec
from typing import Any

from noisydask.stores.cloud_options import CloudSettings, Options

_SCOPE = "https://storage.azure.com/.default"
#: Names of adlfs, and ours of the same.
_NAMES = {
    "account_name": "account_name",
    "account_key": "account_key",
    "sas_token": "sas_key",
    "client_id": "client_id",
    "client_secret": "client_secret",
    "tenant_id": "tenant_id",
}
#: Parts of a connection string, and their names.
_PARTS = {
    "AccountName": "account_name",
    "AccountKey": "account_key",
    "SharedAccessSignature": "sas_key",
    "BlobEndpoint": "endpoint",
}
#: What identifies who asks; without any of it a container may still be public.
_SECRETS = {"account_key", "sas_key", "client_secret", "token"}


def azure_settings(container: str, options: Mapping[str, Any]) -> CloudSettings:
    """Return how obstore reaches a container of Azure Blob Storage.

    Parameters
    ----------
    container : str
        Its name, which decides nothing here.
    options : mapping
        As adlfs takes them: ``account_name``, ``account_key``, ``sas_token``,
        ``connection_string``, ``client_id``, ``client_secret``, ``tenant_id``, ``credential``,
        ``anon``, ``account_host``, ``endpoint_url``. What tunes adlfs alone changes nothing.

    Returns
    -------
    CloudSettings

    Raises
    ------
    InputError
        If an option is not known.

    Examples
    --------
    >>> parts = "AccountName=a;AccountKey=b==;BlobEndpoint=http://127.0.0.1:10000/a"
    >>> azure_settings("data", {"connection_string": parts}).config["account_key"]
    'b=='
    """
    settings = CloudSettings()
    given = Options.of("abfs", options)
    text = given.take("connection_string", os.environ.get("AZURE_STORAGE_CONNECTION_STRING"))
    config = _parts(text) if text else {}
    for name, ours in _NAMES.items():
        value = given.take(name, os.environ.get(f"AZURE_STORAGE_{name.upper()}"))
        if value is not None:
            config[ours] = value
    host = given.take("account_host")
    endpoint = given.take("endpoint_url", f"https://{host}" if host else config.pop("endpoint", ""))
    anonymous = given.take("anon")
    credential = given.take("credential")
    given.ignore({"assume_container_exists", "location_mode", "request_session", "socket_timeout"})
    given.refuse_others()
    if isinstance(config.get("sas_key"), str):
        config["sas_key"] = config["sas_key"].lstrip("?")
    settings.config |= config
    settings.reach(endpoint)
    _identify(settings, anonymous, credential)
    return settings


def _parts(text: str) -> dict[str, Any]:
    """Return the parts of a connection string that tell who asks, and where."""
    pairs = [part.partition("=") for part in text.split(";") if part]
    said = {name: value for name, _, value in pairs}
    config = {ours: said[name] for name, ours in _PARTS.items() if name in said}
    suffix = said.get("EndpointSuffix", "core.windows.net")
    if "endpoint" not in config and suffix != "core.windows.net":
        scheme = said.get("DefaultEndpointsProtocol", "https")
        config["endpoint"] = f"{scheme}://{said['AccountName']}.blob.{suffix}"
    return config


def _identify(settings: CloudSettings, anonymous: bool | None, credential: Any) -> None:
    if anonymous:
        settings.config["skip_signature"] = True
    elif isinstance(credential, str):
        settings.config["account_key"] = credential
    elif credential is not None:
        settings.credentials = _AzureCredentials(credential)
    elif not _SECRETS & set(settings.config):
        known = any(name.startswith(("AZURE_", "IDENTITY_", "MSI_")) for name in os.environ)
        if find_spec("azure") and find_spec("azure.identity") and (known or anonymous is False):
            import azure.identity  # noqa: PLC0415

            settings.credentials = _AzureCredentials(azure.identity.DefaultAzureCredential())
        elif not known and anonymous is None:  # as adlfs: of a public container
            settings.config["skip_signature"] = True


@dataclass
class _AzureCredentials:
    """Hands out tokens of azure-identity, which renews them."""

    found: Any

    def __call__(self) -> dict[str, Any]:
        token = self.found.get_token(_SCOPE)
        return {
            "token": token.token,
            "expires_at": datetime.fromtimestamp(token.expires_on, UTC),
        }
