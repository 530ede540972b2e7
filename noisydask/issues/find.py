"""The native function of the main job."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from noisydask.core.blocks import DEFAULT_BLOCK_BYTES
from noisydask.core.choices import (
    EstimationMethod,
    FilterBy,
    KeptColumn,
    QualityScore,
    RaiseOrSkip,
    RankBy,
    WeighBy,
)
from noisydask.engine.progress import Reporter, Silent
from noisydask.errors import GateError
from noisydask.issues.inputs import IssueInputs
from noisydask.issues.job import IssueJob
from noisydask.issues.options import GateSettings, IssueSettings
from noisydask.issues.results import LabelIssues
from noisydask.issues.table_choice import TableChoice
from noisydask.issues.top_classes import TopClasses
from noisydask.runs.overlap import refuse_overlap
from noisydask.runs.store import Output
from noisydask.runs.temporary import run_in_temporary_folder
from noisydask.stores.converted_rows import RowValues
from noisydask.stores.locations import options_by_name
from noisydask.text import percent

#: Arguments that may be places, which take storage options.
_PLACES = (
    "labels",
    "pred_probs",
    "pred_classes",
    "given_probs",
    "ids",
    "label_ids",
    "table",
    "out",
)


def find_label_issues(
    labels: Any = None,
    pred_probs: Any = None,
    *,
    table: Any = None,
    label_column: str = "label",
    id_column: str | None = None,
    class_columns: str | Sequence[str] | None = None,
    quality_score: QualityScore = "self_confidence",
    adjust_pred_probs: bool = False,
    filter_by: FilterBy = "batched",
    rank_by: RankBy | None = None,
    frac_noise: float = 1.0,
    num_to_remove_per_class: Sequence[int] | None = None,
    min_examples_per_class: int = 1,
    estimation_method: EstimationMethod = "off_diagonal",
    compare: bool = False,
    keep_columns: Sequence[KeptColumn] = (),
    weights: WeighBy | Sequence[float] = "uniform",
    ids: Any = None,
    label_ids: Any = None,
    pred_classes: Any = None,
    given_probs: Any = None,
    num_classes: int | None = None,
    class_names: Sequence[str] | None = None,
    logits: bool = False,
    temperature: float = 1.0,
    scale: float | None = None,
    normalize: bool = False,
    on_invalid: RaiseOrSkip = "raise",
    on_unreadable: RaiseOrSkip = "raise",
    full: bool = False,
    block_bytes: int | str = DEFAULT_BLOCK_BYTES,
    out: str | Path | None = None,
    storage_options: Mapping[str, Mapping[str, Any]] | None = None,
    reporter: Reporter | None = None,
    allow_unsafe_store: bool = False,
    lease_seconds: float = 60.0,
    keep_runs: int = 10,
    keep_days: float = 0.0,
    grace_seconds: float = 3600.0,
    fail_above: float | None = None,
    fail_new_above: int | None = None,
) -> LabelIssues:
    """Find the examples whose label is likely wrong, on the active Dask client or scheduler.

    Source: Northcutt, Jiang, Chuang, "Confident learning", JAIR 70 (2021); the same set of issues
    as ``cleanlab.experimental.label_issues_batched`` of cleanlab 2.9, or with another filter as
    ``cleanlab.filter.find_label_issues``, except examples with a probability within 1e-6 of a
    threshold, ties at a cut-off, and that with ``batched`` a class without examples is never
    predicted confidently. Issues are ranked by ascending label quality; equal ones by descending
    probability of the prediction, then by position.

    Parameters
    ----------
    labels : str, Path or array-like, (N,), any integer type, text or booleans
        Given labels: 0 to K-1, or names of classes where these have names. Zarr (2, 3, sharded),
        ``.npy``, or a column of a table (``file.parquet#column``; Parquet, CSV, Arrow) by path or
        URL; or a Zarr array, NumPy array, memmap, list, tensor, pandas series, or a Dask array or
        series, which stays lazy.
    pred_probs : str, Path or array-like, (N, K), float16, float32 or float64
        Out-of-sample predicted probabilities, given in the same ways, as a table or frame with a
        column a class, or as a column of lists (``file.parquet#probs``). Several models are a
        list, whose members are paths or have two dimensions: the label quality is then the weighted
        sum of theirs, flags and suggestions are those of the weighted mean of their rows.
    table : str, Path or frame, optional
        A table of which labels, probabilities and ids are columns, as far as they are not given:
        files (Parquet, CSV, Arrow; one or a folder), or a frame (pandas, Dask, Arrow, Polars,
        Hugging Face ``datasets``).
    label_column, id_column : str
        Its columns of labels and of ids.
    class_columns : str or sequence of str, optional
        Columns of the classes: a pattern such as ``"p_*"``, of which what ``*`` matches is the name
        of the class; or their names; or a column of lists. Otherwise those that ``class_names``
        names, or all of floating-point numbers.
    quality_score : {"self_confidence", "normalized_margin", "confidence_weighted_entropy", \
            "log_margin", "threshold_margin", "threshold_ratio"}
        How a label is scored; low is likely wrong. The first three are cleanlab's, from 0 to 1.
    adjust_pred_probs : bool
        Subtract class thresholds first, for imbalanced classes (with ``self_confidence`` and
        ``normalized_margin``).
    filter_by : {"batched", "prune_by_noise_rate", "prune_by_class", "both", \
            "confident_learning", "predicted_neq_given", "low_normalized_margin", \
            "low_self_confidence", "auto"}
        Which examples are flagged: ``batched``, those of the lowest label quality, as many as
        there are issues by estimate; the seven filters of cleanlab; or ``auto``, a rule of ours
        for strong models and for much or natural noise (docs/concepts/which.md). All but ``auto``
        and the two of low scores leave out examples whose label is the prediction.
    rank_by : {"self_confidence", "normalized_margin", "confidence_weighted_entropy", \
            "log_margin", "threshold_margin", "threshold_ratio", "auto"}, optional
        What orders the issues: a score, or ``auto``, the rank of that filter. By default the label
        quality, and with ``filter_by="auto"`` its own rank.
    frac_noise : float
        Share of the issues that filters that prune flag, 0 to 1.
    num_to_remove_per_class : sequence of int, (K,), optional
        How many examples of each class filters that prune take, for all other classes together.
    min_examples_per_class : int
        So many examples of each class are left by filters that prune.
    estimation_method : {"off_diagonal", "off_diagonal_calibrated"}
        How the number of issues is estimated, with ``batched``.
    compare : bool
        Count also how many examples each filter flags, and each two of them both.
    keep_columns : sequence of {"p_sum", "entropy", "p_rest"}
        Evidence that is kept though this run does not need it, for scores of later ones.
    weights : {"uniform", "accuracy", "log_loss"} or sequence of float
        How several models are weighed: all the same; by how often a model predicts the given label;
        by its log loss; or a number for each.
    ids : optional
        A name for each example, given as ``labels`` is; integers or text.
    label_ids : optional
        Names of the labels, given as ``ids`` are: labels may then be in another order than the
        predictions, and more of them. Each prediction gets the label whose id is its own.
    pred_classes : str, Path or array-like, (N, k), any integer type, optional
        Only the k most probable classes of each example are kept, at least two: these are they, in
        any order, and ``pred_probs`` their probabilities, (N, k). Of equally probable classes the
        smallest must be kept. What depends on a class that is not kept is left out and counted
        (:attr:`LabelIssues.num_undecided`); nothing else differs from the result of whole rows.
    given_probs : str, Path or array-like, (N,), or "bound", optional
        With ``pred_classes``, the probability of each given label. ``"bound"``: where it is not
        among the kept ones, the least of these, or what the row leaves to each other class if that
        is less, stands for it; the result is then an approximation.
    num_classes : int, optional
        With ``pred_classes``, K, if there are no ``class_names``.
    class_names : sequence of str, optional
        K names, in the order of the columns of ``pred_probs``; where these have names, they are
        taken by them. Without it, classes are called as the columns of a table or frame are.
    logits : bool
        ``pred_probs`` are logits: their softmax is taken, of each row alone.
    temperature : float
        What logits are divided by before.
    scale : float, optional
        ``pred_probs`` are quantised (uint8, uint16): they are multiplied by this.
    normalize : bool
        ``pred_probs`` are votes, or other numbers of at least 0: each row is divided by its sum.
    on_invalid : {"raise", "skip"}
        Stop at rows that are not probabilities or have an impossible label, or leave them out.
    on_unreadable : {"raise", "skip"}
        Stop at chunks that are missing or cannot be decoded, or leave their rows out.
    full : bool
        Read and compute everything, even where nothing changed since the run before, or the
        evidence that it left in ``out`` still holds.
    block_bytes : int or str
        Decoded size of a block, in bytes or as ``"64MiB"``; a worker holds about three. Changes no
        result.
    out : str or Path, optional
        Path or URL of the output (docs/reference/output.md): a folder that is empty or that
        noisydask made. Without it, results lie in a temporary folder that the workers must share,
        and go with the returned object, also where that is pickled.
    storage_options : mapping of name to mapping, optional
        fsspec options for ``table``, ``labels``, ``pred_probs``, ``pred_classes``,
        ``given_probs``, ``ids``, ``label_ids`` and ``out``, by these names.
    reporter : ProgressBar or ProgressLog, optional
        Shows progress and warnings; without one, warnings are issued as
        :class:`noisydask.LabelWarning` when the run is published. Any object with their methods
        will do.
    allow_unsafe_store : bool
        Go on where the store of ``out`` keeps no conditional writes: two runs at once could
        overwrite each other.
    lease_seconds : float
        After so long without a sign of life, the lock of another run on ``out`` is taken over.
    keep_runs, keep_days : int, float
        Older runs of ``out`` are removed after publishing: all but the newest so many and those
        younger than so many days. The published run and its parent always stay.
    grace_seconds : float
        Nothing is removed that was published less than so long ago.
    fail_above : float, optional
        Share of the examples that may be issues; with more, the run is published and GateError
        raised.
    fail_new_above : int, optional
        Number of issues that may be new since the run before; with more, the same.

    Returns
    -------
    LabelIssues

    Raises
    ------
    InputError
        If an input is missing, malformed or invalid; one sentence that says what, how many and
        where.
    JobError
        If the cluster or a store fails, a chunk cannot be read, or an input changes while it is
        read.
    LockedError
        If another run works on ``out``.
    GateError
        If more was found than ``fail_above`` or ``fail_new_above`` let pass; its ``issues`` are the
        published run.

    Examples
    --------
    >>> import numpy as np
    >>> pred_probs = np.array([[0.9, 0.1], [0.2, 0.8], [0.8, 0.2], [0.1, 0.9], [0.95, 0.05]])
    >>> ranked = find_label_issues([0, 1, 0, 1, 1], pred_probs).to_dataframe()
    >>> ranked[["index", "given_label", "suggested_label"]]
       index  given_label  suggested_label
    0      4            1                0
    """
    arguments = locals()
    settings = IssueSettings.of(arguments)
    publish = GateSettings.of(arguments)
    options = options_by_name(storage_options, *_PLACES)
    columns = TableChoice.of(table, label_column, id_column, class_columns)
    values = RowValues(settings.logits, settings.temperature, settings.scale, settings.normalize)
    top = TopClasses.of(pred_classes, given_probs, num_classes)
    more = columns, values, label_ids, top
    inputs = IssueInputs.open(labels, pred_probs, ids, class_names, options, *more)
    if out is not None:
        refuse_overlap(str(out), inputs.urls())
    job = IssueJob(
        inputs,
        settings,
        reporter=reporter or Silent(),
        keep=out is not None,
        publish=publish,
        full=settings.full,
    )
    if out is not None:
        issues = job.run(Output.at(out, options.get("out")))
    else:
        issues = run_in_temporary_folder(job)
    issues.warn(reporter)
    check_gate(issues, publish)
    return issues


def check_gate(issues: LabelIssues, settings: GateSettings) -> None:
    """Raise GateError if a published run has more issues, or more new ones, than the settings let
    pass.
    """
    share = issues.num_issues / issues.num_examples
    if settings.fail_above is not None and share > settings.fail_above:
        raise GateError(
            f"{issues.num_issues:,} of {issues.num_examples:,} examples are issues "
            f"({percent(share)}), above fail_above ({settings.fail_above:g})",
            issues,
        )
    changes = issues.document.changes
    if settings.fail_new_above is None or issues.document.parent is None:
        return
    if changes is None:
        raise GateError(
            "how many issues are new is not known, as the run before cannot be read "
            "(fail_new_above)",
            issues,
        )
    if changes.new > settings.fail_new_above:
        raise GateError(
            f"{changes.new:,} issues are new, above fail_new_above ({settings.fail_new_above:,})",
            issues,
        )
