"""The commands: parse, make one call, print."""

from __future__ import annotations

from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

import noisydask
from noisydask.cli import data_commands, nightly, overrides
from noisydask.cli.nightly_config import Night
from noisydask.cli.options import AsJson, Quiet, StorageOptions, options_of, takes
from noisydask.cli.reporting import connected, reporter_for
from noisydask.consensus.options import CombineConfig
from noisydask.dynamics.options import DynamicsConfig
from noisydask.errors import GateError
from noisydask.issues.options import IssuesConfig
from noisydask.lazily import Lazy
from noisydask.report.printing import printable
from noisydask.report.showing import (
    Form,
    err_console,
    out_console,
    print_json,
    run_as_json,
    show_run,
)
from noisydask.runs.kinds import JOBS
from noisydask.runs.options import JobConfig

if TYPE_CHECKING:
    import dask

    from noisydask.cli import files
    from noisydask.engine import beginning
    from noisydask.issues import opened_health
    from noisydask.report import changes as console_changes
    from noisydask.report import health as console_health
    from noisydask.report import runs as console_runs
    from noisydask.runs import changes, store
else:
    dask = Lazy("dask")
    files = Lazy("noisydask.cli.files")
    console_changes = Lazy("noisydask.report.changes")
    console_health = Lazy("noisydask.report.health")
    console_runs = Lazy("noisydask.report.runs")
    opened_health = Lazy("noisydask.issues.opened_health")
    beginning = Lazy("noisydask.engine.beginning")
    changes = Lazy("noisydask.runs.changes")
    store = Lazy("noisydask.runs.store")

app = typer.Typer(
    help="Find mislabeled examples in classification data of any size, on Dask.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)


@app.command()
@takes(options_of(IssuesConfig))
def issues(quiet: Quiet = False, as_machine: AsJson = False, **given: Any) -> None:
    """Find the label issues of a dataset."""
    _run_and_show(overrides.merged({"job": "issues"}, given), Form(quiet, as_machine))


@app.command()
@takes(options_of(DynamicsConfig))
def dynamics(quiet: Quiet = False, as_machine: AsJson = False, **given: Any) -> None:
    """Rank examples by the moving average of their training losses."""
    _run_and_show(overrides.merged({"job": "dynamics"}, given), Form(quiet, as_machine))


@app.command()
@takes(options_of(CombineConfig, without=("issues", "dynamics")))
def combine(
    issues_out: Annotated[str, typer.Argument(help="The --out of `noisydask issues`.")],
    dynamics_out: Annotated[str, typer.Argument(help="The --out of `noisydask dynamics`.")],
    quiet: Quiet = False,
    as_machine: AsJson = False,
    **given: Any,
) -> None:
    """Join the rankings of both jobs: the mean of the two rank percentiles of each example, worst
    label first.
    """
    values = {"job": "combine", "issues": issues_out, "dynamics": dynamics_out}
    _run_and_show(overrides.merged(values, given), Form(quiet, as_machine))


@app.command()
@takes(options_of(IssuesConfig, DynamicsConfig, CombineConfig, mark=False))
def run(
    config: Annotated[Path, typer.Argument(help="YAML file, like those in configs/.")],
    quiet: Quiet = False,
    as_machine: AsJson = False,
    **given: Any,
) -> None:
    """Run the jobs of a configuration file; options given here win over the file's."""
    values = files.read_config(config)
    form = Form(quiet, as_machine)
    if values.get("job") == "nightly":
        _run_night(overrides.merged_night(values, given), form)
    else:
        _run_and_show(overrides.merged(values, given), form)


@app.command()
def diff(
    out: Annotated[str, typer.Argument(help="The --out of finished jobs.")],
    before: Annotated[str | None, typer.Argument(help="A run [the parent of AFTER].")] = None,
    after: Annotated[str | None, typer.Argument(help="A later run [the published one].")] = None,
    top: Annotated[int, typer.Option(help="How many changes of each kind to list.", min=0)] = 10,
    as_machine: AsJson = False,
    storage_options: StorageOptions = None,
) -> None:
    """Show what changed between two runs of any job: what is new, gone and moved."""
    with dask.config.set(scheduler="threads"):
        changes_found = changes.diff(store.Output.at(out, storage_options), before, after, top)
    if as_machine:
        print_json(console_changes.changes_as_json(changes_found))
    else:
        console_changes.show_changes(out_console, changes_found)


@app.command()
def runs(
    out: Annotated[str, typer.Argument(help="The --out of finished jobs.")],
    as_machine: AsJson = False,
    storage_options: StorageOptions = None,
) -> None:
    """List the runs of an output that are kept: what each found, and what changed with it."""
    listed = noisydask.list_runs(out, storage_options=storage_options)
    if as_machine:
        print_json(console_runs.runs_as_json(listed))
    else:
        console_runs.show_runs(out_console, listed)


@app.command()
def show(
    out: Annotated[str, typer.Argument(help="The --out of a finished job.")],
    top: Annotated[int, typer.Option(help="How many of the worst labels to show.", min=0)] = 10,
    run: Annotated[str | None, typer.Option(help="A run that is kept [the published one].")] = None,
    as_machine: AsJson = False,
    storage_options: StorageOptions = None,
) -> None:
    """Show a run of an output: summary and worst labels, or first candidates."""
    run_shown = noisydask.open_run(out, storage_options, run=run)
    for text in () if as_machine else run_shown.warnings:
        reporter_for(quiet=False).warning(text)
    show_run(run_shown, top, Form(as_json=as_machine))


@app.command()
def health(
    out: Annotated[str, typer.Argument(help="The --out of a finished `noisydask issues`.")],
    top: Annotated[int, typer.Option(help="How many classes and pairs to show.", min=0)] = 10,
    run: Annotated[str | None, typer.Option(help="A run that is kept [the published one].")] = None,
    as_machine: AsJson = False,
    storage_options: StorageOptions = None,
) -> None:
    """Show how good the labels of each class are, which classes overlap, and what changed since the
    run before.
    """
    found, before = opened_health.with_parent(out, run, storage_options)
    if as_machine:
        print_json(console_health.health_as_json(found, before, top))
    else:
        console_health.show_health(out_console, found, before, top)


data_commands.add_to(app)


@app.command()
def demo(
    folder: Annotated[Path, typer.Option(help="Where the demo's data and results go.")] = Path(
        "demo"
    ),
    data_only: Annotated[
        bool, typer.Option("--data-only", help="Make the data, run nothing.")
    ] = False,
) -> None:
    """Find labels that were flipped on purpose in scikit-learn's handwritten digits."""
    from noisydask.demo import digits, losses  # noqa: PLC0415  needs scikit-learn, which only the demo does

    digits.make_data(folder)
    losses.record_losses(folder)
    if data_only:
        return
    config = overrides.checked(digits.options(folder))
    issues = _run_and_show(config, Form())
    out_console.print(digits.verdict(folder, issues), highlight=False, soft_wrap=True)
    with connected(config.cluster, Form()) as reporter:
        ranked = noisydask.analyze_loss_dynamics(**losses.options(folder), reporter=reporter)
        both = noisydask.combine(issues, ranked, out=folder / "both", reporter=reporter)
    show_run(ranked, 5, Form())
    show_run(both, 5, Form())
    out_console.print(losses.verdict(folder, both), highlight=False)


def _run_and_show(config: Any, form: Form) -> Any:
    """Run the job of a configuration and print what it found."""
    with connected(config.cluster, form) as reporter:
        try:
            results = JOBS[config.job].call(**config.arguments(), reporter=reporter)
        except GateError as error:  # what was published is shown all the same
            show_run(error.issues, 10, form)
            raise
    return show_run(results, 10, form)


def _run_night(config: Night, form: Form) -> None:
    """Run the jobs of a night and print what became of each; ends with the worst of their
    statuses.
    """
    shown: dict[str, Any] = {}

    def run_step(name: str, section: JobConfig) -> None:
        gate = None
        results = None
        try:
            results = JOBS[name].call(**section.arguments(), reporter=reporter)
        except GateError as error:
            gate = error
            results = error.issues
        shown[name] = run_as_json(results, 10) if form.as_json else None
        show_run(results, 10, replace(form, quiet=form.quiet or form.as_json, as_json=False))
        if gate is not None:
            raise gate

    with connected(config.cluster, form) as reporter:
        steps = [
            nightly.Step(name, partial(run_step, name, section), config.needs(name))
            for name, section in config.sections()
        ]
        outcomes = nightly.run_night(steps, beginning.is_usable)
    if form.as_json:
        print_json({"jobs": shown, "outcomes": [asdict(outcome) for outcome in outcomes]})
    for outcome in outcomes:
        if outcome.status or not (form.quiet or form.as_json):
            (err_console if form.quiet or form.as_json else out_console).print(
                printable(f"{outcome.name}: {outcome.why}"),
                style="red" if outcome.status else None,
                soft_wrap=True,
            )
    if status := nightly.worst(outcomes):
        raise typer.Exit(status)


def _version(wanted: bool) -> None:
    if wanted:
        print(f"noisydask {noisydask.__version__}")
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print it.")
    ] = False,
) -> None:
    pass
