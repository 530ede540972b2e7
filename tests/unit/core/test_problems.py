"""What is refused: counted, named and said."""

from __future__ import annotations

import numpy as np
import pytest

from noisydask.core.problems import FIRST, FROM_ONE, ROW_KINDS, Problems
from noisydask.core.row_kernel import Problem
from noisydask.errors import InputError, JobError, Setting


def problems(*rows: int, kind: Problem = Problem.LABEL, start: int = 0) -> Problems:
    found = np.zeros(100, np.uint8)
    found[list(rows)] = kind
    return Problems.of(found, start)


def test_blocks_add_up_in_any_order() -> None:
    blocks = [problems(*range(k, k + 7), start=100 * k) for k in range(5)]
    whole = sum(blocks[1:], blocks[0])
    other = sum(blocks[::-1][1:], blocks[-1])
    assert whole.total == other.total == 35
    assert whole.first == other.first == tuple(sorted(sum((b.first for b in blocks), ())))[:FIRST]


def test_unreadable_rows_are_counted_and_not_named() -> None:
    both = problems(1, 2, kind=Problem.UNREADABLE) + problems(3)
    assert (both.total, both.unreadable) == (3, 2)
    assert both.first == ((3, Problem.LABEL),)


def test_the_error_names_kinds_rows_and_the_option() -> None:
    error = problems(4, 9).error("2 of 100 rows are invalid", ROW_KINDS)
    assert isinstance(error, InputError)
    assert "2 with labels outside 0 to K-1; the first are rows 4, 9." in str(error)
    assert str(error).endswith("(on_invalid='skip')")
    assert error.for_command().endswith("(--on-invalid skip)")


@pytest.mark.parametrize(
    ("labels", "counts", "hint"),
    [
        ([1, 2, 3], [0, 1, 1], f" {FROM_ONE}"),
        ([-1, 2, 9], [1, 1, 1], " Labels from -1 to 9 are among them."),
    ],
)
def test_labels_that_cannot_be_are_explained(
    labels: list[int], counts: list[int], hint: str
) -> None:
    refused = problems(2).among(np.array(labels))
    assert refused.labels_hint(np.array(counts)) == hint
    assert (
        problems(2, kind=Problem.ROW_SUM).among(np.array(labels)).labels_hint(np.array(counts))
        == ""
    )


def test_errors_without_settings_are_their_message() -> None:
    assert str(JobError("gone")) == JobError("gone").for_command() == "gone"
    error = InputError("run it again", Setting("full", True), Setting("on", "index"))
    assert error.for_command() == "run it again (--full, --on index)"
