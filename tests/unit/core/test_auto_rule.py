"""The rule ``auto``: its published numbers on real data, a calculation row by row, and the same
bits however the rows are split.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import reduce
from itertools import pairwise
from operator import add
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from noisydask.core.auto_counts import (
    AutoCounts,
    AutoLevels,
    agreeing_totals,
    count_margins,
    typical_keys,
)
from noisydask.core.auto_rule import AutoRule
from noisydask.core.evidence import scan_rows
from noisydask.core.thresholds import ClassTotals

Array = np.ndarray[Any, Any]
DATA = Path(__file__).resolve().parents[4] / "shared" / "data"


@dataclass(frozen=True)
class Published:
    """Numbers of the page that defines the rule."""

    files: tuple[str, str, str]
    flagged: int
    true: int
    phi: float
    differing: float
    typical: float
    information: float
    kappa: float
    gamma: float
    weight: float
    indices: int
    first: tuple[int, ...]
    precision: float


PUBLISHED = {
    "mnist": Published(
        ("label_errors/mnist_pred_probs", "mnist_labels", "mnist_verified_errors"),
        *(35, 9, 0.1119, 0.0087, 6.43438, 6.1928, 0.08131, 0.4, 0.0, 111_571),
        (2597, 947, 9729, 3520, 1681),
        0.5036,
    ),
    "cifar10": Published(
        ("label_errors/cifar10_pred_probs", "cifar10_labels", "cifar10_verified_errors"),
        *(362, 54, 0.23461, 0.0706, 5.86117, 3.94584, 0.23991, 0.4, 0.06922, 1_694_754),
        (7794, 3828, 2405, 6753, 9643),
        0.2362,
    ),
    "synthetic": Published(
        (
            "confident_learning/cifar10_sparsity0.2_noise0.4_pred_probs",
            "cifar10_sparsity0.2_noise0.4_labels",
            "cifar10_sparsity0.2_noise0.4_true_labels",
        ),
        *(24_213, 18_936, 0.82794, 0.51882, 2.20931, 1.56107, 0.46789, 0.0, 1.0, 502_671_914),
        (670, 4897, 175, 228, 2571),
        0.8626,
    ),
}


def rule_of(blocks: list[tuple[Array, Array]], num_classes: int) -> tuple[AutoRule, list[Any]]:
    """The rule of rows in blocks, and their evidence."""
    scans = [scan_rows(probs, labels) for probs, labels in blocks]
    columns = [found.columns for found in scans]
    totals: ClassTotals = reduce(add, (ClassTotals.of(one.counts, one.fixed) for one in scans))
    agreeing: ClassTotals = reduce(add, (agreeing_totals(each, num_classes) for each in columns))
    tops = np.concatenate([each["top1"][each["given"] < num_classes] for each in columns])
    predicted = np.bincount(tops, minlength=num_classes)
    levels = AutoLevels.of(totals, agreeing)
    counts: AutoCounts = reduce(add, (count_margins(each, levels) for each in columns))
    found = [typical_keys(each, levels) for each in columns]
    keys = np.sort(np.concatenate([key[group == 0] for group, key in found]))
    median = int(keys[(len(keys) - 1) // 2]) if len(keys) else None
    return AutoRule.of(counts, levels, predicted, median), columns


def average_precision(scores: Array, wrong: Array) -> float:
    """Mean precision at the rank of each wrong label; low scores come first."""
    hits = wrong[np.argsort(scores, kind="stable")]
    ranks = np.flatnonzero(hits) + 1
    return float((np.arange(1, len(ranks) + 1) / ranks).mean())


@pytest.mark.parametrize("name", PUBLISHED)
def test_published_numbers(name: str) -> None:
    published = PUBLISHED[name]
    folder = DATA / Path(published.files[0]).parent
    if not folder.exists():
        pytest.skip("the public data are not here")
    names = [Path(file).name for file in published.files]
    probs, labels, truth = (np.load(folder / f"{each}.npy") for each in names)
    wrong = truth if truth.dtype == bool else truth != labels
    rule, columns = rule_of([(probs.astype(np.float32), labels)], probs.shape[1])
    flagged, _, scores = rule.decide(columns[0])
    found = (rule.phi, rule.differing, rule.typical, rule.information, rule.kappa)
    expected = (
        *(published.phi, published.differing, published.typical),
        *(published.information, published.kappa),
    )
    np.testing.assert_allclose(found, expected, atol=6e-6 if name != "mnist" else 5.1e-5)
    np.testing.assert_allclose(
        (rule.gamma, rule.weight), (published.gamma, published.weight), atol=6e-6
    )
    assert (int(flagged.sum()), int((flagged & wrong).sum())) == (published.flagged, published.true)
    assert int(np.flatnonzero(flagged).sum()) == published.indices
    first = np.argsort(np.where(flagged, scores, np.inf), kind="stable")[:5]
    assert tuple(first.tolist()) == published.first
    assert round(average_precision(scores, wrong), 4) == published.precision


def logarithm(value: float) -> float:
    return round(math.log(max(value, 1e-9)) * 2**20) / 2**20


def fixed_mean(values: Array) -> float:
    """The mean as the definition has it, of numbers cut off at 2**-40."""
    return sum(int(float(value) * 2**40) for value in values) / (len(values) * 2**40)


@dataclass
class Plain:
    """The rule as its page tells it, one row after the other, with whole matrices."""

    probs: Array
    labels: Array

    def __post_init__(self) -> None:
        self.rows, self.classes = self.probs.shape
        own = self.probs[np.arange(self.rows), self.labels]
        self.top = [np.argsort(-row, kind="stable")[:2] for row in self.probs]
        self.t, self.b = np.ones(self.classes), np.zeros(self.classes)
        for k in range(self.classes):
            here = self.labels == k
            if here.any():
                self.t[k] = max(fixed_mean(own[here]), 2e-6)
            agreeing = here & (self.probs.argmax(axis=1) == k)
            if agreeing.any():
                self.b[k] = fixed_mean(own[agreeing])
        self.totals()

    def level(self, row: int, k: int, share: float) -> float:
        return logarithm(float(self.probs[row, k])) - share * logarithm(self.t[k])

    def margin(self, row: int, k: int) -> float:
        return self.level(row, k, 0.5) - self.level(row, self.labels[row], 0.5)

    def totals(self) -> None:
        classes = self.classes
        joint, doubts = np.zeros((2, classes, classes))
        confident = np.zeros(classes)
        typical, differing = [], 0
        for row, y in enumerate(self.labels):
            others = [k for k in self.top[row] if k != y]
            margins = [self.margin(row, k) for k in others]
            best = y if not margins or max(margins) <= 0 else others[int(np.argmax(margins))]
            joint[y, best] += 1
            first = self.top[row][0]
            differing += first != y
            if self.probs[row, first] >= self.b[first]:
                confident[first] += 1
                if first != y:
                    doubts[y, first] += 1
                    typical.append(self.margin(row, first))
        d = differing / self.rows
        predicted = np.bincount(self.probs.argmax(axis=1), minlength=classes)
        share = (doubts.sum(axis=0) / np.maximum(confident, 1) * predicted).sum()
        self.phi = min(1, share / (self.rows * d)) if differing else 0.0
        middle = sorted(typical)[(len(typical) - 1) // 2] if typical else -1
        self.r = max(middle, 0.05)
        self.cut = -0.4 * min(1, self.r / 1.5) if middle >= 0.05 else 0.0
        u = 1 - np.trace(joint) / self.rows
        smooth = np.full((classes, classes), u / max(classes - 1, 1))
        np.fill_diagonal(smooth, 1 - u)
        noise = (joint + smooth) / (joint.sum(axis=0) + 1)
        logs = np.vectorize(logarithm)(noise)
        told = np.diag(logs)[:, None] - logs
        h = max((doubts * told).sum() / doubts.sum(), 0.1) if doubts.any() else 0.1
        self.told = 0.7 * min(1, (1 - self.phi * d) * self.phi * self.r / h) * told
        self.gamma = 0.4 * np.clip((0.6 - self.phi) / 0.2, 0, 1)
        self.weight = np.clip((self.phi - 0.2) / 0.5, 0, 1)

    def decide(self, row: int) -> tuple[bool, float]:
        y = self.labels[row]
        others = [k for k in self.top[row] if k != y]
        if not others:
            return False, -self.level(row, y, 1)
        score = max(self.margin(row, k) - self.told[y, k] for k in others)
        below = -self.level(row, y, 1)
        flagged = score > self.cut and (self.gamma == 0 or below >= self.gamma * self.r)
        highest = max(self.level(row, k, 1) - self.told[y, k] for k in others)
        return flagged, -(self.weight * highest + below)


@settings(max_examples=60)
@given(
    st.integers(0, 2**32),
    st.integers(1, 60),
    st.sampled_from([1, 2, 3, 6, 30]),
    st.booleans(),
    st.sampled_from([np.float32, np.float64]),
)
def test_row_by_row_and_in_blocks(
    seed: int, rows: int, classes: int, ties: bool, dtype: Any
) -> None:
    rng = np.random.default_rng(seed)
    probs = rng.dirichlet(np.full(classes, 0.4), rows)
    probs = np.ceil(probs * 6) if ties else probs + 1e-7
    probs = (probs / probs.sum(axis=1, keepdims=True)).astype(dtype)
    labels = rng.integers(0, max(1, classes - 1), rows)
    agreeing = rng.random(rows) < 0.6
    labels[agreeing] = probs.argmax(axis=1)[agreeing]
    rule, columns = rule_of([(probs, labels)], classes)
    flagged, suggested, scores = rule.decide(columns[0])
    plain = Plain(probs, labels)
    expected = [plain.decide(row) for row in range(rows)]
    np.testing.assert_allclose(rule.phi, plain.phi, rtol=1e-12)
    np.testing.assert_allclose(scores, [score for _, score in expected], rtol=1e-9, atol=1e-9)
    near = [abs(plain.phi - 0.4) < 1e-9]  # where gamma turns on
    assert any(near) or flagged.tolist() == [flag for flag, _ in expected]
    assert (classes == 1) or (suggested != labels).all()
    # Blocks in another order, of any sizes: the same bits.
    edges = np.unique([0, *rng.integers(0, rows, 3), rows])
    slices = [slice(*pair) for pair in pairwise(edges)]
    rng.shuffle(slices)
    again, parts = rule_of([(probs[some], labels[some]) for some in slices], classes)
    for some, part in zip(slices, parts, strict=True):
        for one, other in zip(again.decide(part), rule.decide(columns[0]), strict=True):
            np.testing.assert_array_equal(one, other[some])


def test_refused_rows_do_not_count() -> None:
    probs = np.array([[0.9, 0.1], [0.2, 0.8], [np.nan, 0.5], [0.3, 0.7]])
    labels = np.array([0, 0, 1, 1])
    rule, columns = rule_of([(probs, labels)], 2)
    without, _ = rule_of([(np.delete(probs, 2, 0), np.delete(labels, 2))], 2)
    assert (rule.phi, rule.typical) == (without.phi, without.typical)
    flagged, _, scores = rule.decide(columns[0])
    assert not flagged[2]
    assert np.isnan(scores[2])
