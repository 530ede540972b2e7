"""Curves of the EMA of the loss: figures fit for a paper, and a line of text for a terminal.

Figures are made by matplotlib's objects alone: nothing is registered with ``pyplot``, so nothing
stays behind, no window opens, and threads do not meet.
"""

from __future__ import annotations

import warnings
from collections.abc import Hashable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, BinaryIO, cast

import numpy as np
import numpy.typing as npt

from noisydask.core.choices import PlotMode, check_choice
from noisydask.errors import InputError
from noisydask.text import plain, shortened

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.legend import Legend
    from matplotlib.lines import Line2D

Floats = npt.NDArray[np.floating]
Ints = npt.NDArray[np.integer]

#: Seven colours that the colour-blind tell apart (Okabe and Ito, without yellow and black), then
#: the same in another dash: 21 curves, of which no two look alike. Black and "--" are the mean's.
_COLORS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00", "#6A3D9A")
_DASHES = ("-", ":", "-.")
_NAME_WIDTH = 28
_PANELS_PER_ROW = 3
_SMALL, _NORMAL = 7, 8
_DPI = 200


@dataclass(frozen=True)
class _Panel:
    """One set of axes: a mean, and the curves of some candidates."""

    title: str | None
    mean_name: str
    mean: Floats
    curves: Sequence[Floats]
    names: Sequence[Any]


def plot_ema(
    iterations: npt.ArrayLike,
    mean: npt.ArrayLike,
    curves: npt.ArrayLike,
    names: Sequence[Any],
    *,
    mean_plot_style: str = "--",
    mean_plot_color: str = "k",
    figsize: tuple[float, float] = (4, 3),
    **kwargs: Any,
) -> Figure:
    """Plot the EMA of candidates over the iterations, with the mean of all examples.

    Parameters
    ----------
    iterations : array-like of int, (T,)
        Ascending.
    mean : array-like of float, (T,)
        Mean EMA of the examples recorded at each iteration; NaN where none was.
    curves : array-like of float, (candidates, T)
        EMA of each candidate; NaN where it was not recorded: its curve runs on to the next that
        was.
    names : sequence
        What the legend calls them; shown as they are, not as mathematics.
    mean_plot_style, mean_plot_color : str
        Of the mean.
    figsize : (float, float)
        Inches of the panel; the legend, to the right of it, makes the figure wider.
    **kwargs
        Passed to the lines of the candidates.

    Returns
    -------
    matplotlib.figure.Figure

    Raises
    ------
    InputError
        If matplotlib is not installed.

    Examples
    --------
    >>> figure = plot_ema([1, 2, 3], [0.1, 0.1, 0.2], [[0.2, np.nan, 0.9]], ["img$7"])
    >>> [text.get_text() for text in figure.axes[0].get_legend().get_texts()]
    ['mean of all', 'img$7']
    """
    panel = _Panel(None, "mean of all", np.asarray(mean, float), _rows(curves, names), names)
    return _figure(
        [panel], np.asarray(iterations), mean_plot_style, mean_plot_color, figsize, kwargs
    )


def plot_ema_per_label(
    iterations: npt.ArrayLike,
    means: Mapping[Any, npt.ArrayLike],
    curves: npt.ArrayLike,
    names: Sequence[Any],
    labels: Sequence[Hashable],
    *,
    mean_plot_style: str = "--",
    mean_plot_color: str = "k",
    figsize: tuple[float, float] = (4, 3),
    **kwargs: Any,
) -> Figure:
    """Plot the EMA of candidates in a panel for each of their labels, with the mean of that label's
    examples.

    Parameters
    ----------
    iterations, curves, names, mean_plot_style, mean_plot_color, **kwargs
        As for :func:`plot_ema`; ``figsize`` is that of a panel.
    means : mapping of label to array-like of float, (T,)
        Mean EMA of each label's examples. Labels without a candidate get no panel; panels come in
        the mapping's order.
    labels : sequence
        Label of each candidate, a key of ``means``.

    Returns
    -------
    matplotlib.figure.Figure
    """
    rows = _rows(curves, names)
    panels = []
    for label, mean in means.items():
        mine = [k for k, other in enumerate(labels) if other == label]
        if mine:
            chosen = [rows[k] for k in mine]
            called = [names[k] for k in mine]
            panels.append(
                _Panel(
                    f"label {plain(label)}",
                    "mean of label",
                    np.asarray(mean, float),
                    chosen,
                    called,
                )
            )
    if not panels:
        raise InputError("there are no candidates to plot")
    return _figure(
        panels, np.asarray(iterations), mean_plot_style, mean_plot_color, figsize, kwargs
    )


def plot_ema_loss_dynamics(
    mode: PlotMode,
    iterations: npt.ArrayLike,
    mean: npt.ArrayLike,
    means: Mapping[Any, npt.ArrayLike],
    curves: npt.ArrayLike,
    names: Sequence[Any],
    labels: Sequence[Hashable] | None,
    **how: Any,
) -> Figure:
    """Plot candidates by :func:`plot_ema` (mode "mean") or :func:`plot_ema_per_label` (mode
    "label_mean").

    Raises
    ------
    InputError
        If there is no such mode, or "label_mean" is wanted where labels are not known.
    """
    check_choice("mode", mode, PlotMode)
    if mode == "mean":
        return plot_ema(iterations, mean, curves, names, **how)
    if labels is None:
        raise InputError('mode "label_mean" needs labels, which this run was not given')
    return plot_ema_per_label(iterations, means, curves, names, labels, **how)


def save_curves_png(
    file: str | BinaryIO,
    iterations: npt.ArrayLike,
    mean: npt.ArrayLike,
    curves: npt.ArrayLike,
    names: Sequence[Any],
) -> None:
    """Write the picture of :func:`plot_ema` as PNG; the same curves give the same bytes."""
    figure = plot_ema(iterations, mean, curves, names)
    figure.set_dpi(_DPI)
    with _glyphs_may_be_missing():  # savefig would draw all of it twice, to lay it out
        cast(Any, figure.canvas).print_png(
            file, metadata={"Software": None}, pil_kwargs={"compress_level": 1}
        )


def _rows(curves: npt.ArrayLike, names: Sequence[Any]) -> list[Floats]:
    rows = [np.asarray(row, float) for row in np.asarray(curves, float)]
    if len(rows) != len(names):
        raise InputError(f"{len(rows)} curves and {len(names)} names: they must match")
    return rows


def _figure(
    panels: Sequence[_Panel],
    iterations: Ints,
    mean_style: str,
    mean_color: str,
    figsize: tuple[float, float],
    kwargs: Mapping[str, Any],
) -> Figure:
    """Make panels in rows, each with its legend to the right, as wide as they need."""
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg  # noqa: PLC0415  plots are an extra
        from matplotlib.cbook import normalize_kwargs  # noqa: PLC0415
        from matplotlib.figure import Figure  # noqa: PLC0415
        from matplotlib.lines import Line2D  # noqa: PLC0415
    except ImportError as error:
        raise InputError("plots need matplotlib: pip install matplotlib") from error
    across = min(_PANELS_PER_ROW, len(panels))
    down = -(-len(panels) // across)
    figure = Figure(figsize=(figsize[0] * across, figsize[1] * down), layout="constrained")
    cast(Any, figure.get_layout_engine()).set(w_pad=0.06, h_pad=0.06)
    canvas = FigureCanvasAgg(figure)
    # As many rows of the legend as are as high as the axes: in points, less what stands below them.
    legend_rows = max(1, int((figsize[1] - 0.4) * 72 / (_SMALL * 1.25)))
    legends = []
    line_options = normalize_kwargs(dict(kwargs), Line2D)
    for number, panel in enumerate(panels):
        axes = figure.add_subplot(down, across, number + 1)
        lines = _draw(axes, panel, iterations, mean_style, mean_color, line_options)
        legends.append(
            _legend(
                axes, lines, [panel.mean_name, *(plain(name) for name in panel.names)], legend_rows
            )
        )
        last_row = number + across >= len(panels)
        _label(axes, panel.title, x=last_row, y=number % across == 0)
    with _glyphs_may_be_missing():
        renderer = canvas.get_renderer()
        widest = max(legend.get_window_extent(renderer).width for legend in legends) / figure.dpi
        figure.set_size_inches((figsize[0] + widest) * across, figsize[1] * down)
    return figure


def _draw(
    axes: Axes,
    panel: _Panel,
    iterations: Ints,
    mean_style: str,
    mean_color: str,
    kwargs: Mapping[str, Any],
) -> list[Line2D]:
    """Draw the mean's line and those of the candidates; a curve of a single iteration is a dot."""
    lines = []
    for number, curve in enumerate((panel.mean, *panel.curves)):
        known = ~np.isnan(curve)
        style: dict[str, Any] = {"linewidth": 1.2, "marker": "." if known.sum() == 1 else None}
        if number == 0:
            style |= {"linestyle": mean_style, "color": mean_color, "zorder": 3, "linewidth": 1.6}
        else:
            dash, color = divmod(number - 1, len(_COLORS))
            style |= {"linestyle": _DASHES[dash % len(_DASHES)], "color": _COLORS[color], **kwargs}
        lines += axes.plot(iterations[known], curve[known], **style)
    return lines


def _label(axes: Axes, title: str | None, x: bool, y: bool) -> None:
    from matplotlib.ticker import MaxNLocator  # noqa: PLC0415

    if title is not None:
        text = axes.set_title(shortened(title, 40), fontsize=_NORMAL)
        text.set_parse_math(False)
    axes.set_xlabel("iteration" if x else "", fontsize=_NORMAL)
    axes.set_ylabel("EMA of the loss" if y else "", fontsize=_NORMAL)
    axes.tick_params(labelsize=_SMALL)
    axes.xaxis.set_major_locator(MaxNLocator(nbins=6, integer=True))
    axes.set_ylim(bottom=0)
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(axis="y", linewidth=0.4, alpha=0.4)


def _legend(axes: Axes, lines: Sequence[Line2D], names: Sequence[str], rows: int) -> Legend:
    """Make a legend right of the axes. Names are set afterwards: matplotlib reads ``$`` and a
    leading ``_`` as its own.
    """
    legend = axes.legend(
        lines,
        [str(k) for k in range(len(lines))],
        loc="upper left",
        bbox_to_anchor=(1.01, 1.0),
        borderaxespad=0,
        frameon=False,
        fontsize=_SMALL,
        handlelength=2.4,
        labelspacing=0.25,
        ncols=-(-len(lines) // rows),
    )
    for text, name in zip(legend.get_texts(), names, strict=True):
        text.set_parse_math(False)
        text.set_usetex(False)
        text.set_text(shortened(name, _NAME_WIDTH))
    return legend


@contextmanager
def _glyphs_may_be_missing() -> Iterator[None]:
    """Silence warnings of missing glyphs: names may be in any script, and a box is drawn for what
    the font lacks.
    """
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=r"Glyph .* missing from", category=UserWarning)
        yield
