"""The cut-off and the parts, driven block by block, against one sort of everything."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from noisydask.core import ranking
from noisydask.core.ranking import (
    CutOff,
    Part,
    assign_parts,
    histogram,
    order_of,
    sort_keys,
    whole_range,
)

Block = tuple[int, np.ndarray]
SEEDS = st.integers(0, 2**32)
CUTS = st.lists(st.integers(0, 400), max_size=10)
DTYPES = st.sampled_from([np.float32, np.float64])
KINDS = ("spread", "near", "few", "one", "tiny", "any")


def make_scores(seed: int, rows: int, dtype: Any, kind: str, missing: bool) -> np.ndarray:
    """Scores that are all different, or share leading bits, or are few, or are NaN here and
    there."""
    rng = np.random.default_rng(seed)
    scores = rng.random(rows)
    if kind == "near":
        scores = 0.5 + scores * 1e-6
    elif kind == "few":
        scores = rng.choice([0.0, -0.0, 0.25, 1.0], rows)
    elif kind == "one":
        scores = np.full(rows, 0.25)
    elif kind == "tiny":
        scores = scores * np.finfo(dtype).tiny * 4
    elif kind == "any":
        scores = rng.choice([-1.0, 1.0], rows) * 10.0 ** rng.integers(-30, 30, rows) * scores
        scores[rng.random(rows) < 0.1] = rng.choice([np.inf, -np.inf])
    scores = scores.astype(dtype)
    scores[(rng.random(rows) < 0.2) & missing] = np.nan
    return scores


def cut(scores: np.ndarray, cuts: list[int]) -> list[Block]:
    edges = [0, *sorted(min(n, len(scores)) for n in cuts), len(scores)]
    return [(a, scores[a:b]) for a, b in pairwise(edges)]


def tie_counts(key: np.ndarray, start: int, rows: int, tied: Any) -> np.ndarray:
    """How many rows of each tied key there are in each piece: so many positions."""
    edges = np.arange(0, rows + ranking.TIE_ROWS, ranking.TIE_ROWS) - start
    where = [np.flatnonzero(key == key.dtype.type(tie)) for tie in tied]
    return np.array([np.histogram(found, edges)[0] for found in where])


def find_parts(
    blocks: list[Block], total: int, rows: int, itemsize: int, rows_per_part: int
) -> list[Part]:
    """Drive the search as the job does: each round adds up what every block has."""
    keys = [(start, sort_keys(scores)) for start, scores in blocks]
    cut_off = CutOff(total, itemsize, rows_per_part)
    cut_off.add(
        [whole_range(itemsize)], sum(histogram(key, [whole_range(itemsize)]) for _, key in keys)
    )
    rounds = 0
    while bins := cut_off.too_large:
        cut_off.add(bins, sum(histogram(key, bins) for _, key in keys))
        rounds += 1
    assert rounds < 8 * itemsize // 16
    if tied := cut_off.tied:
        cut_off.add_ties(tied, sum(tie_counts(key, start, rows, tied) for start, key in keys))
        assert not cut_off.tied
    return cut_off.parts()


def ranked(blocks: list[Block], parts: list[Part]) -> list[int]:
    """Indices in order: each part is gathered from the blocks, sorted by itself, and gives what it
    has to give."""
    rows = sum(len(scores) for _, scores in blocks)
    gathered: list[list[tuple[float, int]]] = [[] for _ in parts]
    for start, scores in reversed(blocks):
        index = start + np.arange(len(scores))
        keys = sort_keys(scores)
        split = [part.key for part in parts if part.last <= -(-rows // ranking.TIE_ROWS)]
        pieces = np.where(np.isin(keys, split), index // ranking.TIE_ROWS, 0)
        for score, where, part in zip(
            scores, index, assign_parts(keys, pieces, parts), strict=True
        ):
            if part >= 0:
                gathered[part].append((float(score), int(where)))
    order: list[int] = []
    for part, here in zip(parts, gathered, strict=True):
        assert len(here) == part.rows
        order += [where for _, where in sorted(here)[: part.take]]
    return order


def lowest(scores: np.ndarray, total: int) -> list[int]:
    """The T lowest by score, then index; NaN last."""
    return np.lexsort((np.arange(len(scores)), scores + 0))[:total].tolist()


@settings(max_examples=150)
@given(
    SEEDS,
    st.integers(1, 400),
    CUTS,
    DTYPES,
    st.sampled_from(KINDS),
    st.booleans(),
    st.integers(1, 60),
    st.data(),
)
def test_parts_in_order_are_the_lowest_in_order(
    seed: int,
    rows: int,
    cuts: list[int],
    dtype: Any,
    kind: str,
    missing: bool,
    rows_per_part: int,
    data: Any,
) -> None:
    scores = make_scores(seed, rows, dtype, kind, missing)
    total = data.draw(st.integers(0, int((~np.isnan(scores)).sum())))
    tie_rows = data.draw(st.sampled_from([1, 3, 16, 1 << 20]))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ranking, "TIE_ROWS", tie_rows)
        blocks = cut(scores, cuts)
        parts = find_parts(blocks, total, rows, scores.itemsize, rows_per_part)
        assert sum(part.take for part in parts) == total
        assert ranked(blocks, parts) == lowest(scores, total)
        # Only what shares a score and a stretch of the index may make a part larger than wanted.
        assert all(
            part.rows <= rows_per_part or part.rows < rows_per_part + tie_rows for part in parts
        )


@settings(max_examples=30)
@given(SEEDS, CUTS, DTYPES, st.sampled_from(KINDS), st.integers(1, 60))
def test_parts_depend_on_scores_alone(
    seed: int, cuts: list[int], dtype: Any, kind: str, rows_per_part: int
) -> None:
    scores = make_scores(seed, 400, dtype, kind, missing=False)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ranking, "TIE_ROWS", 16)
        whole, pieces = (
            find_parts(blocks, 300, 400, scores.itemsize, rows_per_part)
            for blocks in (cut(scores, []), cut(scores, cuts)[::-1])
        )
    assert whole == pieces


def test_nothing_wanted_is_nothing() -> None:
    assert CutOff(0, 4, 10).too_large == ()
    assert find_parts([(0, np.arange(10, dtype=np.float32))], 0, 10, 4, 5) == []
    assert assign_parts(sort_keys(np.zeros(3)), np.arange(3), []).tolist() == [-1, -1, -1]


def test_a_mass_of_ties_is_shared_out_by_index(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ranking, "TIE_ROWS", 100)
    scores = np.zeros(10_000, np.float32)
    parts = find_parts(cut(scores, [3000, 7001]), 4321, 10_000, 4, 1000)
    assert [(part.first, part.last, part.rows, part.take) for part in parts] == [
        (0, 10, 1000, 1000),
        (10, 20, 1000, 1000),
        (20, 30, 1000, 1000),
        (30, 40, 1000, 1000),
        (40, 50, 1000, 321),
    ]
    assert ranked(cut(scores, [5000]), parts) == list(range(4321))


def test_small_neighbours_share_a_part() -> None:
    scores = np.linspace(0, 1, 1000, dtype=np.float64)
    parts = find_parts([(0, scores)], 1000, 1000, 8, 100)
    assert 10 <= len(parts) <= 20


@settings(max_examples=100)
@given(SEEDS, DTYPES, st.sampled_from(KINDS))
def test_keys_order_like_scores(seed: int, dtype: Any, kind: str) -> None:
    scores = make_scores(seed, 200, dtype, kind, missing=True)
    keys = sort_keys(scores)
    assert keys.dtype.itemsize == scores.dtype.itemsize
    low, high = scores[:100], scores[100:]
    known = ~np.isnan(low) & ~np.isnan(high)
    np.testing.assert_array_equal((keys[:100] < keys[100:])[known], (low < high)[known])
    np.testing.assert_array_equal((keys[:100] == keys[100:])[known], (low == high)[known])
    assert (keys[np.isnan(scores)] == np.iinfo(keys.dtype).max).all()
    assert (keys[~np.isnan(scores)] < np.iinfo(keys.dtype).max).all()


@settings(max_examples=30)
@given(SEEDS, DTYPES, st.sampled_from(KINDS))
def test_histograms_count_every_key_in_its_bin(seed: int, dtype: Any, kind: str) -> None:
    keys = sort_keys(make_scores(seed, 300, dtype, kind, missing=False))
    wide = whole_range(keys.itemsize)
    counts = histogram(keys, [wide])[0]
    np.testing.assert_array_equal(
        counts, np.bincount((keys >> (wide.shift - 16)).astype(int), minlength=1 << 16)
    )
    fullest = ranking.Bin(int(counts.argmax()) << (wide.shift - 16), wide.shift - 16)
    inside = keys[keys >> (wide.shift - 16) == counts.argmax()]
    again = histogram(keys, [fullest, fullest])
    assert again.sum(axis=1).tolist() == [len(inside)] * 2
    pieces = (inside.astype(np.uint64) - np.uint64(fullest.key)) >> np.uint64(
        max(0, fullest.shift - 16)
    )
    np.testing.assert_array_equal(again[0], np.bincount(pieces.astype(int), minlength=1 << 16))


@given(SEEDS, st.integers(0, 200), DTYPES, st.sampled_from(KINDS), st.integers(1, 9))
def test_order_of_scores_and_ties(
    seed: int, rows: int, dtype: Any, kind: str, different: int
) -> None:
    scores = make_scores(seed, rows, dtype, kind, missing=False)
    rng = np.random.default_rng(seed)
    first, second = rng.integers(0, different, rows), rng.permutation(rows)
    expected = np.lexsort((second, first, scores + 0)).tolist()
    assert order_of(scores, first, second).tolist() == expected
