"""Figures and sparklines: what is in them, with whatever names."""

from __future__ import annotations

import io
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from matplotlib import _pylab_helpers
from matplotlib.colors import to_hex

from noisydask.dynamics.curves import plot_ema, plot_ema_per_label, save_curves_png
from noisydask.errors import InputError
from noisydask.report.sparkline import sparkline
from noisydask.text import plain, shortened

HOSTILE = ["$x^", r"$\frac", "_hidden", "a\nb\x1b[31m", "[bold]", "{0}%s", "画像", "", 7]
ITERATIONS = np.arange(12) * 500


def curves(count: int) -> np.ndarray[Any, Any]:
    return np.abs(np.random.default_rng(count).normal(3, 1, (count, 12))).cumsum(1)


def legend_of(axes: Any) -> list[str]:
    return [text.get_text() for text in axes.get_legend().get_texts()]


@pytest.mark.parametrize("count", [0, 1, 5, 20])
def test_one_panel_with_a_line_and_a_name_for_each(count: int) -> None:
    figure = plot_ema(
        ITERATIONS, np.ones(12), curves(count).reshape(count, 12), [f"id{k}" for k in range(count)]
    )
    (axes,) = figure.axes
    assert len(axes.lines) == 1 + count
    assert legend_of(axes) == ["mean of all", *(f"id{k}" for k in range(count))]
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("iteration", "EMA of the loss")
    for line, curve in zip(axes.lines[1:], curves(count), strict=True):
        np.testing.assert_array_equal(line.get_xdata(), ITERATIONS)
        np.testing.assert_array_equal(line.get_ydata(), curve)


@pytest.mark.parametrize("count", [1, 20, 45])
def test_the_legend_is_outside_the_data_and_inside_the_figure(count: int) -> None:
    figure = plot_ema(
        ITERATIONS, np.ones(12), curves(count), [f"train/image-{k:09d}.png" for k in range(count)]
    )
    figure.canvas.draw()
    (axes,) = figure.axes
    legend, panel = axes.get_legend().get_window_extent(), axes.get_window_extent()
    assert legend.x0 >= panel.x1
    assert legend.x1 <= figure.bbox.x1
    assert legend.y0 >= figure.bbox.y0
    assert panel.width > 2.5 * figure.dpi  # the legend does not take it from the curves


def test_twenty_candidates_look_different() -> None:
    figure = plot_ema(ITERATIONS, np.ones(12), curves(20), range(20))
    styles = {(to_hex(line.get_color()), line.get_linestyle()) for line in figure.axes[0].lines}
    assert len(styles) == 21


@pytest.mark.parametrize("labels", [3, 10])
def test_a_panel_for_each_label_with_its_mean(labels: int) -> None:
    given = [k % labels for k in range(20)]
    means = {
        label: np.full(12, label + 1.0) for label in range(labels + 2)
    }  # two labels without a candidate
    figure = plot_ema_per_label(ITERATIONS, means, curves(20), [f"id{k}" for k in range(20)], given)
    assert len(figure.axes) == labels
    for label, axes in enumerate(figure.axes):
        assert axes.get_title() == f"label {label}"
        np.testing.assert_array_equal(axes.lines[0].get_ydata(), means[label])
        assert legend_of(axes) == [
            "mean of label",
            *(f"id{k}" for k in range(20) if given[k] == label),
        ]


def test_names_are_text_and_nothing_else() -> None:
    figure = plot_ema_per_label(
        ITERATIONS, {"$x^": np.ones(12)}, curves(len(HOSTILE)), HOSTILE, ["$x^"] * len(HOSTILE)
    )
    save = io.BytesIO()
    save_curves_png(save, ITERATIONS, np.ones(12), curves(len(HOSTILE)), HOSTILE)
    assert save.getvalue().startswith(b"\x89PNG")
    (axes,) = figure.axes
    assert legend_of(axes)[1:] == [
        "$x^",
        r"$\frac",
        "_hidden",
        "a\ufffdb\ufffd[31m",
        "[bold]",
        "{0}%s",
        "画像",
        "",
        "7",
    ]
    assert axes.get_title() == "label $x^"
    texts = [*axes.get_legend().get_texts(), axes.title]
    assert not any(text.get_parse_math() for text in texts)


def test_options_reach_the_lines() -> None:
    figure = plot_ema(
        ITERATIONS,
        np.ones(12),
        curves(2),
        "ab",
        mean_plot_style=":",
        mean_plot_color="r",
        figsize=(6, 5),
        c="#123456",
        lw=4,
        alpha=0.5,
    )
    mean, *lines = figure.axes[0].lines
    assert (mean.get_linestyle(), mean.get_color(), mean.get_linewidth() == 4) == (":", "r", False)
    assert {(line.get_color(), line.get_linewidth(), line.get_alpha()) for line in lines} == {
        ("#123456", 4, 0.5)
    }
    assert figure.get_size_inches()[1] == 5
    assert figure.get_size_inches()[0] > 6


def test_gaps_are_bridged_and_a_single_loss_is_seen() -> None:
    gaps = np.full((2, 12), np.nan)
    gaps[0, [1, 5, 9]], gaps[1, 3] = 1.0, 2.0
    figure = plot_ema(ITERATIONS, gaps[0], gaps, "ab")
    _, first, second = figure.axes[0].lines
    assert first.get_xdata().tolist() == [500, 2500, 4500]
    assert second.get_marker() == "."


def test_nothing_is_registered_with_pyplot(tmp_path: Path) -> None:
    before = list(_pylab_helpers.Gcf.figs)
    for name in ("a", "b"):
        save_curves_png(str(tmp_path / name), ITERATIONS, np.ones(12), curves(3), "abc")
    assert list(_pylab_helpers.Gcf.figs) == before
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


def test_refusals(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(InputError, match="2 curves and 1 names"):
        plot_ema(ITERATIONS, np.ones(12), curves(2), "a")
    with pytest.raises(InputError, match="no candidates"):
        plot_ema_per_label(ITERATIONS, {0: np.ones(12)}, np.empty((0, 12)), [], [])
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(InputError, match="plot"):
        plot_ema(ITERATIONS, np.ones(12), curves(1), "a")


@pytest.mark.parametrize(
    ("values", "width", "expected"),
    [
        ([], 5, ""),
        ([1.0], 5, "▁"),
        ([2, 2, 2], 3, "▁▁▁"),
        ([np.nan, np.nan], 4, "  "),
        (range(8), 8, "▁▂▃▄▅▆▇█"),
        (range(16), 8, "▁▂▃▄▅▆▇█"),
        ([0, np.nan, 7, np.inf], 9, "▁ █ "),
        ([1e308, -1e308, 0.0], 3, "█▁▅"),
        ([0, np.nan, 1, np.nan], 2, "▁█"),
        ([1, 2], 0, ""),
    ],
)
def test_sparklines(values: Any, width: int, expected: str) -> None:
    assert sparkline(np.array(list(values), float), width) == expected


def test_names_are_shortened_in_the_middle() -> None:
    assert plain("\x00\u202ea\tb") == "\ufffd\ufffda\ufffdb"
    for width in range(1, 12):
        assert len(shortened("abcdefghij", width)) == min(width, 10)
    assert shortened("abcdefghij", 6) == "abc…ij"
