"""Ids and names as they may be shown, wherever they come from."""

from __future__ import annotations

from typing import Any


def plain(value: Any) -> str:
    r"""Text of an id or a name without what cannot be printed: control characters, line breaks,
    escape codes.

    Examples
    --------
    >>> plain("[bold]a\x1b[31m")
    '[bold]a\ufffd[31m'
    """
    return "".join(c if c.isprintable() else "\ufffd" for c in str(value))


def shortened(text: str, width: int) -> str:
    """Text of at most ``width`` characters; of longer text the middle is left out, since ids differ
    at their ends.

    Examples
    --------
    >>> shortened("train/images/000123.png", 15)
    'train/i…123.png'
    """
    if len(text) <= width:
        return text
    tail = (width - 1) // 2
    return text[: width - 1 - tail] + "…" + text[len(text) - tail :]
