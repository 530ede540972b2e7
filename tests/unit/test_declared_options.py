"""Options are checked in the same way wherever a value came from, and values are not told."""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
import pytest

from noisydask.errors import InputError
from noisydask.options import (
    AnyPlace,
    Number,
    Options,
    Size,
    Whole,
    base_types,
    choices,
    explained,
    option,
)


class Some(Options):
    """Options of a made-up job."""

    runs: Whole = option(3, help="", ge=1)
    share: Number | None = option(None, help="", gt=0, le=1)
    size: Size = option(1024, help="", ge=1)
    how: Literal["first", "last"] = option("first", help="")
    labels: AnyPlace | None = option(None, help="")


class Other(Options):
    """Options of another job."""

    alpha: Number = option(0.5, help="", ge=0, le=1)


@pytest.mark.parametrize(
    ("name", "value", "found"),
    [
        ("runs", np.int64(5), 5),
        ("runs", 5.0, 5),
        ("share", 1, 1.0),
        ("share", np.float32(0.5), 0.5),
        ("share", None, None),
        ("size", "128MiB", 128 * 1024**2),
        ("size", "1kB", 1000),
        ("size", 77, 77),
        ("how", "last", "last"),
    ],
)
def test_values_of_any_kind(name: str, value: Any, found: Any) -> None:
    given = getattr(Some.of({name: value, "of_another_model": 1}), name)
    assert given == found
    assert type(given) is type(found)


def test_a_place_is_a_url_or_a_mapping() -> None:
    place = Some(labels="s3://b/a").labels
    assert place is not None
    assert (place.url, place.storage_options) == ("s3://b/a", {})
    given = Some(labels={"url": "a", "storage_options": {"key": "SESAME"}})
    assert given.labels is not None
    assert given.labels.storage_options == {"key": "SESAME"}
    assert "SESAME" not in repr(given)


WRONG = [
    ({"runs": 0}, "whole number of at least 1, not 0"),
    ({"runs": 2.5}, "whole number of at least 1, not 2.5"),
    ({"runs": True}, "whole number"),
    ({"runs": "3"}, "whole number"),
    ({"share": 0}, "number above 0 and at most 1, not 0"),
    ({"share": float("nan")}, "number above 0"),
    ({"size": "a lot"}, "is not a size"),
    ({"size": 0}, "at least 1"),
    ({"how": "mean"}, "one of first, last, not 'mean'"),
]


@pytest.mark.parametrize(("values", "why"), WRONG)
def test_what_is_wrong_is_said_once(values: dict[str, Any], why: str) -> None:
    (name,) = values
    with pytest.raises(InputError, match=f"^{name} .*{why}") as refused:
        Some.of(values)
    assert ";" not in str(refused.value)
    with pytest.raises(InputError, match=f"^--{name} "), explained(Some, as_options=True):
        Some(**values)


@pytest.mark.parametrize("value", ["SESAME", ["SESAME"], {"url": "", "secret": "SESAME"}])
@pytest.mark.parametrize("name", ["runs", "share", "how", "labels"])
def test_values_of_files_are_not_told(name: str, value: Any) -> None:
    if name == "labels" and isinstance(value, str):
        return
    with pytest.raises(InputError, match=name) as refused, explained(Some):
        Some(**{name: value})
    assert "SESAME" not in str(refused.value)


@pytest.mark.parametrize(
    ("name", "why"),
    [("alpha", "job other"), ("run", "did you mean runs"), ("z", "not an option")],
)
def test_what_is_no_option(name: str, why: str) -> None:
    jobs = {"some": Some, "other": Other}
    with pytest.raises(InputError, match=f"^{name} .*{why}"), explained(Some, jobs):
        Some(**{name: 1})


def test_all_that_is_wrong_is_told() -> None:
    with pytest.raises(InputError, match=r"runs .*; how .*"):
        Some.of({"runs": 0, "how": ""})


def test_types_and_words() -> None:
    assert base_types(Number | None) == (float, type(None))
    assert choices(Literal["a", "b"] | None) == ("a", "b")
    assert choices(int) == ()
