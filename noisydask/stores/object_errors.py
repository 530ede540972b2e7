"""What obstore raises, as the errors of Python that files on a disk raise."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from errno import EINVAL
from functools import partial

#: What the name of obstore's error, or its text, says, and the error that means the same; the first
#: that fits. The texts are those of HTTP and of the stores' own answers.
_MEANINGS: tuple[tuple[tuple[str, ...], Callable[[str], Exception], str], ...] = (
    (("AlreadyExistsError", "PreconditionError"), FileExistsError, "another version is there"),
    (("NoSuchBucket", "ContainerNotFound"), FileNotFoundError, "the bucket does not exist"),
    (("FileNotFoundError", "NotFoundError", "NoSuchKey"), FileNotFoundError, "no such object"),
    (("InvalidAccessKeyId", "UnauthenticatedError"), PermissionError, "InvalidAccessKeyId"),
    (("PermissionDenied", "403 Forbidden", "SignatureDoes"), PermissionError, "AccessDenied"),
    (("409 Conflict", "412 Precondition"), FileExistsError, "another version is there"),
    (("MissingEtag",), NotImplementedError, "the store tells no versions"),
    (("501 Not Implemented",), NotImplementedError, "the store does not know it"),
    (("416 Range",), partial(OSError, EINVAL), "the object ends before"),
    (("timed out", "operation timed"), TimeoutError, "the store does not answer"),
    (("HTTP error", "error sending", "decoding response"), ConnectionError, "the store was lost"),
    (("status code: 5", "status code: 429"), ConnectionError, "the store fails"),
)


@contextmanager
def translated_errors() -> Iterator[None]:
    """Raise errors of obstore as those of Python; the text of the first is left out, as it may hold
    the signature of a request.

    Examples
    --------
    >>> from obstore.exceptions import PermissionDeniedError
    >>> with translated_errors():
    ...     raise PermissionDeniedError("403")
    Traceback (most recent call last):
    PermissionError: AccessDenied
    """
    try:
        yield
    except Exception as error:
        if not _is_of_obstore(error):
            raise
        found = translated(error)
    else:
        return
    raise found


def _is_of_obstore(error: Exception) -> bool:
    foreign = type(error).__module__.startswith("obstore")
    return foreign or isinstance(error, FileNotFoundError)


def translated(error: Exception) -> Exception:
    """Return the error of Python that means what one of obstore does."""
    said = f"{type(error).__name__} {error}"
    for words, kind, text in _MEANINGS:
        if any(word in said for word in words):
            return kind(text)
    return OSError(f"the store refuses it ({type(error).__name__})")
