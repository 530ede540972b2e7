"""Losses recorded while a model trains, as a table that :func:`noisydask.analyze_loss_dynamics`
reads.

A recorder keeps what it is told in a buffer, and a thread writes the buffer as Parquet files. A
file appears whole or not at all, is never changed, and has a name that no other process uses: any
number of processes record to one URL.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from noisydask.dynamics.recorded import columns_of, content_of, iteration_of
from noisydask.errors import InputError
from noisydask.stores.file_buffer import FileBuffer, Filing
from noisydask.stores.locations import Location

Array = npt.NDArray[Any]

#: Buffers that may wait to be written before :meth:`LossRecorder.record` waits for the store.
_WAITING = 4


class LossRecorder:
    """Records training losses to a folder of Parquet files: columns ``id``, ``iteration``,
    ``loss``, optionally ``label``.

    Recording appends to a buffer; a thread writes the buffer when it holds ``flush_rows`` rows or
    is ``flush_seconds`` old. A process that is killed loses what it recorded since then, and
    nothing else. What the thread fails at is raised by the next call, which then records nothing;
    rows recorded before are kept and tried again under the same name, so no row is lost or written
    twice.

    A forked process (such as a worker of a PyTorch ``DataLoader``) has an empty buffer and files of
    its own; it must call :meth:`close` or :meth:`flush` before it ends. Training that goes on from
    a checkpoint records the iterations since then again; with ``on_duplicate="last"`` the analysis
    takes the later ones: files are named after the time at which their recorder began.

    Parameters
    ----------
    url : str or Path
        A folder, on anything that fsspec knows. Several recorders may share it.
    storage_options : mapping, optional
        Passed to fsspec.
    flush_rows : int
        Rows of a file.
    flush_seconds : float
        Seconds after which a file is written even if it is small.

    Raises
    ------
    InputError
        If the URL cannot be used.

    Examples
    --------
    >>> import tempfile, pandas as pd
    >>> folder = tempfile.mkdtemp()
    >>> with LossRecorder(folder) as recorder:
    ...     recorder.record(0, [7, 9], [2.25, 0.5])
    ...     recorder.record(1, [9, 7], [0.25, 2.5])
    >>> pd.read_parquet(folder).values.tolist()
    [[7.0, 0.0, 2.25], [9.0, 0.0, 0.5], [9.0, 1.0, 0.25], [7.0, 1.0, 2.5]]
    """

    def __init__(
        self,
        url: str | Path,
        storage_options: Mapping[str, Any] | None = None,
        *,
        flush_rows: int = 1 << 20,
        flush_seconds: float = 60.0,
    ) -> None:
        if flush_rows < 1 or flush_seconds <= 0:
            raise InputError("flush_rows and flush_seconds must be above 0")
        self._place = Location.of(str(url), storage_options, "the recorder's url")
        self._filing = Filing(
            "losses", ".parquet", content_of, int(flush_rows), float(flush_seconds), _WAITING
        )
        self._buffer = FileBuffer(self._place, self._filing)
        self._kinds: dict[str, np.dtype[Any]] = {}

    def __reduce__(self) -> tuple[Any, ...]:
        return _again, (
            self._place.url,
            dict(self._place.options),
            self._filing.full,
            self._filing.seconds,
        )

    def __enter__(self) -> LossRecorder:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def record(self, iteration: int, ids: Any, losses: Any, labels: Any = None) -> None:
        """Record the losses of some examples at one iteration.

        Parameters
        ----------
        iteration : int
            Rises as training goes on; an epoch, or a step.
        ids : array-like, (n,), integers or text
            Which examples; none records nothing.
        losses : array-like, (n,), floating point
            Their losses: NumPy, PyTorch, JAX or anything that NumPy can make an array of; on any
            device, with or without gradients. NaN is read as not recorded.
        labels : array-like, (n,), integers, optional
            Their labels; always or never.

        Raises
        ------
        InputError
            If the arrays do not fit each other or what was recorded before, or no file can hold
            them.
        JobError
            If rows recorded earlier could not be written.
        """
        number = iteration_of(iteration)
        columns = columns_of(ids, losses, labels)
        self._buffer.begin()
        with self._buffer.alone:
            self._buffer.check()
            if not len(columns["id"]):
                return
            self._check_kinds(columns)
            self._buffer.add((number, columns), len(columns["id"]))

    def flush(self) -> None:
        """Write all that was recorded, and wait until it is written.

        Raises
        ------
        JobError
            If it could not be written.
        """
        self._buffer.flush()

    def close(self) -> None:
        """Write all that was recorded; the recorder takes no more.

        Raises
        ------
        JobError
            If it could not be written.
        """
        self._buffer.close()

    def _check_kinds(self, columns: Mapping[str, Array]) -> None:
        """Refuse what would not fit into one table."""
        kinds = {name: array.dtype for name, array in columns.items() if name != "loss"}
        self._kinds = self._kinds or kinds
        if kinds != self._kinds:
            raise InputError(
                f"columns {_said(kinds)} after {_said(self._kinds)}: one recorder writes one "
                "kind of table"
            )


def _again(
    url: str, options: Mapping[str, Any], flush_rows: int, flush_seconds: float
) -> LossRecorder:
    """Return a recorder that came from another process."""
    return LossRecorder(url, options, flush_rows=flush_rows, flush_seconds=flush_seconds)


def _said(kinds: Mapping[str, np.dtype[Any]]) -> str:
    return ", ".join(
        f"{name} ({'text' if kind.hasobject else kind})" for name, kind in kinds.items()
    )
