"""Configuration files and command lines become one checked, frozen object."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any, Literal

import fsspec
import yaml
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, model_validator

from noisydask.core.blocks import DEFAULT_BLOCK_BYTES
from noisydask.core.settings import MAX_LEASE_SECONDS
from noisydask.errors import InputError


class Strict(BaseModel):
    """Unknown keys are refused; values do not change; errors never quote a value, which may be secret."""

    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)


class Place(Strict):
    """A path or URL with the storage options that it needs."""

    url: str
    storage_options: dict[str, Any] = Field(default_factory=dict, repr=False)


def _as_place(value: Any) -> Any:
    return {"url": value} if isinstance(value, str) else value


AnyPlace = Annotated[Place, BeforeValidator(_as_place)]


class ClusterConfig(Strict):
    """Where to run: a scheduler that is there, by address or file, or workers of our own on this machine."""

    scheduler: str | None = None
    scheduler_file: str | None = None
    workers: int | None = Field(default=None, ge=1)
    threads_per_worker: int = Field(default=1, ge=1)
    memory_limit: str = "auto"
    tls_ca_file: str | None = None
    tls_client_cert: str | None = None
    tls_client_key: str | None = None

    @model_validator(mode="after")
    def _one_way(self) -> ClusterConfig:
        ways = [self.scheduler, self.scheduler_file, self.workers]
        if sum(way is not None for way in ways) > 1:
            raise ValueError("give one of scheduler, scheduler_file and workers")
        tls = [self.tls_ca_file, self.tls_client_cert, self.tls_client_key]
        if any(tls) and not (all(tls) and (self.scheduler or self.scheduler_file)):
            raise ValueError("tls_ca_file, tls_client_cert and tls_client_key go together, with a scheduler")
        return self


#: Options that say where and for whom a job runs, and names of classes, which are read from a file first.
_NO_ARGUMENTS = ("job", "cluster", "storage_options", "class_names")


class PublishConfig(Strict):
    """Where the runs of a job go; how they are locked, published and kept."""

    out: AnyPlace
    storage_options: dict[str, Any] = Field(default_factory=dict, repr=False)
    allow_unsafe_store: bool = False
    lease_seconds: float = Field(default=60, ge=1, le=MAX_LEASE_SECONDS)
    keep_runs: int = Field(default=10, ge=1)
    keep_days: float = Field(default=0, ge=0)
    grace_seconds: float = Field(default=3600, ge=0)

    def arguments(self) -> dict[str, Any]:
        """These options as the function of the job takes them."""
        given = {name: getattr(self, name) for name in type(self).model_fields if name not in _NO_ARGUMENTS}
        places = {name: value for name, value in given.items() if isinstance(value, Place)}
        urls = {name: place.url for name, place in places.items()}
        return {**given, **urls, "storage_options": {name: self.options_of(place) for name, place in places.items()}}

    def options_of(self, place: Place) -> dict[str, Any]:
        """Storage options of a place: the common ones, and its own on top."""
        return {**self.storage_options, **place.storage_options}


class IssuesConfig(PublishConfig):
    """Everything the main job can be told."""

    job: Literal["issues"] = "issues"
    labels: AnyPlace
    pred_probs: AnyPlace
    ids: AnyPlace | None = None
    class_names: list[str] | AnyPlace | None = None
    quality_score: Literal["self_confidence", "normalized_margin", "confidence_weighted_entropy"] = "self_confidence"
    adjust_pred_probs: bool = False
    estimation_method: Literal["off_diagonal", "off_diagonal_calibrated"] = "off_diagonal"
    on_invalid: Literal["raise", "skip"] = "raise"
    on_unreadable: Literal["raise", "skip"] = "raise"
    full: bool = False
    block_bytes: int = Field(default=DEFAULT_BLOCK_BYTES, ge=1)
    fail_above: float | None = Field(default=None, ge=0, le=1)
    fail_new_above: int | None = Field(default=None, ge=0)
    cluster: ClusterConfig = ClusterConfig()

    def read_class_names(self) -> list[str] | None:
        """Names of the classes: those given, or those of a file, a JSON list or one a line."""
        if not isinstance(self.class_names, Place):
            return self.class_names
        try:
            with fsspec.open(self.class_names.url, "rt", encoding="utf-8", **self.options_of(self.class_names)) as file:
                text = file.read()
            names = json.loads(text) if text.lstrip().startswith("[") else text.splitlines()
        except (OSError, ValueError, RecursionError) as error:
            raise InputError(f"class_names: cannot read the file ({type(error).__name__})") from error
        return [str(name) for name in names]


class DynamicsConfig(PublishConfig):
    """Everything the job on training losses can be told: exactly one of losses, table and datumaro."""

    job: Literal["dynamics"] = "dynamics"
    losses: AnyPlace | None = None
    iters: AnyPlace | None = None
    labels: AnyPlace | None = None
    ids: AnyPlace | None = None
    table: AnyPlace | None = None
    id_column: str = "id"
    iteration_column: str = "iteration"
    loss_column: str = "loss"
    label_column: str | None = None
    subset_column: str | None = None
    ann_id_column: str | None = None
    datumaro: AnyPlace | None = None
    alpha: float = Field(default=0.001, gt=0, le=1)
    tracking_loss_type: str | None = None
    top_k: int | None = Field(default=None, ge=1)
    block_bytes: int = Field(default=DEFAULT_BLOCK_BYTES, ge=1)
    full: bool = False
    cluster: ClusterConfig = ClusterConfig()

    @model_validator(mode="after")
    def _one_source(self) -> DynamicsConfig:
        if sum(source is not None for source in (self.losses, self.table, self.datumaro)) != 1:
            raise ValueError("give one of losses, table and datumaro")
        return self


Config = IssuesConfig | DynamicsConfig
_CONFIGS: dict[Any, type[IssuesConfig] | type[DynamicsConfig]] = {"issues": IssuesConfig, "dynamics": DynamicsConfig}


def read_config(path: Path) -> dict[str, Any]:
    """Read a YAML file as it stands, safely."""
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise InputError(f"cannot read the config {path}: {error.strerror}") from error
    except (yaml.YAMLError, ValueError, RecursionError) as error:  # also text that is no UTF-8, or nested without end
        where = getattr(error, "problem_mark", None)
        line = f", line {where.line + 1}" if where else ""
        raise InputError(f"the config {path} is not valid YAML{line}") from error
    if not isinstance(content, dict):
        raise InputError(f"the config {path} must be a mapping of options, like those in configs/")
    return content


def checked(values: Mapping[str, Any]) -> Config:
    """Check options from a file or command line, those of the job that ``job`` names (``issues`` where it does not).

    Examples
    --------
    >>> checked({"labels": "l.npy", "pred_probs": "p.npy", "out": "out"}).labels.url
    'l.npy'
    >>> checked({"labels": "l.npy", "out": "out", "treshold": 1})
    Traceback (most recent call last):
    noisydask.errors.InputError: pred_probs: Field required; treshold: Extra inputs are not permitted
    """
    name = values.get("job", "issues")
    if not isinstance(name, str) or name not in _CONFIGS:
        raise InputError(f"job: must be one of {', '.join(_CONFIGS)}, nightly")
    with told():
        return _CONFIGS[name].model_validate(values)


def checked_cluster(values: Mapping[str, Any]) -> ClusterConfig:
    """Check where to run."""
    with told():
        return ClusterConfig.model_validate(values)


@contextmanager
def told() -> Iterator[None]:
    """What is wrong with options, in one sentence."""
    try:
        yield
    except ValidationError as error:
        found = {".".join(str(part) for part in e["loc"] if not str(part).startswith("function-")): e["msg"]
                 for e in error.errors(include_input=False, include_url=False)}  # fmt: skip
        raise InputError("; ".join(f"{where or 'config'}: {what}" for where, what in found.items())) from None
