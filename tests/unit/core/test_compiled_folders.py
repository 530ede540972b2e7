"""Folders of compiled kernels that can be read and not written, as those of images."""

from __future__ import annotations

import logging
import subprocess
import sys
from pathlib import Path

import pytest
from numba.core import caching, config

from noisydask.core import compiled


def some_kernel() -> int:
    return 1


def locator(monkeypatch: pytest.MonkeyPatch, folder: Path) -> caching._CacheLocator | None:
    monkeypatch.setattr(config, "CACHE_DIR", str(folder))

    def refuse(self: caching._CacheLocator) -> None:
        raise OSError("read-only file system")

    monkeypatch.setattr(caching._CacheLocator, "ensure_cache_path", refuse)
    return compiled._Prepared.from_function(some_kernel, __file__)


def test_a_folder_that_was_filled_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    subpath = caching._CacheLocator.get_suitable_cache_subpath(__file__)
    (tmp_path / subpath).mkdir()
    found = locator(monkeypatch, tmp_path)
    assert found is not None
    assert found.get_cache_path() == str(tmp_path / subpath)


def test_one_that_was_not_is_left_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert locator(monkeypatch, tmp_path) is None


_JOB = """
import logging
import numpy as np, noisydask
logging.basicConfig(level=logging.INFO)
probs = np.random.default_rng(0).dirichlet(np.full(4, 0.1), 50).astype("f4")
for _ in range(2):
    noisydask.find_label_issues(probs.argmax(axis=1), probs)
"""


@pytest.mark.slow
def test_compiling_is_said_once_and_not_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NUMBA_CACHE_DIR", str(tmp_path))
    said = [
        subprocess.run([sys.executable, "-c", _JOB], capture_output=True, text=True, check=True)
        for _ in range(2)
    ]
    assert [one.stderr.count("compiling kernels") for one in said] == [1, 0]
    assert logging.getLogger("noisydask").name == compiled.logger.name
