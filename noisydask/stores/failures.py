"""What failures of stores and file systems mean, in one sentence for users."""

from __future__ import annotations

import errno
import os
from pathlib import PurePath

from noisydask.errors import InputError, JobError, NoisydaskError
from noisydask.stores.hints import cannot_be_read, not_an_array
from noisydask.stores.locations import Location
from noisydask.stores.urls import BUCKET_PACKAGES

#: Codes of errors that tell of a full disk.
_NO_SPACE = (errno.ENOSPC, errno.EDQUOT)


def reason(error: BaseException) -> str | None:
    """Return why a store or file system failed, as far as its error tells; None where it is
    something else.

    The text of errors is not passed on: a store's client may quote what it was configured with.
    """
    kind = type(error).__name__
    text = str(error)
    if (
        isinstance(error, PermissionError)
        or "AccessDenied" in text
        or "Forbidden" in text
        or "SignatureDoes" in text
    ):
        return "access refused; check the credentials and the rights they have"
    if (
        "NoCredentials" in kind
        or "InvalidAccessKeyId" in text
        or "Unable to locate credentials" in text
    ):
        return (
            "no valid credentials; set them where fsspec looks (environment, profile) or as "
            "storage options"
        )
    if _is_lost(error):
        return "the store cannot be reached; check the endpoint and the network"
    if is_full(error):
        return "no space left; free some or give another place"
    if isinstance(error, MemoryError):
        return (
            "not enough memory; use smaller blocks (block_bytes), fewer threads or larger workers"
        )
    if "NoSuchBucket" in text or "bucket does not exist" in text.lower():
        return "the bucket does not exist"
    return None


def _is_lost(error: BaseException) -> bool:
    """Return whether a store did not answer, or its answers were cut short, every time."""
    known = any(word in type(error).__name__ for word in ("Connect", "Timeout", "PayloadError"))
    if known or isinstance(error, ConnectionError | TimeoutError):
        return True
    # Over HTTP whatever fails is told as a file that is not there.
    return error.__cause__ is not None and _is_lost(error.__cause__)


def is_full(error: BaseException) -> bool:
    """Return whether a disk had no room, or a user's share of it."""
    return isinstance(error, OSError) and error.errno in _NO_SPACE


def blame(error: BaseException) -> type[JobError | InputError]:
    """Return whose fault it is that a place cannot be used: JobError where that may pass (no
    network, no room), else InputError.
    """
    if is_full(error) or _is_lost(error) or isinstance(error, MemoryError):
        return JobError
    return InputError


def explain(
    error: BaseException, place: Location, name: str, verb: str = "read", what: str = "array"
) -> str:
    """Return what an error of a store or format means, in one sentence for its user.

    Parameters
    ----------
    error : BaseException
        The error.
    place, name
        Where it happened, and what the user calls that.
    verb : {"read", "written"}
        What could not be done.
    what : str
        What should lie there.
    """
    output = name == "out" or verb == "written"
    why = reason(error) or (_what_ails_output(error, place, name, verb) if output else None)
    if why is None and (isinstance(error, IsADirectoryError) or "NodeType" in type(error).__name__):
        why = not_an_array(folder=True)
    if why is None and (
        isinstance(error, FileNotFoundError | NotADirectoryError)
        or "NotFound" in type(error).__name__
    ):
        why = _what_is_missing(place, what)
    if why is None:
        why = cannot_be_read(error, opening=True)
    return f"{name} at {place.shown}: {why}"


def cannot_write(error: BaseException, place: Location, name: str = "out") -> NoisydaskError:
    """Return the error of an output that cannot be begun; ``name`` is what the user calls it."""
    return blame(error)(explain(error, place, name, "written"))


def _what_ails_output(error: BaseException, place: Location, name: str, verb: str) -> str | None:
    """Return why a place cannot be an output; None where it is not for the lack of a folder."""
    if isinstance(error, OSError) and place.is_local:
        for path in (place.path, *map(str, PurePath(place.path).parents)):
            if os.path.isfile(path):
                return f"{path} is a file, and {name} must be a folder"
    if isinstance(error, FileNotFoundError) and place.url.partition("://")[0] in BUCKET_PACKAGES:
        return None
    system = isinstance(error, OSError) and error.strerror
    return f"cannot be {verb} ({system or type(error).__name__})"


def _what_is_missing(place: Location, what: str) -> str:
    """Return which part of a place does not exist."""
    try:
        if place.fs.exists(place.path):
            return not_an_array(place.fs.isdir(place.path))
        bucket = place.path.split("/", 1)[0]
        if place.url.partition("://")[0] in BUCKET_PACKAGES and not place.fs.exists(bucket):
            return f"the bucket {bucket!r} does not exist"
    except Exception as error:
        return reason(error) or f"nothing can be read there ({type(error).__name__})"
    return f"there is no {what}; check the path"
