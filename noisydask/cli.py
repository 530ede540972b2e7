"""The command ``noisydask``: parse, make one call, print."""

from __future__ import annotations

import json
import logging
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import dask
import typer
from rich.console import Console

from noisydask import __version__, graph, nightly
from noisydask.blocks import DEFAULT_BLOCK_BYTES
from noisydask.changes import diff as compare_runs
from noisydask.cluster import connect
from noisydask.combine import combine as both_jobs
from noisydask.config import ClusterConfig, IssuesConfig, checked, checked_cluster, read_config
from noisydask.errors import GateError, InputError, NoisydaskError
from noisydask.issues import find_label_issues
from noisydask.losses import analyze_loss_dynamics
from noisydask.nightly_config import NightlyConfig, checked_night
from noisydask.progress import Bar, Lines, Reporter, logger
from noisydask.report import console, console_consensus, console_dynamics
from noisydask.report.changes import changes_as_json, show_changes
from noisydask.report.console import printable
from noisydask.results import LabelIssues
from noisydask.runs import open_run
from noisydask.store import Output

app = typer.Typer(
    help="Find mislabeled examples in classification data of any size, on Dask.", no_args_is_help=True,
    pretty_exceptions_enable=False, add_completion=False, rich_markup_mode=None,
)  # fmt: skip
out_console = Console()
err_console = Console(stderr=True)
#: What shows a run, by its job.
_SHOWN: dict[str, Any] = {"issues": console, "dynamics": console_dynamics, "combine": console_consensus}
#: Ways to the workers, of which a config has one; and all options of the cluster.
_WAYS = ("scheduler", "scheduler_file", "workers")
_CLUSTER = (*_WAYS, "threads_per_worker", "memory_limit", "tls_ca_file", "tls_client_cert", "tls_client_key")
_COMBINED = ("issues", "dynamics", "ids", "out")


def _json(text: str) -> dict[str, Any]:
    try:
        value = json.loads(text)
    except ValueError:
        raise typer.BadParameter("not valid JSON") from None
    if not isinstance(value, dict):
        raise typer.BadParameter("not a JSON object")
    return value


_DATA, _HOW, _WHERE, _STORAGE, _RUNS = "Data", "Method", "Cluster", "Storage", "Runs"


def _option(text: str, panel: str, **more: Any) -> Any:
    return typer.Option(help=text, rich_help_panel=panel, **more)


Labels = Annotated[str | None, _option("Labels: path or URL (.zarr, .npy, file.parquet#column).", _DATA)]
PredProbs = Annotated[str | None, _option("Predicted probabilities: path or URL (.zarr, .npy).", _DATA)]
Out = Annotated[str | None, _option("Where the results go: path or URL.", _DATA)]
Ids = Annotated[str | None, _option("A name for each example: path or URL, as for labels.", _DATA)]
ClassNames = Annotated[str | None, _option("File with class names (one a line, or JSON), or a,b,c.", _DATA)]
QualityScore = Annotated[str | None, _option("self_confidence, normalized_margin or confidence_weighted_entropy.", _HOW)]
Adjust = Annotated[
    bool | None, typer.Option("--adjust-pred-probs/--no-adjust-pred-probs", help="Account for class imbalance.",
                              rich_help_panel=_HOW)
]  # fmt: skip
Method = Annotated[str | None, _option("off_diagonal or off_diagonal_calibrated.", _HOW)]
OnInvalid = Annotated[str | None, _option("Invalid rows: raise (stop) or skip (leave out).", _HOW)]
OnUnreadable = Annotated[str | None, _option("Chunks that are missing or damaged: raise (stop) or skip (leave out).", _HOW)]
Full = Annotated[bool | None, typer.Option("--full", help="Read everything again.", rich_help_panel=_HOW)]
BlockBytes = Annotated[int | None, _option(f"Decoded bytes of a block [{DEFAULT_BLOCK_BYTES}].", _HOW)]
LeaseSeconds = Annotated[float | None, _option("A lock not renewed for so long is taken over [60].", _RUNS)]
KeepRuns = Annotated[int | None, _option("Newest runs that are kept [10].", _RUNS)]
KeepDays = Annotated[float | None, _option("Runs younger than that are kept too [0].", _RUNS)]
GraceSeconds = Annotated[float | None, _option("Nothing younger is removed [3600].", _RUNS)]
FailAbove = Annotated[float | None, _option("Exit with 3 if more than this share of examples are issues.", _RUNS)]
FailNewAbove = Annotated[int | None, _option("Exit with 3 if more issues than this are new.", _RUNS)]
Unsafe = Annotated[
    bool | None, typer.Option("--allow-unsafe-store/--no-allow-unsafe-store", rich_help_panel=_RUNS,
                              help="Go on where the store keeps no conditional writes.")
]  # fmt: skip
Scheduler = Annotated[str | None, _option("Address of a running Dask scheduler.", _WHERE)]
SchedulerFile = Annotated[str | None, _option("File that names a running Dask scheduler.", _WHERE)]
Workers = Annotated[int | None, _option("Worker processes to start here [one a core].", _WHERE)]
Threads = Annotated[int | None, _option("Threads of each of them [1].", _WHERE)]
MemoryLimit = Annotated[str | None, _option("Memory of each of them, such as 4GiB [auto].", _WHERE)]
TlsCa = Annotated[str | None, _option("Certificate authority of a scheduler that speaks TLS.", _WHERE)]
TlsCert = Annotated[str | None, _option("Our certificate for it.", _WHERE)]
TlsKey = Annotated[str | None, _option("Our key for it.", _WHERE)]
Options = Annotated[Any, typer.Option(parser=_json, metavar="JSON", help="fsspec options for all URLs, such as"
                    ' \'{"profile": "x"}\'.', rich_help_panel=_STORAGE)]  # fmt: skip
OneOption = Annotated[Any, typer.Option(parser=_json, metavar="JSON", help="fsspec options for this URL alone.",
                      rich_help_panel=_STORAGE)]  # fmt: skip


@app.command()
def issues(
    labels: Labels = None, pred_probs: PredProbs = None, out: Out = None, ids: Ids = None,
    class_names: ClassNames = None, quality_score: QualityScore = None, adjust_pred_probs: Adjust = None,
    estimation_method: Method = None, on_invalid: OnInvalid = None, block_bytes: BlockBytes = None,
    on_unreadable: OnUnreadable = None, full: Full = None,
    scheduler: Scheduler = None, scheduler_file: SchedulerFile = None, workers: Workers = None,
    threads_per_worker: Threads = None, memory_limit: MemoryLimit = None, storage_options: Options = None,
    labels_options: OneOption = None, pred_probs_options: OneOption = None, ids_options: OneOption = None,
    out_options: OneOption = None, tls_ca_file: TlsCa = None, tls_client_cert: TlsCert = None,
    tls_client_key: TlsKey = None, keep_runs: KeepRuns = None, keep_days: KeepDays = None,
    grace_seconds: GraceSeconds = None, lease_seconds: LeaseSeconds = None, allow_unsafe_store: Unsafe = None,
    fail_above: FailAbove = None, fail_new_above: FailNewAbove = None,
) -> None:  # fmt: skip
    """Find the label issues of a dataset."""
    _run_and_show(_merged({}, locals()))


@app.command()
def run(
    config: Annotated[Path, typer.Argument(help="YAML file, like those in configs/.")],
    labels: Labels = None, pred_probs: PredProbs = None, out: Out = None, ids: Ids = None,
    class_names: ClassNames = None, quality_score: QualityScore = None, adjust_pred_probs: Adjust = None,
    estimation_method: Method = None, on_invalid: OnInvalid = None, block_bytes: BlockBytes = None,
    on_unreadable: OnUnreadable = None, full: Full = None,
    scheduler: Scheduler = None, scheduler_file: SchedulerFile = None, workers: Workers = None,
    threads_per_worker: Threads = None, memory_limit: MemoryLimit = None, storage_options: Options = None,
    labels_options: OneOption = None, pred_probs_options: OneOption = None, ids_options: OneOption = None,
    out_options: OneOption = None, tls_ca_file: TlsCa = None, tls_client_cert: TlsCert = None,
    tls_client_key: TlsKey = None, keep_runs: KeepRuns = None, keep_days: KeepDays = None,
    grace_seconds: GraceSeconds = None, lease_seconds: LeaseSeconds = None, allow_unsafe_store: Unsafe = None,
    fail_above: FailAbove = None, fail_new_above: FailNewAbove = None,
) -> None:  # fmt: skip
    """Run the job of a configuration file; options given here win over the file's."""
    given = {name: value for name, value in locals().items() if name != "config" and value is not None}
    values = read_config(config)
    if values.get("job") == "nightly":
        _run_night(_merged_night(values, given))
    else:
        _run_and_show(_merged(values, given))


@app.command()
def diff(
    out: Annotated[str, typer.Argument(help="The --out of finished jobs.")],
    before: Annotated[str | None, typer.Argument(help="A run [the parent of AFTER].")] = None,
    after: Annotated[str | None, typer.Argument(help="A later run [the published one].")] = None,
    top: Annotated[int, typer.Option(help="How many changes of each kind to list.", min=0)] = 10,
    as_machine: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
    storage_options: Options = None,
) -> None:
    """Show what changed between two runs: issues that are new, gone and moved."""
    with dask.config.set(scheduler="threads"):
        changes = compare_runs(Output.at(out, storage_options), before, after, top)
    if as_machine:
        print(json.dumps(changes_as_json(changes), indent=1))
    else:
        show_changes(out_console, changes)


@app.command()
def show(
    out: Annotated[str, typer.Argument(help="The --out of a finished job.")],
    top: Annotated[int, typer.Option(help="How many of the worst labels to show.", min=0)] = 10,
    as_machine: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
    storage_options: Options = None,
) -> None:
    """Show the published run of an output: summary and worst labels."""
    found = open_run(out, storage_options=storage_options)
    shown = _SHOWN[found.manifest["job"]]
    if as_machine:
        print(json.dumps(shown.as_json(found, top), indent=1))
        return
    _show(found, top)


def _show(found: Any, top: int) -> None:
    """Print the summary and the worst labels of a run."""
    shown = _SHOWN[found.manifest["job"]]
    shown.show_summary(out_console, found)
    if top:
        shown.show_top(out_console, found, top)


@app.command()
def combine(
    issues_out: Annotated[str, typer.Argument(help="The --out of `noisydask issues`.")],
    dynamics_out: Annotated[str, typer.Argument(help="The --out of `noisydask dynamics`.")],
    out: Annotated[str, _option("Where the consensus goes: path or URL.", _DATA)],
    on: Annotated[str | None, _option("Join by id or index [id where both have ids].", _HOW)] = None,
    ids: Annotated[str | None, _option("Ids of the issues run, where it does not tell: path or URL.", _DATA)] = None,
    top: Annotated[int | None, _option("How many examples to rank [all].", _HOW)] = None,
    scheduler: Scheduler = None, scheduler_file: SchedulerFile = None, workers: Workers = None,
    threads_per_worker: Threads = None, memory_limit: MemoryLimit = None, storage_options: Options = None,
    issues_options: OneOption = None, dynamics_options: OneOption = None, ids_options: OneOption = None,
    out_options: OneOption = None,
) -> None:  # fmt: skip
    """Join the rankings of both jobs: the mean of the two rank percentiles of each example, worst label first."""
    given = locals()
    names = ("scheduler", "scheduler_file", "workers", "threads_per_worker", "memory_limit")
    cluster = checked_cluster({name: given[name] for name in names if given[name] is not None})
    each = {name: {**(storage_options or {}), **(given[f"{name}_options"] or {})} for name in _COMBINED}
    with _connected(cluster) as reporter:
        found = both_jobs(issues_out, dynamics_out, on=on, ids=ids, top=top, out=out, storage_options=each, reporter=reporter)
    _show(found, 10)


@app.command()
def demo(
    folder: Annotated[Path, typer.Option(help="Where the demo's data and results go.")] = Path("demo"),
    data_only: Annotated[bool, typer.Option("--data-only", help="Make the data, run nothing.")] = False,
) -> None:
    """Find labels that were flipped on purpose in scikit-learn's handwritten digits."""
    from noisydask import demo as job  # noqa: PLC0415  needs scikit-learn, which only the demo does
    from noisydask import demo_losses  # noqa: PLC0415

    job.make_data(folder)
    demo_losses.record_losses(folder)
    if data_only:
        return
    config = checked(job.options(folder))
    found = _run_and_show(config)
    out_console.print(job.verdict(folder, found), highlight=False)
    with _connected(config.cluster) as reporter:
        dynamics = analyze_loss_dynamics(**demo_losses.options(folder), reporter=reporter)
        both = both_jobs(found, dynamics, out=folder / "both", reporter=reporter)
    _show(dynamics, 5)
    _show(both, 5)
    out_console.print(demo_losses.verdict(folder, both), highlight=False)


@app.command()
def bench(
    shape: Annotated[list[str] | None, typer.Option(help="Examples x classes, such as 1000000x1000; repeatable.")] = None,
    folder: Annotated[Path, typer.Option(help="Where the data are made and kept.")] = Path("bench-data"),
    rounds: Annotated[int, typer.Option(help="Interleaved rounds.", min=1)] = 5,
    workers: Annotated[int, typer.Option(help="Worker processes.", min=1)] = 2,
    cleanlab: Annotated[bool, typer.Option(help="Measure cleanlab too.")] = True,
    client: Annotated[bool, typer.Option(help="Measure the client's memory from 10^6 to 10^8 examples.")] = False,
    output: Annotated[Path | None, typer.Option("--json", help="Write the figures here.")] = None,
) -> None:
    """Measure the read floor, the job and cleanlab side by side, interleaved."""
    from noisydask import bench as job  # noqa: PLC0415  needs extras that only the benchmark does

    figures = job.measure(job.Plan(tuple(shape or job.SHAPES), folder, rounds, workers, cleanlab, client), err_console)
    out_console.print(job.table(figures))
    if output is not None:
        output.write_text(json.dumps(figures, indent=1), encoding="utf-8")


def _merged(values: dict[str, Any], given: dict[str, Any]) -> IssuesConfig:
    """Options of a file with those of the command line on top, checked."""
    values = dict(values)
    cluster = _merged_cluster(values, given)
    for name, value in given.items():
        if value is None or name in _CLUSTER:
            continue
        if name.endswith("_options") and name != "storage_options":
            place = values.get(name.removesuffix("_options"))
            url = place.get("url") if isinstance(place, dict) else place
            values[name.removesuffix("_options")] = {"url": url, "storage_options": value}
        elif name == "class_names":
            values[name] = value.split(",") if "," in value and not Path(value).exists() else {"url": value}
        elif name in ("labels", "pred_probs", "ids", "out") and isinstance(values.get(name), dict):
            values[name] = values[name] | {"url": value}
        else:
            values[name] = value
    if cluster:
        values["cluster"] = cluster
    return checked(values)


def _merged_cluster(values: dict[str, Any], given: dict[str, Any]) -> dict[str, Any]:
    """Where to run, by a file and the command line: another way to the workers replaces the file's."""
    cluster = dict(values.get("cluster") or {})
    given = {name: given[name] for name in _CLUSTER if given.get(name) is not None}
    if any(name in given for name in _WAYS):
        cluster = {name: value for name, value in cluster.items() if name not in _WAYS}
    return cluster | given


def _merged_night(values: dict[str, Any], given: dict[str, Any]) -> NightlyConfig:
    """The options of a night: what all jobs share may be given on the command line."""
    own = [name for name in given if name not in (*_CLUSTER, "storage_options")]
    if own:
        raise InputError(f"--{own[0].replace('_', '-')} belongs to one job: say it in its section of the config")
    values = values | {"cluster": _merged_cluster(values, given)}
    return checked_night(values | {name: given[name] for name in ("storage_options",) if name in given})


def _run_and_show(config: IssuesConfig) -> LabelIssues:
    """Run the main job of a configuration and print what it found."""
    names = config.read_class_names()
    with _connected(config.cluster) as reporter:
        return _find_and_show(config, names, reporter)


def _find_and_show(config: IssuesConfig, names: list[str] | None, reporter: Reporter) -> LabelIssues:
    """Run the main job on the cluster at hand."""
    found, gate = _gated(**config.arguments(), class_names=names, reporter=reporter)
    _show(found, 10)
    if gate is not None:
        raise gate
    return found


def _gated(**how: Any) -> tuple[LabelIssues, GateError | None]:
    """Run the main job; a run that the quality gate does not let pass is shown all the same."""
    try:
        return find_label_issues(**how), None
    except GateError as error:
        return error.issues, error


def _run_night(config: NightlyConfig) -> None:
    """Run the jobs of a night and print what became of each; ends with the worst of their statuses."""
    with _connected(config.cluster) as reporter:
        jobs: dict[str, Callable[[Any], object]] = {
            "issues": lambda section: _find_and_show(section, section.read_class_names(), reporter),
            "dynamics": lambda section: _show(analyze_loss_dynamics(**section.arguments(), reporter=reporter), 10),
            "combine": lambda section: _show(both_jobs(**section.arguments(), reporter=reporter), 10),
        }
        steps = [nightly.Step(name, partial(jobs[name], section), config.needs(name)) for name, section in config.sections()]
        outcomes = nightly.run_night(steps, graph.is_connected)
    for outcome in outcomes:
        out_console.print(printable(f"{outcome.name}: {outcome.why}"), style="red" if outcome.status else None, soft_wrap=True)
    if status := nightly.worst(outcomes):
        raise typer.Exit(status)


@contextmanager
def _connected(cluster: ClusterConfig) -> Iterator[Reporter]:
    """A client for the time of a job, and what shows its progress."""
    with connect(cluster) as client:
        reporter = _reporter()
        reporter.phase(f"Dask dashboard: {client.dashboard_link}")
        yield reporter


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
        err_console.print(printable(f"error: {error}"), style="red", highlight=False, soft_wrap=True)
        return error.exit_status
    except SystemExit as ended:
        return int(ended.code or 0)
    return 0


def entry() -> None:
    """The installed command."""
    sys.exit(main())
