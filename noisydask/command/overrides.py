"""A configuration file with the options of the command line on top."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from noisydask.command.nightly_config import NightlyConfig, checked_night
from noisydask.command.options import CLUSTER, PLACES
from noisydask.errors import InputError
from noisydask.running.config import Config, checked

#: Ways to the workers, of which a config has one.
_WAYS = ("scheduler", "scheduler_file", "workers")


def merged(values: Mapping[str, Any], given: Mapping[str, Any]) -> Config:
    """Options of a job, checked."""
    values = dict(values)
    cluster = merged_cluster(values, given)
    for name, value in given.items():
        if value is None or name in CLUSTER:
            continue
        if name.endswith("_options") and name != "storage_options":
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


def merged_cluster(values: Mapping[str, Any], given: Mapping[str, Any]) -> dict[str, Any]:
    """Where to run: another way to the workers replaces the file's."""
    cluster = dict(values.get("cluster") or {})
    given = {name: given[name] for name in CLUSTER if given.get(name) is not None}
    if any(name in given for name in _WAYS):
        cluster = {name: value for name, value in cluster.items() if name not in _WAYS}
    return cluster | given


def merged_night(values: Mapping[str, Any], given: Mapping[str, Any]) -> NightlyConfig:
    """The options of a night: what all jobs share may be given on the command line."""
    given = {name: value for name, value in given.items() if value is not None}
    own = [name for name in given if name not in (*CLUSTER, "storage_options")]
    if own:
        raise InputError(f"--{own[0].replace('_', '-')} belongs to one job: say it in its section of the config")
    shared = {name: given[name] for name in ("storage_options",) if name in given}
    return checked_night({**values, "cluster": merged_cluster(values, given), **shared})
