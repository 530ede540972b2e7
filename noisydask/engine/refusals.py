"""What is wrong with options, in plain words: one sentence, without the values, which may be
secret.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from difflib import get_close_matches
from typing import Any, get_args

from pydantic import BaseModel, ValidationError

from noisydask.errors import InputError

_Models = Mapping[str, type[BaseModel]]


@contextmanager
def told(
    model: type[BaseModel], jobs: _Models | None = None, as_options: bool = False
) -> Iterator[None]:
    """Turn what pydantic finds wrong into one sentence.

    Parameters
    ----------
    model : type
        What is checked.
    jobs : mapping of str to type, optional
        The options of each job by its name: an option of another job is told as such.
    as_options : bool
        Call options as the command line does.

    Raises
    ------
    InputError
        If anything is wrong.
    """
    try:
        yield
    except ValidationError as error:
        found: dict[str, str] = {}
        for each in error.errors(include_input=False, include_url=False):
            # Of a value that may be of two kinds pydantic tells both.
            where = [
                str(part)
                for part in each["loc"]
                if not str(part).startswith(("function-", "list[", "constrained-"))
            ]
            name = _as_option(where) if as_options else ".".join(where)
            found[name] = _sentence(name, _why(each, where, model, jobs or {}))
        raise InputError("; ".join(found.values())) from None


def _as_option(where: Sequence[str]) -> str:
    """What the command line calls a part of the options; what is wrong with several of them has no
    name.
    """
    own = where[1:] if where[:1] == ["cluster"] else where
    return f"--{'.'.join(own).replace('_', '-')}" if own else ""


def _sentence(name: str, why: str) -> str:
    if why.startswith(("is ", "belongs ")):
        return f"{name} {why}"
    return f"{name}: {why}" if name else why


def _why(
    each: Mapping[str, Any], where: Sequence[str], model: type[BaseModel], jobs: _Models
) -> str:
    """What is wrong in one place."""
    kind, said = each["type"], str(each["msg"])
    if kind == "missing":
        return "is missing"
    if kind == "extra_forbidden":
        return _no_option(where[-1], _model_at(model, where[:-1]), jobs)
    if kind == "model_type":
        place = each["ctx"]["class_name"] == "Place"
        return (
            "must be a path or URL, or a mapping with url and storage_options"
            if place
            else "must be a mapping of options"
        )
    return said.removeprefix("Value error, ").replace("Input should be", "must be")


def _no_option(name: str, model: type[BaseModel] | None, jobs: _Models) -> str:
    if model in jobs.values():
        for job, other in jobs.items():
            if name in other.model_fields:
                return f"belongs to the job {job}"
    alike = get_close_matches(name, model.model_fields if model else (), 1)
    return f"is no option: did you mean {alike[0]}?" if alike else "is no option"


def _model_at(model: type[BaseModel] | None, where: Sequence[str]) -> type[BaseModel] | None:
    """The model of a part of the options."""
    for name in where:
        field = model.model_fields.get(name) if model else None
        kinds = [field.annotation, *get_args(field.annotation)] if field else []
        kinds += [inner for kind in kinds for inner in get_args(kind)]
        model = next(
            (kind for kind in kinds if isinstance(kind, type) and issubclass(kind, BaseModel)), None
        )
    return model
