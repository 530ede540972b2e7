"""The JSON schema of configurations: those of one job, and those of a night."""

from __future__ import annotations

from functools import reduce
from operator import or_
from typing import Any

from pydantic import TypeAdapter

from noisydask.cli.nightly_config import NightlyConfig
from noisydask.runs.kinds import JOBS

_DIALECT = "https://json-schema.org/draft/2020-12/schema"


def config_schema() -> dict[str, Any]:
    """Return the schema of all that ``noisydask run`` takes; what an option is for is its
    description.
    """
    models = [*(kind.load("options") for kind in JOBS.values()), NightlyConfig]
    schema = TypeAdapter(reduce(or_, models)).json_schema()
    definitions = schema["$defs"]
    night = definitions[NightlyConfig.__name__]["properties"]
    for job, kind in JOBS.items():
        if kind.reads:  # in a night these are outputs of its other sections
            name = kind.load("options").__name__
            needed = [each for each in definitions[name]["required"] if each not in kind.reads]
            definitions[f"{name}OfNight"] = {**definitions[name], "required": needed}
            night[job] = {"anyOf": [{"$ref": f"#/$defs/{name}OfNight"}, {"type": "null"}]}
    return {"$schema": _DIALECT, "title": "noisydask"} | schema
