"""Predictions written as a model makes them, from any number of processes, put in place once."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, cast

import numpy as np
import numpy.typing as npt

from noisydask.core.top_rows import select_top
from noisydask.core.whole_numbers import whole_numbers
from noisydask.errors import InputError
from noisydask.predictions.finishing import FinishedPredictions, finish_predictions
from noisydask.predictions.written_files import ENDING, FOLDER, Kind, Part, flat_rows, packed
from noisydask.stores.conversion import as_array, as_rows
from noisydask.stores.file_buffer import FileBuffer, Filing
from noisydask.stores.label_codes import LabelCodes
from noisydask.stores.locations import Location

Array = npt.NDArray[Any]

#: Seconds after which a file is written even if it is small.
_FLUSH_SECONDS = 300.0
#: Files that may wait to be written before :meth:`PredictionWriter.write` waits for the store: each
#: holds memory.
_WAITING = 1


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
    top : int, optional
        Keep only so many of the most probable classes of each row, at least 2, and the probability
        of its given label: what is written has the size of these, however many classes there are.
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
        top: int | None = None,
        storage_options: Mapping[str, Any] | None = None,
        flush_bytes: int = 64 * 1024**2,
    ) -> None:
        if top is not None and top < 2:
            raise InputError(f"top must be at least 2, not {top}")
        if num_examples is not None and num_examples < 1:
            raise InputError(f"num_examples must be above 0, not {num_examples}")
        self._place = Location.of(str(url), storage_options, "the writer's url")
        self._num_examples = None if num_examples is None else int(num_examples)
        self._names = None if class_names is None else tuple(map(str, class_names))
        self._top = None if top is None else int(top)
        self._flush_bytes = int(flush_bytes)
        self._kind: Kind | None = None
        pack = partial(packed, num_examples=self._num_examples, class_names=self._names)
        filing = Filing("predictions", ENDING, pack, self._flush_bytes, _FLUSH_SECONDS, _WAITING)
        self._buffer = FileBuffer(self._place / FOLDER, filing)

    def __reduce__(self) -> tuple[Any, ...]:
        return _again, (
            self._place.url,
            self._num_examples,
            self._names,
            self._top,
            dict(self._place.options),
            self._flush_bytes,
        )

    def __enter__(self) -> PredictionWriter:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

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
            Their given labels, integers or names of classes; always or never, and always with
            ``top``.

        Raises
        ------
        InputError
            If the arrays do not fit each other or what was written before.
        JobError
            If predictions taken earlier could not be written; these are then not taken.
        """
        part = self._checked(rows, pred_probs, labels)
        self._buffer.begin()
        with self._buffer.alone:
            self._buffer.check()
            if not len(part.rows):
                return
            kind = Kind.of(part, self._num_examples, self._names)
            self._kind = self._kind or kind
            if kind != self._kind:
                raise InputError(
                    f"predictions are not like those before: {kind.told}, after {self._kind.told}"
                )
            self._buffer.add(part, part.pred_probs.nbytes)

    def flush(self) -> None:
        """Write all that was taken, and wait until it is written.

        Raises
        ------
        JobError
            If it could not be written; it is kept.
        """
        self._buffer.flush()

    def close(self) -> None:
        """Write all that was taken; the writer takes no more.

        Raises
        ------
        JobError
            If it could not be written.
        """
        self._buffer.close()

    def finish(self, on_duplicate: str = "raise") -> FinishedPredictions:
        """Write all that was taken, then put all rows in place that any process wrote: see
        :func:`noisydask.finish_predictions`. To be called by one process, once the others have
        flushed or closed theirs.
        """
        self.flush()
        return finish_predictions(
            self._place.url,
            on_duplicate=on_duplicate,
            storage_options=self._place.options,
        )

    def _checked(self, rows: Any, pred_probs: Any, labels: Any) -> Part:
        """Return copies of the arrays, checked."""
        probs = np.array(as_array(pred_probs, "pred_probs"), order="C")
        if probs.dtype not in (np.float16, np.float32, np.float64) or probs.ndim != 2:
            raise InputError(
                f"pred_probs must be floats of shape (n, K), not {probs.dtype} {probs.shape}"
            )
        if not probs.shape[1]:
            raise InputError("pred_probs has no columns")
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
            return Part(named, probs, given)
        if self._top is not None:
            return self._top_part(self._rows(named), probs, given)
        return Part(self._rows(named), probs, given)

    def _top_part(self, rows: Array, probs: Array, labels: Array | None) -> Part:
        """Return rows with their most probable classes alone."""
        top = cast(int, self._top)
        num_classes = probs.shape[1]
        if labels is None:
            raise InputError("with top, give labels: the probability of each is kept")
        if top > num_classes:
            raise InputError(f"top is {top:,}, but pred_probs has {num_classes:,} classes")
        flat = flat_rows(*select_top(probs, labels.astype(np.int64), top))
        return Part(rows, flat, labels, num_classes)

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


def _again(
    url: str,
    num_examples: int | None,
    class_names: Sequence[str] | None,
    top: int | None,
    options: Mapping[str, Any],
    flush_bytes: int,
) -> PredictionWriter:
    """Return a writer that came from another process."""
    return PredictionWriter(
        url,
        num_examples=num_examples,
        class_names=class_names,
        top=top,
        storage_options=options,
        flush_bytes=flush_bytes,
    )
