"""The pages that people read, and the commands and Python in them."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
#: All pages; those of the site that are filled in from the root stand for themselves.
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]

_BLOCK = re.compile(r"^```(\w*)(?: title=\"(.+)\")?\n(.*?)^```$", re.M | re.S)


@dataclass(frozen=True)
class Block:
    """A fenced block of a page.

    Attributes
    ----------
    line : int
        Where it begins.
    language, title : str
        As the fence gives them; empty where it does not.
    text : str
        What is in it.
    """

    line: int
    language: str
    title: str
    text: str


def name_of(page: Path) -> str:
    """Return the path of a page in the repository."""
    return page.relative_to(ROOT).as_posix()


def blocks(page: Path) -> Iterator[Block]:
    """Read the fenced blocks of a page, in order."""
    text = page.read_text(encoding="utf-8")
    for match in _BLOCK.finditer(text):
        line = text.count("\n", 0, match.start()) + 1
        yield Block(line, match[1], match[2] or "", match[3])


def commands(block: Block) -> list[str]:
    """Return the commands of a shell block, each on one line, without comments."""
    lines = block.text.replace("\\\n", " ").splitlines()
    plain = (re.sub(r"(^|\s)#.*", "", line).strip() for line in lines)
    return [line for line in plain if line]
