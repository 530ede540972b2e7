"""What failures of stores mean, in one sentence without secrets."""

from __future__ import annotations

import errno
from pathlib import Path

import pytest

from noisydask.errors import InputError, JobError
from noisydask.stores.failures import blame, cannot_write, explain, is_full, reason
from noisydask.stores.locations import Location

FULL = OSError(errno.ENOSPC, "no space")


@pytest.mark.parametrize(
    ("error", "why"),
    [
        (PermissionError("secret"), "access refused"),
        (ConnectionError("secret"), "cannot be reached"),
        (TimeoutError("secret"), "cannot be reached"),
        (FULL, "no space left"),
        (MemoryError("secret"), "not enough memory"),
        (OSError("NoSuchBucket secret"), "the bucket does not exist"),
        (ValueError("secret"), None),
    ],
)
def test_reasons_quote_nothing(error: Exception, why: str | None) -> None:
    found = reason(error)
    assert (found is None) == (why is None)
    if why is not None:
        assert why in str(found)
        assert "secret" not in str(found)


def test_what_may_pass_is_the_jobs_fault() -> None:
    assert blame(FULL) is blame(ConnectionError()) is blame(MemoryError()) is JobError
    assert blame(ValueError()) is blame(FileNotFoundError()) is InputError
    assert is_full(FULL)
    assert not is_full(OSError(errno.EIO, ""))


def test_what_is_missing_is_named(tmp_path: Path) -> None:
    place = Location.of(str(tmp_path / "none"), None, "table")
    told = explain(FileNotFoundError(), place, "table", what="table")
    assert told == f"table at {tmp_path}/none: there is no table; check the path"


def test_an_output_that_is_a_file_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    place = Location.of(str(tmp_path / "file" / "out"), None, "out")
    error = cannot_write(NotADirectoryError(errno.ENOTDIR, "Not a directory"), place)
    assert f"{tmp_path}/file is a file, and out must be a folder" in str(error)
    other = Location.of(str(tmp_path / "out"), None, "out")
    error = cannot_write(OSError(errno.EROFS, "Read-only file system"), other)
    assert "cannot be written (Read-only file system)" in str(error)
