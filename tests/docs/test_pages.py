"""All commands and all Python of the README and the documentation run as they stand, page by page,
on the demo's data, a real S3 server and a real cluster.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import fsspec
import pytest
import yaml
from cronsim import CronSim
from pages import PAGES, ROOT, Block, blocks, commands, name_of
from rig.server import KEY, SECRET, S3Server, until_it_works

#: How a command or a line of Python begins that is not run here, and why.
NOT_RUN = {
    "make": "sets up an environment, or takes hours; CI runs make itself",
    "pip install": "changes the environment that the tests run in",
    "pre-commit install": "changes the hooks of this repository",
    "export AWS_": "the test sets the credentials of its server",
    ".venv/bin/python -m pytest": "runs the tests themselves",
    "import torch": "PyTorch is not installed for the tests",
}
#: Commands that run as what `make` runs once the environment is there.
INSTEAD = {"make demo": "noisydask demo"}
RUN = [page for page in PAGES if any(block.language in ("sh", "python") for block in blocks(page))]
#: The bucket in the URLs of the pages.
BUCKET = "bucket"


def not_run(line: str) -> str | None:
    """Return the entry of the list that a command or a line of Python is named by."""
    return next((begin for begin in NOT_RUN if line.startswith(begin)), None)


def script(page: Path, folder: Path) -> str:
    """Write the files of a page into a folder; the shell script that does all that it says."""
    # Clusters that the page starts in the background end with it.
    lines = ["set -eu", "trap 'kill $(jobs -p) 2>/dev/null || true' EXIT"]
    for block in blocks(page):
        lines.append(f"echo '== {name_of(page)}, line {block.line}' >&2")
        if block.title:
            (folder / block.title).write_text(block.text, encoding="utf-8")
        elif block.language == "sh":
            runs = (INSTEAD.get(command, command) for command in commands(block))
            lines += [command for command in runs if not not_run(command)]
        elif block.language == "python":
            lines += python(block, folder)
    return "\n".join(lines)


def python(block: Block, folder: Path) -> list[str]:
    """Write the Python of a block into a file; the command that runs it, if it can run here."""
    file = folder / f"line_{block.line}.py"
    compile(block.text, file.name, "exec")
    file.write_text(block.text, encoding="utf-8")
    skipped = any(not_run(line) for line in block.text.splitlines())
    return [] if skipped else [f"python {file.name}"]


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The demo's data, before any job ran on them."""
    folder = tmp_path_factory.mktemp("data")
    run = [sys.executable, "-m", "noisydask", "demo", "--data-only", "--folder", "demo"]
    subprocess.run(run, cwd=folder, check=True, timeout=300, capture_output=True)
    return folder / "demo"


@pytest.fixture
def folder(data: Path, tmp_path: Path) -> Path:
    """A clone in which the demo's data were made, and a Datumaro dataset of somebody's own."""
    shutil.copytree(data, tmp_path / "demo")
    shutil.copytree(ROOT / "tests/data/datumaro/classification", tmp_path / "dataset")
    for name in ("configs", "jobs"):
        shutil.copytree(ROOT / name, tmp_path / name)
    return tmp_path


@pytest.fixture
def bucket(s3: S3Server, data: Path) -> Iterator[S3Server]:
    """A server whose bucket holds the demo's data, and nothing else."""
    fs = fsspec.filesystem("s3", use_listings_cache=False, skip_instance_cache=True, **s3.options())
    until_it_works(lambda: fs.mkdir(BUCKET) if not fs.exists(BUCKET) else None)
    for name in ("labels.zarr", "pred_probs.zarr", "losses"):
        until_it_works(lambda name=name: fs.put(f"{data / name}", f"{BUCKET}/", recursive=True))
    yield s3
    fs.rm(f"{BUCKET}/*", recursive=True)


def environment(server: S3Server | None) -> dict[str, str]:
    """Return the environment of somebody who has set up noisydask, and credentials of a store."""
    ours = Path(sys.executable).parent
    found = os.environ | {"PATH": f"{ours}:{os.environ['PATH']}", "MPLBACKEND": "Agg"}
    if server is not None:
        found |= {"AWS_ACCESS_KEY_ID": KEY, "AWS_SECRET_ACCESS_KEY": SECRET}
        found |= {"AWS_ENDPOINT_URL": server.endpoint, "AWS_DEFAULT_REGION": "us-east-1"}
    return found


@pytest.mark.slow
@pytest.mark.parametrize("page", RUN, ids=name_of)
def test_pages_run_as_they_stand(page: Path, folder: Path, request: pytest.FixtureRequest) -> None:
    on_s3 = "s3://" in page.read_text(encoding="utf-8")
    server = request.getfixturevalue("bucket") if on_s3 else None
    done = subprocess.run(
        ["bash", "-c", script(page, folder)],
        cwd=folder,
        env=environment(server),
        capture_output=True,
        text=True,
        timeout=900,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    if done.stdout:
        printed = {" ".join(line.split()) for line in done.stdout.splitlines()}
        for block in blocks(page):
            if not block.language:
                shown = (" ".join(line.split()) for line in block.text.splitlines())
                assert set(shown) <= printed, f"line {block.line} shows what is not printed"


def test_what_does_not_run_is_still_there() -> None:
    lines = [
        line
        for page in RUN
        for block in blocks(page)
        if block.language in ("sh", "python")
        for line in (commands(block) if block.language == "sh" else block.text.splitlines())
    ]
    assert {not_run(line) for line in lines} - {None} == set(NOT_RUN)
    assert set(INSTEAD) <= set(lines)


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_blocks_are_of_their_language(page: Path) -> None:
    for block in blocks(page):
        where = f"{name_of(page)}, line {block.line}"
        assert block.language in ("", "sh", "python", "yaml", "crontab"), where
        if block.language == "python":
            compile(block.text, where, "exec")
        elif block.language == "yaml":
            assert isinstance(yaml.safe_load(block.text), dict), where
        elif block.language == "crontab":
            next(CronSim(" ".join(block.text.split()[:5]), datetime(2026, 1, 1, tzinfo=UTC)))
