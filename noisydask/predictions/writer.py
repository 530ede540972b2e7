"""Predictions written as a model makes them, from any number of processes, put in place once."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from noisydask.core.whole_numbers import whole_numbers
from noisydask.errors import InputError, JobError
from noisydask.predictions.finishing import FinishedPredictions, finish_predictions
from noisydask.predictions.written_files import ENDING, FOLDER, packed
from noisydask.stores.conversion import as_array, as_rows
from noisydask.stores.failures import blame, reason
from noisydask.stores.label_codes import LabelCodes
from noisydask.stores.locations import Location
from noisydask.stores.whole_files import own_prefix, write_whole

Array = npt.NDArray[Any]


class PredictionWriter:
    """Writes out-of-sample predictions while a model makes them; any number of processes, on any
    number of machines, write to one URL.

    A process keeps what it is given in a buffer, and writes the buffer as a file of its own, which
    appears whole or not at all. A process that is killed loses its buffer and nothing else: run it
    again, and the same rows written twice count once. When all are done, one of them calls
    :meth:`finish`, which puts all rows in place.

    Parameters
    ----------
    url : str or Path
        A folder, on anything that fsspec knows.
    num_examples : int, optional
        Number of examples: rows are then named by their positions, 0 to ``num_examples`` - 1.
        Without it they are named by ids, integers or text.
    class_names : sequence of str, optional
        What the columns are called; labels may then be text.
    storage_options : mapping, optional
        Passed to fsspec.
    flush_bytes : int
        Bytes of probabilities in a file, about.

    Raises
    ------
    InputError
        If the URL cannot be used.

    Examples
    --------
    >>> import tempfile, zarr
    >>> with PredictionWriter(tempfile.mkdtemp(), num_examples=3) as writer:
    ...     writer.write([2, 0], [[0.25, 0.75], [1.0, 0.0]], [1, 0])
    ...     writer.write([1], [[0.5, 0.5]], [1])
    ...     done = writer.finish()
    >>> zarr.open_array(done.pred_probs)[:].tolist()
    [[1.0, 0.0], [0.5, 0.5], [0.25, 0.75]]
    """

    def __init__(
        self,
        url: str | Path,
        *,
        num_examples: int | None = None,
        class_names: Sequence[str] | None = None,
        storage_options: Mapping[str, Any] | None = None,
        flush_bytes: int = 64 * 1024**2,
    ) -> None:
        self._place = Location.of(str(url), storage_options, "the writer's url")
        self._num_examples = num_examples
        self._names = None if class_names is None else tuple(map(str, class_names))
        self._flush_bytes = int(flush_bytes)
        self._kind: tuple[Any, ...] | None = None
        try:
            self._folder.make_folder()
        except Exception as error:
            raise blame(error)(self._said(error)) from error
        self._start()

    @property
    def _folder(self) -> Location:
        return self._place / FOLDER

    def _start(self) -> None:
        """Begin anew in this process."""
        self._process = os.getpid()
        self._place = replace(self._place)  # its connections belong to the process that made them
        self._prefix = own_prefix()
        self._files = 0
        self._parts: list[tuple[Array, Array, Array | None]] = []

    def __enter__(self) -> PredictionWriter:
        return self

    def __exit__(self, *error: object) -> None:
        self.flush()

    def write(self, rows: Any, pred_probs: Any, labels: Any = None) -> None:
        """Take predictions of some examples.

        Parameters
        ----------
        rows : array-like, (n,)
            Their positions, or their ids.
        pred_probs : array-like, (n, K), floating point
            Their probabilities: NumPy, PyTorch, JAX or anything that NumPy can make an array of; on
            any device.
        labels : array-like, (n,), optional
            Their given labels, integers or names of classes; always or never.

        Raises
        ------
        InputError
            If the arrays do not fit each other or what was written before.
        JobError
            If they cannot be written; they are kept, and tried again.
        """
        if os.getpid() != self._process:
            self._start()
        part = self._checked(rows, pred_probs, labels)
        if not len(part[0]):
            return
        kind = part[1].shape[1], part[1].dtype.str, part[0].dtype.kind, part[2] is None
        self._kind = self._kind or kind
        if kind != self._kind:
            raise InputError(
                "predictions are not like those before: number of classes, type, kind of ids, and "
                "whether there are labels must be the same for all"
            )
        self._parts.append(part)
        if sum(probs.nbytes for _, probs, _ in self._parts) >= self._flush_bytes:
            self.flush()

    def flush(self) -> None:
        """Write what is in the buffer.

        Raises
        ------
        JobError
            If it cannot be written; it is kept.
        """
        if os.getpid() != self._process or not self._parts:
            return
        rows, probs, labels = zip(*self._parts, strict=True)
        given = None if labels[0] is None else np.concatenate(labels)
        content = packed(np.concatenate(rows), np.concatenate(probs), given)
        name = f"{self._prefix}-{self._files:06d}{ENDING}"
        try:
            write_whole(self._folder, name, content)
        except Exception as error:
            raise JobError(self._said(error)) from error
        self._parts.clear()
        self._files += 1

    def finish(self, on_duplicate: str = "raise") -> FinishedPredictions:
        """Write what is in the buffer, then put all rows in place that any process wrote; see
        :func:`noisydask.finish_predictions`.
        """
        self.flush()
        return finish_predictions(
            self._place.url,
            num_examples=self._num_examples,
            class_names=self._names,
            on_duplicate=on_duplicate,
            storage_options=self._place.options,
        )

    def _checked(
        self, rows: Any, pred_probs: Any, labels: Any
    ) -> tuple[Array, Array, Array | None]:
        """Return copies of the arrays, checked."""
        probs = np.array(as_array(pred_probs, "pred_probs"), order="C")
        if probs.dtype not in (np.float16, np.float32, np.float64) or probs.ndim != 2:
            raise InputError(
                f"pred_probs must be floats of shape (n, K), not {probs.dtype} {probs.shape}"
            )
        if self._names is not None and probs.shape[1] != len(self._names):
            raise InputError(
                f"pred_probs has {probs.shape[1]:,} columns for {len(self._names):,} class names"
            )
        named = as_rows(rows, "rows")
        given = None if labels is None else self._codes(as_rows(labels, "labels"))
        lengths = {len(probs), len(named), len(probs) if given is None else len(given)}
        if len(lengths) > 1 or named.ndim != 1:
            raise InputError("rows, pred_probs and labels must have the same length")
        if not len(named):
            return named, probs, given
        return self._rows(named), probs, given

    def _rows(self, named: Array) -> Array:
        if named.dtype.kind in "iu":
            rows = np.array(whole_numbers(named, "rows"))
            wrong = (rows < 0) | (rows >= (self._num_examples or 0))
            if self._num_examples is not None and wrong.any():
                raise InputError(
                    f"positions must be 0 to {self._num_examples - 1:,}, not {rows[wrong][0]:,}"
                )
            return rows
        if self._num_examples is not None:
            raise InputError(f"positions must be integers, not {named.dtype}")
        if named.dtype.kind not in "OUT":
            raise InputError(f"ids must be integers or text, not {named.dtype}")
        return named.astype(object)

    def _codes(self, labels: Array) -> Array:
        """Return labels as codes."""
        if labels.dtype.kind in "iu":
            return np.array(whole_numbers(labels, "labels"))
        if labels.dtype.kind not in "OUT" or self._names is None:
            raise InputError("labels must be integers, or names of classes with class_names")
        codes = LabelCodes("text", self._names)
        found = codes.encode(labels)
        if (found < 0).any():
            raise InputError(f"no class is called {codes.unknown(labels).told(self._names)}")
        return found

    def _said(self, error: BaseException) -> str:
        why = reason(error) or type(error).__name__
        return f"predictions cannot be written to {self._place.shown}: {why}"
