"""A buffer that a thread writes: when it is full or old, it becomes a file of its own.

A file appears whole or not at all, is never changed, and has a name that no other process uses: any
number of processes write to one folder.
"""

from __future__ import annotations

import atexit
import concurrent.futures.thread  # noqa: F401  has its end registered, which must come after ours
import logging
import os
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from noisydask.errors import JobError
from noisydask.stores.failures import blame, reason
from noisydask.stores.locations import Location
from noisydask.stores.whole_files import own_prefix, write_whole

logger = logging.getLogger("noisydask")


@dataclass(frozen=True)
class Filing:
    """The making of files from parts.

    Attributes
    ----------
    what : str
        What they are called in errors, such as "losses".
    ending : str
        How names of files end.
    pack : callable
        Makes the content of a file of parts.
    full : int
        Size of parts at which they become a file.
    seconds : float
        Seconds after which they do although they are few.
    waiting : int
        Files that may wait to be written before :meth:`FileBuffer.add` waits for the store.
    """

    what: str
    ending: str
    pack: Callable[[Sequence[Any]], bytes]
    full: int
    seconds: float
    waiting: int


@dataclass
class _Batch:
    """Parts that become one file."""

    name: str
    size: int = 0
    parts: list[Any] = field(default_factory=list)
    begun: float = field(default_factory=time.monotonic)

    def add(self, part: Any, size: int) -> None:
        """Take in a part."""
        self.parts.append(part)  # at once: a signal may end the caller here
        self.size += size


class FileBuffer:
    """A buffer of one process.

    What the thread fails at is raised by the next call, which then takes nothing; parts taken
    before are kept and tried again under the same name, so none is lost or written twice. A forked
    process has an empty buffer and files of its own. What is left when a program ends is written.

    Parameters
    ----------
    folder : Location
        Where the files go; it is made.
    filing : Filing
        How parts become files.

    Raises
    ------
    InputError
        If the folder cannot be used.
    """

    def __init__(self, folder: Location, filing: Filing) -> None:
        self._folder = folder
        self._filing = filing
        try:
            folder.make_folder()
        except Exception as error:
            raise blame(error)(self._told(error)) from error
        self._start()

    def _start(self) -> None:
        """Begin anew in this process."""
        self._process = os.getpid()
        # Its connections belong to the process that made them.
        self._folder = replace(self._folder)
        self._prefix = own_prefix()
        self._files = 0
        self._batch: _Batch | None = None
        self._waiting: list[_Batch] = []
        self._error: BaseException | None = None
        self._asked = self._closed = False
        #: Who adds holds this lock. Its own `with` is what a signal cannot cut in two, as that of a
        #: condition can be.
        self.alone = threading.RLock()
        self._changed = threading.Condition(self.alone)
        self._thread = threading.Thread(
            target=self._write_waiting, name="noisydask-writer", daemon=True
        )
        self._thread.start()
        _OPEN.add(self)

    @property
    def is_elsewhere(self) -> bool:
        """Whether this is the buffer of the process that this one was forked from."""
        return os.getpid() != self._process

    def begin(self) -> None:
        """Begin anew in a forked process; to be called before :attr:`alone` is taken."""
        if self.is_elsewhere:
            self._start()

    def check(self) -> None:
        """Raise what the thread failed at, or that the buffer is closed."""
        self._raise_error()
        if self._closed:
            raise JobError(f"this is closed, and takes no more {self._filing.what}")

    def add(self, part: Any, size: int) -> None:
        """Take a part; the caller holds :attr:`alone`.

        Raises
        ------
        JobError
            If parts taken earlier could not be written.
        """
        while len(self._waiting) >= self._filing.waiting:  # the store is slower than the caller
            self._changed.wait()
            self._raise_error()
        batch = self._batch
        if batch is None:
            batch = _Batch(f"{self._prefix}-{self._files:06d}{self._filing.ending}")
            self._files += 1
        batch.add(part, size)
        self._batch = batch  # now that it holds a part, whenever a signal ends this call
        if self._batch.size >= self._filing.full:
            self._waiting.append(self._batch)
            self._batch = None
        self._changed.notify_all()

    def flush(self) -> None:
        """Write all that was taken, and wait until it is written.

        Raises
        ------
        JobError
            If it could not be written.
        """
        if self.is_elsewhere or self._closed:
            return  # nothing is left to be written here
        with self._changed:
            self._asked = True
            self._changed.notify_all()
            while self._asked:
                self._changed.wait()
            self._raise_error()

    def close(self) -> None:
        """Write all that was taken; no more is.

        Raises
        ------
        JobError
            If it could not be written.
        """
        if self.is_elsewhere or self._closed:
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
        """Write what a program left behind that did not close its buffer, or log that it could not
        be written.
        """
        try:
            self.close()
        except JobError as error:
            logger.error("%s that were not written yet are lost: %s", self._filing.what, error)

    def _raise_error(self) -> None:
        if self._error is not None:
            error = self._error
            self._error = None
            raise JobError(self._told(error)) from error

    def _told(self, error: BaseException) -> str:
        why = reason(error) or type(error).__name__
        return f"{self._filing.what} cannot be written to {self._folder.shown}: {why}"

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
                    write_whole(self._folder, batch.name, self._filing.pack(batch.parts))
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
        """Return whether there is something to do; a batch that is due waits to be written from
        now on.
        """
        due = self._batch is not None and (self._asked or self._seconds_left() == 0)
        if due and self._batch is not None:
            self._waiting.append(self._batch)
            self._batch = None
        return bool(self._waiting) or self._asked

    def _seconds_left(self) -> float | None:
        """Return seconds until the batch is due; None where there is none."""
        if self._batch is None:
            return None
        return max(0.0, self._batch.begun + self._filing.seconds - time.monotonic())


#: Buffers that were not closed yet.
_OPEN: set[FileBuffer] = set()


def _close_all() -> None:
    for buffer in list(_OPEN):
        buffer.close_at_exit()


# Functions of atexit run when no thread can be given work any more, and clients of object stores
# need some.
getattr(threading, "_register_atexit", atexit.register)(_close_all)
