"""One night: several jobs one after the other, on one cluster. Each is published on its own; what
ails one stops no other.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from noisydask.errors import NoisydaskError
from noisydask.interrupts import raise_if_interrupted

logger = logging.getLogger("noisydask")

#: Exit statuses, worst first: failed, wrong input, locked, a quality gate exceeded, done. What
#: failed may be mended by running the night again, whatever else there was; the rest would be the
#: same.
WORST_FIRST = (1, 2, 4, 3, 0)


@dataclass(frozen=True)
class Step:
    """A job of the night.

    Attributes
    ----------
    name : str
        What it is called in the config.
    run : callable
        Does it; raises a :class:`noisydask.errors.NoisydaskError` where it fails.
    needs : tuple of str
        Steps before it whose results it reads.
    """

    name: str
    run: Callable[[], object]
    needs: tuple[str, ...] = ()


@dataclass(frozen=True)
class Outcome:
    """What became of a step: the exit status of its job alone, and why, in one sentence."""

    name: str
    status: int
    why: str = "done"


def run_night(steps: Sequence[Step], usable: Callable[[], bool]) -> list[Outcome]:
    """Do all steps; ``usable`` says whether the cluster is still there.

    A step is left out where a step that it needs has published nothing, with the status of that
    one, or, as failed, where the cluster is gone.

    Examples
    --------
    >>> combine = Step("combine", lambda: None, needs=("issues", "dynamics"))
    >>> night = [Step("issues", lambda: None), combine]
    >>> [outcome.status for outcome in run_night(night, lambda: True)]
    [0, 0]
    """
    outcomes: list[Outcome] = []
    for step in steps:
        raise_if_interrupted()
        # A quality gate (3) is told after publishing.
        failed = [
            done for done in outcomes if done.name in step.needs and done.status not in (0, 3)
        ]
        if failed:
            why = f"left out: it needs {' and '.join(done.name for done in failed)}"
            outcomes.append(Outcome(step.name, worst(failed), why))
        elif not usable():
            outcomes.append(Outcome(step.name, 1, "left out: the cluster is gone"))
        else:
            outcomes.append(_do(step))
    return outcomes


def _do(step: Step) -> Outcome:
    try:
        step.run()
    except NoisydaskError as error:
        return Outcome(step.name, error.exit_status, error.for_command())
    except Exception as error:  # a bug: told in full, and no reason to leave the other jobs undone
        logger.exception("%s failed", step.name)
        return Outcome(step.name, 1, f"{type(error).__name__}: {error}")
    return Outcome(step.name, 0)


def worst(outcomes: Iterable[Outcome]) -> int:
    """Return the exit status of a night: the worst of its jobs', by :data:`WORST_FIRST`.

    Examples
    --------
    >>> worst([Outcome("issues", 3), Outcome("dynamics", 0), Outcome("combine", 1)])
    1
    """
    statuses = {outcome.status for outcome in outcomes}
    return next((status for status in WORST_FIRST if status in statuses), 0)
