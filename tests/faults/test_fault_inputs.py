"""Input chunks deleted, corrupted, swapped or appended, before and during a run; evidence
overwritten under one."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from rig.cases import Case, ordinary
from rig.jobs import published
from rig.plans import CHANGES, Trial, inputs_change
from rig.proxy import Request

NewTrial = Callable[[Case], Trial]
_FAST = (("corrupted", True), ("swapped", False))


@pytest.mark.parametrize(
    ("how", "during"),
    [
        pytest.param(how, during, marks=() if (how, during) in _FAST else pytest.mark.slow)
        for how in CHANGES
        for during in (False, True)
    ],
)
def test_inputs_change(how: str, during: bool, new_trial: NewTrial) -> None:
    inputs_change(new_trial(ordinary(rows=330)), how, during)


def test_evidence_overwritten_between_scan_and_count(new_trial: NewTrial) -> None:
    """As a driver does that slept through its lease in the middle of a write, and goes on."""
    trial = new_trial(ordinary(rows=330))
    evidence = trial.out / "evidence"

    def overwrite(_: Request) -> None:
        evidence.write("p_given/0", evidence.read("p_given/1"))

    rule = trial.way.add(
        "forward",
        methods=("PUT",),
        pattern=r"receipts/",
        first=trial.case.blocks,
        count=1,
        call=overwrite,
    )
    ended = trial.run()
    assert rule.done == 1
    assert ended.status == 0, ended.said
    assert published(trial.out) == trial.expected
    trial.check_again()


def test_evidence_overwritten_between_count_and_ranking(new_trial: NewTrial) -> None:
    trial = new_trial(ordinary(rows=330))
    evidence, last = trial.out / "evidence", rf"given_labels\.zarr/{trial.case.blocks - 1}$"

    def overwrite(_: Request) -> None:
        for block in range(trial.case.blocks - 1):
            evidence.write(f"top1/{block}", bytes(len(evidence.read(f"top1/{block}"))))

    rule = trial.way.add("forward", methods=("PUT",), pattern=last, count=1, call=overwrite)
    ended = trial.run()
    assert rule.done == 1
    assert ended.status == 1, ended.said
    assert "was overwritten while it was used" in ended.one_error()
    assert published(trial.out) is None
    trial.check_again()
