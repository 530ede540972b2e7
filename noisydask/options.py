"""The options of the commands, each written once: what it is called, what it takes, what help says of it."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from inspect import Parameter, signature
from pathlib import Path
from typing import Annotated, Any, TypeVar

import typer

from noisydask.blocks import DEFAULT_BLOCK_BYTES
from noisydask.config import Config, checked

_Call = TypeVar("_Call", bound=Callable[..., Any])


def as_json(text: str) -> dict[str, Any]:
    """An option's value that is a JSON object."""
    try:
        value = json.loads(text)
    except ValueError:
        raise typer.BadParameter("not valid JSON") from None
    if not isinstance(value, dict):
        raise typer.BadParameter("not a JSON object")
    return value


_DATA, _HOW, _WHERE, _STORAGE, _RUNS = "Data", "Method", "Cluster", "Storage", "Runs"


def option(kind: Any, text: str, panel: str, *names: str) -> Any:
    """An option that need not be given."""
    return Annotated[kind | None, typer.Option(*names, help=text, rich_help_panel=panel)]


def _one(name: str) -> Any:
    text = f"fsspec options for {name} alone."
    return Annotated[Any, typer.Option(parser=as_json, metavar="JSON", help=text, rich_help_panel=_STORAGE)]


#: Common options for URLs.
StorageOptions = Annotated[
    Any,
    typer.Option(
        parser=as_json, metavar="JSON", help='fsspec options for all URLs, such as \'{"profile": "x"}\'.',
        rich_help_panel=_STORAGE,
    ),
]  # fmt: skip

#: Inputs and outputs, each of which has storage options of its own.
PLACES = ("labels", "pred_probs", "ids", "out", "losses", "iters", "table", "datumaro")
#: Where to run.
CLUSTER: Mapping[str, Any] = {
    "scheduler": option(str, "Address of a running Dask scheduler.", _WHERE),
    "scheduler_file": option(str, "File that names a running Dask scheduler.", _WHERE),
    "workers": option(int, "Worker processes to start here [one a core].", _WHERE),
    "threads_per_worker": option(int, "Threads of each of them [1].", _WHERE),
    "memory_limit": option(str, "Memory of each of them, such as 4GiB [auto].", _WHERE),
    "tls_ca_file": option(str, "Certificate authority of a scheduler that speaks TLS.", _WHERE),
    "tls_client_cert": option(str, "Our certificate for it.", _WHERE),
    "tls_client_key": option(str, "Our key for it.", _WHERE),
}
_COMMON: Mapping[str, Any] = {
    "out": option(str, "Where the results go: path or URL.", _DATA),
    "ids": option(str, "A name for each example: path or URL, as for labels.", _DATA),
    "labels": option(str, "Labels: path or URL (.zarr, .npy, file.parquet#column).", _DATA),
    "block_bytes": option(int, f"Decoded bytes of a block [{DEFAULT_BLOCK_BYTES}].", _HOW),
    "full": option(bool, "Read everything again.", _HOW, "--full/--no-full"),
    "lease_seconds": option(float, "A lock not renewed for so long is taken over [60].", _RUNS),
    "keep_runs": option(int, "Newest runs that are kept [10].", _RUNS),
    "keep_days": option(float, "Runs younger than that are kept too [0].", _RUNS),
    "grace_seconds": option(float, "Nothing younger is removed [3600].", _RUNS),
    "allow_unsafe_store": option(
        bool, "Go on where the store keeps no conditional writes.", _RUNS, "--allow-unsafe-store/--no-allow-unsafe-store"
    ),
}
#: Options of the main job.
ISSUES: Mapping[str, Any] = {
    **_COMMON,
    "pred_probs": option(str, "Predicted probabilities: path or URL (.zarr, .npy).", _DATA),
    "class_names": option(str, "File with class names (one a line, or JSON), or a,b,c.", _DATA),
    "quality_score": option(str, "self_confidence, normalized_margin or confidence_weighted_entropy.", _HOW),
    "adjust_pred_probs": option(bool, "Account for class imbalance.", _HOW, "--adjust-pred-probs/--no-adjust-pred-probs"),
    "estimation_method": option(str, "off_diagonal or off_diagonal_calibrated.", _HOW),
    "on_invalid": option(str, "Invalid rows: raise (stop) or skip (leave out).", _HOW),
    "on_unreadable": option(str, "Chunks that are missing or damaged: raise (stop) or skip (leave out).", _HOW),
    "fail_above": option(float, "Exit with 3 if more than this share of examples are issues.", _RUNS),
    "fail_new_above": option(int, "Exit with 3 if more issues than this are new.", _RUNS),
    **CLUSTER,
    "storage_options": StorageOptions,
    **{f"{name}_options": _one(f"--{name.replace('_', '-')}") for name in ("labels", "pred_probs", "ids", "out")},
}
#: Options of the job on training losses.
DYNAMICS: Mapping[str, Any] = {
    "losses": option(str, "Losses, examples x iterations: path or URL (.zarr, .npy).", _DATA),
    "iters": option(str, "The iterations, ascending: path or URL.", _DATA),
    "table": option(str, "Losses as a table (Parquet or CSV): path or URL.", _DATA),
    "id_column": option(str, "Column of the table: id [id].", _DATA),
    "iteration_column": option(str, "Column of the table: iteration [iteration].", _DATA),
    "loss_column": option(str, "Column of the table: loss [loss].", _DATA),
    "label_column": option(str, "Column of the table: label.", _DATA),
    "subset_column": option(str, "Column of the table: subset.", _DATA),
    "ann_id_column": option(str, "Column of the table: annotation id.", _DATA),
    "datumaro": option(str, "Losses in a dataset in Datumaro's JSON format: path or URL.", _DATA),
    **_COMMON,
    "alpha": option(float, "Weight of a new loss in the moving average [0.001].", _HOW),
    "tracking_loss_type": option(str, "Which loss of a detection dataset: cls, bbox, centerness or bbox_refine.", _HOW),
    "top_k": option(int, "Candidates that are ranked [all].", _HOW),
    **CLUSTER,
    "storage_options": StorageOptions,
    **{f"{name}_options": _one(f"--{name}") for name in ("losses", "iters", "labels", "ids", "table", "datumaro", "out")},
}


#: Options of the consensus of both jobs, beside its outputs.
COMBINE: Mapping[str, Any] = {
    "on": option(str, "Join by id or index [id where both have ids].", _HOW),
    "ids": option(str, "Ids of the issues run, where it does not tell: path or URL.", _DATA),
    "top": option(int, "How many examples to rank [all].", _HOW),
    **CLUSTER,
    "storage_options": StorageOptions,
    "issues_options": _one("ISSUES_OUT"),
    "dynamics_options": _one("DYNAMICS_OUT"),
    "ids_options": _one("--ids"),
    "out_options": _one("--out"),
}


def takes(options: Mapping[str, Any]) -> Callable[[_Call], _Call]:
    """Give a command all of ``options``, which it receives as keywords; None stands for one that was not given."""

    def decorate(call: _Call) -> _Call:
        own = [p for p in signature(call, eval_str=True).parameters.values() if p.kind != Parameter.VAR_KEYWORD]
        more = [Parameter(name, Parameter.KEYWORD_ONLY, default=None, annotation=kind) for name, kind in options.items()]
        described: Any = call
        described.__signature__ = signature(call).replace(parameters=[*own, *more])
        described.__annotations__ = {p.name: p.annotation for p in (*own, *more)}
        return call

    return decorate


def merged(values: Mapping[str, Any], given: Mapping[str, Any]) -> Config:
    """Options of a file with those of the command line on top, checked."""
    values = dict(values)
    cluster = dict(values.get("cluster") or {})
    where = {"scheduler", "scheduler_file", "workers"}
    for name, value in given.items():
        if value is None:
            continue
        if name in CLUSTER:
            # Another way to the workers replaces the file's.
            cluster = {k: v for k, v in cluster.items() if not (name in where and k in where)} | {name: value}
        elif name.endswith("_options") and name != "storage_options":
            place = values.get(name.removesuffix("_options"))
            url = place.get("url") if isinstance(place, dict) else place
            values[name.removesuffix("_options")] = {"url": url, "storage_options": value}
        elif name == "class_names":
            values[name] = value.split(",") if "," in value and not Path(value).exists() else {"url": value}
        elif name in PLACES and isinstance(values.get(name), dict):
            values[name] = values[name] | {"url": value}
        else:
            values[name] = value
    if cluster:
        values["cluster"] = cluster
    return checked(values)
