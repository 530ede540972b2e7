"""Options of a job from a configuration file, with those of the command line on top."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from noisydask.cli.nightly_config import Night, checked_night
from noisydask.cli.options import places_of
from noisydask.engine.config import ClusterConfig
from noisydask.errors import InputError
from noisydask.options import explained
from noisydask.runs.kinds import JOBS
from noisydask.runs.options import JobConfig

#: Ways to the workers, of which a config has one.
_WAYS = ("scheduler", "scheduler_file", "workers")


def checked(values: Mapping[str, Any], as_options: bool = False) -> Any:
    """Check options from a file or command line, those of the job that ``job`` names (``issues``
    where it does not).

    ``as_options`` has errors call them as the command line does.

    Examples
    --------
    >>> checked({"labels": "l.npy", "pred_probs": "p.npy", "out": "out"}).labels.url
    'l.npy'
    >>> checked({"labels": "l.npy", "out": "out", "pred_prob": 1})
    Traceback (most recent call last):
    noisydask.errors.InputError: pred_probs is missing; pred_prob is not an option: ...
    """
    models = {name: kind.load("options") for name, kind in JOBS.items()}
    model = _model_of(values)
    with explained(model, models, as_options):
        return model.model_validate(values)


def _model_of(values: Mapping[str, Any]) -> type[JobConfig]:
    name = values.get("job", "issues")
    if not isinstance(name, str) or name not in JOBS:
        raise InputError(f"job: must be one of {', '.join(JOBS)}, nightly")
    model: type[JobConfig] = JOBS[name].load("options")
    return model


def merged(values: Mapping[str, Any], arguments: Mapping[str, Any]) -> Any:
    """Return the options of a job, checked."""
    as_options = not set(values) - {"job", "issues", "dynamics"}  # no file has a part in it
    places = places_of(_model_of(values))
    cluster = merged_cluster(values, arguments)
    values = dict(values)
    for name, value in arguments.items():
        if value in (None, []) or name in ClusterConfig.model_fields:
            continue
        if name.endswith("_options") and name != "storage_options":
            owner = name.removesuffix("_options")
            given = values.get(owner)
            places_given = given if isinstance(given, list) else [given]
            urls = [each.get("url") if isinstance(each, dict) else each for each in places_given]
            if None in urls:
                raise InputError(
                    f"--{_dashed(owner)} is missing, for which --{_dashed(name)} is given"
                )
            stated = [{"url": url, "storage_options": value} for url in urls]
            values[owner] = stated if isinstance(given, list) else stated[0]
        elif name == "class_names":
            several = "," in value and not Path(value).exists()
            values[name] = value.split(",") if several else {"url": value}
        elif name in places and isinstance(values.get(name), dict):
            values[name] = values[name] | {"url": value}
        else:
            values[name] = value
    if cluster:
        values["cluster"] = cluster
    return checked(values, as_options)


def merged_cluster(values: Mapping[str, Any], arguments: Mapping[str, Any]) -> dict[str, Any]:
    """Return where to run: another way to the workers replaces the file's."""
    stated = values.get("cluster")
    if not (stated is None or isinstance(stated, Mapping)):
        raise InputError("cluster must be a mapping of options, such as {workers: 4}")
    cluster = dict(stated or {})
    names = ClusterConfig.model_fields
    arguments = {name: arguments[name] for name in names if arguments.get(name) is not None}
    if any(name in arguments for name in _WAYS):
        cluster = {name: value for name, value in cluster.items() if name not in _WAYS}
    return cluster | arguments


def merged_night(values: Mapping[str, Any], arguments: Mapping[str, Any]) -> Night:
    """Return the options of a night: what all jobs share may be given on the command line."""
    arguments = {name: value for name, value in arguments.items() if value is not None}
    own = [
        name for name in arguments if name not in (*ClusterConfig.model_fields, "storage_options")
    ]
    if own:
        raise InputError(
            f"--{_dashed(own[0])} belongs to one job: say it in its section of the config"
        )
    shared = {name: arguments[name] for name in ("storage_options",) if name in arguments}
    return checked_night({**values, "cluster": merged_cluster(values, arguments), **shared})


def _dashed(name: str) -> str:
    return name.replace("_", "-")
