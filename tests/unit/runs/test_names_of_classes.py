"""Label k has name k, and no label has none."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from noisydask.errors import InputError
from noisydask.runs.class_names import (
    called,
    check_labels,
    checked_names,
    name_column,
    with_label_name,
    with_pair_names,
)

NAMES = ("cat", "", "dog", "cat")


@pytest.mark.parametrize("dtype", ["i1", "i4", "i8"])
@given(labels=st.lists(st.integers(-1, 3), max_size=30))
def test_each_label_has_its_name(dtype: str, labels: list[int]) -> None:
    values = np.array(labels, dtype)
    right = [None if label == -1 else NAMES[label] for label in labels]
    assert name_column(values, NAMES).to_pylist() == right
    ranking = pa.table({"rank": range(len(labels)), "label": values, "metric": values})
    named = with_label_name(ranking, NAMES)
    assert named.column_names == ["rank", "label", "label_name", "metric"]
    assert named["label_name"].to_pylist() == right
    pairs = pa.table({"given_label": values, "suggested_label": values[::-1]})
    found = with_pair_names(pairs, NAMES)
    assert found["given_name"].to_pylist() == right
    assert found["suggested_name"].to_pylist() == right[::-1]
    assert with_label_name(ranking, None) is ranking
    assert with_pair_names(pairs, None) is pairs
    check_labels(values.astype(np.int64), NAMES)


@given(st.lists(st.integers(-5, 8), min_size=1, max_size=30))
def test_labels_without_a_name(labels: list[int]) -> None:
    nameless = [label for label in labels if not -1 <= label < 4]
    check_labels(np.array(labels), None)
    if nameless:
        first = ", ".join(map(str, nameless[:5]))
        with pytest.raises(InputError, match=f"^{len(nameless)} labels .* {first}$"):
            check_labels(np.array(labels), NAMES)


def test_no_two_labels_are_called_the_same() -> None:
    for names in (NAMES, None):
        assert len({called(label, names) for label in range(-1, 4)}) == 5


@pytest.mark.parametrize("given_names", [["a", 1], ("a", "1"), np.array(["a", "1"]), iter("a1")])
def test_names_are_text(given_names: Any) -> None:
    assert checked_names(given_names) == ("a", "1")


@pytest.mark.parametrize("given_names", ["ab", {"a": 1}, {"a"}, 3, None, ["a", "\ud800"]])
def test_what_are_no_names(given_names: Any) -> None:
    with pytest.raises(InputError, match="class_names"):
        checked_names(given_names)
