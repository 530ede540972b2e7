"""A finished run, read lazily: what :func:`noisydask.find_label_issues` returns."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, cast

import numpy as np
import numpy.typing as npt
import pandas as pd

from noisydask.core import noise
from noisydask.core.choices import NumberMethod, check_choice
from noisydask.core.noise import SparseMatrix, checked_joint
from noisydask.errors import InputError
from noisydask.issues import latent
from noisydask.issues.health import Health
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
    def predicted_counts(self) -> npt.NDArray[np.int64]:
        """Examples that each class is the prediction of: int64, (K,)."""
        return cast(npt.NDArray[np.int64], self._array("predicted_counts.zarr"))

    @cached_property
    def confident_joint(self) -> npt.NDArray[np.int64]:
        """Counts of (given class, likely true class), uncalibrated, diagonal at least 1: int64, (K,
        K).

        Of more than 5,000 classes no such matrix is made; :attr:`confident_joint_entries` has its
        entries.
        """
        if self.document.has("confident_joint.zarr"):
            return cast(npt.NDArray[np.int64], self._array("confident_joint.zarr"))
        return self.confident_joint_entries.dense()

    @property
    def confident_joint_entries(self) -> SparseMatrix:
        """Entries of :attr:`confident_joint` that are not 0: ``rows``, ``columns``, ``values``."""
        return self._entries(latent.JOINT, 2)

    @property
    def calibrated_joint(self) -> npt.NDArray[np.int64]:
        """The confident joint with as many examples of each given class as there are: int64, (K,
        K); of at most 5,000 classes.
        """
        return self.calibrated_joint_entries.dense()

    @property
    def calibrated_joint_entries(self) -> SparseMatrix:
        """Entries of :attr:`calibrated_joint`: ``rows``, ``columns``, ``values``."""
        return self._entries(latent.JOINT, 3)

    @property
    def noise_matrix(self) -> npt.NDArray[np.float64]:
        """P(given class | true class), as (given, true): float64, (K, K); of at most 5,000
        classes.
        """
        return self.noise_matrix_entries.dense()

    @property
    def noise_matrix_entries(self) -> SparseMatrix:
        """Entries of :attr:`noise_matrix`: ``rows``, ``columns``, ``values``."""
        return self._entries(latent.NOISE, 0)

    @property
    def inverse_noise_matrix(self) -> npt.NDArray[np.float64]:
        """P(true class | given class), as (true, given): float64, (K, K); of at most 5,000
        classes.
        """
        return self.inverse_noise_matrix_entries.dense()

    @property
    def inverse_noise_matrix_entries(self) -> SparseMatrix:
        """Entries of :attr:`inverse_noise_matrix`: ``rows``, ``columns``, ``values``."""
        return self._entries(latent.NOISE, 1).transposed()

    @cached_property
    def prior(self) -> npt.NDArray[np.float64]:
        """Estimated share of each true class: float64, (K,)."""
        self._refuse_old(latent.PRIOR)
        return cast(npt.NDArray[np.float64], self._array(latent.PRIOR))

    def num_label_issues(
        self,
        estimation_method: NumberMethod = "off_diagonal",
        confident_joint: npt.ArrayLike | None = None,
    ) -> int:
        """Estimate the number of label issues as ``cleanlab.count.num_label_issues`` does.

        Parameters
        ----------
        estimation_method : {"off_diagonal", "off_diagonal_calibrated", "off_diagonal_custom"}
            Examples whose likely class is not theirs, those that are off the diagonal of the
            calibrated joint, or of the ``confident_joint`` that is given.
        confident_joint : array-like, (K, K), optional
            Counts of (given class, true class).
        """
        check_choice("estimation_method", estimation_method, NumberMethod)
        if estimation_method == "off_diagonal":
            self._refuse_old(latent.JOINT)
            return self.document.counts["off_diagonal"]
        calibrated = self.calibrated_joint_entries
        if estimation_method == "off_diagonal_custom":
            joint = checked_joint(confident_joint, len(self.class_counts))
            calibrated = noise.calibrated_joint(joint, self.class_counts)
        rows = int(self.class_counts.sum())
        return noise.num_issues_of_joint(noise.estimate_joint(calibrated), rows)

    def health(self) -> Health:
        """Return the health of the dataset: classes by label quality, overlapping classes, an
        overall score, rare classes. Nothing is computed from examples.
        """
        self._refuse_old(latent.JOINT)
        return Health.of(
            self.calibrated_joint_entries,
            self.class_counts,
            self.predicted_counts,
            self.document.counts["off_diagonal"],
            self.document.class_names,
        )

    def _entries(self, name: str, row: int) -> SparseMatrix:
        """Return a matrix by its entries, whose values are a row of an array."""
        self._refuse_old(name)
        places = cast(npt.NDArray[np.int64], self._array(latent.JOINT))
        values = places[row] if name == latent.JOINT else self._array(name)[row]
        return SparseMatrix(self.document.counts["classes"], places[0], places[1], values)

    def _refuse_old(self, name: str) -> None:
        if not self.document.has(name):
            raise InputError(
                f"the run {self.document.run} has no {name.removesuffix('.zarr')}: it was made "
                "without it, or by an older noisydask; run the job again"
            )

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

    @property
    def num_undecided(self) -> int:
        """Number of :attr:`undecided_indices`: 0 where all classes of each example are known."""
        return self.document.counts.get("undecided", 0)

    @property
    def undecided_indices(self) -> npt.NDArray[np.int64]:
        """Positions of examples that the kept classes do not decide, ascending: the confident joint
        leaves them out, and cut-offs that follow from it.
        """
        if not self.document.has("undecided_indices.zarr"):
            return np.zeros(0, np.int64)
        return cast(npt.NDArray[np.int64], self._array("undecided_indices.zarr"))

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
