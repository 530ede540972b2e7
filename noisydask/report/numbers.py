"""Numbers as a person reads them: with the digits that matter, however small they are."""

from __future__ import annotations

from numbers import Integral, Real


def significant(value: Real | float) -> str:
    """An integer whole, any other number to four significant digits.

    Examples
    --------
    >>> significant(123456), significant(0.5), significant(0.00001234567)
    ('123456', '0.5', '1.235e-05')
    """
    return str(value) if isinstance(value, Integral) else f"{value:.4g}"


def percent(share: float) -> str:
    """A share as percent, to four significant digits.

    Examples
    --------
    >>> percent(0.5), percent(3 / 1_000_000)
    ('50%', '0.0003%')
    """
    return f"{significant(100 * share)}%"
