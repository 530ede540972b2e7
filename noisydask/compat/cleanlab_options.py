"""Cleanlab's options as ours."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from noisydask.errors import InputError
from noisydask.issues.options import IssueSettings

Options = Mapping[str, Any] | None


def settings_of(
    quality_score_kwargs: Options, num_issue_kwargs: Options, n_jobs: int | None
) -> IssueSettings:
    """Return cleanlab's options as ours; what neither has is refused, where cleanlab would go on
    with a default.
    """
    positive("n_jobs", 1 if n_jobs is None else n_jobs)
    for name, options in (
        ("quality_score_kwargs", quality_score_kwargs),
        ("num_issue_kwargs", num_issue_kwargs),
    ):
        if not isinstance(options, Mapping | None):
            raise InputError(f"{name} must be a dictionary, not {options!r}")
    quality = dict(quality_score_kwargs or {})
    counting = dict(num_issue_kwargs or {})
    method = quality.pop("method", "self_confidence")
    adjust = bool(quality.pop("adjust_pred_probs", False))
    estimation = counting.pop("estimation_method", "off_diagonal")
    for name, unknown in (("quality_score_kwargs", quality), ("num_issue_kwargs", counting)):
        if unknown:
            raise InputError(f"{name} has unknown keys: {', '.join(map(str, unknown))}")
    names = ("quality_score", "adjust_pred_probs", "estimation_method")
    return IssueSettings.of(dict(zip(names, (method, adjust, estimation), strict=True)))


def positive(name: str, value: Any) -> int:
    """Return a number of things, checked."""
    if not isinstance(value, int | np.integer) or value < 1:
        raise InputError(f"{name} must be a whole number of at least 1, not {value!r}")
    return int(value)


def one_source(name: str, source: Any, file: Any) -> Any:
    """Pick the array or the path of its file, of which exactly one must be given."""
    if (source is None) == (file is None):
        raise InputError(
            f"give either {name} or {name}_file, "
            f"{'not both' if file is not None else 'one is needed'}"
        )
    if file is not None and not isinstance(file, str):
        raise InputError(f"{name}_file must be a path or URL as text, not {type(file).__name__}")
    if source is None:
        return file
    return source
