"""Threads that read and write while others compute: at once, one ahead, one behind.

What they hold is bounded: the next piece while one is used, the writes of one block while the next
is worked on. All calls are made in the task that asked for them: none is left when it ends.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator, Iterable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from functools import cache
from itertools import islice
from types import TracebackType
from typing import Generic, TypeVar

Argument = TypeVar("Argument")
Result = TypeVar("Result")

#: Requests of a process that are in flight at once.
_REQUESTS = 16


@cache
def _requests() -> ThreadPoolExecutor:
    """Return the threads that wait for stores, of this process."""
    return ThreadPoolExecutor(_REQUESTS, thread_name_prefix="noisydask-requests")


def at_once(call: Callable[[Argument], Result], arguments: Sequence[Argument]) -> list[Result]:
    """Return what a call returns for each argument, made by threads at once; the first error is
    raised when all are done. The call itself must not call this.

    Examples
    --------
    >>> at_once(abs, [-1, 2])
    [1, 2]
    """
    if len(arguments) < 2:
        return [call(argument) for argument in arguments]
    futures = [_requests().submit(call, argument) for argument in arguments]
    for future in futures:
        future.exception()
    return [future.result() for future in futures]


def ahead(
    call: Callable[[Argument], Result], arguments: Iterable[Argument], threads: int = 1
) -> Generator[Result, None, None]:
    """Iterate over what a call returns for each argument, in order; so many calls go on, by threads
    of their own, while what those before returned is used. The first begin at once; arguments are
    taken by the caller's thread.

    Examples
    --------
    >>> list(ahead(abs, [-1, 2, -3], threads=2))
    [1, 2, 3]
    """
    pool = ThreadPoolExecutor(threads, thread_name_prefix="noisydask-ahead")
    left = iter(arguments)
    begun: deque[Future[Result]] = deque()

    def begin() -> None:
        begun.extend(pool.submit(call, argument) for argument in islice(left, 1))

    try:
        for _ in range(threads):
            begin()
    except BaseException:
        pool.shutdown(cancel_futures=True)
        raise

    def results() -> Generator[Result, None, None]:
        try:
            while begun:
                result = begun.popleft().result()
                begin()
                yield result
                del result  # the next one may be large
        finally:
            pool.shutdown(cancel_futures=True)

    return results()


class Behind(Generic[Result]):
    """Calls that are made behind the work, one at a time: each begins when the one before is done.

    Where the context ends, all are done, or an error of one is raised.

    Examples
    --------
    >>> with Behind() as behind:
    ...     behind.do(lambda: 1)
    ...     behind.do(lambda: 2)
    >>> behind.results
    [1, 2]
    """

    def __init__(self) -> None:
        self.results: list[Result] = []
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="noisydask-behind")
        self._last: Future[Result] | None = None

    def __enter__(self) -> Behind[Result]:
        return self

    def do(self, call: Callable[[], Result]) -> None:
        """Begin a call, when the one before is done."""
        self._finish()
        self._last = self._pool.submit(call)

    def _finish(self) -> None:
        last, self._last = self._last, None
        if last is not None:
            self.results.append(last.result())

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None
    ) -> None:
        with self._pool:
            if error is None:
                self._finish()
