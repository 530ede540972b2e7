"""What MkDocs fills in while it builds the site, so that it can never be out of date: the tables
of options, pages that lie at the root, and links for the roles in docstrings.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import griffe
import typer

from noisydask.cli.commands import app

ROOT = Path(__file__).parents[1]
_TABLE = re.compile(r"^<!-- options of noisydask ([\w-]+) -->$", re.M)
_PAGE = re.compile(r"^<!-- page (\S+) -->$", re.M)
_ROLE = re.compile(r":(?:attr|class|func|meth|mod|data):`[~.]?([^`]+)`")


def on_page_markdown(markdown: str, **_: Any) -> str:
    """Fill in what the comments of a page ask for."""
    markdown = _TABLE.sub(lambda match: options_table(match[1]), markdown)
    return _PAGE.sub(lambda match: root_page(match[1]), markdown)


def options_table(command: str) -> str:
    """Return the arguments and options of a command, a table for each panel of its help."""
    group: Any = typer.main.get_command(app)
    context = group.commands[command].make_context(command, [], resilient_parsing=True)
    panels: dict[str, list[str]] = {}
    for parameter in context.command.params:
        name, meaning = parameter.get_help_record(context)
        panel = getattr(parameter, "rich_help_panel", None)
        if parameter.param_type_name == "argument":
            panel = "Arguments"
        row = f"| `{name}` | {meaning} |\n"
        panels.setdefault(panel or "Options", []).append(row)
    header = "| option | meaning |\n|---|---|\n"
    return "\n".join(f"**{panel}**\n\n{header}{''.join(rows)}" for panel, rows in panels.items())


def root_page(name: str) -> str:
    """Return a page of the repository's root, its links as they are from docs/."""
    return (ROOT / name).read_text(encoding="utf-8").replace("](docs/", "](")


class Roles(griffe.Extension):
    """Show the roles of docstrings, such as ``:func:`name```, as names in code."""

    def on_instance(self, *, obj: griffe.Object, **_: Any) -> None:
        """Rewrite the docstring of an object as soon as it is read."""
        if obj.docstring:
            obj.docstring.value = _ROLE.sub(r"`\1`", obj.docstring.value)
