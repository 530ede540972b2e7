"""The errors a user may meet: each carries the exit status of the command that met it."""

from __future__ import annotations


class NoisydaskError(Exception):
    """Base of all errors that are told in one sentence, without a traceback."""

    exit_status = 1


class JobError(NoisydaskError, RuntimeError):
    """The job could not be done here and now: a cluster, a disk or a store failed it."""


class InputError(NoisydaskError, ValueError):
    """What was asked for cannot be done: wrong usage, configuration or input data."""

    exit_status = 2


class DatasetError(InputError):
    """A Datumaro dataset was not made for the analysis of loss dynamics."""
