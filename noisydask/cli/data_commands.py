"""The commands that look at data before a job does: ``inspect``, ``convert``, ``init``,
``config-schema``.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

import noisydask
from noisydask.cli import overrides
from noisydask.cli.options import AsJson, Quiet, StorageOptions, options_of, takes
from noisydask.cli.reporting import connected
from noisydask.errors import InputError, Setting
from noisydask.lazily import Lazy
from noisydask.options import explained
from noisydask.predictions.options import ConvertConfig
from noisydask.report.showing import Form, out_console, print_json

if TYPE_CHECKING:
    from noisydask.cli import schema, starting
    from noisydask.issues import inspecting
    from noisydask.report import inspection
else:
    inspection = Lazy("noisydask.report.inspection")
    inspecting = Lazy("noisydask.issues.inspecting")
    schema = Lazy("noisydask.cli.schema")
    starting = Lazy("noisydask.cli.starting")

_COLUMNS = "Columns of the classes: a pattern ('p_*'), or one of lists [all of floats]."


@takes(options_of(ConvertConfig, without=("source", "url")))
def convert(
    source: Annotated[str, typer.Argument(help="Probabilities or labels of any kind.")],
    url: Annotated[str, typer.Argument(help="Where the Zarr array goes.")],
    quiet: Quiet = False,
    **given: Any,
) -> None:
    """Write an input as a Zarr array with chunks that suit the job."""
    values: dict[str, Any] = {"source": source, "url": url} | {
        name: value
        for name, value in given.items()
        if value is not None and name in ConvertConfig.model_fields
    }
    for name in ("source", "url"):
        if given.get(f"{name}_options"):
            values[name] = {"url": values[name], "storage_options": given[f"{name}_options"]}
    values["cluster"] = overrides.merged_cluster({}, given)
    with explained(ConvertConfig, as_options=True):
        config = ConvertConfig.model_validate(values)
    with connected(config.cluster, Form(quiet)) as reporter:
        place = noisydask.convert(**config.arguments(), reporter=reporter)
    if not quiet:
        out_console.print(f"{place} is ready", highlight=False, soft_wrap=True)


def inspect(
    url: Annotated[str, typer.Argument(help="An array, a column, a table: path or URL.")],
    class_columns: Annotated[str | None, typer.Option(help=_COLUMNS)] = None,
    as_machine: AsJson = False,
    storage_options: StorageOptions = None,
) -> None:
    """Say what an input is, what the job would do with it, and what is wrong with it."""
    found = inspecting.inspect(url, class_columns, storage_options)
    if as_machine:
        print_json(inspection.as_json(found))
    else:
        inspection.show(out_console, found)


def init(
    file: Annotated[Path, typer.Option(help="Where the config goes.")] = Path("noisydask.yaml"),
    labels: Annotated[str | None, typer.Option(help="Labels: path or URL.")] = None,
    pred_probs: Annotated[str | None, typer.Option(help="Probabilities: path or URL.")] = None,
    table: Annotated[str | None, typer.Option(help="Both, in one table: path or URL.")] = None,
    class_columns: Annotated[str | None, typer.Option(help=_COLUMNS)] = None,
    ids: Annotated[str | None, typer.Option(help="A name for each example.")] = None,
    losses: Annotated[
        str | None, typer.Option(help="Training losses, for a night of both jobs.")
    ] = None,
    out: Annotated[str, typer.Option(help="Where results go: path or URL.")] = "noisydask-out",
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace a file that is there.")
    ] = False,
    storage_options: StorageOptions = None,
) -> None:
    """Look at data and write a config for them, with comments."""
    if file.exists() and not overwrite:
        raise InputError(f"{file} is there already: have it replaced", Setting("overwrite", True))
    inputs = {"table": table, "labels": labels, "pred_probs": pred_probs, "ids": ids}
    inputs["losses"] = losses
    given = {name: value for name, value in inputs.items() if value is not None}
    text = starting.config_for(given, class_columns, out, storage_options)
    _write(file, text, private=bool(storage_options))
    if "# WRONG: " in text:
        told = f"{file} is there, but the job would not run: see what it calls WRONG"
    else:
        told = f"{file} is ready: look at it, then run noisydask run {file}"
    out_console.print(told, highlight=False, soft_wrap=True)


def _write(file: Path, text: str, private: bool) -> None:
    """Write a file; what may hold credentials, for nobody else to read."""
    try:
        if private:
            file.touch(mode=0o600)
            file.chmod(0o600)
        file.write_text(text, encoding="utf-8")
    except OSError as error:
        raise InputError(f"{file} cannot be written: {error.strerror}") from error


def config_schema() -> None:
    """Print the JSON schema of configs, by which editors complete them."""
    print_json(schema.config_schema())


def add_to(app: typer.Typer) -> None:
    """Add the commands to those that there are."""
    for name, command in (("inspect", inspect), ("convert", convert), ("init", init)):
        app.command(name)(command)
    app.command("config-schema")(config_schema)
