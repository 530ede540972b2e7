"""The options of the commands, each written once: what it is called, what it takes, what help says
of it.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from copy import copy
from inspect import Parameter, signature
from typing import Annotated, Any, TypeVar, get_args

import typer

from noisydask.core.blocks import DEFAULT_BLOCK_BYTES
from noisydask.core.choices import (
    EstimationMethod,
    JoinKey,
    OnDuplicate,
    QualityScore,
    RaiseOrSkip,
    TrackingLossType,
)

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


def _option(kind: Any, text: str, panel: str, *names: str) -> Any:
    return Annotated[kind | None, typer.Option(*names, help=text, rich_help_panel=panel)]


def _choice(kind: Any, text: str, panel: str) -> Any:
    """An option that takes one of the words of a type; the check of the whole refuses others."""
    words = get_args(kind)
    option = typer.Option(
        help=text, rich_help_panel=panel, metavar="|".join(words), autocompletion=lambda: words
    )
    return Annotated[str | None, option]


def _one(name: str) -> Any:
    text = f"fsspec options for {name} alone."
    return Annotated[
        Any, typer.Option(parser=as_json, metavar="JSON", help=text, rich_help_panel=_STORAGE)
    ]


#: Common options for URLs.
StorageOptions = Annotated[
    Any,
    typer.Option(
        parser=as_json,
        metavar="JSON",
        help='fsspec options for all URLs, such as \'{"profile": "x"}\'.',
        rich_help_panel=_STORAGE,
    ),
]

#: How a command prints.
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="Print errors only.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON document.")]

#: Inputs and outputs, each of which has storage options of its own.
PLACES = ("labels", "pred_probs", "ids", "out", "losses", "iters", "table", "datumaro")
#: Options that say where to run.
CLUSTER: Mapping[str, Any] = {
    "scheduler": _option(str, "Address of a running Dask scheduler.", _WHERE),
    "scheduler_file": _option(str, "File that names a running Dask scheduler.", _WHERE),
    "workers": _option(int, "Worker processes to start here [one a core].", _WHERE),
    "threads_per_worker": _option(int, "Threads of each of them [1].", _WHERE),
    "memory_limit": _option(str, "Memory of each of them, such as 4GiB [auto].", _WHERE),
    "tls_ca_file": _option(str, "Certificate authority of a scheduler that speaks TLS.", _WHERE),
    "tls_client_cert": _option(str, "Our certificate for it.", _WHERE),
    "tls_client_key": _option(str, "Our key for it.", _WHERE),
}
_PUBLISHING: Mapping[str, Any] = {
    "keep_runs": _option(int, "Newest runs that are kept [10].", _RUNS),
    "keep_days": _option(float, "Runs younger than that are kept too [0].", _RUNS),
    "grace_seconds": _option(float, "Nothing younger is removed [3600].", _RUNS),
    "lease_seconds": _option(float, "A lock not renewed for so long is taken over [60].", _RUNS),
    "allow_unsafe_store": _option(
        bool,
        "Go on where the store keeps no conditional writes.",
        _RUNS,
        "--allow-unsafe-store/--no-allow-unsafe-store",
    ),
}
_COMMON: Mapping[str, Any] = {
    "out": _option(str, "Where the results go: path or URL.", _DATA),
    "ids": _option(str, "A name for each example: path or URL, as for labels.", _DATA),
    "labels": _option(str, "Labels: path or URL (.zarr, .npy, file.parquet#column).", _DATA),
    "class_names": _option(str, "File with class names (one a line, or JSON), or a,b,c.", _DATA),
    "block_bytes": _option(
        str, f"Decoded size of a block, such as 64MiB [{DEFAULT_BLOCK_BYTES >> 20}MiB].", _HOW
    ),
    "on_invalid": _choice(
        RaiseOrSkip, "Invalid rows or losses: stop (raise) or leave out (skip) [raise].", _HOW
    ),
    "full": _option(
        bool, "Read everything again, also what an earlier run has read.", _HOW, "--full/--no-full"
    ),
}
#: Options of the main job.
ISSUES: Mapping[str, Any] = {
    **_COMMON,
    "pred_probs": _option(str, "Predicted probabilities: path or URL (.zarr, .npy).", _DATA),
    "quality_score": _choice(
        QualityScore, "How a label is scored; low is likely wrong [self_confidence].", _HOW
    ),
    "adjust_pred_probs": _option(
        bool, "Account for class imbalance.", _HOW, "--adjust-pred-probs/--no-adjust-pred-probs"
    ),
    "estimation_method": _choice(
        EstimationMethod, "How the number of issues is estimated [off_diagonal].", _HOW
    ),
    "on_unreadable": _choice(
        RaiseOrSkip,
        "Chunks that are missing or damaged: stop (raise) or leave them out (skip) [raise].",
        _HOW,
    ),
    "fail_above": _option(
        float, "Exit with 3 if more than this share of examples are issues.", _RUNS
    ),
    "fail_new_above": _option(int, "Exit with 3 if more issues than this are new.", _RUNS),
    **_PUBLISHING,
    **CLUSTER,
    "storage_options": StorageOptions,
    **{f"{name}_options": _one(name) for name in ("labels", "pred_probs", "ids", "out")},
}
#: Options of the job on training losses.
DYNAMICS: Mapping[str, Any] = {
    "losses": _option(str, "Losses, examples x iterations: path or URL (.zarr, .npy).", _DATA),
    "iters": _option(str, "The iterations, ascending: path or URL.", _DATA),
    "table": _option(str, "Losses as a table (Parquet or CSV): path or URL.", _DATA),
    "id_column": _option(str, "Column of the table: id [id].", _DATA),
    "iteration_column": _option(str, "Column of the table: iteration [iteration].", _DATA),
    "loss_column": _option(str, "Column of the table: loss [loss].", _DATA),
    "label_column": _option(str, "Column of the table: label.", _DATA),
    "subset_column": _option(str, "Column of the table: subset.", _DATA),
    "ann_id_column": _option(str, "Column of the table: annotation id.", _DATA),
    "datumaro": _option(str, "Losses in a dataset in Datumaro's JSON format: path or URL.", _DATA),
    **_COMMON,
    "alpha": _option(float, "Weight of a new loss in the moving average [0.001].", _HOW),
    "tracking_loss_type": _choice(
        TrackingLossType, "Which loss of a detection dataset is followed.", _HOW
    ),
    "top_k": _option(int, "Candidates that are ranked [all].", _HOW),
    "on_duplicate": _choice(
        OnDuplicate,
        "More than one loss of an example at an iteration: stop (raise), or take one [raise].",
        _HOW,
    ),
    **_PUBLISHING,
    **CLUSTER,
    "storage_options": StorageOptions,
    **{
        f"{name}_options": _one(name)
        for name in ("losses", "iters", "labels", "ids", "table", "datumaro", "out")
    },
}


#: Options of the job that joins both.
COMBINE: Mapping[str, Any] = {
    "out": _option(str, "Where the consensus goes: path or URL.", _DATA),
    "on": _choice(JoinKey, "What the runs are joined by [id where both have ids].", _HOW),
    "ids": _option(str, "Ids of the issues run, where it does not tell: path or URL.", _DATA),
    "top": _option(int, "How many examples to rank [all].", _HOW),
    "full": _COMMON["full"],
    **_PUBLISHING,
    **CLUSTER,
    "storage_options": StorageOptions,
    **{f"{name}_options": _one(name) for name in ("issues", "dynamics", "ids", "out")},
}


def _marked(option: Any) -> Any:
    """An option of which help says that it must be given."""
    kind, info = get_args(option)
    marked = copy(info)
    marked.help = f"{info.help} [required]"
    return Annotated[kind, marked]


def takes(options: Mapping[str, Any], required: Sequence[str] = ()) -> Callable[[_Call], _Call]:
    """Give a command all of ``options``, which it receives as keywords; None stands for one that
    was not given.

    That a ``required`` one is missing is told by the check of the whole, which knows what a file
    says too.
    """
    options = {
        name: _marked(option) if name in required else option for name, option in options.items()
    }

    def decorate(call: _Call) -> _Call:
        own = [
            p
            for p in signature(call, eval_str=True).parameters.values()
            if p.kind != Parameter.VAR_KEYWORD
        ]
        more = [
            Parameter(name, Parameter.KEYWORD_ONLY, default=None, annotation=kind)
            for name, kind in options.items()
        ]
        described: Any = call
        described.__signature__ = signature(call).replace(parameters=[*own, *more])
        described.__annotations__ = {p.name: p.annotation for p in (*own, *more)}
        return call

    return decorate
