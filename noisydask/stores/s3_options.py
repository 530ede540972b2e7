"""Storage options of s3fs as settings of obstore's S3 store, and credentials as botocore finds
them.
"""

from __future__ import annotations

import os
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import cache
from importlib.util import find_spec
from typing import Any

from noisydask.errors import InputError
from noisydask.stores.cloud_options import CloudSettings, Options

#: Where a bucket is asked for its region, which the answer tells even where access is refused.
_AWS = "https://{bucket}.s3.amazonaws.com"
_REGION_SECONDS = 5.0
#: How long credentials are used before botocore is asked again, which renews what expires.
_CREDENTIALS_LAST = timedelta(minutes=5)


def s3_settings(bucket: str, options: Mapping[str, Any]) -> CloudSettings:
    """Return how obstore reaches an S3 bucket.

    Parameters
    ----------
    bucket : str
        Its name.
    options : mapping
        As s3fs takes them: ``key``, ``secret``, ``token``, ``anon``, ``profile``, ``endpoint_url``,
        ``use_ssl``, ``requester_pays``, ``client_kwargs``, ``config_kwargs``,
        ``s3_additional_kwargs``. Those that tune s3fs alone are accepted and change nothing.

    Returns
    -------
    CloudSettings

    Raises
    ------
    InputError
        If an option is not known, or no profile has this name.

    Examples
    --------
    >>> options = {"key": "a", "secret": "b", "client_kwargs": {"region_name": "eu-west-1"}}
    >>> s3_settings("data", options).config["region"]
    'eu-west-1'
    """
    settings = CloudSettings()
    given = Options.of("s3", options)
    client = given.within("client_kwargs")
    key = given.take("key", given.take("username", client.take("aws_access_key_id")))
    secret = given.take("secret", given.take("password", client.take("aws_secret_access_key")))
    token = given.take("token", client.take("aws_session_token"))
    region = client.take("region_name")
    endpoint = given.take("endpoint_url", client.take("endpoint_url"))
    if client.take("use_ssl", given.take("use_ssl", True)) is False and endpoint is None:
        raise InputError("the storage option use_ssl needs an endpoint_url that begins http://")
    _verify(settings, client.take("verify"))
    client.refuse_others()
    if given.take("requester_pays"):
        settings.config["request_payer"] = True
    _encrypt(settings, given.within("s3_additional_kwargs"))
    anonymous = bool(given.take("anon"))
    profile = given.take("profile")
    config = given.within("config_kwargs")
    region, unsigned = _of_botocore(settings, config, region)
    given.refuse_others()
    if anonymous or unsigned:
        settings.config["skip_signature"] = True
    elif key is not None and secret is not None:
        settings.config |= {"access_key_id": key, "secret_access_key": secret}
        if token is not None:
            settings.config["session_token"] = token
    else:
        settings.credentials = _credentials(profile)
    settings.reach(endpoint or _said_elsewhere("endpoint_url", profile))
    _set_region(settings, bucket, region or _said_elsewhere("region", profile))
    return settings


def _verify(settings: CloudSettings, verify: Any) -> None:
    if verify is False:
        settings.client["allow_invalid_certificates"] = True
    elif isinstance(verify, str):
        with open(verify, "rb") as file:
            settings.client["root_certificate"] = file.read()


def _encrypt(settings: CloudSettings, given: Options) -> None:
    """Take what is said of the encryption of new objects."""
    names = {
        "ServerSideEncryption": "server_side_encryption",
        "SSEKMSKeyId": "sse_kms_key_id",
        "BucketKeyEnabled": "sse_bucket_key_enabled",
    }
    for name, ours in names.items():
        value = given.take(name)
        if value is not None:
            settings.config[ours] = value
    given.refuse_others()


def _of_botocore(
    settings: CloudSettings, given: Options, region: str | None
) -> tuple[str | None, bool]:
    """Take what configures botocore; return the region, and whether requests are not signed."""
    for name in ("connect_timeout", "read_timeout"):
        seconds = given.take(name)
        if seconds is not None:
            settings.client[name] = f"{seconds} s"
    proxies = given.take("proxies", {})
    proxy = proxies.get("https") or proxies.get("http")
    if proxy:
        settings.client["proxy_url"] = proxy
    retries = given.within("retries")
    attempts = retries.take("total_max_attempts", retries.take("max_attempts"))
    if attempts is not None:
        settings.retry["max_retries"] = max(0, int(attempts) - 1)
    retries.ignore({"mode"})
    retries.refuse_others()
    s3 = given.within("s3")
    if s3.take("addressing_style") == "virtual":
        settings.config["virtual_hosted_style_request"] = True
    s3.refuse_others()
    region = given.take("region_name", region)
    signature = given.take("signature_version")
    given.ignore({"max_pool_connections", "tcp_keepalive", "user_agent_extra"})
    given.refuse_others()
    return region, type(signature).__name__ == "_UNSIGNED" or str(signature) == "UNSIGNED"


def _credentials(profile: str | None) -> Callable[[], Any] | None:
    """Return where credentials come from: what botocore finds; without botocore, or where it finds
    nothing, what obstore looks for by itself (environment, web identity, instance).
    """
    in_environment = "AWS_ACCESS_KEY_ID" in os.environ and "AWS_SECRET_ACCESS_KEY" in os.environ
    if profile is None and in_environment:
        return None
    session = _session(profile)
    found = session.get_credentials() if session is not None else None
    if found is None:
        return None
    return _BotocoreCredentials(found)


@dataclass
class _BotocoreCredentials:
    """Hands out what botocore found, which it renews: profiles, SSO, roles, processes."""

    found: Any

    def __call__(self) -> dict[str, Any]:
        now = self.found.get_frozen_credentials()
        return {
            "access_key_id": now.access_key,
            "secret_access_key": now.secret_key,
            "token": now.token,
            "expires_at": datetime.now(UTC) + _CREDENTIALS_LAST,
        }


@cache
def _session(profile: str | None) -> Any:
    """Return a session of botocore, which is imported for nothing else: it takes a while."""
    if find_spec("botocore") is None:
        if profile is not None:
            raise InputError("the storage option profile needs the package botocore: install it")
        return None
    import botocore.session  # noqa: PLC0415

    return botocore.session.Session(profile=profile)


def _said_elsewhere(name: str, profile: str | None) -> str | None:
    """Return an endpoint or region as the environment or the files of AWS say it."""
    environment = {
        "endpoint_url": ("AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL"),
        "region": ("AWS_REGION", "AWS_DEFAULT_REGION"),
    }
    for variable in environment[name]:
        if os.environ.get(variable):
            return os.environ[variable]
    folder = os.path.expanduser("~/.aws/config")
    if profile is None and not os.path.exists(os.environ.get("AWS_CONFIG_FILE", folder)):
        return None
    session = _session(profile)
    if session is None:
        return None
    if name == "region":
        value = session.get_config_variable("region")
    else:
        value = session.get_scoped_config().get(name)
    return str(value) if value else None


def _set_region(settings: CloudSettings, bucket: str, region: str | None) -> None:
    """Set the region; a bucket of AWS of which none is said is asked for its own."""
    if region is None and "endpoint" not in settings.config:
        region = _region_of(bucket)
    if region is not None:
        settings.config["region"] = region


@cache
def _region_of(bucket: str) -> str | None:
    """Ask AWS in which region a bucket lies; None if it does not say."""
    url = _AWS.format(bucket=bucket)
    request = urllib.request.Request(url, method="HEAD")  # noqa: S310
    with suppress(OSError, ValueError):
        try:
            with urllib.request.urlopen(request, timeout=_REGION_SECONDS) as answer:  # noqa: S310
                headers = answer.headers
        except urllib.error.HTTPError as error:  # refused, which is an answer
            headers = error.headers
        return str(headers["x-amz-bucket-region"]) if headers["x-amz-bucket-region"] else None
    return None
