"""How far a job is: tasks say what they have done, the client shows it as a bar or as plain lines.

On a cluster the word travels as a Dask event; on the local scheduler it is a call.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

from rich.console import Console
from rich.filesize import decimal
from rich.progress import (
    BarColumn,
    DownloadColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeRemainingColumn,
    TransferSpeedColumn,
)

from noisydask.engine import graph
from noisydask.lazily import Lazy

if TYPE_CHECKING:
    import distributed
else:
    distributed = Lazy("distributed")

logger = logging.getLogger("noisydask")

_listeners: dict[str, Callable[[int, int], None]] = {}


@dataclass(frozen=True)
class Notifier:
    """Called by a task with rows and bytes done; carries the word to whoever listens to
    ``topic``.
    """

    topic: str

    def __call__(self, rows: int, num_bytes: int) -> None:
        """Say that so many rows and bytes are done."""
        listener = _listeners.get(self.topic)
        if listener is not None:
            listener(rows, num_bytes)
            return
        try:
            worker = distributed.get_worker()
        except ValueError:  # a scheduler of processes: there is no one to tell
            return
        worker.log_event(self.topic, {"rows": rows, "bytes": num_bytes})


class Reporter(Protocol):
    """Shows the phases of a job to a person."""

    def phase(self, name: str) -> None:
        """Tell of a phase that begins."""
        ...

    def warning(self, text: str) -> None:
        """Tell of something suspicious about the inputs."""
        ...

    def reading(self, rows: int, num_bytes: int, what: str = "examples") -> Any:
        """Show the long phase: the context yields a callable to be told of rows and bytes done;
        totals are given.

        ``what`` the rows are; 0 bytes mean that their number is not known yet.
        """
        ...


class Silent:
    """Shows nothing: the Python functions."""

    def phase(self, name: str) -> None:
        """Say nothing."""

    def warning(self, text: str) -> None:
        """Say nothing: the functions warn at their end, as Python does."""

    @contextmanager
    def reading(
        self, rows: int, num_bytes: int, what: str = "examples"
    ) -> Iterator[Callable[[int, int], None]]:
        """Say nothing."""
        yield lambda rows, num_bytes: None


@dataclass
class ProgressLog:
    """Progress of a job as records of the logger ``noisydask``, for logs.

    Their level is INFO: they are written after ``logging.basicConfig(level=logging.INFO)``.

    Parameters
    ----------
    every : float
        Seconds between two records while data are read.

    Examples
    --------
    >>> import numpy as np, noisydask
    >>> pred_probs = np.array([[0.9, 0.1], [0.2, 0.8], [0.95, 0.05]])
    >>> reporter = noisydask.ProgressLog(every=60)
    >>> noisydask.find_label_issues([0, 1, 1], pred_probs, reporter=reporter).num_issues
    1
    """

    every: float = 10.0

    def phase(self, name: str) -> None:
        """Tell of a phase that begins."""
        logger.info(name)

    def warning(self, text: str) -> None:
        """Tell of something suspicious about the inputs."""
        logger.warning(f"warning: {text}")

    @contextmanager
    def reading(
        self, rows: int, num_bytes: int, what: str = "examples"
    ) -> Iterator[Callable[[int, int], None]]:
        """Show the long phase: the context yields a callable to be told of rows and bytes done;
        totals are given.
        """
        start = last = time.monotonic()
        done = read = 0

        def advance(more_rows: int, more_bytes: int) -> None:
            nonlocal done, read, last
            # What a dead worker did is done again, and told twice.
            before = done
            done = min(rows, done + more_rows)
            read = read + more_bytes
            now = time.monotonic()
            if now - last < self.every and not before < done == rows:
                return
            last = now
            rate = read / max(now - start, 1e-9)
            left = (rows - done) / max(done, 1) * (now - start)
            logger.info(
                f"read {done:,} of {rows:,} {what} ({done / rows:.0%}), {decimal(read)}, "
                f"{decimal(int(rate))}/s,"
                f" {left:.0f} s left"
            )

        yield advance


@dataclass
class ProgressBar:
    """Progress of a job as a bar with rate, bytes and remaining time: for terminals and notebooks.

    Parameters
    ----------
    console : rich.console.Console, optional
        Where it is drawn; standard error where not given.

    Examples
    --------
    >>> import numpy as np, noisydask
    >>> pred_probs = np.array([[0.9, 0.1], [0.2, 0.8], [0.95, 0.05]])
    >>> reporter = noisydask.ProgressBar()
    >>> noisydask.find_label_issues([0, 1, 1], pred_probs, reporter=reporter).num_issues
    1
    """

    console: Console = field(default_factory=lambda: Console(stderr=True))

    def phase(self, name: str) -> None:
        """Tell of a phase that begins."""
        self.console.print(name, style="dim", highlight=False)

    def warning(self, text: str) -> None:
        """Tell of something suspicious about the inputs."""
        self.console.print(f"warning: {text}", style="yellow", highlight=False, soft_wrap=True)

    @contextmanager
    def reading(
        self, rows: int, num_bytes: int, what: str = "examples"
    ) -> Iterator[Callable[[int, int], None]]:
        """Show the bar, by the bytes of the decoded rows."""
        by_bytes = (DownloadColumn(), TransferSpeedColumn())
        columns = (
            TextColumn("reading"),
            BarColumn(),
            TextColumn("{task.percentage:>3.0f}%"),
            *(by_bytes if num_bytes else (MofNCompleteColumn(), TextColumn(what))),
            TimeRemainingColumn(),
        )
        with Progress(*columns, console=self.console) as progress:
            task = progress.add_task("reading", total=num_bytes or rows)
            yield lambda more_rows, _: progress.advance(
                task, more_rows / rows * num_bytes if num_bytes else more_rows
            )


@contextmanager
def listening(advance: Callable[[int, int], None]) -> Iterator[Notifier]:
    """Bring the word of tasks to ``advance`` while the context lasts."""
    notifier = Notifier(graph.token("progress"))
    client = graph.active_client()
    if client is None:
        _listeners[notifier.topic] = advance
        try:
            yield notifier
        finally:
            del _listeners[notifier.topic]
        return
    client.subscribe_topic(
        notifier.topic, lambda event: advance(event[1]["rows"], event[1]["bytes"])
    )
    try:
        yield notifier
    finally:
        client.unsubscribe_topic(notifier.topic)
