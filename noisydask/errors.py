"""The errors a user may meet: each carries the exit status of the command that met it."""

from __future__ import annotations

from typing import Any, NamedTuple


class Setting(NamedTuple):
    """An option and a value of it that would help: written as Python takes it, or the command.

    Examples
    --------
    >>> str(Setting("on_invalid", "skip")), Setting("full", True).as_flag()
    ("on_invalid='skip'", '--full')
    """

    name: str
    value: Any

    def __str__(self) -> str:
        return f"{self.name}={self.value!r}"

    def as_flag(self) -> str:
        """Return the option of the command line."""
        flag = f"--{self.name.replace('_', '-')}"
        if self.value is True:
            return flag
        return f"{flag} {self.value}"


class NoisydaskError(Exception):
    """Base of all errors that are told in one sentence, without a traceback.

    Parameters
    ----------
    message : str
        The sentence.
    *settings : Setting
        Options that would help, told at its end.

    Examples
    --------
    >>> error = InputError("3 rows are invalid: leave them out", Setting("on_invalid", "skip"))
    >>> str(error)
    "3 rows are invalid: leave them out (on_invalid='skip')"
    >>> error.for_command()
    '3 rows are invalid: leave them out (--on-invalid skip)'
    """

    exit_status = 1

    def __init__(self, message: object = "", *settings: Setting) -> None:
        super().__init__(message, *settings)
        self.message = str(message)
        self.settings = settings

    def __str__(self) -> str:
        return self._told([str(setting) for setting in self.settings])

    def for_command(self) -> str:
        """Return the sentence for who uses the command line."""
        return self._told([setting.as_flag() for setting in self.settings])

    def _told(self, settings: list[str]) -> str:
        if settings:
            return f"{self.message} ({', '.join(settings)})"
        return self.message


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
