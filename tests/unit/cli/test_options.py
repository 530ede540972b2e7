"""Options as people meet them: fixed choices in editors, mypy and the shell; sizes with units."""

from __future__ import annotations

import inspect
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal, get_args, get_origin, get_type_hints

import numpy as np
import pytest
import typer

import noisydask
from noisydask.cli.app import main
from noisydask.cli.commands import app
from noisydask.cli.options import places_of
from noisydask.cli.overrides import checked
from noisydask.engine.config import ClusterConfig
from noisydask.errors import InputError
from noisydask.options import base_types
from noisydask.options import choices as choices_of
from noisydask.runs.kinds import JOBS

LABELS = np.array([0, 1, 0, 1, 1])
PRED_PROBS = np.array([[0.9, 0.1], [0.2, 0.8], [0.8, 0.2], [0.1, 0.9], [0.95, 0.05]])
LOSSES = np.ones((3, 2), np.float32)
PLACES = {"labels": "l.npy", "pred_probs": "p.npy", "out": "out"}


def choices(function: Any) -> dict[str, tuple[str, ...]]:
    """Words of each parameter of a function that takes a fixed one, as its annotation says."""
    found = {}
    for name, hint in get_type_hints(function, localns={"Figure": object}).items():
        for kind in (hint, *get_args(hint)) if get_origin(hint) is not Sequence else ():
            if get_origin(kind) is Literal:
                found[name] = get_args(kind)
    return found


def documented(function: Any) -> dict[str, set[str]]:
    """The same, as the docstring says."""
    lines = inspect.getdoc(function).splitlines()  # type: ignore[union-attr]
    named = [line.split(" : {") for line in lines if " : {" in line]
    return {
        name: {word.strip(' "') for word in text.partition("}")[0].split(",")}
        for names, text in named
        for name in names.split(", ")
    }


PUBLIC = (
    noisydask.find_label_issues,
    noisydask.analyze_loss_dynamics,
    noisydask.combine,
    noisydask.LossDynamics.plot_ema_loss_dynamics,
    noisydask.LossDynamicsAnalyzer.plot_ema_loss_dynamics,
)


@pytest.mark.parametrize("function", PUBLIC, ids=lambda function: function.__qualname__)
def test_annotations_have_the_words_of_the_docstring(function: Any) -> None:
    found = choices(function)
    assert found
    assert {name: set(words) for name, words in found.items()} == documented(function)


@pytest.mark.parametrize(
    ("name", "words"), choices(noisydask.find_label_issues).items(), ids=lambda x: str(x)[:20]
)
def test_the_annotated_words_are_those_that_work(name: str, words: tuple[str, ...]) -> None:
    for word in words:
        assert noisydask.find_label_issues(LABELS, PRED_PROBS, **{name: word}).num_examples == 5
        assert getattr(checked(PLACES | {name: word}), name) == word
    optional = inspect.signature(noisydask.find_label_issues).parameters[name].default is None
    for other in (words[0].upper(), "", *(() if optional else (None,))):
        with pytest.raises(InputError, match=f"{name} must be one of {words[0]}, "):
            noisydask.find_label_issues(LABELS, PRED_PROBS, **{name: other})
    with pytest.raises(InputError, match=f"^{name} must be one of {', '.join(words)}$"):
        checked(PLACES | {name: words[0].upper()})


@pytest.mark.slow
def test_mypy_checks_what_users_write(tmp_path: Path) -> None:
    program = tmp_path / "program.py"
    good, bad = (
        f'noisydask.find_label_issues("l", "p", quality_score="{word}", block_bytes="1MB")\n'
        for word in ("normalized_margin", "margin")
    )
    program.write_text(f"import noisydask\n{good}{bad}")
    done = subprocess.run(
        [sys.executable, "-m", "mypy", "--strict", "program.py"],
        cwd=tmp_path,
        text=True,
        capture_output=True,
        check=False,
        timeout=300,
    )
    assert "program.py:3:" in done.stdout
    assert "program.py:2:" not in done.stdout
    assert "py.typed" not in done.stdout


@pytest.mark.parametrize(
    ("size", "number"), [("1MB", 10**6), ("128 MiB", 2**27), ("1.5kB", 1500), ("4096", 4096)]
)
def test_sizes_have_units(
    size: str, number: int, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    found = noisydask.find_label_issues(LABELS, PRED_PROBS, block_bytes=size)
    assert found.manifest["settings"]["block_bytes"] == number
    noisydask.analyze_loss_dynamics(LOSSES, block_bytes=size)
    assert checked(PLACES | {"block_bytes": size}).block_bytes == number
    losses = {"job": "dynamics", "losses": "l.npy", "out": "out", "block_bytes": size}
    assert checked(losses).block_bytes == number


@pytest.mark.parametrize("size", ["", "MB", "much", "-1MB", "1 parsec", "1e999", "nan"])
def test_what_is_not_a_size_is_told_in_one_sentence(
    size: str, capsys: pytest.CaptureFixture[str]
) -> None:
    for call in (
        lambda: noisydask.find_label_issues(LABELS, PRED_PROBS, block_bytes=size),
        lambda: noisydask.analyze_loss_dynamics(LOSSES, block_bytes=size),
        lambda: checked(PLACES | {"block_bytes": size}),
    ):
        with pytest.raises(InputError, match=r"^block_bytes is not a size, such as 128MiB"):
            call()
    given = ["--labels", "l.npy", "--pred-probs", "p.npy", "--out", "o", "--block-bytes", size]
    assert main(["issues", *given]) == 2
    assert "error: --block-bytes is not a size, such as 128MiB" in capsys.readouterr().err


@pytest.mark.parametrize("size", [0, "0", "0 MB"])
def test_a_size_is_at_least_a_byte(size: Any) -> None:
    with pytest.raises(InputError, match="block_bytes must be a whole number of at least 1"):
        noisydask.find_label_issues(LABELS, PRED_PROBS, block_bytes=size)
    with pytest.raises(InputError, match=r"^block_bytes must be a whole number of at least 1$"):
        checked(PLACES | {"block_bytes": size})


def test_the_shell_completes_commands_options_and_choices(tmp_path: Path) -> None:
    """Completion is installed as a user does it, and asked as bash does."""
    here = str(Path(sys.executable).parent)
    environment = os.environ | {"HOME": str(tmp_path), "PATH": f"{here}:{os.environ['PATH']}"}

    def bash(script: str) -> str:
        done = subprocess.run(
            ["bash", "-c", script],
            env=environment,
            text=True,
            capture_output=True,
            check=True,
            timeout=120,
        )
        return done.stdout

    # A shell that runs one command alone becomes that command, and could not be recognised.
    bash("noisydask --install-completion; exit $?")
    installed = (tmp_path / ".bashrc").read_text().strip()
    wanted = {
        "noisydask dy": ["dynamics"],
        "noisydask issues --estim": ["--estimation-method"],
        "noisydask issues --quality-score n": ["normalized_margin"],
        "noisydask combine one other --on i": ["id", "index"],
    }
    script = [installed, "complete -p noisydask >/dev/null"]
    for line in wanted:
        words = " ".join(f"'{word}'" for word in line.split(" "))
        script += [
            f"COMP_WORDS=({words}); COMP_CWORD={len(line.split(' ')) - 1}; COMPREPLY=()",
            '_noisydask_completion noisydask; echo "${COMPREPLY[@]}"',
        ]
    assert bash("\n".join(script)).splitlines() == [" ".join(words) for words in wanted.values()]


JOBS_OF = {name: (kind.load("function"), kind.load("options")) for name, kind in JOBS.items()}
#: Parameters of functions that are not options of a job, and what files call otherwise.
NOT_OPTIONS = {"reporter"}
SEQUENCES = {"class_names", "class_columns", "num_to_remove_per_class", "keep_columns"}
CALLED = {"issues_out": "issues", "dynamics_out": "dynamics"}


@pytest.mark.parametrize("job", JOBS_OF)
def test_functions_and_models_agree(job: str) -> None:
    """Options are declared once: the functions, which spell them out, have the same ones."""
    function, model = JOBS_OF[job]
    parameters = {
        CALLED.get(name, name): parameter
        for name, parameter in inspect.signature(function).parameters.items()
        if name not in NOT_OPTIONS
    }
    fields = {name: field for name, field in model.model_fields.items() if name != "cluster"}
    assert set(parameters) | {"job"} == set(fields)
    hints = get_type_hints(function)
    for name, field in fields.items():
        if name in parameters and places_of(model).count(name) == 0 and name != "storage_options":
            default = parameters[name].default
            assert field.is_required() or default == field.default, name
            if choices_of(field.annotation):
                given = choices(function)[name]
                assert given == choices_of(field.annotation), name
            elif name not in SEQUENCES:
                assert set(base_types(field.annotation)) <= set(
                    get_args(hints[name]) or [hints[name]]
                )


@pytest.mark.parametrize("job", JOBS_OF)
def test_commands_and_models_agree(job: str) -> None:
    _, model = JOBS_OF[job]
    group: Any = typer.main.get_command(app)
    names = {parameter.name for parameter in group.commands[job].params}
    places = {f"{name}_options" for name in places_of(model) if name != "class_names"}
    wanted = {name for name in model.model_fields if name not in ("job", "cluster")} | places
    wanted |= set(ClusterConfig.model_fields) | {"quiet", "as_machine"}
    arguments = set(CALLED) if job == "combine" else set()
    assert names == (wanted - set(CALLED.values()) if arguments else wanted) | arguments
    for parameter in group.commands[job].params:
        assert parameter.name in arguments or parameter.help, parameter.name
