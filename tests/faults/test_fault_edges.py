"""No issue, all issues, equal scores, one class, one row, a ragged last chunk: each resumed from a
kill."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from rig.cases import EDGES, Case
from rig.plans import Trial

import noisydask

NewTrial = Callable[[Case], Trial]


def check(trial: Trial, mutation: int) -> None:
    killed = trial.kill_after(mutation)
    trial.check_again()
    trial.check_blocks_read(int(killed))


_FAST = ("T = 0", "one row", "ragged")


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=() if name in _FAST else pytest.mark.slow) for name in EDGES]
)
def test_resumed_from_a_kill(name: str, new_trial: NewTrial) -> None:
    trial = new_trial(EDGES[name]())
    check(trial, 15)


@pytest.mark.soak
@pytest.mark.slow
@pytest.mark.parametrize("name", EDGES)
def test_resumed_from_other_kills(name: str, new_trial: NewTrial) -> None:
    trial = new_trial(EDGES[name]())
    for mutation in (3, 9, 22, 29, 35):
        trial.way.clear()
        trial.out.remove()
        check(trial, mutation)


@pytest.mark.filterwarnings("ignore::noisydask.LabelWarning")
def test_the_edges_are_what_they_are_called() -> None:
    """T is the number of issues, N that of examples."""
    found = {
        name: noisydask.find_label_issues((case := make()).labels, case.pred_probs)
        for name, make in EDGES.items()
    }
    assert found["T = 0"].num_issues == 0
    assert found["T = N"].num_issues == found["T = N"].num_examples
    assert len(np.unique(found["all tied"].label_quality.compute())) == 1
    assert found["all tied"].num_issues > 0
    assert len(found["one class"].class_counts) == 1
    assert found["one row"].num_examples == 1
