"""Machines that let us write nearly nowhere, or do not say who we are."""

from __future__ import annotations

import importlib.util
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import dask
import numpy as np
import pytest
from layouts import make

import noisydask

DATA = make(rows=500)
PACKAGE = Path(noisydask.__file__).parent
JOB = """
import sys, numpy, noisydask
labels, pred_probs = (numpy.load(f"{sys.argv[1]}/{name}.npy") for name in ("y", "p"))
print(*noisydask.find_label_issues(labels, pred_probs).indices)
"""


def run(
    *command: str, cwd: Path | None = None, **environment: str
) -> subprocess.CompletedProcess[str]:
    """What a command does and says in an environment with these variables alone."""
    here = {"PATH": os.environ["PATH"], **environment}
    return subprocess.run(
        command, env=here, cwd=cwd, capture_output=True, text=True, check=False, timeout=300
    )


def data_in(folder: Path) -> list[int]:
    """Write the data; their issues."""
    np.save(folder / "y.npy", DATA.labels)
    np.save(folder / "p.npy", DATA.pred_probs)
    return noisydask.find_label_issues(DATA.labels, DATA.pred_probs).indices.tolist()


def sealed_copy(folder: Path) -> str:
    """A copy of the package beside whose modules nothing can be written, whoever tries."""
    shutil.copytree(PACKAGE, folder / "noisydask", ignore=shutil.ignore_patterns("__pycache__"))
    for inside in (folder / "noisydask").rglob("*.py"):
        (inside.parent / "__pycache__").touch()
    (folder / "home").touch()
    return str(folder)


@pytest.mark.slow
def test_kernels_are_compiled_where_nothing_of_them_can_be_kept(tmp_path: Path) -> None:
    expected, copy = data_in(tmp_path), sealed_copy(tmp_path)
    done = run(
        sys.executable,
        "-c",
        JOB,
        str(tmp_path),
        cwd=tmp_path,
        HOME=str(tmp_path / "home/me"),
        PYTHONPATH=copy,
    )
    assert done.returncode == 0, done.stderr
    assert [int(index) for index in done.stdout.split()] == expected
    assert done.stderr.count("NUMBA_CACHE_DIR") == len(done.stderr.splitlines()) == 1


def test_the_version_where_nothing_can_be_kept(tmp_path: Path) -> None:
    done = run(
        sys.executable,
        "-m",
        "noisydask",
        "--version",
        cwd=tmp_path,
        HOME=str(tmp_path / "home/me"),
        PYTHONPATH=sealed_copy(tmp_path),
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == f"noisydask {noisydask.__version__}\n"


def module_with_a_kernel(folder: Path) -> ModuleType:
    path = folder / "with_kernel.py"
    path.write_text(
        "from noisydask.core.compiled import kernel\n@kernel()\ndef twice(x):\n    return 2 * x\n"
    )
    spec = importlib.util.spec_from_file_location("with_kernel", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def in_the_way(folder: Path) -> None:
    shutil.rmtree(folder)
    folder.touch()


def of_rubbish(folder: Path) -> None:
    for file in folder.glob("*.nb*"):
        file.write_bytes(b"rubbish")


@pytest.mark.parametrize("damage", [in_the_way, of_rubbish])
def test_a_cache_that_fails_costs_a_compilation(
    damage: Callable[[Path], None], tmp_path: Path
) -> None:
    assert module_with_a_kernel(tmp_path).twice(2) == 4
    kept = tmp_path / "__pycache__"
    assert len(list(kept.glob("*.nb*"))) == 2  # Numba's index, and the code
    module = module_with_a_kernel(tmp_path)
    damage(kept)
    assert module.twice(2) == 4


def test_without_a_temporary_folder_out_must_be_given(tmp_path: Path) -> None:
    with (
        dask.config.set({"temporary-directory": str(tmp_path / "missing")}),
        pytest.raises(noisydask.InputError, match="give out="),
    ):
        noisydask.find_label_issues(DATA.labels, DATA.pred_probs)


NOBODY = ("unshare", "--user", "--map-user=12345", "--map-group=12345")
ALONE = ("unshare", "--user", "--map-root-user", "--mount", "sh", "-c")
#: /mnt is the test's folder; the rest is what a pod with a read-only root and no volumes has.
NO_TEMPORARY_FOLDER = """
mount --bind "$1" /mnt && shift
for folder in /tmp /var/tmp /srv; do mount -t tmpfs -o ro none $folder; done
cd /srv && exec "$@"
"""
NO_SHARED_MEMORY = """
mount --bind "$1" /mnt && shift && mount -t tmpfs -o ro none /dev/shm && exec "$@"
"""
NO_PROC = """
mount --bind "$1" /mnt && shift && mount -t tmpfs none /proc && exec "$@"
"""


def needs(*command: str) -> Any:
    """Skip a test where this machine does not do what it needs."""
    works = shutil.which(command[0]) and not run(*command).returncode
    return pytest.mark.skipif(not works, reason=f"{' '.join(command[:3])} is not allowed here")


def issues_of(folder: str) -> list[str]:
    data = ["--labels", f"{folder}/y.npy", "--pred-probs", f"{folder}/p.npy"]
    command = [sys.executable, "-m", "noisydask", "issues", *data]
    return [*command, "--out", f"{folder}/out", "--workers", "1"]


@pytest.mark.slow
@needs(*NOBODY, "true")
def test_a_user_without_a_name_and_a_home(tmp_path: Path) -> None:
    expected = data_in(tmp_path)
    done = run(*NOBODY, *issues_of(str(tmp_path)), cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert noisydask.open_run(tmp_path / "out").indices.tolist() == expected
    assert not (tmp_path / "~").exists()


@needs(*NOBODY, "true")
def test_no_folder_is_made_for_a_home_that_nobody_knows(tmp_path: Path) -> None:
    work = tmp_path / "work"
    work.mkdir()
    code = "from noisydask.core import compiled, ranking; print(len(compiled.not_kept))"
    copy = sealed_copy(tmp_path)
    done = run(*NOBODY, sys.executable, "-c", code, cwd=work, PYTHONPATH=copy)
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) > 0
    assert not list(work.iterdir())


@pytest.mark.slow
@needs(*ALONE, "mount -t tmpfs -o ro none /srv")
@pytest.mark.parametrize("without", [NO_TEMPORARY_FOLDER, NO_SHARED_MEMORY])
def test_where_no_processes_can_be_started_threads_do_the_work(
    without: str, tmp_path: Path
) -> None:
    expected = data_in(tmp_path)
    done = run(*ALONE, without, "sh", str(tmp_path), *issues_of("/mnt"))
    assert done.returncode == 0, done.stderr
    assert done.stderr.count("no worker processes can be started") == 1
    assert "Traceback" not in done.stderr
    assert noisydask.open_run(tmp_path / "out").indices.tolist() == expected


@pytest.mark.slow
@needs(*ALONE, "mount -t tmpfs -o ro none /srv")
def test_a_picture_that_cannot_be_drawn_is_left_out(tmp_path: Path) -> None:
    losses = np.random.default_rng(0).random((50, 4))
    np.save(tmp_path / "l.npy", losses)
    given = ["--losses", "/mnt/l.npy", "--out", "/mnt/out", "--workers", "1"]
    command = [sys.executable, "-m", "noisydask", "dynamics", *given]
    done = run(*ALONE, NO_TEMPORARY_FOLDER, "sh", str(tmp_path), *command, HOME="/srv/me")
    assert done.returncode == 0, done.stderr
    assert not list(tmp_path.glob("out/runs/*/curves.png"))
    ranked = noisydask.open_run(tmp_path / "out").top_k(1)
    metric = noisydask.analyze_loss_dynamics(losses, top_k=1).top_k(1)
    assert ranked["index"].tolist() == metric["index"].tolist()


@needs(*ALONE, "mount -t tmpfs none /proc")
def test_one_sentence_where_dask_cannot_be_imported(tmp_path: Path) -> None:
    code = "import sys, noisydask; print('dask' in sys.modules)"
    if run(sys.executable, "-c", code).stdout != "False\n":
        pytest.skip("the package imports Dask before the command begins")
    done = run(*ALONE, NO_PROC, "sh", str(tmp_path), *issues_of("/mnt"))
    assert done.returncode == 1
    assert done.stderr.count("\n") == 1
    assert done.stderr.startswith("error: Dask needs /proc")
