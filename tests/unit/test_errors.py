"""Errors say what helps, as Python or as the command takes it, and survive a journey."""

from __future__ import annotations

import pickle

import pytest

from noisydask.errors import (
    DatasetError,
    GateError,
    InputError,
    JobError,
    LockedError,
    NoisydaskError,
    Setting,
)

SETTINGS = (Setting("on_invalid", "skip"), Setting("full", True), Setting("block_bytes", 1024))


@pytest.mark.parametrize(
    ("setting", "python", "flag"),
    [
        (SETTINGS[0], "on_invalid='skip'", "--on-invalid skip"),
        (SETTINGS[1], "full=True", "--full"),
        (SETTINGS[2], "block_bytes=1024", "--block-bytes 1024"),
    ],
)
def test_a_setting(setting: Setting, python: str, flag: str) -> None:
    assert str(setting) == python
    assert setting.as_flag() == flag
    error = InputError("Wrong", setting)
    assert str(error) == f"Wrong ({python})"
    assert error.for_command() == f"Wrong ({flag})"


KINDS = [NoisydaskError, JobError, InputError, LockedError, DatasetError]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("settings", [(), SETTINGS[:1], SETTINGS])
def test_errors_travel(kind: type[NoisydaskError], settings: tuple[Setting, ...]) -> None:
    error = kind("3 rows are wrong", *settings)
    again = pickle.loads(pickle.dumps(error))
    assert type(again) is kind
    assert again.settings == settings
    for told in (str, NoisydaskError.for_command):
        assert told(again) == told(error)
        assert told(error).startswith("3 rows are wrong")
        assert told(error).count(",") == max(0, len(settings) - 1)


def test_a_gate_that_closed_keeps_its_run() -> None:
    again = pickle.loads(pickle.dumps(GateError("too many", {"run": 1})))
    assert (str(again), again.issues) == ("too many", {"run": 1})


def test_each_kind_ends_a_command_in_its_own_way() -> None:
    status = {kind: kind.exit_status for kind in (JobError, InputError, GateError, LockedError)}
    assert list(status.values()) == [1, 2, 3, 4]
    assert issubclass(InputError, ValueError)
    assert issubclass(JobError, RuntimeError)
