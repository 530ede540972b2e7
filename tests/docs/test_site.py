"""The documentation as a site: complete, true to the code, and without any need of a network."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
import typer
from pages import PAGES, ROOT, name_of

import noisydask
from noisydask.cli.commands import app
from noisydask.errors import NoisydaskError

README = ROOT / "README.md"
DOCS = ROOT / "docs"


def test_the_readme_is_short_and_names_every_page() -> None:
    text = README.read_text(encoding="utf-8")
    assert len(text.encode()) <= 9000
    for page in DOCS.rglob("*.md"):
        name = name_of(page)
        own = {"docs/contributing.md": "CONTRIBUTING.md", "docs/changelog.md": "CHANGELOG.md"}
        decision = page.parent.name == "decisions" and page.stem != "index"
        assert decision or page == DOCS / "index.md" or f"({own.get(name, name)})" in text, name


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_links_lead_to_files(page: Path) -> None:
    for link in re.findall(r"\]\(([^)#]+)(?:#[^)]*)?\)", page.read_text(encoding="utf-8")):
        if "://" not in link:
            assert (page.parent / link).exists(), link


def test_every_public_name_has_its_reference() -> None:
    pages = [(DOCS / "reference" / name).read_text() for name in ("api.md", "errors.md")]
    documented = re.findall(r"^::: noisydask\.(\w+)$", "\n".join(pages), re.M)
    assert sorted(documented) == sorted(noisydask.__all__)


def test_every_command_has_its_options() -> None:
    text = (DOCS / "reference/options.md").read_text(encoding="utf-8")
    group: Any = typer.main.get_command(app)
    for command in group.commands:
        assert f"## noisydask {command}\n" in text, command


def test_every_exit_status_is_listed() -> None:
    rows = re.findall(
        r"^\| ([\d, ]+) \|.*\| ([^|]*) \|$", (DOCS / "reference/errors.md").read_text(), re.M
    )
    listed = {name: int(status) for status, names in rows for name in re.findall(r"`(\w+)`", names)}
    errors = [getattr(noisydask, name) for name in noisydask.__all__ if name.endswith("Error")]
    assert listed == {
        error.__name__: error.exit_status for error in errors if error is not NoisydaskError
    }


def test_urls_of_the_project_are_there() -> None:
    text = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    urls = re.search(r"^\[project\.urls\]\n(.*?)\n\n", text, re.M | re.S)
    assert urls is not None
    for name in re.findall(r'= "(.+)"', urls[1]):
        assert "://" in name or (ROOT / name).exists(), name


class Loads(HTMLParser):
    """What a browser loads to show a page."""

    def __init__(self) -> None:
        super().__init__()
        self.urls: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        links = tag == "link" and given.get("rel") not in ("canonical", "next", "prev")
        if "src" in given or links:
            self.urls.append(given.get("src") or given.get("href") or "")


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The site, built where no request can leave the machine."""
    folder = tmp_path_factory.mktemp("site")
    nowhere = {f"{kind}_proxy": "http://127.0.0.1:9" for kind in ("http", "https", "HTTPS")}
    done = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", folder],
        cwd=ROOT,
        env=os.environ | nowhere | {"NO_MKDOCS_2_WARNING": "1"},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert (done.returncode, done.stdout + done.stderr) == (0, "")
    return folder


@pytest.mark.slow
def test_the_site_loads_nothing_from_elsewhere(site: Path) -> None:
    pages = [page for page in site.rglob("*.html") if page.name != "404.html"]
    assert len(pages) == len(list(DOCS.rglob("*.md")))
    for page in pages:
        loads = Loads()
        loads.feed(page.read_text(encoding="utf-8"))
        assert loads.urls
        for url in loads.urls:
            assert "//" not in url, f"{page.name} loads {url}"
            assert (page.parent / url.partition("?")[0]).exists(), f"{page.name} lacks {url}"


@pytest.mark.slow
def test_the_site_is_filled_in(site: Path) -> None:
    options = (site / "reference/options.html").read_text(encoding="utf-8")
    group: Any = typer.main.get_command(app)
    for command in ("issues", "dynamics", "combine", "show", "diff"):
        for parameter in group.commands[command].params:
            if parameter.param_type_name == "option" and parameter.name != "help":
                assert parameter.opts[0] in options, (command, parameter.name)
    api = (site / "reference/api.html").read_text(encoding="utf-8")
    for name in noisydask.__all__:
        if not name.endswith(("Error", "Warning")):
            assert f'id="noisydask.{name}"' in api
    assert not re.search(r":(func|class|meth|attr):", api), "roles are shown as names"
    assert "How to add an option" in (site / "contributing.html").read_text(encoding="utf-8")
