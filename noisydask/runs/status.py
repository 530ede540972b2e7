"""How far a running job is, for whoever watches: ``status.json`` in the run.

It is written by a thread of its own, at most every few seconds: no task waits for it, and no
failure of it ends a run.
"""

from __future__ import annotations

import json
import logging
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any

from noisydask.engine.progress import Reporter
from noisydask.errors import NoisydaskError
from noisydask.interrupts import Interrupted, raise_if_interrupted
from noisydask.runs.store import RunStore
from noisydask.stores.chunks import StoredObject

logger = logging.getLogger("noisydask")

STATUS = "status.json"
#: Seconds between two writes.
EVERY = 5.0


class StatusReporter:
    """A reporter that passes on what it is told, and writes it down.

    Parameters
    ----------
    run : RunStore
        Where to.
    inner : Reporter
        Who shows it to a person.
    at_phase : callable
        Called at the beginning of each phase; what it raises ends the run.
    """

    def __init__(self, run: RunStore, inner: Reporter, at_phase: Callable[[], None]) -> None:
        self._run = run
        self._inner = inner
        self._at_phase = at_phase
        self.warnings: list[str] = []
        self._start = time.monotonic()
        self._state: dict[str, Any] = {
            "run": run.run,
            "state": "running",
            "started": _now(),
            "phase": "start",
            "rows": 0,
            "rows_done": 0,
            "blocks_done": 0,
            "bytes_read": 0,
        }
        self._changed = threading.Event()
        self._stop = threading.Event()
        self._thread = threading.Thread(
            target=self._write_now_and_then, name="noisydask-status", daemon=True
        )

    def __enter__(self) -> StatusReporter:
        self._changed.set()
        self._thread.start()
        return self

    def __exit__(self, _: object, error: BaseException | None, trace: object) -> None:
        if self._stop.is_set():
            return
        if isinstance(error, NoisydaskError | Interrupted):
            text = str(error)
        else:
            text = type(error).__name__
        self._end("failed", {"error": text})

    def phase(self, name: str) -> None:
        """Tell of a phase that begins."""
        raise_if_interrupted()
        self._at_phase()
        self._inner.phase(name)
        self._say(phase=name)

    def warning(self, text: str) -> None:
        """Tell of something suspicious, and keep it for the manifest."""
        self.warnings.append(text)
        self._inner.warning(text)
        self._say(warnings=list(self.warnings))

    @contextmanager
    def reading(
        self, rows: int, num_bytes: int, what: str = "examples"
    ) -> Iterator[Callable[[int, int], None]]:
        """Count blocks, rows and bytes; of other things than examples the rows are not known."""
        counted = what == "examples"
        self._say(rows=self._state["rows"] + rows * counted)
        with self._inner.reading(rows, num_bytes, what) as advance:

            def count(more_rows: int, more_bytes: int) -> None:
                advance(more_rows, more_bytes)
                done = self._state
                self._say(
                    blocks_done=done["blocks_done"] + 1,
                    rows_done=done["rows_done"] + more_rows * counted,
                    bytes_read=done["bytes_read"] + more_bytes,
                )

            yield count

    def finish(self) -> list[StoredObject]:
        """Say that all of the run is written; return what was written, nothing if that failed."""
        return self._end("complete", {"phase": "done"})

    def _say(self, **what: Any) -> None:
        self._state = self._state | what
        self._changed.set()

    def _end(self, state: str, more: dict[str, Any]) -> list[StoredObject]:
        self._stop.set()
        self._changed.set()
        self._thread.join()
        self._state = self._state | {"state": state} | more
        return self._write()

    def _write_now_and_then(self) -> None:
        while True:
            self._changed.wait()
            if self._stop.is_set():
                return
            self._changed.clear()
            self._write()
            if self._stop.wait(EVERY):
                return

    def _write(self) -> list[StoredObject]:
        seconds = round(time.monotonic() - self._start, 3)
        content = json.dumps(
            self._state | {"updated": _now(), "seconds": seconds}, indent=1
        ).encode()
        try:
            self._run.make_folder()
            return [self._run.write(STATUS, content)]
        except Exception as error:
            logger.warning(
                "%s of %s was not written (%s)", STATUS, self._run.run, type(error).__name__
            )
            return []


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
