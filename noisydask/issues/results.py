"""A finished run, read lazily: what :func:`noisydask.find_label_issues` returns."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, cast

import numpy as np
import numpy.typing as npt
import pandas as pd

from noisydask.errors import InputError
from noisydask.runs.published import PublishedRun

if TYPE_CHECKING:
    from noisydask.engine.graph import LazyArray


@dataclass(eq=False, repr=False)
class LabelIssues(PublishedRun):
    """The label issues of a dataset, worst first.

    Small results are read once, when first asked for; nothing of the size of the dataset is held
    unless :attr:`mask` or a computed :attr:`label_quality` asks for it.

    Examples
    --------
    >>> import numpy as np, noisydask
    >>> pred_probs = np.array([[0.9, 0.1], [0.2, 0.8], [0.8, 0.2], [0.1, 0.9], [0.95, 0.05]])
    >>> issues = noisydask.find_label_issues(np.array([0, 1, 0, 1, 1]), pred_probs)
    >>> issues.indices.tolist(), issues.num_issues
    ([4], 1)
    """

    _counts = ("issues", "examples", "classes", "invalid")

    @property
    def num_examples(self) -> int:
        """Number of examples in the dataset."""
        return self.document.counts["examples"]

    @property
    def num_issues(self) -> int:
        """Number of label issues found: the length of :attr:`indices`."""
        return self.document.counts["issues"]

    @cached_property
    def indices(self) -> npt.NDArray[np.int64]:
        """Positions of the issues, worst label first, as ranked: int64,
        (num_issues,).
        """
        return cast(npt.NDArray[np.int64], self._array("issue_indices.zarr"))

    @property
    def mask(self) -> npt.NDArray[np.bool_]:
        """True where an example has a label issue: bool, (num_examples,)."""
        mask = np.zeros(self.num_examples, bool)
        mask[self.indices] = True
        return mask

    @cached_property
    def confident_thresholds(self) -> npt.NDArray[np.float64]:
        """Mean probability of each class over the examples given it; NaN for a class without any:
        float64, (K,).
        """
        return cast(npt.NDArray[np.float64], self._array("thresholds.zarr"))

    @cached_property
    def class_counts(self) -> npt.NDArray[np.int64]:
        """Examples given each class: int64, (K,)."""
        return cast(npt.NDArray[np.int64], self._array("class_counts.zarr"))

    @cached_property
    def confident_joint(self) -> npt.NDArray[np.int64]:
        """Counts of (given class, likely true class), uncalibrated, diagonal at least 1: int64, (K,
        K).
        """
        return cast(npt.NDArray[np.int64], self._array("confident_joint.zarr"))

    @property
    def label_quality(self) -> LazyArray:
        """Score of every example's label, low is likely wrong; NaN where skipped: lazy,
        (num_examples,).
        """
        return self._lazy("label_quality.zarr")

    @property
    def invalid_indices(self) -> npt.NDArray[np.int64]:
        """Positions of the examples left out by ``on_invalid="skip"``, ascending."""
        return cast(npt.NDArray[np.int64], self._array("invalid_indices.zarr"))

    def filter_overlap(self) -> pd.DataFrame:
        """Return how many examples each filter flags, and each two of them both.

        Returns
        -------
        DataFrame of int64
            A row and a column a filter, by name; on the diagonal what it flags.

        Raises
        ------
        InputError
            If the run was made without ``compare=True``.
        """
        found = self.document.more("filters")
        if found is None:
            raise InputError("the filters of this run were not compared: give compare=True")
        return pd.DataFrame(found["overlap"], found["names"], found["names"])

    def to_dataframe(self, top: int | None = None) -> pd.DataFrame:
        """Return the issues as a table, worst first.

        Parameters
        ----------
        top : int, optional
            Only the first so many.

        Returns
        -------
        DataFrame
            Columns ``rank`` (from 1), ``index``, ``id``, ``given_label``, ``suggested_label``,
            ``label_quality``, ``given_prob``, ``suggested_prob``, and ``given_name``,
            ``suggested_name`` where class names were given.
        """
        return self._first(top)
