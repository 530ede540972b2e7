"""Kernels that are called with arrays that do not fit each other raise, and touch nothing beyond an
end.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from noisydask.core.confident import count_issues, resolve_joint
from noisydask.core.curve_kernel import crossings_dense, curves_dense
from noisydask.core.curve_sums import CurveSums
from noisydask.core.dynamics import (
    Crossings,
    ExampleStates,
    advance,
    advance_table,
    table_crossings,
    table_curves,
)
from noisydask.core.dynamics_kernel import advance_dense, order_by_code
from noisydask.core.evidence import Evidence, columns_for, scan_rows
from noisydask.core.label_quality import label_quality
from noisydask.core.ragged_kernel import advance_ragged
from noisydask.core.ranking import sort_keys
from noisydask.core.row_kernel import scan_tiles
from noisydask.core.transpose import turn

ROWS, CLASSES, STEPS = 6, 3, 4
PROBS = np.full((ROWS, CLASSES), 1 / CLASSES, np.float32)
LABELS = np.zeros(ROWS, np.int64)
LOSSES = np.ones((ROWS, STEPS), np.float32)
CODES = np.zeros(ROWS, np.int32)
LIMITS = np.full(CLASSES, 0.5)
EVIDENCE = scan_rows(PROBS, LABELS).columns

#: Of examples one after the other: where they begin, their losses, iterations.
STARTS = np.arange(0, ROWS * STEPS + 1, STEPS)
TABLE = np.ones(ROWS * STEPS, np.float32)
ITERATIONS = np.tile(np.arange(STEPS, dtype=np.int32), ROWS)


def states(rows: int = ROWS, dtype: Any = np.float32) -> ExampleStates:
    return ExampleStates.empty(rows, dtype)


def sums(labels: int = 1, steps: int = STEPS) -> CurveSums:
    return CurveSums.zero(np.arange(labels), steps)


def into(rows: int = ROWS, classes: int = CLASSES, dtype: Any = np.float32) -> Evidence:
    return Evidence.empty(
        rows, classes, dtype, columns_for(classes, dtype, "self_confidence", False)
    )


def evidence(**columns: Any) -> dict[str, Any]:
    return {**EVIDENCE, **columns}


def one_more(values: Any) -> Any:
    return np.concatenate([values, values[-1:]])


def with_value(values: Any, value: int) -> Any:
    changed = values.copy()
    changed[len(values) // 2] = value
    return changed


def table(start: Any = STARTS, losses: Any = TABLE, steps: Any = ITERATIONS, **more: Any) -> Any:
    given = {"states": states(), "sums": sums(), "codes": None, **more}
    return advance_table(given["states"], start, losses, steps, 0.5, given["sums"], given["codes"])


CALLS: dict[str, Callable[[], Any]] = {
    "labels too short": lambda: scan_rows(PROBS, LABELS[:-1]),
    "labels too long": lambda: scan_rows(PROBS, one_more(LABELS)),
    "labels too short, float16": lambda: scan_rows(PROBS.astype(np.float16), LABELS[:-1]),
    "labels of two dimensions": lambda: scan_rows(PROBS, LABELS[:, None]),
    "labels of floats": lambda: scan_rows(PROBS, LABELS * 1.0),
    "one row": lambda: scan_rows(PROBS[0], LABELS),
    "no classes": lambda: scan_rows(PROBS[:, :0], LABELS),
    "fewer classes": lambda: scan_rows(PROBS, LABELS, into=into(classes=CLASSES - 1)),
    "more classes": lambda: scan_rows(PROBS, LABELS, into=into(classes=CLASSES + 1)),
    "fewer rows of evidence": lambda: scan_rows(PROBS, LABELS, into=into(rows=ROWS - 1)),
    "more rows of evidence": lambda: scan_rows(PROBS, LABELS, into=into(rows=ROWS + 1)),
    "evidence of doubles": lambda: scan_rows(PROBS, LABELS, into=into(dtype=np.float64)),
    "evidence of floats": lambda: scan_rows(PROBS.astype(np.float64), LABELS, into=into()),
    "given too long": lambda: count_issues(evidence(given=one_more(EVIDENCE["given"])), LIMITS),
    "top2 too short": lambda: count_issues(evidence(top2=EVIDENCE["top2"][:-1]), LIMITS),
    "a first class beyond": lambda: count_issues(
        evidence(top1=with_value(EVIDENCE["top1"], CLASSES)), LIMITS
    ),
    "a second class beyond": lambda: count_issues(
        evidence(
            top2=with_value(EVIDENCE["top2"], 200),
            p_top2=EVIDENCE["p_top1"],
            p_rest=PROBS[:, 0] * 0,
        ),
        np.array([0.5, 0.2, 0.5]),
    ),
    "a negative label": lambda: count_issues(evidence(given=LABELS - 9), LIMITS),
    "joint too small": lambda: count_issues(EVIDENCE, LIMITS, into=np.zeros(CLASSES, np.int64)),
    "rows too short": lambda: resolve_joint(LABELS == 0, LABELS, LIMITS, PROBS[:-1]),
    "rows too wide": lambda: resolve_joint(LABELS == 0, LABELS, LIMITS, np.hstack([PROBS] * 2)),
    "scores of columns": lambda: label_quality(evidence(p_given=PROBS[:-1, 0]), LIMITS),
    "scores of rows": lambda: label_quality(EVIDENCE, LIMITS, pred_probs=PROBS[:, 1:]),
    "scores of two dimensions": lambda: sort_keys(PROBS),
    "states too short": lambda: advance(states(ROWS - 1), LOSSES, 0.5, sums()),
    "states too long": lambda: advance(states(ROWS + 1), LOSSES, 0.5, sums()),
    "states of doubles": lambda: advance(states(dtype=np.float64), LOSSES, 0.5, sums()),
    "states of nothing": lambda: advance(states(ROWS - 1), LOSSES[:, :0], 0.5, sums(steps=0)),
    "losses of one dimension": lambda: advance(states(), LOSSES[:, 0], 0.5, sums()),
    "sums too short": lambda: advance(states(), LOSSES, 0.5, sums(steps=STEPS - 1)),
    "sums too long": lambda: advance(states(), LOSSES, 0.5, sums(steps=STEPS + 1)),
    "no labels": lambda: advance(states(), LOSSES, 0.5, sums(labels=0)),
    "codes too short": lambda: advance(states(), LOSSES, 0.5, sums(), CODES[:-1]),
    "a code beyond": lambda: advance(states(), LOSSES, 0.5, sums(), with_value(CODES, 1)),
    "a code below": lambda: advance(states(), LOSSES, 0.5, sums(), with_value(CODES, -3)),
    "an example beyond": lambda: Crossings.of(1, 0.5, LOSSES[0]).look(LOSSES, np.array([ROWS]), 0),
    "an example below": lambda: Crossings.of(1, 0.5, LOSSES[0]).look(LOSSES, np.array([-9]), 0),
    "an iteration beyond": lambda: Crossings.of(1, 0.5, LOSSES[0]).look(LOSSES, np.array([0]), 1),
    "states of others": lambda: Crossings.of(1, 0.5, LOSSES[0]).look(LOSSES, np.array([0, 1]), 0),
    "table: states too short": lambda: table(states=states(ROWS - 1)),
    "table: an example too long": lambda: table(with_value(STARTS, ROWS * STEPS * 9)),
    "table: the last too long": lambda: table(np.append(STARTS[:-1], ROWS * STEPS + 1)),
    "table: an example before": lambda: table(with_value(STARTS, -5)),
    "table: steps too short": lambda: table(steps=ITERATIONS[:-1]),
    "table: a step beyond": lambda: table(steps=with_value(ITERATIONS, STEPS)),
    "table: a step below": lambda: table(steps=with_value(ITERATIONS, -9)),
    "table: a code beyond": lambda: table(codes=with_value(CODES, 1)),
    "table: codes too short": lambda: table(codes=CODES[:-1]),
    "table: no labels": lambda: table(sums=sums(labels=0)),
    "table: no starts": lambda: table(STARTS[:0], states=states(0)),
    "curves: too few iterations": lambda: table_curves(STARTS, TABLE, ITERATIONS, 0.5, STEPS - 1),
    "curves: an example too long": lambda: table_curves(STARTS * 2, TABLE, ITERATIONS, 0.5, STEPS),
    "crossings: a short mean": lambda: table_crossings(
        STARTS, TABLE, ITERATIONS, 0.5, LOSSES[0, 1:]
    ),
    "order: a code beyond": lambda: order_by_code(with_value(CODES, 1), 1),
    "dense curves": lambda: curves_dense(LOSSES, 0.5, np.zeros((ROWS, STEPS - 1))),
    "dense crossings": lambda: crossings_dense(
        LOSSES, np.arange(2), 0, 0.5, np.ones(STEPS), np.zeros(1), np.full(1, -1)
    ),
}


@pytest.mark.parametrize("call", CALLS.values(), ids=CALLS.keys())
def test_arrays_that_do_not_fit(call: Callable[[], Any]) -> None:
    with pytest.raises(ValueError, match=r"must"):
        call()


def compiled_arguments() -> dict[str, tuple[Any, tuple[Any, ...]]]:
    """Arguments that fit, for each of the compiled loops that is not reached as it is by a test
    above.
    """
    bits, out = PROBS.view(np.uint32), into()
    columns = [
        out.columns[name] for name in ("given", "top1", "top2", "p_given", "p_top1", "p_top2")
    ]
    none = np.zeros(0, np.float32)
    s, c = states(), sums()
    own = (s.ema, s.total, s.squares, s.first, s.last, s.smallest)
    problems = np.zeros(ROWS, np.uint8)
    return {
        "scan_tiles": (
            scan_tiles,
            (
                *(PROBS, bits, np.uint32(1 << 30), LABELS, 4, *columns, none, none.view(np.uint32)),
                *(np.zeros(0), np.zeros(0), problems, out.counts, out.fixed),
            ),
        ),
        "advance_dense": (
            advance_dense,
            (
                *(LOSSES, LOSSES.view(np.uint32), np.uint32(1 << 30), CODES, 1, 8, 0.5, *own),
                *(s.smallest.view(np.uint32), s.count, problems, c.limbs, c.counts),
            ),
        ),
        "advance_ragged": (
            advance_ragged,
            (STARTS, TABLE, ITERATIONS, CODES, 0.5, *own, s.count, problems, c.limbs, c.counts),
        ),
    }


@pytest.mark.parametrize("name", ["scan_tiles", "advance_dense", "advance_ragged"])
def test_compiled_loops_refuse_every_array_that_is_too_short(name: str) -> None:
    kernel, arguments = compiled_arguments()[name]
    kernel(*arguments)
    arrays = [k for k, value in enumerate(arguments) if np.ndim(value) and len(value)]
    assert len(arrays) >= 10
    for where in arrays:
        short = (*arguments[:where], arguments[where][:-1], *arguments[where + 1 :])
        with pytest.raises(ValueError, match=r"must"):
            kernel(*short)


def test_what_is_turned_lies_in_both_arrays() -> None:
    square, rows = np.arange(100, dtype=np.uint32).reshape(10, 10), np.arange(9)
    for source, some, column, steps, target in (
        (square, with_value(rows, 10), 0, 9, (9, 9)),
        (square, with_value(rows, -1), 0, 9, (9, 9)),
        (square, rows, 2, 9, (9, 9)),
        (square, rows, -1, 9, (9, 9)),
        (square, rows, 0, 9, (8, 9)),
        (square, rows, 0, 9, (9, 8)),
        (square[:, ::2], rows, 0, 5, (9, 9)),
    ):
        with pytest.raises(ValueError, match=r"must lie in source"):
            turn(source, some, column, steps, np.zeros(target, np.uint32))
