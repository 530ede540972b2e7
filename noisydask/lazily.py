"""Modules that are imported once something of them is used, so that the command answers at once."""

from __future__ import annotations

from importlib import import_module
from typing import Any


class Lazy:
    """Stands for a module, which is imported when an attribute of it is first asked for.

    Where one is used, ``if TYPE_CHECKING`` imports the module for the checkers.

    Examples
    --------
    >>> Lazy("fractions").Fraction(1, 2)
    Fraction(1, 2)
    """

    def __init__(self, module: str) -> None:
        self._module = module

    def __getattr__(self, name: str) -> Any:
        return getattr(import_module(self._module), name)
