"""Configuration files: read as they stand, safely."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

from noisydask.errors import InputError


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
    ) as error:  # also text that is not UTF-8, or nested without end
        where = getattr(error, "problem_mark", None)
        line = f", line {where.line + 1}" if where else ""
        raise InputError(f"the config {path} is not valid YAML{line}") from error
    if not isinstance(content, dict):
        raise InputError(f"the config {path} must be a mapping of options, like those in configs/")
    return content
