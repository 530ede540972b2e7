"""Configuration files and command lines become one checked, frozen object."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import yaml
from dask.utils import parse_bytes
from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, model_validator

from noisydask.core.blocks import DEFAULT_BLOCK_BYTES
from noisydask.core.choices import (
    EstimationMethod,
    OnDuplicate,
    QualityScore,
    RaiseOrSkip,
    TrackingLossType,
)
from noisydask.core.settings import MAX_LEASE_SECONDS
from noisydask.engine.refusals import told
from noisydask.engine.sizes import Size
from noisydask.errors import InputError
from noisydask.lazily import Lazy
from noisydask.stores.locations import Location, blame, reason, shown

if TYPE_CHECKING:
    from distributed import comm
else:
    comm = Lazy("distributed.comm")

#: A worker of less dies of its own packages, again and again.
LEAST_MEMORY = 250_000_000


class Strict(BaseModel):
    """Unknown keys are refused; values do not change; errors never quote a value, which may be
    secret.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)


class Place(Strict):
    """A path or URL with the storage options that it needs."""

    url: str
    storage_options: dict[str, Any] = Field(default_factory=dict, repr=False)

    @model_validator(mode="after")
    def _named(self) -> Place:
        if not self.url.strip():
            raise ValueError("is empty: give a path or URL")
        return self


def _as_place(value: Any) -> Any:
    return {"url": value} if isinstance(value, str) else value


AnyPlace = Annotated[Place, BeforeValidator(_as_place)]


def _address(text: str) -> str:
    """An address, as far as can be told without asking there."""
    try:
        comm.get_address_host(text)
    except (ValueError, KeyError):
        raise ValueError("is no address of a scheduler, such as tcp://10.0.0.1:8786") from None
    return text


def _memory(value: Any) -> Any:
    """A size as Dask's workers take it: bytes, with a unit or without, a share of the machine's,
    auto, or 0 for no limit.
    """
    text = str(value)
    if text in ("auto", "0"):
        return text
    try:
        if 0 < float(text) <= 1:
            return text
    except ValueError:
        pass
    try:
        size = parse_bytes(text)
    except (ValueError, OverflowError):
        raise ValueError("is no size, such as 4GiB; auto, or 0 for no limit, will do too") from None
    if size < LEAST_MEMORY:
        raise ValueError(
            f"a worker needs at least {LEAST_MEMORY // 10**6} MB; give a size such as 4GiB"
        )
    return text


class ClusterConfig(Strict):
    """Where to run: a scheduler that is there, by address or file, or workers of our own on this
    machine.
    """

    scheduler: Annotated[str, AfterValidator(_address)] | None = None
    scheduler_file: str | None = None
    workers: int | None = Field(default=None, ge=1)
    threads_per_worker: int = Field(default=1, ge=1)
    memory_limit: Annotated[str, BeforeValidator(_memory)] = "auto"
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
            raise ValueError(
                "tls_ca_file, tls_client_cert and tls_client_key go together, with a scheduler"
            )
        return self


#: Options that say where and for whom a job runs, and names of classes, which are read from a file
#: first.
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
        given = {
            name: getattr(self, name)
            for name in type(self).model_fields
            if name not in _NO_ARGUMENTS
        }
        places = {name: value for name, value in given.items() if isinstance(value, Place)}
        urls = {name: place.url for name, place in places.items()}
        return {
            **given,
            **urls,
            "storage_options": {name: self.options_of(place) for name, place in places.items()},
        }

    def options_of(self, place: Place) -> dict[str, Any]:
        """Storage options of a place: the common ones, and its own on top."""
        return {**self.storage_options, **place.storage_options}


class NamedConfig(PublishConfig):
    """The options of a job on labels, which may have names."""

    class_names: list[str] | AnyPlace | None = None

    def read_class_names(self) -> list[str] | None:
        """Names of the classes: those given, or those of a file, a JSON list or one a line."""
        if not isinstance(self.class_names, Place):
            return self.class_names
        try:
            place = Location.of(
                self.class_names.url, self.options_of(self.class_names), "class_names"
            )
            text = place.fs.cat_file(place.path).decode("utf-8-sig")
            lines = text.replace("\r\n", "\n").removesuffix("\n").split("\n")
            names = json.loads(text) if text.lstrip().startswith("[") else lines
        except InputError:
            raise
        except Exception as error:
            why = reason(error) or type(error).__name__
            where = shown(self.class_names.url)
            relative = (
                isinstance(error, FileNotFoundError)
                and "://" not in where
                and not Path(where).is_absolute()
            )
            hint = "; relative paths count from the working directory" if relative else ""
            raise blame(error)(
                f"class_names: cannot read the file {where} ({why}){hint}"
            ) from error
        return [str(name) for name in names]


class IssuesConfig(NamedConfig):
    """Everything the main job can be told."""

    job: Literal["issues"] = "issues"
    labels: AnyPlace
    pred_probs: AnyPlace
    ids: AnyPlace | None = None
    quality_score: QualityScore = "self_confidence"
    adjust_pred_probs: bool = False
    estimation_method: EstimationMethod = "off_diagonal"
    on_invalid: RaiseOrSkip = "raise"
    on_unreadable: RaiseOrSkip = "raise"
    full: bool = False
    block_bytes: Size = Field(default=DEFAULT_BLOCK_BYTES, ge=1)
    fail_above: float | None = Field(default=None, ge=0, le=1)
    fail_new_above: int | None = Field(default=None, ge=0)
    cluster: ClusterConfig = ClusterConfig()


class DynamicsConfig(NamedConfig):
    """Everything the job on training losses can be told: exactly one of losses, table and
    datumaro.
    """

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
    tracking_loss_type: TrackingLossType | None = None
    top_k: int | None = Field(default=None, ge=1)
    on_duplicate: OnDuplicate = "raise"
    on_invalid: RaiseOrSkip = "raise"
    block_bytes: Size = Field(default=DEFAULT_BLOCK_BYTES, ge=1)
    full: bool = False
    cluster: ClusterConfig = ClusterConfig()

    @model_validator(mode="after")
    def _one_source(self) -> DynamicsConfig:
        if sum(source is not None for source in (self.losses, self.table, self.datumaro)) != 1:
            raise ValueError("give one of losses, table and datumaro")
        return self


Config = IssuesConfig | DynamicsConfig
#: Jobs by name.
CONFIGS: dict[Any, type[IssuesConfig] | type[DynamicsConfig]] = {
    "issues": IssuesConfig,
    "dynamics": DynamicsConfig,
}


class _TwiceError(Exception):
    """A key and the line in which it stands for the second time."""


class _Loader(yaml.SafeLoader):
    """Refuses a key that is given twice, of which YAML's own loader takes the last without a
    word.
    """

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen: set[tuple[str, str]] = set()
        for key, _ in node.value:
            if isinstance(key, yaml.ScalarNode):
                if (key.tag, key.value) in seen:
                    raise _TwiceError(key.value, key.start_mark.line + 1)
                seen.add((key.tag, key.value))
        return super().construct_mapping(node, deep)


def read_config(path: Path) -> dict[str, Any]:
    """Read a YAML file as it stands, safely."""
    try:
        loader = _Loader(path.read_text(encoding="utf-8"))
        try:
            content = loader.get_single_data()
        finally:
            loader.dispose()
    except _TwiceError as error:
        key, number = error.args
        raise InputError(f"the config {path} gives {key} twice, again in line {number}") from error
    except OSError as error:
        raise InputError(f"cannot read the config {path}: {error.strerror}") from error
    except (
        yaml.YAMLError,
        ValueError,
        RecursionError,
    ) as error:  # also text that is no UTF-8, or nested without end
        where = getattr(error, "problem_mark", None)
        line = f", line {where.line + 1}" if where else ""
        raise InputError(f"the config {path} is not valid YAML{line}") from error
    if not isinstance(content, dict):
        raise InputError(f"the config {path} must be a mapping of options, like those in configs/")
    return content


def checked(values: Mapping[str, Any], as_options: bool = False) -> Config:
    """Check options from a file or command line, those of the job that ``job`` names (``issues``
    where it does not).

    ``as_options`` has errors call them as the command line does.

    Examples
    --------
    >>> checked({"labels": "l.npy", "pred_probs": "p.npy", "out": "out"}).labels.url
    'l.npy'
    >>> checked({"labels": "l.npy", "out": "out", "pred_prob": 1})
    Traceback (most recent call last):
    noisydask.errors.InputError: pred_probs is missing; pred_prob is no option: ...
    """
    name = values.get("job", "issues")
    if not isinstance(name, str) or name not in CONFIGS:
        raise InputError(f"job: must be one of {', '.join(CONFIGS)}, nightly")
    with told(CONFIGS[name], CONFIGS, as_options):
        return CONFIGS[name].model_validate(values)


def checked_cluster(values: Mapping[str, Any]) -> ClusterConfig:
    """Check where to run."""
    with told(ClusterConfig, as_options=True):
        return ClusterConfig.model_validate(values)
