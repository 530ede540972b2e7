"""The rule ``auto``: its published numbers on real data, a dense calculation row by row, and the same
bits however the rows are split.
"""

from __future__ import annotations

from dataclasses import astuple, dataclass
from functools import reduce
from operator import add
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from noisydask.core.auto_rule import (
    Agreement,
    AutoCounts,
    AutoLevels,
    AutoRule,
    agreement,
    count_margins,
    typical_keys,
)
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
    agreeing: Agreement = reduce(add, (agreement(each, num_classes) for each in columns))
    levels = AutoLevels.of(totals, agreeing)
    counts: AutoCounts = reduce(add, (count_margins(each, levels) for each in columns))
    found = [typical_keys(each, levels) for each in columns]
    keys = np.sort(np.concatenate([key[group == 0] for group, key in found]))
    median = int(keys[(len(keys) - 1) // 2]) if len(keys) else None
    return AutoRule.of(counts, levels, agreeing, median), columns


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
    np.testing.assert_allclose((rule.gamma, rule.weight), (published.gamma, published.weight), atol=6e-6)
    assert (int(flagged.sum()), int((flagged & wrong).sum())) == (published.flagged, published.true)
    assert int(np.flatnonzero(flagged).sum()) == published.indices
    first = np.argsort(np.where(flagged, scores, np.inf), kind="stable")[:5]
    assert tuple(first.tolist()) == published.first
    assert round(average_precision(scores, wrong), 4) == published.precision
