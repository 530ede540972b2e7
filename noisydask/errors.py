"""The errors a user may meet: each carries the exit status of the command that met it."""

from __future__ import annotations

from typing import Any


class NoisydaskError(Exception):
    """Base of all errors that are told in one sentence, without a traceback."""

    exit_status = 1


class JobError(NoisydaskError, RuntimeError):
    """The job could not be done here and now: a cluster, a disk or a store failed it."""


class InputError(NoisydaskError, ValueError):
    """What was asked for cannot be done: wrong usage, configuration or input data."""

    exit_status = 2


class GateError(NoisydaskError):
    """The run is published, and found more than the quality gate lets pass.

    Attributes
    ----------
    issues : LabelIssues
        The published run.
    """

    exit_status = 3

    def __init__(self, message: str, issues: Any) -> None:
        super().__init__(message)
        self.issues = issues

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (str(self), self.issues)


class LockedError(NoisydaskError, RuntimeError):
    """Another run holds the lock of the output, or has taken it over."""

    exit_status = 4


class LabelWarning(UserWarning):
    """Inputs look as if labels and predictions do not belong together; the run is published."""


class DatasetError(InputError):
    """A Datumaro dataset was not made for the analysis of loss dynamics."""
