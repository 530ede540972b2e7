"""Joining two rankings: ids meet, orders are those of one sort, ranks become percentiles."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from noisydask.consensus.passes import (
    CONSENSUS,
    METRIC,
    QUALITY,
    as_ids,
    in_order,
    joined,
    keys_of,
    to_id_parts,
    with_consensus,
)
from noisydask.errors import InputError

FEW = st.lists(st.sampled_from([0.0, 0.25, 0.5, 1.0, 7.5]), min_size=1, max_size=40)
UNIQUE = st.lists(st.integers(-9, 30), unique=True, max_size=25)


@pytest.mark.parametrize("column", [QUALITY, METRIC, CONSENSUS])
@given(values=FEW, random=st.randoms(use_true_random=False))
def test_the_worst_label_comes_first(column: str, values: list[float], random: Any) -> None:
    index = list(range(len(values)))
    random.shuffle(index)
    frame = pd.DataFrame({"index": index, column: values})
    sign = -1 if column == METRIC else 1
    right = sorted(zip([sign * value for value in values], index, strict=True))
    found = in_order(frame, column)
    assert found["index"].tolist() == [position for _, position in right]
    assert found[column].tolist() == [sign * value for value, _ in right]
    assert (np.diff(keys_of(found, column).astype(object)) >= 0).all()


def two_sides(here: list[Any], there: list[Any], text: bool) -> pd.DataFrame:
    ids = [f"id{each}" if text else each for each in [*here, *there]]
    index = [*range(10, 10 + len(here)), *[-1] * len(there)]
    metric = [*[np.nan] * len(here), *map(float, range(len(there)))]
    return pd.DataFrame({"index": index, "id": ids, METRIC: metric})


@given(UNIQUE, UNIQUE, st.booleans(), st.integers(0, 2**32 - 1))
def test_examples_that_both_know(here: list[int], there: list[int], text: bool, seed: int) -> None:
    frame = two_sides(here, there, text).astype({"id": object if text else np.int64})
    found = joined(frame.sample(frac=1, random_state=seed))
    right = [(10 + n, float(there.index(each))) for n, each in enumerate(here) if each in there]
    assert list(zip(found["index"], found[METRIC], strict=True)) == right


@pytest.mark.parametrize("text", [True, False])
@pytest.mark.parametrize(
    ("here", "there", "side"), [([1, 2, 1], [3], "issues"), ([1], [4, 5, 5], "dynamics")]
)
def test_ids_that_are_not_unique(here: list[int], there: list[int], side: str, text: bool) -> None:
    with pytest.raises(InputError, match=side):
        joined(two_sides(here, there, text))


@given(st.lists(st.integers(0, 10), min_size=1, max_size=50), st.integers(1, 7))
def test_all_of_an_id_meet(ids: list[int], num_parts: int) -> None:
    parts = to_id_parts(pd.DataFrame({"id": ids}), num_parts)
    assert parts["part"].between(0, num_parts - 1).all()
    assert (parts.groupby("id")["part"].nunique() == 1).all()
    alone = to_id_parts(pd.DataFrame({"id": ids[-1:]}), num_parts)
    assert alone["part"].tolist() == parts["part"].tolist()[-1:]


@given(st.integers(1, 30), st.randoms(use_true_random=False))
def test_ranks_become_percentiles(total: int, random: Any) -> None:
    quality, metric = list(range(total)), list(range(total))
    random.shuffle(metric)
    frame = pd.DataFrame({"quality_rank": quality, "metric_rank": metric})
    found = with_consensus(frame, total)
    last = max(total - 1, 1)
    for row, (q, m) in enumerate(zip(quality, metric, strict=True)):
        assert found["quality_percentile"][row] == q / last
        assert found["metric_percentile"][row] == m / last
        assert found["consensus"][row] == (q + m) / (2 * last)
    assert found["consensus"].between(0, 1).all()


def test_ids_of_both_sides_are_alike() -> None:
    for dtype in ("i1", "u4", "u8"):
        assert as_ids(np.array([1, 2], dtype)).dtype == np.int64
    assert as_ids(np.array(["a", "bc"])).tolist() == ["a", "bc"]
    assert as_ids(np.array(["a"])).dtype == object
    with pytest.raises(InputError, match="ids"):
        as_ids(np.array([2**63], np.uint64))
