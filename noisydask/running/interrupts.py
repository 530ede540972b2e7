"""SIGINT and SIGTERM end a run as an error does: the lock is released, workers go, and one sentence
says so.
"""

from __future__ import annotations

import logging
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from multiprocessing import resource_tracker
from typing import Any

SIGNALS = (signal.SIGINT, signal.SIGTERM)
_Handler = Callable[[int, Any], None]


class Interrupted(BaseException):
    """The process was told to end; like KeyboardInterrupt no Exception, and unlike it none that
    libraries catch.
    """

    def __init__(self, number: int) -> None:
        super().__init__("interrupted")
        self.exit_status = 128 + number


@contextmanager
def interruptible() -> Iterator[None]:
    """Signals raise :class:`Interrupted` in the main thread; once, since what comes next is the
    clean-up.

    Signals that the process was started to ignore (nohup, the background of a script) stay ignored.
    """

    def tell(number: int, _: Any) -> None:
        # A function, and not SIG_IGN, which processes that start now would inherit.
        _handle(lambda *_: None)
        # What waits for the work of the cluster is told of its end too, and nobody is left to hear.
        logging.getLogger("asyncio").setLevel(logging.CRITICAL)
        raise Interrupted(number)

    before = _handle(tell)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextmanager
def held_back() -> Iterator[None]:
    """Signals wait until the context ends; threads and processes started in it are deaf to SIGINT,
    for good.

    A terminal sends SIGINT to the workers too, whose end is the driver's to tell.
    """
    seen: list[int] = []
    before = _handle(lambda number, _: seen.append(number))
    can_block = hasattr(signal, "pthread_sigmask")
    if can_block:
        # the first process started would start it, and end the blocking then
        resource_tracker.ensure_running()
        blocked = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        if can_block:
            signal.pthread_sigmask(signal.SIG_SETMASK, blocked)
        for number, handler in before.items():
            signal.signal(number, handler)
        for number in seen[:1]:
            signal.raise_signal(number)


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
