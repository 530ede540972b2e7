"""A configuration file with the options of the command line on top."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from noisydask.cli.nightly_config import NightlyConfig, checked_night
from noisydask.cli.options import CLUSTER, PLACES
from noisydask.engine.config import Config, checked
from noisydask.errors import InputError

#: Ways to the workers, of which a config has one.
_WAYS = ("scheduler", "scheduler_file", "workers")


def merged(values: Mapping[str, Any], given: Mapping[str, Any]) -> Config:
    """Options of a job, checked."""
    as_options = set(values) <= {"job"}  # no file has a part in it
    values = dict(values)
    cluster = merged_cluster(values, given)
    for name, value in given.items():
        if value is None or name in CLUSTER:
            continue
        if name.endswith("_options") and name != "storage_options":
            owner = name.removesuffix("_options")
            place = values.get(owner)
            url = place.get("url") if isinstance(place, dict) else place
            if url is None:
                raise InputError(
                    f"--{_dashed(owner)} is missing, for which --{_dashed(name)} is given"
                )
            values[owner] = {"url": url, "storage_options": value}
        elif name == "class_names":
            values[name] = (
                value.split(",") if "," in value and not Path(value).exists() else {"url": value}
            )
        elif name in PLACES and isinstance(values.get(name), dict):
            values[name] = values[name] | {"url": value}
        else:
            values[name] = value
    if cluster:
        values["cluster"] = cluster
    return checked(values, as_options)


def merged_cluster(values: Mapping[str, Any], given: Mapping[str, Any]) -> dict[str, Any]:
    """Where to run: another way to the workers replaces the file's."""
    stated = values.get("cluster")
    if not (stated is None or isinstance(stated, Mapping)):
        raise InputError("cluster must be a mapping of options, such as {workers: 4}")
    cluster = dict(stated or {})
    given = {name: given[name] for name in CLUSTER if given.get(name) is not None}
    if any(name in given for name in _WAYS):
        cluster = {name: value for name, value in cluster.items() if name not in _WAYS}
    return cluster | given


def merged_night(values: Mapping[str, Any], given: Mapping[str, Any]) -> NightlyConfig:
    """The options of a night: what all jobs share may be given on the command line."""
    given = {name: value for name, value in given.items() if value is not None}
    own = [name for name in given if name not in (*CLUSTER, "storage_options")]
    if own:
        raise InputError(
            f"--{_dashed(own[0])} belongs to one job: say it in its section of the config"
        )
    shared = {name: given[name] for name in ("storage_options",) if name in given}
    return checked_night({**values, "cluster": merged_cluster(values, given), **shared})


def _dashed(name: str) -> str:
    return name.replace("_", "-")
