"""A first config for data that were looked at."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

import yaml
from pydantic import BaseModel

from noisydask.dynamics.options import DynamicsConfig
from noisydask.errors import InputError
from noisydask.issues.inputs import IssueInputs
from noisydask.issues.inspecting import Inspection, by, inspect
from noisydask.issues.options import IssuesConfig
from noisydask.issues.table_choice import TableChoice
from noisydask.stores.tables.table_column import TableColumn
from noisydask.stores.tables.table_matrix import TableMatrix

#: Where editors look for the schema, beside the config.
SCHEMA_FILE = "noisydask.schema.json"
#: Options that are shown with their defaults, in this order.
_OF_ISSUES = (
    "filter_by",
    "quality_score",
    "on_invalid",
    "on_unreadable",
    "keep_runs",
    "fail_above",
    "fail_new_above",
)
_OF_DYNAMICS = ("alpha", "top_k")
_HEADER = f"""\
# yaml-language-server: $schema={SCHEMA_FILE}
#
# A config of noisydask: run it by `noisydask run FILE`. Options that are commented out are so by
# default. Editors complete them after `noisydask config-schema > {SCHEMA_FILE}`.
"""


def config_for(
    inputs: Mapping[str, str],
    class_columns: str | None,
    out: str,
    storage_options: Mapping[str, Any] | None,
) -> str:
    """Return a config with comments for inputs that can be read: of the main job, or with losses of
    a night of both jobs.

    Parameters
    ----------
    inputs : mapping of str to str
        ``labels`` and ``pred_probs``, or ``table``; and ``ids`` and ``losses``: paths or URLs.
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
    if "table" not in inputs and not {"labels", "pred_probs"} <= set(inputs):
        raise InputError("give labels and pred_probs, or table")
    out = out.rstrip("/")
    of_issues = {name: url for name, url in inputs.items() if name != "losses"}
    looks = {
        name: inspect(
            url, class_columns if name in ("table", "pred_probs") else None, storage_options
        )
        for name, url in inputs.items()
    }
    issues = _issues(of_issues, looks, class_columns, storage_options)
    if "losses" in inputs:
        dynamics = [*_dynamics(inputs, looks["losses"]), f"out: {_value(out + '/dynamics')}", ""]
        dynamics += _options(DynamicsConfig, _OF_DYNAMICS)
        lines = ["job: nightly", "", "issues:"]
        lines += _inside([*issues, f"out: {_value(out + '/issues')}", ""])
        lines += [*_inside(_options(IssuesConfig, _OF_ISSUES)), "", "dynamics:"]
        lines += [*_inside(dynamics), "", "# One ranking of both, where they tell of the same ids."]
        lines += ["# combine:", f"#   out: {_value(out + '/both')}"]
    else:
        lines = ["job: issues", "", *issues, ""]
        lines += ["# What is written there, and goes on from there the next time."]
        lines += [f"out: {_value(out)}", "", *_options(IssuesConfig, _OF_ISSUES)]
    if storage_options:
        lines += ["", "# Better said where fsspec looks (environment, profile) than here."]
        lines.append(f"storage_options: {json.dumps(dict(storage_options))}")
    return _HEADER + "\n".join(lines) + "\n"


def _issues(
    inputs: Mapping[str, str],
    looks: Mapping[str, Inspection],
    class_columns: str | None,
    storage_options: Mapping[str, Any] | None,
) -> list[str]:
    """Return lines of the inputs of the main job, and why it would not take them."""
    lines = []
    for name, url in inputs.items():
        lines += [*_told(name, looks[name]), f"{name}: {_value(url)}"]
    if class_columns is not None:
        lines.append(f"class_columns: {_value(class_columns)}")
    elif "table" in inputs:
        lines.append("# class_columns: p_*  # all columns of floats, but labels and ids")
    if "table" in inputs:
        lines += ["# label_column: label", "# id_column: id"]
    refused = _refusal(inputs, class_columns, storage_options)
    return lines + ([f"# WRONG: {refused}"] if refused else [])


def _refusal(
    inputs: Mapping[str, str], class_columns: str | None, storage_options: Mapping[str, Any] | None
) -> str | None:
    """Return the error of the job where inputs do not fit each other."""
    table = TableChoice.of(inputs.get("table"), "label", None, class_columns)
    labels, probs, ids = (inputs.get(name) for name in ("labels", "pred_probs", "ids"))
    options = dict.fromkeys(("table", "labels", "pred_probs", "ids"), storage_options or {})
    try:
        IssueInputs.open(labels, probs, ids, None, options, table)
    except InputError as error:
        return " ".join(str(error).split())
    return None


def _dynamics(inputs: Mapping[str, str], losses: Inspection) -> list[str]:
    """Return lines of the inputs of the job on losses: a table, or an array and what goes with
    it.
    """
    if isinstance(losses.rows, TableMatrix | TableColumn):
        rows = f"# a table of losses: {losses.rows.shape[0]:,} rows"
        return [rows, f"table: {_value(inputs['losses'])}", "# label_column: label"]
    lines = [*_told("losses", losses), f"losses: {_value(inputs['losses'])}"]
    return lines + [
        f"{name}: {_value(inputs[name])}" for name in ("labels", "ids") if name in inputs
    ]


def _told(name: str, found: Inspection) -> list[str]:
    """Say in comments what an input is."""
    lines = [f"# {found.kind}: {by(found.rows.shape)} {found.rows.dtype}"]
    if found.rows.class_names is not None:
        lines.append(f"# classes: {', '.join(found.rows.class_names[:10])}")
    if name in ("table", "pred_probs"):
        lines += [f"# WRONG: {each}" for each in found.wrong]
    return [" ".join(line.split()) for line in lines]


def _options(model: type[BaseModel], names: Sequence[str]) -> list[str]:
    lines = []
    for name in names:
        known = model.model_fields[name]
        lines += [f"# {known.description}", f"# {name}: {_value(known.default)}"]
    return lines


def _inside(lines: Sequence[str]) -> list[str]:
    """Return lines as those of a section."""
    return [f"  {line}" if line else "" for line in lines]


def _value(value: Any) -> str:
    """Return a value as YAML writes it."""
    return yaml.safe_dump(value, width=1000).removesuffix("\n").removesuffix("\n...")
