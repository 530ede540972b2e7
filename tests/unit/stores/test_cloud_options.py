"""Options of fsspec's clients as settings of obstore, each of them."""

from __future__ import annotations

import json
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import fsspec
import pytest
from rig.azure import KEY, AzureServer
from rig.server import BUCKET, S3Server

from noisydask.errors import InputError
from noisydask.stores import s3_options
from noisydask.stores.azure_options import azure_settings
from noisydask.stores.cloud_options import CloudSettings
from noisydask.stores.gcs_options import gcs_settings
from noisydask.stores.locations import Location
from noisydask.stores.s3_options import s3_settings

PAIR = {"key": "a", "secret": "b"}
AT = {"endpoint_url": "http://127.0.0.1:9"}


@pytest.fixture(autouse=True)
def bare_machine(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A machine of which nothing is configured, that no cloud runs."""
    for name in ("AWS_PROFILE", "AWS_REGION", "AWS_DEFAULT_REGION", "AWS_ENDPOINT_URL"):
        monkeypatch.delenv(name, raising=False)
    for name in ("ACCESS_KEY_ID", "SECRET_ACCESS_KEY", "SESSION_TOKEN", "ENDPOINT_URL_S3"):
        monkeypatch.delenv(f"AWS_{name}", raising=False)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "config"))
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "credentials"))
    monkeypatch.setattr(s3_options, "_AWS", "http://127.0.0.1:9/{bucket}")
    s3_options._session.cache_clear()
    s3_options._region_of.cache_clear()


@pytest.mark.parametrize(
    ("options", "config"),
    [
        (PAIR, {"access_key_id": "a", "secret_access_key": "b"}),
        ({"username": "a", "password": "b"}, {"access_key_id": "a", "secret_access_key": "b"}),
        (PAIR | {"token": "t"}, {"session_token": "t"}),
        ({"anon": True}, {"skip_signature": True}),
        (PAIR | AT, {"endpoint": "http://127.0.0.1:9"}),
        (PAIR | {"client_kwargs": AT}, {"endpoint": "http://127.0.0.1:9"}),
        (PAIR | {"client_kwargs": {"region_name": "x-1"}}, {"region": "x-1"}),
        (PAIR | {"config_kwargs": {"region_name": "x-1"}}, {"region": "x-1"}),
        (PAIR | {"requester_pays": True}, {"request_payer": True}),
        (
            PAIR | {"config_kwargs": {"s3": {"addressing_style": "virtual"}}},
            {"virtual_hosted_style_request": True},
        ),
        ({"config_kwargs": {"signature_version": "UNSIGNED"}}, {"skip_signature": True}),
        (
            PAIR | {"s3_additional_kwargs": {"ServerSideEncryption": "aws:kms"}},
            {"server_side_encryption": "aws:kms"},
        ),
    ],
)
def test_options_of_s3fs(options: dict[str, Any], config: dict[str, Any]) -> None:
    found = s3_settings("bucket", options).config
    assert config.items() <= found.items()


def test_options_of_s3fs_for_its_client() -> None:
    botocore = {"connect_timeout": 1, "read_timeout": 2, "retries": {"max_attempts": 3}}
    kwargs = {**botocore, "proxies": {"https": "http://p:1"}, "max_pool_connections": 5}
    found = s3_settings("b", PAIR | {"config_kwargs": kwargs, "client_kwargs": {"verify": False}})
    assert found.client["connect_timeout"] == "1 s"
    assert found.client["read_timeout"] == "2 s"
    assert found.client["proxy_url"] == "http://p:1"
    assert found.client["allow_invalid_certificates"]
    assert found.retry["max_retries"] == 2


def test_a_certificate_of_ones_own(tmp_path: Path) -> None:
    (tmp_path / "ca.pem").write_bytes(b"certificate")
    verify = {"client_kwargs": {"verify": str(tmp_path / "ca.pem")}}
    assert s3_settings("b", PAIR | verify).client["root_certificate"] == b"certificate"


def test_what_tunes_another_client_changes_nothing() -> None:
    tuning = {"use_listings_cache": False, "max_concurrency": 1, "default_block_size": 1 << 20}
    assert s3_settings("b", PAIR | tuning) == s3_settings("b", PAIR)


@pytest.mark.parametrize(
    ("settings", "options", "named"),
    [
        (s3_settings, {"nokey": 1}, "'nokey' is not known for s3://; known are: anon, "),
        (s3_settings, {"client_kwargs": {"x": 1}}, r"'client_kwargs.x' .* client_kwargs\.verify"),
        (s3_settings, {"config_kwargs": {"s3": {"x": 1}}}, "'config_kwargs.s3.x' is not known"),
        (s3_settings, {"client_kwargs": 1}, "'client_kwargs' must be a mapping"),
        (gcs_settings, {"nokey": 1}, "'nokey' is not known for gs://"),
        (azure_settings, {"nokey": 1}, "'nokey' is not known for abfs://"),
    ],
)
def test_an_option_that_is_not_known(settings: Any, options: dict[str, Any], named: str) -> None:
    with pytest.raises(InputError, match=named):
        settings("bucket", options)


def test_an_option_that_is_not_known_is_told_with_its_place() -> None:
    with pytest.raises(InputError, match=r"^labels at s3://b/a: the storage option 'nokey'"):
        Location.of("s3://b/a", {"nokey": "hidden", "key": "hidden"}, "labels")


def test_profiles(tmp_path: Path) -> None:
    (tmp_path / "config").write_text("[profile night]\nregion = x-2\nendpoint_url = http://h:1\n")
    secrets = "[night]\naws_access_key_id = k\naws_secret_access_key = s\n"
    (tmp_path / "credentials").write_text(secrets)
    found = s3_settings("bucket", {"profile": "night"})
    assert found.config == {"region": "x-2", "endpoint": "http://h:1"}
    assert found.credentials is not None
    handed = found.credentials()
    assert (handed["access_key_id"], handed["secret_access_key"]) == ("k", "s")


def test_a_process_that_hands_out_credentials(tmp_path: Path) -> None:
    """As SSO and company tools do: botocore asks it."""
    said = {"Version": 1, "AccessKeyId": "k", "SecretAccessKey": "s", "SessionToken": "t"}
    program = tmp_path / "hand_out.py"
    program.write_text(f"print({json.dumps(json.dumps(said))})")
    process = f"credential_process = {sys.executable} {program}\n"
    (tmp_path / "config").write_text(f"[default]\n{process}")
    found = s3_settings("bucket", AT)
    assert found.credentials is not None
    assert found.credentials()["token"] == "t"


def test_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "k")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "s")
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", "http://h:2")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "x-3")
    found = s3_settings("bucket", {})
    assert found.config == {"endpoint": "http://h:2", "region": "x-3"}
    assert found.credentials is None  # obstore takes them from there


def test_defaults_of_fsspec(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(fsspec.config.conf, "s3", {"key": "k", "secret": "s"})
    assert s3_settings("bucket", {"key": "other"}).config["access_key_id"] == "other"
    assert s3_settings("bucket", {}).config["secret_access_key"] == "s"


@pytest.fixture
def regions() -> Iterator[str]:
    """A server that answers as AWS does to one who may not see the bucket."""

    class Answer(BaseHTTPRequestHandler):
        def do_HEAD(self) -> None:
            self.send_response(403)
            self.send_header("x-amz-bucket-region", "eu-south-1")
            self.end_headers()

        def log_message(self, *_: Any) -> None:
            pass

    with HTTPServer(("127.0.0.1", 0), Answer) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}/{{bucket}}"
        server.shutdown()
        thread.join()


def test_a_bucket_of_aws_is_asked_for_its_region(
    regions: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(s3_options, "_AWS", regions)
    assert s3_settings("bucket", PAIR).config["region"] == "eu-south-1"


@pytest.mark.parametrize(
    ("options", "config"),
    [
        ({"token": "anon"}, {"skip_signature": True}),
        ({"token": {"type": "service_account"}}, {"service_account_key": "{}"}),
        ({"token": "bearer"}, {"bearer_token": "bearer"}),
        ({"token": __file__}, {"application_credentials": __file__}),
        ({"token": "anon", "endpoint_url": "http://h:1/"}, {"base_url": "http://h:1"}),
    ],
)
def test_options_of_gcsfs(options: dict[str, Any], config: dict[str, Any]) -> None:
    found = gcs_settings("bucket", options | {"project": "p", "cache_timeout": 1})
    assert config.keys() <= found.config.keys()
    assert found.config.get("bearer_token") == config.get("bearer_token")


def test_who_pays_on_google() -> None:
    found = gcs_settings("b", {"token": "anon", "requester_pays": True, "project": "p"})
    assert found.client["default_headers"] == {"x-goog-user-project": "p"}


class _Token:
    """What credentials of google-auth and azure-identity have in common with these two."""

    valid, token, expiry, expires_on = True, "t", None, 10**10

    def get_token(self, scope: str) -> _Token:
        return self


def test_credentials_that_are_handed_over() -> None:
    for settings, name in ((gcs_settings, "token"), (azure_settings, "credential")):
        found: CloudSettings = settings("b", {name: _Token()})
        assert found.credentials is not None
        assert found.credentials()["token"] == "t"


@pytest.mark.parametrize(
    ("options", "config"),
    [
        ({"account_name": "n", "account_key": "k"}, {"account_name": "n", "account_key": "k"}),
        ({"account_name": "n", "sas_token": "?s=1"}, {"sas_key": "s=1"}),
        ({"account_name": "n", "credential": "k"}, {"account_key": "k"}),
        (
            {"account_name": "n", "tenant_id": "t", "client_id": "i", "client_secret": "s"},
            {"tenant_id": "t", "client_id": "i", "client_secret": "s"},
        ),
        ({"account_name": "n", "anon": True}, {"skip_signature": True}),
        ({"account_name": "n", "account_key": "k", "account_host": "h"}, {"endpoint": "https://h"}),
        (
            {"connection_string": "AccountName=n;AccountKey=k;EndpointSuffix=e.cn"},
            {"account_key": "k", "endpoint": "https://n.blob.e.cn"},
        ),
    ],
)
def test_options_of_adlfs(
    options: dict[str, Any], config: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    found = azure_settings("container", options | {"default_fill_cache": False})
    assert config.items() <= found.config.items()


def test_ways_to_name_a_container() -> None:
    options = {"account_key": KEY}
    urls = ("az://c/a", "abfs://c/a", "abfss://c@n.dfs.core.windows.net/a")
    paths = {Location.of(url, {"account_name": "n"} | options, "x").path for url in urls}
    assert paths == {"c/a"}


def test_the_same_objects_by_either_client(s3: S3Server, azure: AzureServer) -> None:
    """What others wrote is read, and listed with the version that fsspec's own client tells."""
    for server in (s3, azure):
        place = Location.of(f"{server.url}/either", server.options(), "x")
        theirs = fsspec.core.url_to_fs(place.url, **server.options())[0]
        theirs.pipe_file(f"{BUCKET}/either/a b#1%3D=é.txt", b"12345")
        (place / "deep/er").write(b"1")
        assert (place / "a b#1%3D=é.txt").read(1, 3) == b"23"
        assert theirs.cat_file(f"{BUCKET}/either/deep/er") == b"1"
        theirs.invalidate_cache()
        infos = theirs.find(place.path, detail=True)
        ours = place.fs.find(place.path, detail=True)
        assert {name for name in infos if not name.endswith("/")} == set(ours)
        for name, info in ours.items():
            tag = infos[name].get("ETag") or infos[name]["etag"]
            assert info["ETag"].strip('"') == tag.strip('"')
            assert info["size"] == infos[name]["size"]
