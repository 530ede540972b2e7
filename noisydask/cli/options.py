"""The options of a job as its command takes them: all follow from the fields of the job's model."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from inspect import Parameter, signature
from typing import Annotated, Any, TypeVar

import typer
from pydantic import BaseModel
from pydantic.fields import FieldInfo

from noisydask.engine.config import ClusterConfig
from noisydask.options import STORAGE, base_types, choices, is_place, is_places

_Call = TypeVar("_Call", bound=Callable[..., Any])


def as_json(text: str) -> dict[str, Any]:
    """Return an option's value that is a JSON object."""
    try:
        value = json.loads(text)
    except ValueError:
        raise typer.BadParameter("not valid JSON") from None
    if not isinstance(value, dict):
        raise typer.BadParameter("not a JSON object")
    return value


#: Common options for URLs.
StorageOptions = Annotated[
    Any,
    typer.Option(
        parser=as_json,
        metavar="JSON",
        help='fsspec options for all URLs, such as \'{"profile": "x"}\'.',
        rich_help_panel=STORAGE,
    ),
]

#: How a command prints.
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="Print errors only.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON document.")]

#: Fields that are not options of a command by themselves.
_NOT_OPTIONS = ("job", "cluster", "storage_options")


def options_of(
    *models: type[BaseModel], without: tuple[str, ...] = (), mark: bool = True
) -> dict[str, Any]:
    """Return the options of jobs by name: those of the models, where to run, and fsspec options,
    also for each place alone.

    ``mark`` has help say which must be given; a file may have those too.
    """
    options: dict[str, Any] = {}
    places: dict[str, Any] = {}
    for name, field in _fields(*models).items():
        if is_place(field.annotation) and name != "class_names":
            places[f"{name}_options"] = _place_options(name)
        if name not in without:
            options[name] = _option(name, field, mark)
    cluster = {name: _option(name, field) for name, field in ClusterConfig.model_fields.items()}
    return {**options, **cluster, "storage_options": StorageOptions, **places}


def places_of(model: type[BaseModel]) -> tuple[str, ...]:
    """Return the fields of a model that are places."""
    fields = model.model_fields.items()
    return tuple(name for name, field in fields if is_place(field.annotation))


def _fields(*models: type[BaseModel]) -> dict[str, FieldInfo]:
    fields = {name: field for model in models for name, field in model.model_fields.items()}
    return {name: field for name, field in fields.items() if name not in _NOT_OPTIONS}


def _option(name: str, field: FieldInfo, mark: bool = True) -> Any:
    """Return a field as typer wants it; None stands for an option that was not given."""
    kinds = base_types(field.annotation)
    words = choices(field.annotation)
    names: list[str] = []
    how: dict[str, Any] = {}
    kind: Any = str
    if words:
        how = {"metavar": "|".join(words), "autocompletion": lambda: words}
    elif bool in kinds:
        dashed = name.replace("_", "-")
        kind = bool
        names = [f"--{dashed}/--no-{dashed}"]
    elif is_places(field.annotation):
        kind = list[str]
        how = {"metavar": "TEXT"}
    elif not _is_size(name) and (int in kinds or float in kinds):
        kind = int if int in kinds else float
    extra: Any = field.json_schema_extra
    text = f"{field.description}{_default(name, field, mark)}"
    return Annotated[
        kind | None, typer.Option(*names, help=text, rich_help_panel=extra["panel"], **how)
    ]


def _is_size(name: str) -> bool:
    """Return whether an option is a number of bytes, which people write as 64MiB."""
    return name.endswith("_bytes")


def _default(name: str, field: FieldInfo, mark: bool) -> str:
    """Return what help says of the value that an option has by default."""
    if field.is_required():
        if mark:
            return " [required]"
        return ""
    if field.default is None or field.default is False:
        return ""
    if _is_size(name):
        return f" [{field.default >> 20}MiB]" if field.default else ""
    is_number = isinstance(field.default, float)
    if is_number:
        return f" [{field.default:g}]"
    return f" [{field.default}]"


def _place_options(name: str) -> Any:
    text = f"fsspec options for {name} alone."
    return Annotated[
        Any, typer.Option(parser=as_json, metavar="JSON", help=text, rich_help_panel=STORAGE)
    ]


def takes(options: Mapping[str, Any]) -> Callable[[_Call], _Call]:
    """Give a command all of ``options``, which it receives as keywords; None stands for one that
    was not given.

    That a required one is missing is told by the check of the whole, which knows what a file says
    too.
    """

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
