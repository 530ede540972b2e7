"""Losses recorded while a model trains, as a table that :func:`noisydask.analyze_loss_dynamics`
reads.

A recorder keeps what it is told in a buffer, and a thread writes the buffer as Parquet files. A
file appears whole or not at all, is never changed, and has a name that no other process uses: any
number of processes record to one URL.
"""

from __future__ import annotations

import atexit
import concurrent.futures.thread  # noqa: F401  has its end registered, which must come after ours
import logging
import os
import threading
import time
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from noisydask.dynamics.recorded import Batch, columns_of, iteration_of
from noisydask.errors import InputError, JobError
from noisydask.stores.failures import blame, reason
from noisydask.stores.locations import Location
from noisydask.stores.whole_files import own_prefix, write_whole

Array = npt.NDArray[Any]

logger = logging.getLogger("noisydask")

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
        self._flush_rows = int(flush_rows)
        self._flush_seconds = float(flush_seconds)
        try:
            self._place.make_folder()
        except Exception as error:
            raise blame(error)(_explain(error, self._place)) from error
        self._kinds: dict[str, np.dtype[Any]] = {}
        self._start()

    def _start(self) -> None:
        """Begin anew in this process."""
        self._process = os.getpid()
        self._place = replace(self._place)  # its connections belong to the process that made them
        self._prefix = own_prefix()
        self._files = 0
        self._batch: Batch | None = None
        self._waiting: list[Batch] = []
        self._error: BaseException | None = None
        self._asked = self._closed = False
        # Its own `with` is what a signal cannot cut in two, as that of a condition can be.
        self._alone = threading.RLock()
        self._changed = threading.Condition(self._alone)
        self._thread = threading.Thread(
            target=self._write_waiting, name="noisydask-recorder", daemon=True
        )
        self._thread.start()
        _OPEN.add(self)

    def __reduce__(self) -> tuple[Any, ...]:
        return _again, (
            self._place.url,
            dict(self._place.options),
            self._flush_rows,
            self._flush_seconds,
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
        if os.getpid() != self._process:
            self._start()
        with self._alone:
            self._raise_error()
            if self._closed:
                raise JobError("this recorder is closed")
            if not len(columns["id"]):
                return
            self._check_kinds(columns)
            while len(self._waiting) >= _WAITING:  # the store is slower than the training
                self._changed.wait()
                self._raise_error()
            batch = self._batch
            if batch is None:
                batch = Batch(f"{self._prefix}-{self._files:06d}.parquet")
                self._files += 1
            batch.add(number, columns)
            self._batch = batch  # now that it holds rows, whenever a signal ends this call
            if self._batch.rows >= self._flush_rows:
                self._waiting.append(self._batch)
                self._batch = None
            self._changed.notify_all()

    def flush(self) -> None:
        """Write all that was recorded, and wait until it is written.

        Raises
        ------
        JobError
            If it could not be written.
        """
        if os.getpid() != self._process or self._closed:
            return  # nothing is left to be written here
        with self._changed:
            self._asked = True
            self._changed.notify_all()
            while self._asked:
                self._changed.wait()
            self._raise_error()

    def close(self) -> None:
        """Write all that was recorded; the recorder takes no more.

        Raises
        ------
        JobError
            If it could not be written.
        """
        if os.getpid() != self._process or self._closed:
            return
        try:
            self.flush()
        finally:
            with self._changed:
                self._closed = True
                self._changed.notify_all()
            self._thread.join()
            _OPEN.discard(self)

    def close_at_exit(self) -> None:
        """Write what a program left behind that did not close its recorder, or log that it could
        not be written.
        """
        try:
            self.close()
        except JobError as error:
            left = sum(batch.rows for batch in self._waiting)
            logger.error("%d recorded losses are lost: %s", left, error)

    def _check_kinds(self, columns: Mapping[str, Array]) -> None:
        """Refuse what would not fit into one table."""
        kinds = {name: array.dtype for name, array in columns.items() if name != "loss"}
        self._kinds = self._kinds or kinds
        if kinds != self._kinds:
            raise InputError(
                f"columns {_said(kinds)} after {_said(self._kinds)}: one recorder writes one "
                "kind of table"
            )

    def _raise_error(self) -> None:
        if self._error is not None:
            error = self._error
            self._error = None
            raise JobError(_explain(error, self._place)) from error

    def _write_waiting(self) -> None:
        """Wait until there is something to write, and write it: the work of the thread."""
        while True:
            with self._changed:
                while not self._take_due():
                    if self._closed:
                        return
                    self._changed.wait(self._seconds_left())
                batches = list(self._waiting)
                flush_wanted = self._asked
            error: BaseException | None = None
            for batch in batches:
                try:
                    write_whole(self._place, batch.name, batch.content())
                except BaseException as failed:
                    error = failed
                    break
                with self._changed:
                    self._waiting.remove(batch)
                    self._changed.notify_all()
            with self._changed:
                self._error = error
                self._asked = self._asked and not flush_wanted
                self._changed.notify_all()
                if error is not None:
                    if self._closed:
                        return
                    self._changed.wait(1.0)  # not at once again

    def _take_due(self) -> bool:
        """Return whether there is something to do; a buffer that is due waits to be written from
        now on.
        """
        due = self._batch is not None and (self._asked or self._seconds_left() == 0)
        if due and self._batch is not None:
            self._waiting.append(self._batch)
            self._batch = None
        return bool(self._waiting) or self._asked

    def _seconds_left(self) -> float | None:
        """Return seconds until the buffer is due; None where it is empty."""
        if self._batch is None:
            return None
        return max(0.0, self._batch.begun + self._flush_seconds - time.monotonic())


#: Recorders that were not closed yet.
_OPEN: set[LossRecorder] = set()


def _close_all() -> None:
    for recorder in list(_OPEN):
        recorder.close_at_exit()


# Functions of atexit run when no thread can be given work any more, and clients of object stores
# need some.
getattr(threading, "_register_atexit", atexit.register)(_close_all)


def _again(
    url: str, options: Mapping[str, Any], flush_rows: int, flush_seconds: float
) -> LossRecorder:
    """Return a recorder that came from another process."""
    return LossRecorder(url, options, flush_rows=flush_rows, flush_seconds=flush_seconds)


def _said(kinds: Mapping[str, np.dtype[Any]]) -> str:
    return ", ".join(
        f"{name} ({'text' if kind.hasobject else kind})" for name, kind in kinds.items()
    )


def _explain(error: BaseException, place: Location) -> str:
    return f"losses cannot be written to {place.shown}: {reason(error) or type(error).__name__}"
