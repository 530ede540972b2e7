"""A first config for data that were looked at."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import yaml

from noisydask.errors import InputError
from noisydask.issues.inspecting import Inspection, inspect
from noisydask.issues.options import IssuesConfig

#: Options that are set, or shown with their defaults, in this order.
_SHOWN = (
    "filter_by",
    "quality_score",
    "on_invalid",
    "on_unreadable",
    "keep_runs",
    "fail_above",
    "fail_new_above",
)


def config_for(
    inputs: Mapping[str, str],
    class_columns: str | None,
    out: str,
    storage_options: Mapping[str, Any] | None,
) -> str:
    """Return a config of the main job with comments, for inputs that can be read.

    Parameters
    ----------
    inputs : mapping of str to str
        ``labels`` and ``pred_probs``, or ``table``: paths or URLs.
    class_columns : str, optional
        Columns of a table that are classes.
    out : str
        Where results go.
    storage_options : mapping, optional
        fsspec options for all of them.

    Raises
    ------
    InputError
        If an input is missing, or cannot be read.
    """
    if "table" not in inputs and len(inputs) < 2:
        raise InputError("give labels and pred_probs, or table")
    lines = [
        "# A config of noisydask: run it by `noisydask run FILE`. Lines that begin with # say what",
        "# is so by default. An editor completes it by what `noisydask config-schema` prints.",
        "job: issues",
        "",
    ]
    for name, url in inputs.items():
        column = class_columns if name in ("table", "pred_probs") else None
        found = inspect(url, column, storage_options)
        lines += [*_told(name, found), f"{name}: {_value(url)}"]
    if class_columns is not None:
        lines.append(f"class_columns: {_value(class_columns)}")
    elif "table" in inputs:
        lines.append("# class_columns: p_*  # all columns of floats, but labels and ids")
    if "table" in inputs:
        lines += ["# label_column: label", "# id_column: id"]
    lines += [
        "",
        "# What is written there, and goes on from there the next time.",
        f"out: {_value(out)}",
    ]
    if storage_options:
        lines += ["", "# Better said where fsspec looks (environment, profile) than here."]
        lines.append(f"storage_options: {json.dumps(dict(storage_options))}")
    lines += ["", *_options()]
    return "\n".join(lines) + "\n"


def _told(name: str, found: Inspection) -> list[str]:
    """Say in comments what an input is."""
    shape = " x ".join(f"{size:,}" for size in found.rows.shape)
    lines = [f"# {found.kind}: {shape} {found.rows.dtype}"]
    if found.rows.class_names is not None:
        lines.append(f"# classes: {', '.join(found.rows.class_names[:10])}")
    lines += [f"# wrong: {each}" for each in found.wrong if name != "labels"]
    return [" ".join(line.split()) for line in lines]


def _options() -> list[str]:
    lines = []
    for name in _SHOWN:
        known = IssuesConfig.model_fields[name]
        default = _value(known.default)
        lines += [f"# {known.description}", f"# {name}: {default}"]
    return lines


def _value(value: Any) -> str:
    """Return a value as YAML writes it."""
    return yaml.safe_dump(value, width=1000).removesuffix("\n").removesuffix("\n...")
