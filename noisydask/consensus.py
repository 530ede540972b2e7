"""The consensus of both jobs, read lazily: what :func:`noisydask.combine` returns."""

from __future__ import annotations

import weakref
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import pandas as pd

from noisydask.graph import Table, lazy_frames
from noisydask.results import read_parts
from noisydask.store import RunStore


@dataclass(eq=False)
class Consensus:
    """Examples that both jobs know, in the order of the mean of their two rank percentiles, worst label first."""

    run: RunStore = field(repr=False)
    manifest: dict[str, Any] = field(repr=False)

    def remove_with_me(self, remove: Callable[[], None]) -> None:
        """Call ``remove`` when this object is no longer used: the run lies in a temporary place."""
        weakref.finalize(self, remove)

    @property
    def num_examples(self) -> int:
        """Number of examples that both jobs know."""
        return int(self.manifest["counts"]["common"])

    @property
    def ranking(self) -> Table:
        """The ranking as a lazy Dask table, columns as in :meth:`to_dataframe`."""

        def read(name: str) -> pd.DataFrame:
            return read_parts(run, [name], rows)

        run, rows = self.run, int(self.manifest["counts"]["ranked"])
        return lazy_frames(read, self.manifest["parts"], read_parts(run, self.manifest["parts"], 0))

    def to_dataframe(self, top: int | None = None) -> pd.DataFrame:
        """The ranking as a table, worst first.

        Parameters
        ----------
        top : int, optional
            Only the first so many.

        Returns
        -------
        DataFrame
            Columns ``rank`` (from 1), ``index``, ``id``, ``given_label``, ``suggested_label`` (where the main job's evidence
            is there), ``consensus``, ``label_quality``, ``metric``, ``quality_percentile``, ``metric_percentile``, and
            ``given_name``, ``suggested_name`` where class names were given. Percentiles and consensus are float64 from 0, the
            worst label, to 1.
        """
        rows = int(self.manifest["counts"]["ranked"])
        return read_parts(self.run, self.manifest["parts"], rows if top is None else min(top, rows))
