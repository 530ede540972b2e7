"""Imports run one way: what is pure stays pure, directly and through others."""

from __future__ import annotations

import ast
import subprocess
import sys
from functools import cache
from pathlib import Path

import pytest

import noisydask

ROOT = Path(noisydask.__file__).parent
#: A room imports from itself and from those before it.
ROOMS = (
    "core",
    "stores",
    "checkpoint",
    "engine",
    "predictions",
    "runs",
    "issues",
    "dynamics",
    "consensus",
    "compat",
    "report",
    "demo",
    "cli",
    "command",
)
STORAGE_AND_GRAPHS = {"dask", "distributed", "zarr", "fsspec", "s3fs", "pandas", "pyarrow"}
# Only these build graphs or open inputs; of the passes and jobs none needs to know how.
GRAPH_BUILDERS = {"dask.array", "dask.dataframe", "dask.delayed", "dask.bag"}
#: What tasks do.
PASSES = (
    "engine.parts",
    "issues.passes",
    "issues.ranked",
    "issues.scanning",
    "issues.result_arrays",
    "runs.changed_rows",
    "dynamics.dense_passes",
    "dynamics.dense_state",
    "dynamics.candidates",
    "dynamics.candidate_parts",
    "dynamics.table_passes",
    "dynamics.loss_parts",
    "consensus.passes",
    "consensus.consensus_parts",
)


@cache
def imported(module: str) -> set[str]:
    """Full names of all that a module imports, wherever in it the statement stands."""
    path = ROOT / (module.replace(".", "/") + ".py")
    names: set[str] = set()
    for node in ast.walk(
        ast.parse((path if path.exists() else path.with_suffix("") / "__init__.py").read_text())
    ):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{module} imports relatively"
            base = node.module or ""
            # "from noisydask import graph" names a module, "from dask import array" does.
            names |= {base} | {f"{base}.{alias.name}" for alias in node.names}
    return names


def own_modules(names: set[str]) -> set[str]:
    """Modules of the package among names."""
    inside = {name.removeprefix("noisydask.") for name in names if name.startswith("noisydask.")}
    return {name for name in inside if (ROOT / (name.replace(".", "/") + ".py")).exists()}


@cache
def reachable(module: str) -> set[str]:
    """The module and all of the package that it imports, directly or through others."""
    found, waiting = set(), [module]
    while waiting:
        current = waiting.pop()
        if current not in found:
            found.add(current)
            waiting += own_modules(imported(current))
    return found


def every_module() -> list[str]:
    return sorted(
        str(path.relative_to(ROOT).with_suffix("")).replace("/", ".")
        for path in ROOT.rglob("*.py")
        if path.name != "__init__.py"
    )


def room_of(module: str) -> str:
    """The room of a module; none of what lies beside them."""
    room, inside, _ = module.partition(".")
    return room if inside else ""


@pytest.mark.parametrize("module", [name for name in every_module() if room_of(name) == "core"])
def test_the_core_is_pure(module: str) -> None:
    for name in reachable(module):
        packages = {full.split(".")[0] for full in imported(name)}
        assert not packages & STORAGE_AND_GRAPHS, f"{module} reaches them through {name}"


@pytest.mark.parametrize("module", [name for name in every_module() if room_of(name)])
def test_rooms_import_only_from_those_before_them(module: str) -> None:
    before = {"", *ROOMS[: ROOMS.index(room_of(module)) + 1]}
    wrong = {name for name in own_modules(imported(module)) if room_of(name) not in before}
    assert not wrong


@pytest.mark.parametrize("module", every_module())
def test_no_module_imports_one_that_imports_it(module: str) -> None:
    for direct in own_modules(imported(module)):
        assert module not in reachable(direct), f"{module} and {direct} import each other"


def test_passes_know_no_dask() -> None:
    for module in PASSES:
        for name in reachable(module):
            packages = {full.split(".")[0] for full in imported(name)}
            assert not packages & {"dask", "distributed"}, f"{module} reaches them through {name}"


def test_only_graph_builds_graphs() -> None:
    # The others turn arrays of the caller, and those of a run, into Dask arrays, and run no pass.
    builders = {module for module in every_module() if imported(module) & GRAPH_BUILDERS}
    assert builders == {
        "stores.arrays",
        "engine.graph",
        "engine.shuffling",
        "engine.lazy_results",
    }


@pytest.mark.parametrize(
    ("words", "packages"),
    [
        (["--version"], {"numpy", "pandas", "fsspec", "zarr", "dask", "numba", "pydantic"}),
        (["show", "nowhere"], {"zarr", "dask", "distributed", "numba"}),
    ],
)
def test_what_answers_at_once_imports_little(words: list[str], packages: set[str]) -> None:
    code = "import sys; from noisydask.cli.app import main; main({!r}); print(*sys.modules)"
    command = [sys.executable, "-c", code.format(words)]
    done = subprocess.run(command, capture_output=True, check=True, text=True)
    assert not packages & {*done.stdout.split()}


def test_job_scripts_of_before_find_the_command() -> None:
    code = "from noisydask.command.cli import main; raise SystemExit(main(['--version']))"
    command = [sys.executable, "-W", "default", "-c", code]
    done = subprocess.run(command, capture_output=True, check=True, text=True)
    assert done.stdout.startswith("noisydask ")
    assert "DeprecationWarning" in done.stderr
    assert "noisydask.cli.app" in done.stderr
