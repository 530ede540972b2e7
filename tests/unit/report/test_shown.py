"""What people see of the package, of results and of numbers, in a shell, a notebook, a terminal."""

from __future__ import annotations

import io
import logging
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from rich.console import Console

import noisydask
from noisydask.cli import commands
from noisydask.cli.app import main
from noisydask.report.printing import Printer

LABELS = np.array([1, 1, 0, 1, 1, 0])
#: Two rows are far surer than four decimals tell, against their labels.
PRED_PROBS = np.array(
    [[1 - 3e-9, 3e-9], [0.2, 0.8], [0.8, 0.2], [0.1, 0.9], [1 - 2e-6, 2e-6], [0.9, 0.1]]
)
HOSTILE = ["<script>alert(1)</script>", "a&b", "c", "<b>\x1b[31m", "</td>", "x" * 500]


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """A result of each kind, and one without issues."""
    here = tmp_path_factory.mktemp("shown")
    issues = noisydask.find_label_issues(
        LABELS, PRED_PROBS, ids=HOSTILE, class_names=["<i>cat", "dog"], out=here / "i"
    )
    losses = np.arange(1, 13, dtype=float).reshape(6, 2)
    dynamics = noisydask.analyze_loss_dynamics(losses, ids=HOSTILE, out=here / "d")
    both = noisydask.combine(here / "i", here / "d", ids=HOSTILE, out=here / "b")
    none = noisydask.find_label_issues(PRED_PROBS.argmax(1), PRED_PROBS)
    return {"issues": issues, "dynamics": dynamics, "both": both, "none": none}


def test_the_package_shows_its_public_names_only() -> None:
    assert sorted(dir(noisydask)) == sorted([*noisydask.__all__, "__version__"])
    assert all(hasattr(noisydask, name) for name in dir(noisydask))


def test_results_show_what_is_documented_only(results: dict[str, Any]) -> None:
    for found in results.values():
        for name in dir(found):
            assert not name.startswith("_")
            value = getattr(type(found), name, None)
            assert name == "manifest" or value.__doc__, name
        assert not {"run", "inputs", "remove_with_me"} & set(dir(found))
    assert {"indices", "label_quality", "to_dataframe"} <= set(dir(results["issues"]))
    assert {"ranking", "top_k", "ema"} <= set(dir(results["dynamics"]))


def test_a_repr_says_what_was_found_nothing_too(results: dict[str, Any]) -> None:
    for name, counts in {
        "none": "issues=0, examples=6, classes=2, invalid=0",
        "issues": "issues=2, examples=6, classes=2, invalid=0",
        "dynamics": "candidates=6, examples=6, iterations=2, losses=12",
        "both": "ranked=6, common=6",
    }.items():
        found = results[name]
        said = f"{type(found).__name__}({counts}, run={found.manifest['run']!r})"
        assert repr(found) == said


class Cells(HTMLParser):
    """Tags of a page, and the texts of its cells."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: set[str] = set()
        self.rows: list[list[str]] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: Any) -> None:
        self.tags.add(tag)
        if tag == "tr":
            self.rows.append([])
        elif tag in ("td", "th"):
            self.rows[-1].append("")

    def handle_data(self, data: str) -> None:
        if self.rows and self.rows[-1]:
            self.rows[-1][-1] += data.strip()


@pytest.mark.parametrize("name", ["issues", "dynamics", "both", "none"])
def test_a_notebook_shows_the_first_rows(results: dict[str, Any], name: str) -> None:
    found = results[name]
    page = Cells(found._repr_html_())
    frame = found.top_k(10) if name == "dynamics" else found.to_dataframe(10)
    header, *rows = page.rows
    assert header == list(frame.columns)
    assert len(rows) == len(frame) <= 10
    # Nothing that an id or a class name holds becomes markup.
    assert page.tags <= {"p", "table", "thead", "tbody", "tr", "th", "td"}
    for cells, record in zip(rows, frame.to_dict("records"), strict=True):
        shown = dict(zip(header, cells, strict=True))
        assert shown["id"][:9] == str(record["id"]).replace("\x1b", "\ufffd")[:9]
        assert len(shown["id"]) <= 60
        assert int(shown["index"]) == record["index"]
        for column, value in record.items():
            if isinstance(value, float):
                assert float(shown[column]) == pytest.approx(value, rel=1e-3)


def test_a_notebook_shows_ten_rows_at_most() -> None:
    found = noisydask.analyze_loss_dynamics(np.ones((50, 2)))
    assert len(Cells(found._repr_html_()).rows) == 1 + 10


def test_terminals_show_the_digits_that_matter(
    results: dict[str, Any],
    tmp_path: Path,
    capfd: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("COLUMNS", "160")
    monkeypatch.setattr(commands, "out_console", Printer())

    def lines(*arguments: str) -> list[str]:
        assert main(list(arguments)) == 0
        return capfd.readouterr().out.splitlines()

    out = tmp_path / "i"
    found = noisydask.find_label_issues(LABELS, PRED_PROBS, out=out)
    table = [line.split() for line in lines("show", str(out)) if re.match(r"\s*\d+\s+\d", line)]
    quality = found.to_dataframe()["label_quality"]
    assert [float(row[4]) for row in table] == pytest.approx(quality, rel=1e-3)
    noisydask.find_label_issues(PRED_PROBS.argmax(1), PRED_PROBS, out=out)
    gone = [line.split() for line in lines("diff", str(out)) if "label corrected" in line]
    assert {word for row in gone[1:] for word in row if "e-" in word} == {"3e-09", "2e-06"}

    # Losses have the digits that matter, counts and iterations are whole.
    iters = np.arange(1234560, 1234570)
    losses = np.full((2, 10), 2e-7)
    losses[1, 6:] = 9
    noisydask.analyze_loss_dynamics(losses, iters=iters, alpha=0.5, out=tmp_path / "e")
    first, second = lines("show", str(tmp_path / "e"))[-3:-1]
    assert first.split()[2:6] == ["8.438", "9", "10", "1234566"]
    assert float(second.split()[3]) == 2e-7


def test_small_shares_have_digits(capfd: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    rows = 30_000
    pred_probs = np.tile(np.array([[0.9, 0.1], [0.2, 0.8]], np.float32), (rows // 2, 1))
    labels = pred_probs.argmax(1)
    labels[0] = 1
    with pytest.raises(noisydask.GateError) as caught:
        noisydask.find_label_issues(labels, pred_probs, out=tmp_path / "o", fail_above=1e-5)
    assert str(caught.value).startswith("1 of 30,000 examples are issues (0.003333%), above")
    assert "(1e-05)" in str(caught.value)
    assert main(["show", str(tmp_path / "o"), "--top", "0"]) == 0
    assert "1 of 30,000 examples (0.003333%)" in capfd.readouterr().out


def test_progress_is_shown_by_an_exported_class(
    capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    jobs = {
        "issues": lambda reporter: noisydask.find_label_issues(
            LABELS, PRED_PROBS, reporter=reporter
        ),
        "dynamics": lambda reporter: noisydask.analyze_loss_dynamics(
            np.ones((3, 2)), reporter=reporter
        ),
    }
    for job in jobs.values():
        text = io.StringIO()
        job(noisydask.ProgressBar(Console(file=text)))
        assert "100%" in text.getvalue()
        job(noisydask.ProgressBar())
        printed = capfd.readouterr()
        assert "100%" in printed.err
        assert not printed.out
        with caplog.at_level(logging.INFO, "noisydask"):
            job(noisydask.ProgressLog())
        assert "100%" in caplog.text
        caplog.clear()
