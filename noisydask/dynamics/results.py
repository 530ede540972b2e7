"""A finished run on training losses, read lazily: what :func:`noisydask.analyze_loss_dynamics`
returns.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property, partial
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from noisydask.core.blocks import plan_tasks
from noisydask.core.choices import PlotMode
from noisydask.dynamics.curves import plot_ema_loss_dynamics
from noisydask.dynamics.named import positions_of
from noisydask.errors import InputError
from noisydask.lazily import Lazy
from noisydask.runs.class_names import called
from noisydask.runs.published import PublishedRun
from noisydask.stores.arrays import DaskRows, Rows, open_rows

if TYPE_CHECKING:
    from noisydask.core import dynamics
    from noisydask.dynamics import examples, row_problems, table_passes
    from noisydask.dynamics.inputs import LossInputs
    from noisydask.engine import graph
else:
    dynamics = Lazy("noisydask.core.dynamics")
    graph = Lazy("noisydask.engine.graph")
    examples = Lazy("noisydask.dynamics.examples")
    row_problems = Lazy("noisydask.dynamics.row_problems")
    table_passes = Lazy("noisydask.dynamics.table_passes")

if TYPE_CHECKING:
    from matplotlib.figure import Figure


@dataclass(eq=False, repr=False)
class LossDynamics(PublishedRun):
    """The candidates of a dataset by the moving average of their losses, highest first, and the
    mean curves.

    Examples
    --------
    >>> import numpy as np, noisydask
    >>> losses = np.array([[2.0, 1.0], [3.0, 4.0], [np.nan, 0.5]], np.float32)
    >>> found = noisydask.analyze_loss_dynamics(losses, alpha=0.5)
    >>> found.top_k(2)[["rank", "index", "metric", "num_losses"]]
       rank  index  metric  num_losses
    0     1      1    2.75           2
    1     2      0    1.00           2
    """

    _counts = ("candidates", "examples", "iterations", "losses")
    inputs: LossInputs | None = field(default=None, repr=False)

    @property
    def num_candidates(self) -> int:
        """Number of ranked examples."""
        return self.document.counts["candidates"]

    @property
    def dropped(self) -> dict[str, int]:
        """Number of recorded losses that were left out: ``duplicates``, beyond the one that was
        taken or the mean of all; ``invalid``; and, of a table or Datumaro dataset, ``nan``.
        """
        counts = self.document.counts
        return {name: counts[name] for name in row_problems.DROPPED if name in counts}

    @property
    def ranking(self) -> graph.Table:
        """All candidates as a lazy Dask DataFrame, a partition a Parquet part, in order of rank."""
        return self._ranking()

    def top_k(self, k: int) -> pd.DataFrame:
        """Return the first ``k`` candidates, highest metric first.

        Returns
        -------
        DataFrame
            ``rank`` (from 1), ``index`` (position), ``id``, ``label`` where labels are known,
            ``label_name`` where classes have names (empty for the label -1),
            ``metric`` (last EMA), ``num_losses``, ``mean_loss``, ``variance``, ``min_loss``,
            ``last_loss``, and ``crossed_at``: the first iteration at which the example's EMA lies
            above the mean of all, -1 where it never does.
        """
        return self._first(k)

    @cached_property
    def mean_loss_dyns(self) -> pd.Series:
        """Mean EMA of the examples recorded at each iteration; NaN where none is: index
        iteration.
        """
        return pd.Series(self._array("mean_loss_dyns.zarr"), self.iterations, name="mean_loss_dyns")

    @cached_property
    def mean_loss_dyns_per_label(self) -> dict[int, pd.Series]:
        """The same of the examples of each label; empty where labels are not known."""
        if not self.document.counts["labels"]:
            return {}
        curves = self._array("mean_loss_dyns_per_label.zarr")
        labels = self._array("label_values.zarr").tolist()
        return {
            label: pd.Series(curve, self.iterations, name=label)
            for label, curve in zip(labels, curves, strict=True)
        }

    @cached_property
    def iterations(self) -> pd.Index:
        """The iterations, ascending."""
        return pd.Index(self._array("iterations.zarr"), name="iteration")

    def ema(
        self, ids: Sequence[Any], storage_options: Mapping[str, Any] | None = None
    ) -> pd.DataFrame:
        """Return EMA of chosen examples at each iteration; NaN where they were not recorded.

        Parameters
        ----------
        ids : sequence
            Names of candidates as in :attr:`ranking`; where the job was given no ids, positions of
            any examples.
        storage_options : mapping, optional
            fsspec options to read the losses with, for a run that was opened again.

        Returns
        -------
        DataFrame
            A row each, in the order asked for; columns are iterations. All examples that share an
            id: those of an array by position; those of tables and Datumaro datasets named by id,
            subset and annotation id where these are known.

        Raises
        ------
        InputError
            If there is no such example, the losses are not those of the run any more (iterations
            may have been appended), or they were in memory and are gone.
        """
        return self._chosen(list(ids), storage_options)[0]

    def plot_ema_loss_dynamics(
        self,
        candidates: Sequence[Any] | None = None,
        mode: PlotMode = "mean",
        mean_plot_style: str = "--",
        mean_plot_color: str = "k",
        figsize: tuple[float, float] = (4, 3),
        storage_options: Mapping[str, Any] | None = None,
        **kwargs: Any,
    ) -> Figure:
        """Plot the EMA of candidates over the iterations.

        Parameters
        ----------
        candidates : sequence, optional
            As ``ids`` of :meth:`ema`. The first 20 of the ranking where not given, whose curves lie
            in the run.
        mode : {"mean", "label_mean"}
            Beside them the mean of all examples; or a panel a label, with the mean of that label.
        mean_plot_style, mean_plot_color : str
            Of the mean.
        figsize : (float, float)
            Inches of a panel; the legend beside it makes the figure wider.
        storage_options : mapping, optional
            As of :meth:`ema`.
        **kwargs
            Passed to the lines of the candidates.

        Returns
        -------
        matplotlib.figure.Figure

        Raises
        ------
        InputError
            As :meth:`ema`; or if matplotlib is not installed, the mode is unknown, or labels are
            wanted and not known.
        """
        if candidates is None:
            curves = self._array("top_curves.zarr")
            first = self.top_k(len(curves))
            named: pd.Index[Any] = pd.MultiIndex.from_frame(
                first[[name for name in examples.EXAMPLE if name in first]]
            )
            if examples.LABEL in first:
                labels = first[examples.LABEL].tolist()
            else:
                labels = None
        else:
            frame, labels = self._chosen(list(candidates), storage_options)
            curves = frame.to_numpy()
            named = frame.index
        names = [", ".join(map(str, name)) if isinstance(name, tuple) else name for name in named]
        means = self.mean_loss_dyns_per_label
        classes = self.class_names
        return plot_ema_loss_dynamics(
            mode,
            self.iterations,
            self.mean_loss_dyns,
            {called(label, classes): mean for label, mean in means.items()},
            curves,
            names,
            None if labels is None else [called(label, classes) for label in labels],
            mean_plot_style=mean_plot_style,
            mean_plot_color=mean_plot_color,
            figsize=figsize,
            **kwargs,
        )

    def _chosen(
        self, ids: list[Any], storage_options: Mapping[str, Any] | None
    ) -> tuple[pd.DataFrame, list[int] | None]:
        """Return curves of chosen examples, and their labels where these are known."""
        if self.document.more("loss_parts") is not None:
            return self._chosen_of_parts(ids)
        ids, positions = self._positions(ids)
        losses = self._rows("losses", positions, storage_options)[:, : len(self.iterations)]
        if "labels" in self.document.inputs:
            labels = self._rows("labels", positions, storage_options).tolist()
        else:
            labels = None
        curves = dynamics.ema_curves(losses, self.document.settings["alpha"])
        self._check_unchanged(positions, curves)
        return pd.DataFrame(curves, index=ids, columns=self.iterations), labels

    def _rows(
        self, name: str, positions: list[int], storage_options: Mapping[str, Any] | None
    ) -> npt.NDArray[Any]:
        """Return some rows of the losses or labels that were analyzed."""
        if self.inputs is not None:
            rows = getattr(self.inputs, name)
        else:
            rows = self._reopened(name, storage_options)
        values = [rows.read(index, index + 1) for index in positions]
        if values:
            return np.concatenate(values)
        return np.zeros((0, *rows.shape[1:]))

    def _check_unchanged(self, positions: list[int], curves: npt.NDArray[np.float64]) -> None:
        """Refuse curves that do not end where the run left their examples: the losses were replaced
        since.
        """
        last = pd.DataFrame(curves).ffill(axis=1).iloc[:, -1]
        if not np.allclose(
            last,
            self._open("ema.zarr").oindex[np.array(positions, np.int64)],
            rtol=1e-9,
            equal_nan=True,
        ):
            raise InputError("the losses changed since this run: run the job again")

    def _chosen_of_parts(self, ids: list[Any]) -> tuple[pd.DataFrame, list[int] | None]:
        """Return the same from the losses that lie in the run itself; an id may be that of several
        examples.
        """
        if not ids:
            none = self.top_k(0)
            index: pd.Index[Any] = pd.MultiIndex.from_frame(
                none[[name for name in examples.EXAMPLE if name in none]]
            )
            curves = np.zeros((0, len(self.iterations)))
            return pd.DataFrame(
                curves, _plain(index), self.iterations
            ), [] if examples.LABEL in none else None
        losses = self.document.more("loss_parts")
        numbers = graph.block_numbers(range(len(losses)), plan_tasks(len(losses), graph.slots(), 2))
        pieces = graph.run_pass(
            "find",
            partial(table_passes.find_examples, ids=ids, losses=losses, run=self.run),
            numbers,
        )
        missing = sorted(
            set(ids).difference(*(piece.keys["id"].tolist() for piece in pieces)), key=str
        )
        if missing:
            raise InputError(f"{missing[0]!r} is not an example of this run")
        chosen = examples.joined(pieces).sorted()
        chosen = chosen.take(
            np.argsort([ids.index(name) for name in chosen.keys["id"].tolist()], kind="stable")
        )
        values = examples.ema_frame(
            chosen, self.document.settings["alpha"], self.iterations.to_numpy()
        )
        names = [name for name in examples.EXAMPLE if name in chosen.keys]
        index = pd.MultiIndex.from_arrays([chosen.keys[name] for name in names], names=names)
        if examples.LABEL in chosen.keys:
            labels = chosen.keys[examples.LABEL].tolist()
        else:
            labels = None
        return pd.DataFrame(values, _plain(index), self.iterations), labels

    def _reopened(self, name: str, storage_options: Mapping[str, Any] | None) -> Rows | DaskRows:
        url = self.document.inputs[name].get("url")
        if url is None:
            raise InputError(
                f"the {name} were in memory and are not known any more; run the job again"
            )
        rows = open_rows(url, name, storage_options)
        counts = self.document.counts
        then: tuple[int, ...] = (counts["examples"],)
        if name == "losses":
            then += (counts["iterations"],)
        if len(rows.shape) != len(then) or any(
            now < before for now, before in zip(rows.shape, then, strict=True)
        ):
            raise InputError(
                f"the {name} changed since this run, from shape {then} to {rows.shape}: run the "
                "job again"
            )
        return rows

    def _positions(self, ids: list[Any]) -> tuple[list[Any], list[int]]:
        """Return the examples that ids name, each with the id it was asked for by; all of those
        that share one, by position.
        """
        examples = self.document.counts["examples"]
        if "ids" not in self.document.inputs:
            for index in ids:
                if not isinstance(index, int | np.integer) or not 0 <= index < examples:
                    raise InputError(
                        f"there is no example {index!r}: positions are 0 to {examples - 1:,}"
                    )
            return ids, [int(index) for index in ids]
        places = positions_of(self.run, self.document.parts, ids)
        named = [(name, index) for name in ids for index in places[name]]
        return [name for name, _ in named], [index for _, index in named]


def _plain(index: pd.Index[Any]) -> pd.Index[Any]:
    """Return an index of one level as one that is not nested."""
    if index.nlevels > 1:
        return index
    return index.get_level_values(0)
