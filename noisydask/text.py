"""Ids, names and numbers as text for people."""

from __future__ import annotations

from numbers import Integral, Real
from typing import Any


def plain(value: Any) -> str:
    r"""Return text of an id or a name without what cannot be printed: control characters, line
    breaks, escape codes.

    Examples
    --------
    >>> plain("[bold]a\x1b[31m")
    '[bold]a\ufffd[31m'
    """
    return "".join(c if c.isprintable() else "\ufffd" for c in str(value))


def shortened(text: str, width: int) -> str:
    """Return text of at most ``width`` characters; of longer text the middle is left out, since ids
    differ at their ends.

    Examples
    --------
    >>> shortened("train/images/000123.png", 15)
    'train/i…123.png'
    """
    if len(text) <= width:
        return text
    tail = (width - 1) // 2
    return text[: width - 1 - tail] + "…" + text[len(text) - tail :]


def significant(value: Real | float) -> str:
    """Return an integer whole, any other number to four significant digits.

    Examples
    --------
    >>> significant(123456), significant(0.5), significant(0.00001234567)
    ('123456', '0.5', '1.235e-05')
    """
    if isinstance(value, Integral):
        return str(value)
    return f"{value:.4g}"


def percent(share: float) -> str:
    """Return a share as percent, to four significant digits.

    Examples
    --------
    >>> percent(0.5), percent(3 / 1_000_000)
    ('50%', '0.0003%')
    """
    return f"{significant(100 * share)}%"


def counted(number: int, thing: str) -> str:
    """Return a number of things.

    Examples
    --------
    >>> counted(1, "block"), counted(1200, "block")
    ('1 block', '1,200 blocks')
    """
    return f"{number:,} {thing}{'' if number == 1 else 's'}"
