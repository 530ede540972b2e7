"""Clusters: TLS from the config, workers that go away."""

from __future__ import annotations

import asyncio
import shutil
import subprocess
import time
from pathlib import Path

import distributed
import pytest
from distributed import LocalCluster, Security

from noisydask.cli.overrides import checked
from noisydask.engine.cluster import connect
from noisydask.engine.config import ClusterConfig
from noisydask.errors import InputError, JobError
from noisydask.runs.job import failures_told
from noisydask.stores.locations import Location


@pytest.fixture
def certificate(tmp_path: Path) -> tuple[str, str]:
    """A certificate that is its own authority, and its key."""
    if shutil.which("openssl") is None:
        pytest.skip("needs openssl")
    files = str(tmp_path / "cert.pem"), str(tmp_path / "key.pem")
    subprocess.run(
        [
            "openssl",
            "req",
            "-x509",
            "-newkey",
            "rsa:2048",
            "-nodes",
            "-days",
            "2",
            "-subj",
            "/CN=127.0.0.1",
            "-addext",
            "subjectAltName=IP:127.0.0.1",
            "-out",
            files[0],
            "-keyout",
            files[1],
        ],
        check=True,
        capture_output=True,
    )
    return files


def test_a_scheduler_that_is_gone_is_not_taken_for_a_store(tmp_path: Path) -> None:
    told = pytest.raises(
        JobError, match=r"^the cluster failed: the connection to its scheduler was lost"
    )
    with told, failures_told(Location.of(str(tmp_path), None, "out")):
        asyncio.run(distributed.comm.connect("tcp://127.0.0.1:9", timeout=0.2))


def test_tls_from_the_config(certificate: tuple[str, str]) -> None:
    cert, key = certificate
    security = Security(
        require_encryption=True,
        tls_ca_file=cert,
        tls_scheduler_cert=cert,
        tls_scheduler_key=key,
        tls_worker_cert=cert,
        tls_worker_key=key,
        tls_client_cert=cert,
        tls_client_key=key,
    )
    with LocalCluster(
        n_workers=1,
        threads_per_worker=1,
        processes=False,
        security=security,
        dashboard_address="127.0.0.1:0",
        protocol="tls",
        host="127.0.0.1",
    ) as cluster:
        address = cluster.scheduler_address
        assert address.startswith("tls://")
        keys = {"tls_ca_file": cert, "tls_client_cert": cert, "tls_client_key": key}
        with connect(ClusterConfig(scheduler=address, **keys)) as client:
            assert client.submit(sum, [1, 2]).result() == 3


@pytest.mark.parametrize(
    "given",
    [{"tls_ca_file": "a"}, {"tls_ca_file": "a", "tls_client_cert": "b", "tls_client_key": "c"}],
)
def test_tls_goes_with_a_scheduler_and_in_whole(given: dict[str, str]) -> None:
    with pytest.raises(InputError, match="go together, with a scheduler"):
        checked({"labels": "l", "pred_probs": "p", "out": "o", "cluster": given})


def test_a_scheduler_file_that_nobody_writes_is_not_waited_for_without_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("noisydask.engine.cluster.CONNECT_SECONDS", 0.2)
    with (
        pytest.raises(JobError, match=r"nothing\.json"),
        connect(ClusterConfig(scheduler_file=str(tmp_path / "nothing.json"))),
    ):
        pass


def test_a_job_without_workers_does_not_wait_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    with LocalCluster(
        n_workers=1, threads_per_worker=1, dashboard_address="127.0.0.1:0"
    ) as cluster:
        monkeypatch.setattr("noisydask.engine.workers.LOOK_SECONDS", 0.2)
        config = ClusterConfig(scheduler=cluster.scheduler_address)

        def desert() -> None:
            with connect(config) as client:
                monkeypatch.setattr("noisydask.engine.workers.WORKER_SECONDS", 1.5)
                future = client.submit(time.sleep, 60)
                cluster.scale(0)
                future.result()

        with pytest.raises(JobError, match=r"has had no workers for 1\.5 s"):
            desert()
