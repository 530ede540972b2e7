"""The consensus of both jobs, read lazily: what :func:`noisydask.combine` returns."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import pandas as pd

from noisydask.runs.published import PublishedRun

if TYPE_CHECKING:
    from noisydask.engine.graph import Table


@dataclass(eq=False, repr=False)
class Consensus(PublishedRun):
    """Examples that both jobs know, in the order of the mean of their two rank percentiles, worst
    label first.
    """

    _counts = ("ranked", "common")

    @property
    def num_examples(self) -> int:
        """Number of examples that both jobs know."""
        return self.document.counts["common"]

    @property
    def ranking(self) -> Table:
        """The ranking as a lazy Dask table, columns as in :meth:`to_dataframe`."""
        return self._ranking()

    def to_dataframe(self, top: int | None = None) -> pd.DataFrame:
        """Return the ranking as a table, worst first.

        Parameters
        ----------
        top : int, optional
            Only the first so many.

        Returns
        -------
        DataFrame
            Columns ``rank`` (from 1), ``index``, ``id``, ``given_label``, ``suggested_label``
            (where the main job's evidence is there), ``consensus``, ``label_quality``, ``metric``,
            ``quality_percentile``, ``metric_percentile``, and ``given_name``, ``suggested_name``
            where class names were given. Percentiles and consensus are float64 from 0, the worst
            label, to 1.
        """
        return self._first(top)
