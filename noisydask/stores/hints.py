"""What may be wrong with something that is there and cannot be read: as far as its error tells, and
no further.
"""

from __future__ import annotations

import os

#: Packages that talk to stores: errors of theirs are none of the data.
_CLIENTS = (
    "botocore",
    "aiobotocore",
    "aiohttp",
    "s3fs",
    "gcsfs",
    "adlfs",
    "azure",
    "google",
    "obstore",
    "requests",
)


def cannot_be_read(error: BaseException, opening: bool = False) -> str:
    """Return why something cannot be read that is there, or was; ``opening``, before it ever was.

    Damage is named where data could not be decoded, and only there.

    Examples
    --------
    >>> cannot_be_read(ValueError("wrong checksum"))
    'cannot be read (ValueError); is it damaged?'
    >>> cannot_be_read(OSError(5, ""))
    'cannot be read: Input/output error'
    """
    if isinstance(error, FileNotFoundError):
        return "it is gone"
    if isinstance(error, OSError) and error.errno:
        return f"cannot be read: {os.strerror(error.errno)}"
    if _lacks_codec(error):
        return f"it is packed by a codec that is not installed here ({type(error).__name__})"
    more = ", or in a format that is not supported" if opening else ""
    hint = "" if not_of_data(error) else f"; is it damaged{more}?"
    return f"cannot be read ({type(error).__name__}){hint}"


def _lacks_codec(error: BaseException) -> bool:
    """Return whether data may be whole, but what decodes them is missing."""
    unknown = "UnknownCodec" in type(error).__name__
    return unknown or isinstance(error, ImportError | NotImplementedError)


def not_of_data(error: BaseException) -> bool:
    """Return whether an error comes from a disk, a store's client, or want of memory or of a
    package, and so perhaps not again; else from decoding.

    The package ``zarrs`` tells of a damaged chunk by a bare OSError; those of the system have a
    number or a class.
    """
    bare = type(error) is OSError and error.errno is None
    return (
        (isinstance(error, OSError | MemoryError) and not bare)
        or _lacks_codec(error)
        or type(error).__module__.partition(".")[0] in _CLIENTS
    )


def not_an_array(folder: bool) -> str:
    """Return what to give instead of a file or folder that is not an array.

    Examples
    --------
    >>> not_an_array(folder=False)
    'that is not an array; give a Zarr array, a .npy or .npz file, or a table (Parquet, CSV, Arrow)'
    """
    if folder:
        return (
            "that is not an array, but a folder without a table in it; name the array inside it, "
            "or the folder that holds Parquet, CSV or Arrow files"
        )
    return (
        "that is not an array; give a Zarr array, a .npy or .npz file, or a table (Parquet, CSV, "
        "Arrow)"
    )
