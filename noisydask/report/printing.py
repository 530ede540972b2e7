"""Where the command prints: a reader may leave early, a disk may be full, a terminal may be
narrow.
"""

from __future__ import annotations

import io
import os
import sys
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from noisydask.errors import JobError
from noisydask.text import plain

#: Letters of a text below which a column of numbers is left out rather than the text folded
#: further.
_TEXT_WIDTH = 8


class Printer(Console):
    """A console of one of the standard streams."""

    def __init__(self, stderr: bool = False) -> None:
        # Rich takes NO_COLOR by its letter, and would still send what makes text dim.
        super().__init__(stderr=stderr, color_system=None if os.environ.get("NO_COLOR") else "auto")

    def print(self, *objects: Any, **how: Any) -> None:
        """Print; say in one sentence that nothing can be printed."""
        try:
            super().print(*objects, **how)
        except OSError as error:
            self.on_broken_pipe()
            raise JobError(f"cannot print: {error.strerror}") from error

    def on_broken_pipe(self) -> None:
        """Print nothing more: who reads has seen enough, which is not a failure of what is
        printed.
        """
        self.quiet = True
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, self.file.fileno())
        os.close(nowhere)


def replace_what_cannot_be_printed() -> None:
    """Have letters that the output's encoding lacks replaced, not refused."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="replace")


def printable(value: Any) -> Text:
    r"""Return text of an id or a name as it may be shown: no markup is read, no control character
    is passed on.

    Examples
    --------
    >>> printable("[bold]a\x1b[31m").plain
    '[bold]a�[31m'
    """
    return Text(plain(value))


@dataclass(frozen=True)
class Column:
    """A column of a table: numbers, or texts, which are folded where there is little room."""

    name: str
    cells: Collection[str | Text]
    text: bool = False

    def width(self) -> int:
        """Return how wide it is at least."""
        longest = max(len(each) for each in (*self.name.split(), *self.cells))
        if self.text:
            return min(longest, _TEXT_WIDTH)
        return longest


def show_columns(console: Console, title: str, columns: Sequence[Column], kept: int) -> None:
    """Print a table; of the columns after the first ``kept`` the last are left out where there is
    no room.
    """
    shown = list(columns)
    # Each column has a space on both sides and a border.
    while len(shown) > kept and sum(column.width() + 3 for column in shown) + 1 > console.width:
        shown.pop()
    table = Table(title=title, title_justify="left", box=box.SIMPLE_HEAD)
    for column in shown:
        if column.text:
            table.add_column(column.name, overflow="fold")
        else:
            table.add_column(
                column.name,
                justify="right",
                min_width=column.width(),
                no_wrap=" " not in column.name,
            )
    for row in zip(*(column.cells for column in shown), strict=True):
        table.add_row(*row)
    console.print(table)


def show_lines(console: Console, lines: Sequence[tuple[str, str]]) -> None:
    """Print names and what they are called; those that have nothing to say are left out.

    A line is never broken, whatever its length: it is there to be copied, or is one of a log.
    """
    width = max(len(name) for name, text in lines if text) + 2
    for name, text in lines:
        if text:
            console.print(
                Text.assemble((name.ljust(width), "dim"), printable(text)), soft_wrap=True
            )
