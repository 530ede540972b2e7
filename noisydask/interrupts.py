"""SIGINT and SIGTERM end a run as an error does: the lock is released, workers go, and one sentence
says so. A second signal ends the process at once.

Python drops an exception that is raised in ``__del__``, in the callback of a collection or of a
weak reference, and libraries drop some too. So the stop is a flag, and an exception that tells of
it: where the exception is gone and the run goes on, a timer raises it anew.
"""

from __future__ import annotations

import atexit
import logging
import os
import signal
import sys
import threading
import time
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing import resource_tracker
from typing import Any

SIGNALS = (signal.SIGINT, signal.SIGTERM)
_Handler = Callable[[int, Any], None] | signal.Handlers
#: Seconds between two looks at whether the exception is still there.
_LOOK_SECONDS = 0.1
#: Seconds in which a signal counts once: coreutils' ``timeout`` sends it to a process and then to
#: its group.
_ONCE_SECONDS = 0.25


class Interrupted(BaseException):
    """The process was told to end; like KeyboardInterrupt no Exception, and unlike it none that
    libraries catch.
    """

    def __init__(self, number: int) -> None:
        super().__init__("interrupted")
        self.exit_status = 128 + number


@dataclass
class _Stop(threading.local):
    """The signal that has come, if any, and the exception that tells of it: to the main thread,
    where handlers run. No other thread sees any.
    """

    number: int | None = None
    came: float = 0.0
    held: int = 0
    raised: Callable[[], Interrupted | None] = lambda: None

    def come(self, number: int, _: Any) -> None:
        """Take in a signal."""
        if self.number is None:
            self.number = number
            self.came = time.monotonic()
            # What waits for the work of the cluster learns of its end too, and nobody is left to
            # hear.
            for name in ("asyncio", "distributed"):
                logging.getLogger(name).setLevel(logging.CRITICAL)
            _look_every(_LOOK_SECONDS)
            self.look()
        elif time.monotonic() - self.came > _ONCE_SECONDS:
            end_at_once(number)

    def look(self, *_: Any) -> None:
        """Raise the exception, unless one is under way or the time is not right."""
        if not self.held and self.raised() is None:
            self.check()

    def check(self) -> None:
        """Raise the exception if a signal has come."""
        if self.number is None:
            return
        try:
            raise Interrupted(self.number)
        except Interrupted as error:  # this name goes at once: nothing but its way keeps the error
            self.raised = weakref.ref(error)
            raise


_stop = _Stop()


@contextmanager
def interruptible() -> Iterator[None]:
    """Raise :class:`Interrupted` in the main thread at the first signal, which cannot be lost, and
    end the process at the second.

    Signals that the process was started to ignore (nohup, the background of a script) stay ignored.
    """
    hook = sys.unraisablehook

    def dropped(what: Any) -> None:
        if not isinstance(what.exc_value, Interrupted):
            hook(what)

    before = _handle(_stop.come)
    alarm = None
    if before and hasattr(signal, "SIGALRM"):
        alarm = signal.signal(signal.SIGALRM, _stop.look)
    sys.unraisablehook = dropped
    try:
        yield
    except Exception:
        _stop.check()  # then the error came of the stop
        raise
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        _look_every(0)
        _stop.number = None
        _stop.raised = lambda: None
        sys.unraisablehook = hook
        if alarm is not None:  # last: what it does by default is to end the process
            signal.signal(signal.SIGALRM, alarm)


def raise_if_interrupted() -> None:
    """Raise :class:`Interrupted` if a signal has come, whatever became of the exception then; for
    places from which nothing more may be done.
    """
    _stop.check()


@contextmanager
def uninterrupted() -> Iterator[None]:
    """Let the first signal wait until the context ends: what is in it is done, or fails, as a
    whole. The second does not wait.
    """
    _stop.held += 1
    try:
        yield
    finally:
        _stop.held -= 1
    _stop.look()


@contextmanager
def held_back() -> Iterator[None]:
    """Let signals wait until the context ends; threads and processes started in it are deaf to
    SIGINT, for good.

    A terminal sends SIGINT to the workers too, whose end is the driver's to tell.
    """
    can_block = hasattr(signal, "pthread_sigmask")
    with uninterrupted():
        if can_block:
            # the first process started would start it, and end the blocking then
            resource_tracker.ensure_running()
            blocked = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
        try:
            yield
        finally:
            if can_block:
                signal.pthread_sigmask(signal.SIG_SETMASK, blocked)


def end_at_once(number: int, _: Any = None) -> None:
    """End the process with the status of a signal, without cleaning up."""
    # A bar may have hidden the cursor.
    os.write(2, b"\x1b[?25h\ninterrupted\n" if os.isatty(2) else b"interrupted\n")
    os._exit(128 + number)


def end_at_once_on_signals() -> None:
    """Have signals end the process at once, while there is nothing yet that must be cleaned up."""
    _handle(end_at_once)
    # Python's own end is short, and gives signals back to the system: the status would not tell
    # what became of the run.
    atexit.register(_handle, signal.SIG_IGN)


def _look_every(seconds: float) -> None:
    if hasattr(signal, "setitimer"):
        signal.setitimer(signal.ITIMER_REAL, seconds, seconds)


def _handle(handler: _Handler) -> dict[int, Any]:
    """Handle all signals that are not ignored in this way; the handlers before. Python lets only
    the main thread do so.
    """
    if threading.current_thread() is not threading.main_thread():
        return {}
    heeded = [
        number for number in SIGNALS if signal.getsignal(number) not in (signal.SIG_IGN, None)
    ]
    return {number: signal.signal(number, handler) for number in heeded}
