"""The command ``noisydask``: parse, make one call, print."""

from __future__ import annotations

import json
import logging
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, cast

import typer
from rich.console import Console

from noisydask import __version__
from noisydask.cluster import connect
from noisydask.config import Config, DynamicsConfig, IssuesConfig, checked, read_config
from noisydask.errors import NoisydaskError
from noisydask.issues import find_label_issues
from noisydask.loss_results import LossDynamics
from noisydask.losses import analyze_loss_dynamics
from noisydask.options import DYNAMICS, ISSUES, StorageOptions, merged, takes
from noisydask.progress import Bar, Lines, Reporter, logger
from noisydask.report.console import as_json, show_candidates, show_dynamics, show_summary, show_top
from noisydask.results import LabelIssues
from noisydask.store import Output

app = typer.Typer(
    help="Find mislabeled examples in classification data of any size, on Dask.", no_args_is_help=True,
    pretty_exceptions_enable=False, add_completion=False, rich_markup_mode=None,
)  # fmt: skip
out_console = Console()
err_console = Console(stderr=True)


@app.command()
@takes(ISSUES)
def issues(**given: Any) -> None:
    """Find the label issues of a dataset."""
    _run_and_show(merged({"job": "issues"}, given))


@app.command()
@takes(DYNAMICS)
def dynamics(**given: Any) -> None:
    """Rank examples by the moving average of their training losses."""
    _run_and_show(merged({"job": "dynamics"}, given))


@app.command()
@takes({**ISSUES, **DYNAMICS})
def run(config: Annotated[Path, typer.Argument(help="YAML file, like those in configs/.")], **given: Any) -> None:
    """Run the job of a configuration file; options given here win over the file's."""
    _run_and_show(merged(read_config(config), given))


@app.command()
def show(
    out: Annotated[str, typer.Argument(help="The --out of a finished job.")],
    top: Annotated[int, typer.Option(help="How many of the worst labels to show.", min=0)] = 10,
    as_machine: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
    storage_options: StorageOptions = None,
) -> None:
    """Show the published run of an output: summary and worst labels, or first candidates."""
    place = Output.at(out, storage_options)
    run, manifest = place.open_run()
    found = LossDynamics(run, manifest) if manifest["job"] == "dynamics" else LabelIssues(run, manifest)
    if as_machine:
        print(json.dumps(as_json(found, top), indent=1))
        return
    _show(found, top)


@app.command()
def demo(
    folder: Annotated[Path, typer.Option(help="Where the demo's data and results go.")] = Path("demo"),
    data_only: Annotated[bool, typer.Option("--data-only", help="Make the data, run nothing.")] = False,
) -> None:
    """Find labels that were flipped on purpose in scikit-learn's handwritten digits."""
    from noisydask import demo as job  # noqa: PLC0415  needs scikit-learn, which only the demo does

    job.make_data(folder)
    if data_only:
        return
    found = _run_and_show(checked(job.options(folder)))
    out_console.print(job.verdict(folder, cast(LabelIssues, found)), highlight=False)


@app.command()
def bench(
    shape: Annotated[list[str] | None, typer.Option(help="Examples x classes, such as 1000000x1000; repeatable.")] = None,
    dynamics: Annotated[list[str] | None, typer.Option(help="Examples x iterations of losses; repeatable.")] = None,
    folder: Annotated[Path, typer.Option(help="Where the data are made and kept.")] = Path("bench-data"),
    rounds: Annotated[int, typer.Option(help="Interleaved rounds.", min=1)] = 5,
    workers: Annotated[int, typer.Option(help="Worker processes.", min=1)] = 2,
    cleanlab: Annotated[bool, typer.Option(help="Measure cleanlab too.")] = True,
    client: Annotated[bool, typer.Option(help="Measure the client's memory from 10^6 to 10^8 examples.")] = False,
    output: Annotated[Path | None, typer.Option("--json", help="Write the figures here.")] = None,
) -> None:
    """Measure the read floor, the job and cleanlab side by side, interleaved."""
    from noisydask import bench as job  # noqa: PLC0415  needs extras that only the benchmark does

    shapes = tuple(shape or (() if dynamics else job.SHAPES))
    plan = job.Plan(shapes, tuple(dynamics or ()), folder, rounds, workers, cleanlab, client)
    figures = job.measure(plan, err_console)
    out_console.print(job.table(figures))
    if output is not None:
        output.write_text(json.dumps(figures, indent=1), encoding="utf-8")


def _run_and_show(config: Config) -> LabelIssues | LossDynamics:
    """Run the job of a configuration and print what it found."""
    names = config.read_class_names() if isinstance(config, IssuesConfig) else None
    with connect(config.cluster) as client:
        reporter = _reporter()
        reporter.phase(f"Dask dashboard: {client.dashboard_link}")
        if isinstance(config, DynamicsConfig):
            found: LabelIssues | LossDynamics = analyze_loss_dynamics(**config.arguments(), reporter=reporter)
        else:
            found = find_label_issues(**config.arguments(), class_names=names, reporter=reporter)
    _show(found, 10)
    return found


def _show(found: LabelIssues | LossDynamics, top: int) -> None:
    if isinstance(found, LossDynamics):
        show_dynamics(out_console, found)
        show_candidates(out_console, found, top)
        return
    show_summary(out_console, found)
    if top:
        show_top(out_console, found, top)


def _reporter() -> Reporter:
    """A bar on a terminal, plain lines elsewhere."""
    if err_console.is_terminal:
        return Bar(err_console)
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(logging.Formatter("%(asctime)s %(message)s"))
    logger.handlers[:] = [handler]
    logger.setLevel(logging.INFO)
    return Lines()


def _version(wanted: bool) -> None:
    if wanted:
        print(f"noisydask {__version__}")
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[bool, typer.Option("--version", callback=_version, is_eager=True, help="Print it.")] = False,
) -> None:
    pass


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; errors of ours are one line and an exit status, tracebacks are for bugs."""
    try:
        app(args=None if arguments is None else list(arguments))
    except NoisydaskError as error:
        err_console.print(f"error: {error}", style="red", markup=False, highlight=False, soft_wrap=True)
        return error.exit_status
    except SystemExit as ended:
        return int(ended.code or 0)
    return 0


def entry() -> None:
    """The installed command."""
    sys.exit(main())
