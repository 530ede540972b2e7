"""The native function of the job on training losses."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from noisydask.core.blocks import DEFAULT_BLOCK_BYTES
from noisydask.core.choices import OnDuplicate, RaiseOrSkip, TrackingLossType
from noisydask.dynamics.dense_job import DynamicsJob
from noisydask.dynamics.inputs import LossInputs
from noisydask.dynamics.results import LossDynamics
from noisydask.dynamics.settings import LossSettings
from noisydask.dynamics.sources import DatumaroSource, RecordedLosses, open_table
from noisydask.dynamics.table import LossColumns
from noisydask.dynamics.table_job import TableJob
from noisydask.engine.progress import Reporter, Silent
from noisydask.errors import InputError
from noisydask.runs.class_names import checked_names
from noisydask.runs.options import PublishSettings
from noisydask.runs.overlap import refuse_overlap
from noisydask.runs.store import Output
from noisydask.runs.temporary import run_in_temporary_folder
from noisydask.stores.locations import options_by_name


def analyze_loss_dynamics(
    losses: Any = None,
    *,
    iters: Any = None,
    labels: Any = None,
    ids: Any = None,
    table: Any = None,
    id_column: str = "id",
    iteration_column: str = "iteration",
    loss_column: str = "loss",
    label_column: str | None = None,
    subset_column: str | None = None,
    ann_id_column: str | None = None,
    datumaro: Any = None,
    class_names: Sequence[str] | None = None,
    alpha: float = 0.001,
    tracking_loss_type: TrackingLossType | None = None,
    top_k: int | None = None,
    on_duplicate: OnDuplicate = "raise",
    on_invalid: RaiseOrSkip = "raise",
    block_bytes: int | str = DEFAULT_BLOCK_BYTES,
    full: bool = False,
    out: str | Path | None = None,
    allow_unsafe_store: bool = False,
    lease_seconds: float = 60.0,
    keep_runs: int = 10,
    keep_days: float = 0.0,
    grace_seconds: float = 3600.0,
    storage_options: Mapping[str, Mapping[str, Any]] | None = None,
    reporter: Reporter | None = None,
) -> LossDynamics:
    """Rank examples by the exponential moving average (EMA) of their training losses, highest
    first.

    For each example over its own recorded losses in order of iteration, ``ema = (1 - alpha) * ema +
    alpha * loss``, from 0. Equal ones are ranked by position, those of tables and Datumaro datasets
    by id, subset and annotation id. Source: Zhou, Wang, Bilmes, "Robust curriculum learning", ICLR
    2021; the numbers of Datumaro's ``LossDynamicsAnalyzer``.

    Parameters
    ----------
    losses : str, Path or array-like, (N, T), float16, float32 or float64
        Losses, NaN where not recorded: Zarr (2, 3, sharded) or ``.npy`` by path or URL; or a Zarr
        array, NumPy array, memmap, tensor, frame of pandas, or Dask array or frame.
    iters : optional, (T,), integers
        The iterations, ascending; 0 to T - 1 where not given. Given in the same ways, as are:
    labels : optional, (N,), integers
        A label for each example, for mean curves by label.
    ids : optional, (N,)
        A name for each example; integers or text.
    table : str, Path, pandas.DataFrame or dask.dataframe.DataFrame, optional
        Instead of ``losses``: recorded losses, a row each, in any order and any partitions. Parquet
        or CSV, a file or a folder of them; rows whose loss is NaN are left out. Rows are moved
        once by id, unless Parquet statistics or a Dask index with known divisions show that each id
        lies in one place.
    id_column, iteration_column, loss_column : str
        What its columns are called: ids are integers or text, iterations integers.
    label_column, subset_column, ann_id_column : str, optional
        Further columns: integers, text, integers. An example is an id, or where they are given an
        id, subset, annotation id.
    datumaro : str, Path or dataset of Datumaro, optional
        Instead of ``losses``: folder or URL of a dataset in Datumaro's JSON format, or its object
        in memory.
    class_names : sequence of str, optional
        Names of the labels 0 to K-1, where there are labels; -1 stands for no label.
    alpha : float
        Weight of a new loss.
    tracking_loss_type : {"cls", "bbox", "centerness", "bbox_refine"}, optional
        Which losses of a Datumaro dataset to follow; needed for detection.
    top_k : int, optional
        How many candidates are ranked; all examples with a loss where not given. A few thousand
        cost nothing; for long rankings the losses are read a second time, to see where each
        candidate crosses the mean curve.
    on_duplicate : {"raise", "first", "last", "mean"}
        Stop where a table or Datumaro dataset holds more than one loss of an example at the same
        iteration (a sampler that pads, a training that went on from a checkpoint), or take the
        first or last of them (in the natural order of files, ``part.2`` before ``part.10``, then
        of rows; partitions count as files; within a Datumaro annotation as its lists say), or
        their mean: their sum, rounded once as ``math.fsum`` does, divided by their number, whatever
        their order.
    on_invalid : {"raise", "skip"}
        Stop at losses that are negative, infinite or above float32's largest number, or leave them
        out, before duplicates are looked for. NaN always stands for "not recorded"; an example
        without any other loss is not ranked. :attr:`LossDynamics.dropped` counts what was left out.
    block_bytes : int or str
        Decoded size of a block, in bytes or as ``"64MiB"``; a worker holds about three. Changes no
        result.
    full : bool
        Read all losses, also those that an earlier run into ``out`` has read. (Where nothing
        changed, a run reads nothing. Else one on ``losses`` in Zarr or ``.npy`` reads what is new
        or was not finished; one on ``table`` or ``datumaro`` starts over.)
    out : str or Path, optional
        Path or URL of the output (docs/reference/output.md): a folder that is empty or that
        noisydask made. Without it, results lie in a temporary folder that the workers must share,
        and go with the returned object, also where that is pickled.
    allow_unsafe_store, lease_seconds, keep_runs, keep_days, grace_seconds
        How the run is locked, published and kept, as in :func:`find_label_issues`.
    storage_options : mapping of name to mapping, optional
        fsspec options for ``losses``, ``iters``, ``labels``, ``ids``, ``table``, ``datumaro`` and
        ``out``, by these names.
    reporter : ProgressBar or ProgressLog, optional
        Shows progress and warnings; without one, warnings are issued as
        :class:`noisydask.LabelWarning` when the run is published. Any object with their methods
        will do.

    Returns
    -------
    LossDynamics

    Raises
    ------
    InputError
        If an input is missing, malformed or invalid; one sentence that says what, how many and
        where.
    JobError
        If the cluster or a store fails.

    Examples
    --------
    >>> import numpy as np
    >>> losses = np.array([[2.0, 1.0], [3.0, 4.0]], np.float32)
    >>> analyze_loss_dynamics(losses, alpha=0.5).mean_loss_dyns.tolist()
    [1.25, 1.875]
    """
    arguments = locals()
    settings = LossSettings.of(arguments)
    publish = PublishSettings.of(arguments)
    options = options_by_name(
        storage_options, "losses", "iters", "labels", "ids", "table", "datumaro", "out"
    )
    _check_sources(arguments)
    inputs_given = {"iters": iters, "table": table, "datumaro": datumaro}
    urls = {name: str(url) for name, url in inputs_given.items() if isinstance(url, str | Path)}
    if class_names is None:
        names = None
    else:
        names = checked_names(class_names)
    job: DynamicsJob | TableJob
    if losses is not None:
        inputs = LossInputs.open(losses, iters, labels, ids, options)
        urls |= inputs.urls()
        job = DynamicsJob(
            inputs,
            settings,
            out is not None,
            names,
            reporter=reporter or Silent(),
            publish=publish,
            full=full,
        )
    else:
        source: RecordedLosses
        if table is not None:
            columns = LossColumns(
                id_column,
                iteration_column,
                loss_column,
                label_column,
                subset_column,
                ann_id_column,
                numbered=on_duplicate in ("first", "last"),
            )
            source = open_table(table, columns, options.get("table"), settings.block_bytes)
        else:
            source = DatumaroSource.open(datumaro, tracking_loss_type, options.get("datumaro"))
        job = TableJob(
            source,
            settings,
            names,
            reporter=reporter or Silent(),
            publish=publish,
            full=full,
        )
    if out is not None:
        refuse_overlap(str(out), urls)
        results = job.run(Output.at(out, options.get("out")))
    else:
        results = run_in_temporary_folder(job)
    results.warn(reporter)
    return results


def _check_sources(arguments: Mapping[str, Any]) -> None:
    """Refuse options that do not belong to what the losses are given as."""
    given = {name for name, value in arguments.items() if value is not None}
    if len(given & {"losses", "table", "datumaro"}) != 1:
        raise InputError("give one of losses, table and datumaro")
    columns = {"label_column", "subset_column", "ann_id_column"}
    if "table" not in given and given & columns:
        raise InputError("label_column, subset_column and ann_id_column belong to a table")
    if "datumaro" not in given and "tracking_loss_type" in given:
        raise InputError("tracking_loss_type belongs to a Datumaro dataset")
    if "losses" in given and arguments["on_duplicate"] != "raise":
        raise InputError(
            "on_duplicate belongs to a table or a Datumaro dataset: an array holds one loss of "
            "each example and iteration"
        )
    if "losses" not in given and given & {"iters", "labels", "ids"}:
        raise InputError(
            "iters, labels and ids belong to losses; a table has columns for them, a dataset "
            "attributes"
        )
    if "class_names" in given and not given & {"datumaro", "labels", "label_column"}:
        raise InputError("class_names need labels: give label_column of a table, or labels")
