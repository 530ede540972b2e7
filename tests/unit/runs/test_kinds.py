"""Every part of every job can be imported, and has what a night asks of it."""

from __future__ import annotations

import inspect

import pytest

import noisydask
from noisydask.options import Options
from noisydask.runs.kinds import JOBS, JobKind


@pytest.mark.parametrize("name", JOBS)
def test_the_parts_of_a_job(name: str) -> None:
    kind = JOBS[name]
    assert kind.name == name
    function, options, result = map(kind.load, ("function", "options", "result"))
    assert function in vars(noisydask).values() or hasattr(noisydask, function.__name__)
    assert issubclass(options, Options)
    assert inspect.isclass(result)
    assert inspect.ismodule(kind.load("view"))
    assert inspect.signature(function).parameters.keys() & options.model_fields.keys()
    assert "rank" in kind.compared
    assert "changes" in kind.folders


def test_a_job_is_called_with_its_options() -> None:
    kind = JobKind(
        "x", "builtins:dict", "", "", "json", ranked="", ranks_all=True, compared=(), folders=()
    )
    assert kind.call(a=1, b=2) == {"a": 1, "b": 2}
    assert kind.load("view").loads("1") == 1
