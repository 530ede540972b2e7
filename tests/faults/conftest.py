"""What the fault tests share: a proxy before the S3 server, and trials on it."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from noisydask.faults.cases import Case
from noisydask.faults.plans import Trial
from noisydask.faults.proxy import Proxy, proxy
from noisydask.faults.server import S3Server


@pytest.fixture
def way(s3: S3Server) -> Iterator[Proxy]:
    """A proxy before the S3 server."""
    with proxy(s3.endpoint, seed=7) as found:
        yield found


@pytest.fixture
def new_trial(s3: S3Server, way: Proxy, tmp_path: Path) -> Callable[[Case], Trial]:
    """Makes a trial on a dataset."""
    return lambda case: Trial(s3, way, random.Random(4), case, tmp_path.name)
