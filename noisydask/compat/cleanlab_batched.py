"""The names of ``cleanlab.experimental.label_issues_batched`` (cleanlab 2.9), with its parameters
and meanings.

They find the same issues as cleanlab's, except examples within 1e-6 of a threshold and ties at the
cut-off. What differs on purpose: indices come ranked, as cleanlab's documentation promises; invalid
rows and unknown options are errors; Zarr arrays of both formats and Dask arrays are taken; no
result depends on ``batch_size`` or ``n_jobs``.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any, cast

import numpy as np
import numpy.typing as npt

from noisydask.compat.cleanlab_options import Options, one_source, positive, settings_of
from noisydask.core.blocks import MAX_ROWS, plan_blocks
from noisydask.core.confident import IssueCounts, count_issues, num_issues
from noisydask.core.evidence import Evidence, columns_for, scan_rows
from noisydask.core.label_quality import label_quality
from noisydask.core.problems import ROW_KINDS, Problems
from noisydask.core.thresholds import LOWER_BOUND, ClassTotals, confident_thresholds
from noisydask.engine.progress import ProgressBar, Reporter, Silent
from noisydask.errors import InputError
from noisydask.issues.inputs import IssueInputs
from noisydask.issues.job import IssueJob
from noisydask.runs.temporary import run_in_temporary_folder
from noisydask.stores.arrays import DaskRows, Rows, open_rows

Floats = npt.NDArray[np.floating]
Ints = npt.NDArray[np.int64]
_FOR_THRESHOLDS = ("given", "top1", "p_given", "p_top1")


def find_label_issues_batched(
    labels: Any = None,
    pred_probs: Any = None,
    *,
    labels_file: str | None = None,
    pred_probs_file: str | None = None,
    batch_size: int = 10000,
    n_jobs: int | None = 1,
    verbose: bool = True,
    quality_score_kwargs: Options = None,
    num_issue_kwargs: Options = None,
    return_mask: bool = False,
) -> Ints | npt.NDArray[np.bool_]:
    """Find label issues in data of any size, on the active Dask client or scheduler.

    For all that a run can tell see :func:`noisydask.find_label_issues`; unlike there, a class
    without examples has the threshold 2e-6 here, as it has in cleanlab's function. The issues are
    those of cleanlab's, except examples within 1e-6 of a threshold and ties at the cut-off.

    Parameters
    ----------
    labels : array-like, (N,), any integer type, optional
        Given labels 0 to K-1: NumPy array, memmap, list, tensor, column of pandas,
        Zarr array (format 2 or 3), or Dask array or series.
    pred_probs : array-like, (N, K), float16, float32 or float64, optional
        Out-of-sample predicted probabilities, given in the same ways.
    labels_file, pred_probs_file : str, optional
        Path or URL of a ``.npy`` file (or Zarr array) to read instead.
    batch_size : int
    n_jobs : int or None
        Accepted and checked, no more: the blocks depend on rows and chunks, the Dask scheduler's
        threads do the work.
    verbose : bool
        Show a progress bar where standard error is a terminal, and print one line at the end.
    quality_score_kwargs : mapping, optional
        ``method``: "self_confidence" (default), "normalized_margin" or
        "confidence_weighted_entropy"; ``adjust_pred_probs``: bool, default False.
    num_issue_kwargs : mapping, optional
        ``estimation_method``: "off_diagonal" (default) or "off_diagonal_calibrated".
    return_mask : bool
        Return a mask of all examples instead of indices.

    Returns
    -------
    ndarray of int64, (number of issues,), or ndarray of bool, (N,)
        Positions of the issues, worst label first, or their mask.

    Raises
    ------
    InputError
        A ``ValueError``: an input or option is missing, given twice, malformed or invalid.

    Examples
    --------
    >>> pred_probs = np.array([[0.9, 0.1], [0.2, 0.8], [0.8, 0.2], [0.1, 0.9], [0.95, 0.05]])
    >>> find_label_issues_batched([0, 1, 0, 1, 1], pred_probs, verbose=False)
    array([4])
    >>> labels = [0, 1, 0, 1, 1]
    >>> find_label_issues_batched(labels, pred_probs, verbose=False, return_mask=True).tolist()
    [False, False, False, False, True]
    """
    settings = settings_of(quality_score_kwargs, num_issue_kwargs, n_jobs)
    positive("batch_size", batch_size)
    labels = one_source("labels", labels, labels_file)
    pred_probs = one_source("pred_probs", pred_probs, pred_probs_file)
    inputs = IssueInputs.open(labels, pred_probs, None, None, {})
    reporter: Reporter = Silent()
    if verbose and sys.stderr.isatty():
        reporter = ProgressBar()
    issues = run_in_temporary_folder(
        IssueJob(inputs, settings, reporter=reporter, absent=LOWER_BOUND, joint=False, keep=False)
    )
    issues.warn(None)
    if verbose:
        classes = inputs.pred_probs.shape[1]
        print(
            f"{issues.num_issues:,} label issues in {issues.num_examples:,} examples of "
            f"{classes:,} classes"
        )
    if return_mask:
        return issues.mask
    return issues.indices


class LabelInspector:
    """Find label issues batch by batch, in the caller's own process.

    Give every batch to :meth:`update_confident_thresholds` first, then every batch to
    :meth:`score_label_quality`; after any batch the getters answer for what was seen so far.
    Batches are given as to :func:`find_label_issues_batched`, of any length; one that is refused
    changes nothing. One inspector is for one dataset.

    Parameters
    ----------
    num_class : int
        Number of classes, K.
    store_results : bool
        Keep all scores (4 or 8 bytes each), for :meth:`get_quality_scores` and
        :meth:`get_label_issues`.
    verbose : bool
        Print in the getters how many examples they speak of.
    quality_score_kwargs, num_issue_kwargs : mapping, optional
        As for :func:`find_label_issues_batched`.
    n_jobs : int or None
        Accepted and checked, no more.

    Examples
    --------
    >>> labels = np.array([0, 1, 0, 1, 1])
    >>> pred_probs = np.array([[0.9, 0.1], [0.2, 0.8], [0.8, 0.2], [0.1, 0.9], [0.95, 0.05]])
    >>> inspector = LabelInspector(num_class=2, verbose=False)
    >>> for batch in (slice(0, 3), slice(3, 5)):
    ...     inspector.update_confident_thresholds(labels[batch], pred_probs[batch])
    >>> inspector.get_confident_thresholds().round(3).tolist()
    [0.85, 0.583]
    >>> for batch in (slice(0, 3), slice(3, 5)):
    ...     scores = inspector.score_label_quality(labels[batch], pred_probs[batch])
    >>> inspector.get_num_issues(), inspector.get_label_issues().tolist()
    (1, [4])
    """

    def __init__(
        self,
        *,
        num_class: int,
        store_results: bool = True,
        verbose: bool = True,
        quality_score_kwargs: Options = None,
        num_issue_kwargs: Options = None,
        n_jobs: int | None = 1,
    ) -> None:
        self._settings = settings_of(quality_score_kwargs, num_issue_kwargs, n_jobs)
        self.num_class = positive("num_class", num_class)
        self.n_jobs = n_jobs
        self.store_results = store_results
        self.verbose = verbose
        self.quality_score_kwargs = quality_score_kwargs or {}
        self.num_issue_kwargs = num_issue_kwargs or {}
        self.off_diagonal_calibrated = self._settings.estimation_method == "off_diagonal_calibrated"
        self.examples_processed_thresh = self.examples_processed_quality = 0
        self.confident_thresholds: npt.NDArray[np.float64] = np.zeros(self.num_class)
        self._scores: list[Floats] = []
        self._totals = ClassTotals.zero(self.num_class)
        self.examples_per_class = self._totals.counts
        self._set_counts(IssueCounts.zero(self.num_class), np.zeros(self.num_class, np.int64))

    def _set_counts(self, counts: IssueCounts, class_counts: Ints) -> None:
        """Keep counts, also by the names that cleanlab's class has for them."""
        self._counts = counts
        self.class_counts = class_counts
        self.prune_counts = counts.off_diagonal
        self.normalization = counts.confident
        self.prune_count = int(counts.off_diagonal.sum())

    def update_confident_thresholds(self, labels: Any, pred_probs: Any) -> None:
        """Take a batch of labels, (n,), and probabilities, (n, K), into the class means that are
        the thresholds.
        """
        batch = _Batch.of(labels, pred_probs, self.num_class)
        totals = self._totals
        for evidence, _ in batch.scan(_FOR_THRESHOLDS, self.examples_processed_thresh):
            totals += ClassTotals.of(evidence.counts, evidence.fixed)
        self._totals = totals
        self.examples_per_class = totals.counts
        self.confident_thresholds = confident_thresholds(totals, LOWER_BOUND)
        self.examples_processed_thresh += batch.rows

    def score_label_quality(
        self, labels: Any, pred_probs: Any, *, update_num_issues: bool = True
    ) -> Floats:
        """Score the labels of a batch, and count its issues.

        Parameters
        ----------
        labels, pred_probs : array-like, (n,) and (n, K)
            Given labels and predicted probabilities.
        update_num_issues : bool
            Whether to count issues too.

        Returns
        -------
        ndarray, (n,)
            A score for each example: low is likely wrong.
        """
        thresholds = self.get_confident_thresholds(silent=True)
        chosen = self._settings
        batch = _Batch.of(labels, pred_probs, self.num_class)
        score = chosen.quality_score
        adjust = chosen.adjust_pred_probs
        columns = columns_for(self.num_class, batch.pred_probs.dtype, score, adjust, joint=False)
        counts = self._counts
        class_counts = self.class_counts
        scores = []
        for evidence, rows in batch.scan(columns, self.examples_processed_quality):
            scores.append(label_quality(evidence.columns, thresholds, score, adjust, rows)[0])
            if update_num_issues:
                counts += count_issues(evidence.columns, thresholds, joint=False)[0]
                class_counts = class_counts + evidence.counts
        if len(scores) == 1:
            together = scores[0]
        else:
            together = np.concatenate(scores)
        self._set_counts(counts, class_counts)
        self.examples_processed_quality += batch.rows
        if self.store_results:
            self._scores.append(together.copy())  # the caller may write into what it gets
        return together

    def get_confident_thresholds(self, silent: bool = False) -> npt.NDArray[np.float64]:
        """Return thresholds of the classes, from the batches seen so far: float64, (K,)."""
        if self.examples_processed_thresh < 1:
            raise InputError(
                "there are no thresholds yet: call update_confident_thresholds() first"
            )
        if self.verbose and not silent:
            print(f"confident thresholds of {self.examples_processed_thresh:,} examples")
        return self.confident_thresholds

    def get_num_issues(self, silent: bool = False) -> int:
        """Return the estimated number of label issues in the batches scored so far."""
        if self.examples_processed_quality < 1:
            raise InputError("no labels were scored yet: call score_label_quality() first")
        if self.verbose and not silent:
            print(f"label issues in {self.examples_processed_quality:,} examples")
        return num_issues(self._counts, self.class_counts, self._settings.estimation_method)

    def get_quality_scores(self) -> Floats:
        """Score of each example scored so far, in the order they came."""
        if not self.store_results:
            raise InputError("scores were not kept: create the inspector with store_results=True")
        if self._scores:
            return np.concatenate(self._scores)
        return np.zeros(0)

    def get_label_issues(self) -> Ints:
        """Return positions of the :meth:`get_num_issues` lowest scores, worst first (ties: the
        lower position): int64.

        As in cleanlab's class, and not in :func:`find_label_issues_batched`, labels that are the
        prediction stay in.
        """
        scores = self.get_quality_scores()
        total = min(self.get_num_issues(), len(scores))
        if total == 0:
            return np.zeros(0, np.int64)
        # Only what is not above the cut-off needs to be sorted.
        low = np.flatnonzero(scores <= np.partition(scores, total - 1)[total - 1])
        return low[np.argsort(scores[low], kind="stable")][:total].astype(np.int64)


@dataclass(frozen=True)
class _Batch:
    """Rows that a caller handed in: in memory, or chunks that are read a block at a time."""

    labels: Rows | DaskRows
    pred_probs: Rows | DaskRows

    @classmethod
    def of(cls, labels: Any, pred_probs: Any, num_class: int) -> _Batch:
        """Check shapes and types."""
        labels = open_rows(labels, "labels")
        pred_probs = open_rows(pred_probs, "pred_probs")
        IssueInputs(labels, pred_probs, None, None)
        if pred_probs.shape[1] != num_class:
            raise InputError(
                f"pred_probs has {pred_probs.shape[1]:,} classes, but num_class is {num_class:,}"
            )
        return cls(labels, pred_probs)

    @property
    def rows(self) -> int:
        return int(self.pred_probs.shape[0])

    def scan(self, columns: tuple[str, ...], seen: int) -> Iterator[tuple[Evidence, Floats]]:
        """Iterate over evidence and rows, piece by piece; raises at the end if rows are invalid,
        numbered after ``seen`` others.
        """
        row_bytes = self.pred_probs.dtype.itemsize * self.pred_probs.shape[1]
        step = min(
            MAX_ROWS, plan_blocks(self.rows, row_bytes, self.pred_probs.chunk_rows).block_rows
        )
        problems = Problems.of(np.zeros(0, np.uint8), 0)
        for start in range(0, self.rows, step):
            part = start, min(start + step, self.rows)
            rows = self.pred_probs.read(*part)
            evidence = scan_rows(rows, self.labels.read(*part), columns)
            problems += Problems.of(evidence.problems, seen + start)
            if not problems.total:
                yield evidence, cast(Floats, rows)
        if problems.total:
            refused = f"{problems.total:,} of {self.rows:,} rows are invalid"
            raise problems.error(refused, replace(ROW_KINDS, settings={}))
