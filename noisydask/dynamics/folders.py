"""Columns of a table that the names of its folders say."""

from __future__ import annotations

import re
from urllib.parse import unquote

from noisydask.stores.locations import Location


def columns_in_path(place: Location, file: str) -> dict[str, str]:
    """Return columns that the path of a file in a folder says.

    Examples
    --------
    >>> columns_in_path(Location("/losses", "/losses"), "/losses/subset=train/part.parquet")
    {'subset': 'train'}
    """
    parts = [part.partition("=") for part in file[len(place.path) :].split("/")[:-1]]
    return {unquote(name): unquote(value) for name, sign, value in parts if sign}


def number_in_path(text: str) -> int | str:
    """Return the integer that a text is, or the text, which is refused later.

    Examples
    --------
    >>> number_in_path("007"), number_in_path("seven")
    (7, 'seven')
    """
    if re.fullmatch(r"-?[0-9]+", text):
        return int(text)
    return text
