"""The names of Datumaro's analysis of loss dynamics (removed from Datumaro in 2025), with its
parameters and answers.

They hold the recorded losses of the dataset as arrays, 16 bytes each, as what they return is larger
than that. For data of any size there is :func:`noisydask.analyze_loss_dynamics`.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from numbers import Integral
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from noisydask.core.choices import OnDuplicate, PlotMode, RaiseOrSkip, TrackingLossType
from noisydask.dynamics.curves import plot_ema_loss_dynamics
from noisydask.dynamics.datumaro_format import NO_LABEL, Category, loss_attribute, open_dataset
from noisydask.dynamics.examples import Analysis, Examples, ema_frame, joined
from noisydask.dynamics.row_problems import DROPPED, no_problems, refusal
from noisydask.dynamics.settings import LossSettings
from noisydask.errors import DatasetError, InputError

if TYPE_CHECKING:
    from matplotlib.figure import Figure

LAST_VALUE = "last_value"
_INDEX = ("item_id", "item_subset", "ann_id", "ann_label")


@dataclass(frozen=True, order=True)
class NoisyLabelCandidate:
    """An annotation whose label may be wrong.

    Two are equal if id, subset and annotation id are; they are ordered by their metric.

    Attributes
    ----------
    id : str
        Item.
    subset : str
        Subset of the item.
    ann_id : int
        Annotation of the item.
    label_id : int
        Its label.
    metric : float
        Last EMA of its loss; high is likely wrong.

    Examples
    --------
    >>> NoisyLabelCandidate("a", "train", 0, 1, 0.5) < NoisyLabelCandidate("b", "train", 0, 1, 0.75)
    True
    """

    id: str = field(compare=False)
    subset: str = field(compare=False)
    ann_id: int = field(compare=False)
    label_id: int = field(compare=False)
    metric: float

    def __eq__(self, other: object) -> bool:
        return isinstance(other, NoisyLabelCandidate) and self.name == other.name

    def __hash__(self) -> int:
        return hash(self.name)

    @property
    def name(self) -> tuple[str, str, int]:
        """What tells it from others: id, subset, annotation id."""
        return self.id, self.subset, self.ann_id


class LossDynamicsAnalyzer:
    """Ranks the annotations of a Datumaro dataset by the exponential moving average (EMA) of their
    training losses.

    Source: Zhou, Wang, Bilmes, "Robust curriculum learning", ICLR 2021. Answers are those of
    Datumaro 1.10, with these differences, all on purpose: losses are taken in order of their
    iteration, in whatever order they are listed; equal metrics are ranked in the order of the
    dataset; ``get_top_k_cands(0)`` gives none; negative losses, duplicate iterations and
    annotations without losses are refused by name; :attr:`mean_loss_dyns_per_label` works (in
    Datumaro 1.10 its keys have no hash).

    Parameters
    ----------
    dataset : dataset of Datumaro, str or Path
        An object with ``infos()``, ``categories()`` and items; or the folder or URL of a dataset in
        Datumaro's JSON format.
    alpha : float
        Weight of a new loss, above 0, at most 1: ``ema(t) = (1 - alpha) * ema(t - 1) + alpha *
        loss(t)``.
    tracking_loss_type : {"cls", "bbox", "centerness", "bbox_refine"}, optional
        Which losses to follow; needed for detection.
    on_duplicate : {"raise", "first", "last", "mean"}
        Stop where an annotation has more than one loss of an iteration, or take the first or last
        in its list, or their mean, as :func:`noisydask.analyze_loss_dynamics` does.
    on_invalid : {"raise", "skip"}
        Stop at losses that are negative, infinite or too large, or leave them out.

    Attributes
    ----------
    dropped : dict of str to int
        Losses that were left out: ``duplicates``, ``invalid`` and ``nan``.

    Raises
    ------
    DatasetError
        If the dataset was made for another purpose or task, or has not those losses.
    InputError
        If losses are invalid.
    """

    def __init__(
        self,
        dataset: Any,
        alpha: float = 0.001,
        tracking_loss_type: TrackingLossType | None = None,
        *,
        on_duplicate: OnDuplicate = "raise",
        on_invalid: RaiseOrSkip = "raise",
    ) -> None:
        options = {"alpha": alpha, "on_duplicate": on_duplicate, "on_invalid": on_invalid}
        settings = LossSettings.of(options)
        source = open_dataset(dataset)
        columns = source.batches(loss_attribute(source.infos(), tracking_loss_type))
        batches = [Examples.of_series(*batch, settings) for batch in columns]
        problems = sum((problem for _, problem in batches), no_problems())
        if problems.total:
            raise refusal(problems, sum(len(examples.losses) for examples, _ in batches))
        if not any(len(examples) for examples, _ in batches):
            raise DatasetError("the dataset has no annotation with recorded losses")
        self.dropped = {name: problems.dropped[name] for name in DROPPED}
        self._alpha = settings.alpha
        self._labels = source.labels()
        self._analysis = Analysis.of(joined([examples for examples, _ in batches]), self._alpha)

    @property
    def alpha(self) -> float:
        """Weight of a new loss."""
        return self._alpha

    @cached_property
    def mean_loss_dyns(self) -> pd.Series[float]:
        """Mean of the columns of :attr:`ema_dataframe`, by iteration; the first, ``last_value``, is
        that of the metric.
        """
        return self._mean(self._analysis.sums.sums.mean(), self._analysis.states.metric)

    @cached_property
    def mean_loss_dyns_per_label(self) -> dict[Category, pd.Series[float]]:
        """As :attr:`mean_loss_dyns`, of the annotations of each label."""
        sums = self._analysis.sums.sums
        metric = self._analysis.states.metric
        labels = self._analysis.examples.keys["label"]
        means = zip(sums.labels.tolist(), sums.mean_per_label(), strict=True)
        return {
            self._category(k): self._mean(mean, metric[labels == k])
            for k, mean in means
            if k != NO_LABEL
        }

    @cached_property
    def ema_dataframe(self) -> pd.DataFrame:
        """EMA of each annotation at each iteration, NaN where it was not recorded; ascending by
        ``last_value``, its metric.

        Rows are named by ``item_id``, ``item_subset``, ``ann_id`` and ``ann_label``; ``last_value``
        is the first column.
        """
        order = self._ranked[::-1]
        metric = self._analysis.states.metric
        examples = self._analysis.examples.take(order)
        values = np.column_stack(
            [metric[order], ema_frame(examples, self._alpha, self._iterations)]
        )
        keys = [examples.keys[name] for name in ("id", "subset", "ann_id", "label")]
        return pd.DataFrame(values, pd.MultiIndex.from_arrays(keys, names=_INDEX), self._columns)

    def get_top_k_cands(self, top_k: int) -> list[NoisyLabelCandidate]:
        """Return the annotations of highest metric, highest first.

        Parameters
        ----------
        top_k : int
            How many; all, if there are fewer.
        """
        if not isinstance(top_k, Integral) or top_k < 0:
            raise InputError(f"top_k must be an integer of at least 0, not {top_k!r}")
        chosen = self._ranked[:top_k]
        keys = self._analysis.examples.keys
        columns = [keys[name][chosen].tolist() for name in ("id", "subset", "ann_id", "label")]
        return [
            NoisyLabelCandidate(*row)
            for row in zip(*columns, self._analysis.states.metric[chosen].tolist(), strict=True)
        ]

    def plot_ema_loss_dynamics(
        self,
        candidates: Sequence[NoisyLabelCandidate],
        mode: PlotMode = "mean",
        mean_plot_style: str = "--",
        mean_plot_color: str = "k",
        figsize: tuple[float, float] = (4, 3),
        **kwargs: Any,
    ) -> Figure:
        """Plot the EMA of candidates over the iterations.

        Parameters
        ----------
        candidates : sequence of NoisyLabelCandidate
        mode : {"mean", "label_mean"}
            Beside them the mean of the dataset; or a panel a label, with the mean of that label.
        mean_plot_style, mean_plot_color : str
            Of the mean.
        figsize : (float, float)
            Inches of a panel; the legend beside it makes the figure wider.
        **kwargs
            Passed to the lines of the candidates.

        Returns
        -------
        matplotlib.figure.Figure
        """
        rows = np.array([self._position(candidate) for candidate in candidates], np.int64)
        curves = ema_frame(self._analysis.examples.take(rows), self._alpha, self._iterations)
        labels = [self._category(c.label_id).name for c in candidates]
        names = _told_apart(candidates)
        sums = self._analysis.sums.sums
        means = {
            self._category(k).name: mean
            for k, mean in zip(sums.labels.tolist(), sums.mean_per_label(), strict=True)
        }
        return plot_ema_loss_dynamics(
            mode,
            self._iterations,
            sums.mean(),
            means,
            curves,
            names,
            labels,
            mean_plot_style=mean_plot_style,
            mean_plot_color=mean_plot_color,
            figsize=figsize,
            **kwargs,
        )

    @property
    def _iterations(self) -> npt.NDArray[np.int64]:
        return self._analysis.sums.iterations

    @property
    def _columns(self) -> pd.Index[Any]:
        return pd.Index([LAST_VALUE, *self._iterations.tolist()], dtype=object)

    @cached_property
    def _ranked(self) -> npt.NDArray[np.int64]:
        """Positions by metric, highest first, and among equal ones as they come."""
        return np.argsort(-self._analysis.states.metric, kind="stable")

    @cached_property
    def _positions(self) -> dict[tuple[Any, ...], int]:
        keys = self._analysis.examples.keys
        names = zip(
            *(keys[name].tolist() for name in ("id", "subset", "ann_id", "label")), strict=True
        )
        return {name: position for position, name in enumerate(names)}

    def _position(self, candidate: NoisyLabelCandidate) -> int:
        position = self._positions.get((*candidate.name, candidate.label_id))
        if position is None:
            raise InputError(f"{candidate} is not an annotation of this dataset")
        return position

    def _category(self, label: int) -> Category:
        if 0 <= label < len(self._labels):
            return self._labels[label]
        return Category(str(label))

    def _mean(
        self, curve: npt.NDArray[np.float64], metric: npt.NDArray[np.float64]
    ) -> pd.Series[float]:
        return pd.Series([math.fsum(metric) / len(metric), *curve.tolist()], self._columns)


def _told_apart(candidates: Sequence[NoisyLabelCandidate]) -> list[str]:
    """Return what a legend calls candidates, as short as tells them apart: the id, where it repeats
    with annotation and subset.

    Examples
    --------
    >>> some = [("a", "train", 0), ("b", "train", 0), ("b", "train", 2)]
    >>> _told_apart([NoisyLabelCandidate(*one, 5, 0.5) for one in some])
    ['a', 'b, annotation 0', 'b, annotation 2']
    """
    names = [c.id for c in candidates]
    for form in ("{0.id}, annotation {0.ann_id}", "{0.id}, {0.subset}, annotation {0.ann_id}"):
        named = Counter(names)
        names = [
            form.format(c) if named[name] > 1 else name
            for c, name in zip(candidates, names, strict=True)
        ]
    return names
