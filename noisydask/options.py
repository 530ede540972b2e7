"""How options are declared and checked: once, for Python, configurations and the command line.

An option is a field of a pydantic model: its type, its default, its bounds and its help. The
settings of a job, its section of a file, its options on the command line and the table in the
documentation all follow from it. What is wrong is said in one sentence, in the same words wherever
the value came from.
"""

from __future__ import annotations

import types
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from difflib import get_close_matches
from numbers import Real
from typing import Annotated, Any, Self, Union, get_args, get_origin

from pydantic import (
    BaseModel,
    BeforeValidator,
    ByteSize,
    ConfigDict,
    Field,
    TypeAdapter,
    ValidationError,
    model_validator,
)
from pydantic.fields import FieldInfo

from noisydask.errors import InputError

_Models = Mapping[str, type[BaseModel]]

#: Where help lists an option.
DATA, METHOD, CLUSTER, STORAGE, RUNS = "Data", "Method", "Cluster", "Storage", "Runs"


def option(default: Any = ..., *, help: str, panel: str = METHOD, **bounds: Any) -> Any:
    """Declare an option: ``help`` is its one line, ``panel`` where help lists it."""
    return Field(default, description=help, json_schema_extra={"panel": panel}, **bounds)


def _number(value: Any) -> Any:
    if isinstance(value, bool) or not isinstance(value, Real):
        raise ValueError("must be a number")
    return float(value)


def _whole(value: Any) -> Any:
    if isinstance(value, bool) or not isinstance(value, Real) or not float(value).is_integer():
        raise ValueError("must be a whole number")
    return int(value)  # type: ignore[call-overload]


def _in_bytes(value: Any) -> Any:
    if not isinstance(value, str):
        return _whole(value)
    try:
        return int(_SIZE.validate_python(value))
    except (ValidationError, OverflowError):
        raise ValueError("is not a size, such as 128MiB or 134217728") from None


_SIZE = TypeAdapter(ByteSize)
#: Numbers of any kind that Python and NumPy have, and sizes as people write them.
Number = Annotated[float, BeforeValidator(_number)]
Whole = Annotated[int, BeforeValidator(_whole)]
Size = Annotated[int, BeforeValidator(_in_bytes, json_schema_input_type=int | str)]


class Options(BaseModel):
    """Options that are checked: unknown ones are refused, values do not change, and pydantic's own
    errors never quote a value, which may be secret.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)

    @classmethod
    def of(cls, values: Mapping[str, Any]) -> Self:
        """Check those of some values that are options of this kind.

        Raises
        ------
        InputError
            If one is wrong.

        Examples
        --------
        >>> class Runs(Options):
        ...     keep_runs: Whole = option(10, help="Newest runs that are kept.", ge=1)
        >>> Runs.of({"keep_runs": 3, "other": 1}).keep_runs
        3
        >>> Runs.of({"keep_runs": 0})
        Traceback (most recent call last):
        noisydask.errors.InputError: keep_runs must be a whole number of at least 1, not 0
        """
        with explained(cls, quote=True):
            return cls(**{name: values[name] for name in cls.model_fields if name in values})


class PlaceOptions(Options):
    """A path or URL with the storage options that it needs."""

    url: str
    storage_options: dict[str, Any] = Field(default_factory=dict, repr=False)

    @model_validator(mode="after")
    def _named(self) -> PlaceOptions:
        if not self.url.strip():
            raise ValueError("is empty: give a path or URL")
        return self


def _as_place(value: Any) -> Any:
    if isinstance(value, str):
        return {"url": value}
    return value


#: A place as files and the command line give it.
AnyPlace = Annotated[
    PlaceOptions, BeforeValidator(_as_place, json_schema_input_type=str | PlaceOptions)
]


def as_list(value: Any) -> Any:
    """Split what the command line gives as text, separated by commas."""
    if isinstance(value, str):
        return [part.strip() for part in value.split(",")]
    if hasattr(value, "tolist"):
        return value.tolist()
    return value


def _as_pattern(value: Any) -> Any:
    """Split names, but not a pattern or the name of one column."""
    return as_list(value) if isinstance(value, str) and "," in value else value


#: A pattern of columns, or their names; as text with commas, names.
Pattern = Annotated[str | tuple[str, ...], BeforeValidator(_as_pattern)]


@contextmanager
def explained(
    model: type[BaseModel],
    jobs: _Models | None = None,
    as_options: bool = False,
    quote: bool = False,
) -> Iterator[None]:
    """Turn what pydantic finds wrong into one sentence.

    Parameters
    ----------
    model : type
        Model of the options that are checked.
    jobs : mapping of str to type, optional
        Models of all jobs by name, so that an option of another job is recognised.
    as_options : bool
        Call options as the command line does.
    quote : bool
        Quote values that are numbers or words; those of a file may be anything, also secrets.

    Raises
    ------
    InputError
        If anything is wrong.
    """
    try:
        yield
    except ValidationError as error:
        sentences: dict[str, str] = {}
        for each in error.errors(include_url=False):
            # Of a value that may be of two kinds pydantic reports both; one place is a list of one.
            where = [
                str(part)
                for part in each["loc"]
                if part != 0 and not str(part).startswith(("function-", "list[", "constrained-"))
            ]
            name = _as_option(where) if as_options else ".".join(where)
            why = _why(each, where, model, jobs or {})
            if quote and why.startswith("must be "):
                why += f", not {each['input']!r}"
            is_whole = why.startswith(("is ", "must ", "belongs "))
            sentences[name] = f"{name}{'' if is_whole or not name else ':'} {why}".strip()
        raise InputError("; ".join(sentences.values())) from None


def _as_option(where: Sequence[str]) -> str:
    """Return the name that a part of the options has on the command line; what is wrong with
    several of them has no name.
    """
    own = where[1:] if where[:1] == ["cluster"] else where
    if own:
        return f"--{'.'.join(own).replace('_', '-')}"
    return ""


def _why(
    each: Mapping[str, Any], where: Sequence[str], model: type[BaseModel], jobs: _Models
) -> str:
    """Return what is wrong in one place."""
    kind = each["type"]
    if kind == "missing":
        return "is missing"
    if kind == "extra_forbidden":
        return _not_an_option(where[-1], _model_at(model, where[:-1]), jobs)
    if kind == "model_type":
        if each["ctx"]["class_name"] == "PlaceOptions":
            return "must be a path or URL, or a mapping with url and storage_options"
        return "must be a mapping of options"
    owner = _model_at(model, where[:-1])
    if owner and where:
        field = owner.model_fields.get(where[-1])
    else:
        field = None
    wanted = _wanted(field) if field else ""
    message = str(each["msg"]).removeprefix("Value error, ")
    if wanted and not message.startswith("is "):
        return f"must be {wanted}"
    return message.replace("Input should be", "must be")


def _wanted(field: FieldInfo) -> str:
    """Return which values an option takes that is a number or one of a few words; nothing for
    others.

    Examples
    --------
    >>> class Some(Options):
    ...     runs: Whole = option(1, help="", ge=1)
    ...     share: Number | None = option(None, help="", gt=0, le=1)
    >>> [_wanted(field) for field in Some.model_fields.values()]
    ['a whole number of at least 1', 'a number above 0 and at most 1']
    """
    words = choices(field.annotation)
    if words:
        return f"one of {', '.join(words)}"
    kinds = base_types(field.annotation)
    if not {int, float} & set(kinds):
        return ""
    text = "a whole number" if int in kinds else "a number"
    bounds = {name: value for each in field.metadata for name, value in vars_of(each).items()}
    if {"ge", "le"} <= bounds.keys():
        return f"{text} of {bounds['ge']} to {bounds['le']}"
    text += f" of at least {bounds['ge']}" if "ge" in bounds else ""
    text += f" above {bounds['gt']}" if "gt" in bounds else ""
    return text + (f" and at most {bounds['le']}" if "le" in bounds else "")


def vars_of(bound: Any) -> dict[str, Any]:
    """Return the limits of a bound of a field, by name."""
    return {name: getattr(bound, name) for name in ("ge", "gt", "le") if hasattr(bound, name)}


def base_types(annotation: Any) -> tuple[Any, ...]:
    """Return the types that an annotation allows, without what is said about them.

    Examples
    --------
    >>> base_types(Whole | None)
    (<class 'int'>, <class 'NoneType'>)
    """
    if get_origin(annotation) in (Union, types.UnionType):
        return tuple(kind for each in get_args(annotation) for kind in base_types(each))
    if get_origin(annotation) is Annotated:
        return base_types(get_args(annotation)[0])
    return (annotation,)


def is_place(annotation: Any) -> bool:
    """Return whether an option is a place, or several."""
    return any(kind is PlaceOptions for kind in base_types(annotation)) or is_places(annotation)


def is_places(annotation: Any) -> bool:
    """Return whether an option may be several places.

    Examples
    --------
    >>> is_places(tuple[AnyPlace, ...]), is_places(AnyPlace | None)
    (True, False)
    """
    several = (get_args(kind) for kind in base_types(annotation) if get_origin(kind) is tuple)
    return any(PlaceOptions in base_types(kinds[0]) for kinds in several)


def choices(annotation: Any) -> tuple[str, ...]:
    """Return the words of a ``Literal`` that an annotation allows; none where there is none."""
    words = (get_args(kind) for kind in base_types(annotation) if _is_literal(kind))
    return next(words, ())


def _is_literal(kind: Any) -> bool:
    return getattr(get_origin(kind), "_name", None) == "Literal"


def _not_an_option(name: str, model: type[BaseModel] | None, jobs: _Models) -> str:
    if model in jobs.values():
        for job, other in jobs.items():
            if name in other.model_fields:
                return f"belongs to the job {job}"
    alike = get_close_matches(name, model.model_fields if model else (), 1)
    if alike:
        return f"is not an option: did you mean {alike[0]}?"
    return "is not an option"


def _model_at(model: type[BaseModel] | None, where: Sequence[str]) -> type[BaseModel] | None:
    """Return the model of a part of the options."""
    for name in where:
        field = model.model_fields.get(name) if model else None
        kinds = base_types(field.annotation) if field else ()
        models = (kind for kind in kinds if isinstance(kind, type) and issubclass(kind, BaseModel))
        model = next(models, None)
    return model
