"""One driver at a time on an output: a lock with a lease, ``OUT/lock.json``.

Whoever holds it renews it; a lock that its holder no longer renews is taken over after its lease.
Clocks are never compared between machines: a lock is dead if the store's own clock says that it is
older than its lease, if a lease has passed on our clock in which it did not change, or if the
process that holds it runs on this machine no more. Every step is a conditional write, so a driver
that slept through its lease finds out before it publishes.
"""

from __future__ import annotations

import logging
import os
import platform
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from noisydask.errors import InputError, JobError, LockedError, NoisydaskError
from noisydask.interrupts import uninterrupted
from noisydask.runs.options import MAX_LEASE_SECONDS
from noisydask.stores.conditional import (
    ConflictError,
    Document,
    IgnoredConditionError,
    Seen,
    knows_no_conditions,
)
from noisydask.stores.failures import cannot_write
from noisydask.stores.locations import Location

logger = logging.getLogger("noisydask")

LOCK = "lock.json"
#: A store tells times in whole seconds.
_CLOCK_STEP = 2.0


def _machine() -> str | None:
    """Return what tells whether a process number means the same to another driver: this boot, this
    namespace of processes.
    """
    try:
        with open("/proc/sys/kernel/random/boot_id") as file:
            return f"{file.read().strip()}/{os.stat('/proc/self/ns/pid').st_ino}"
    except OSError:
        return None


@dataclass
class Lock:
    """The lock of an output, held for the time of a run.

    Attributes
    ----------
    root : Location
        The output.
    run : str
        The run that it is held for.
    lease_seconds : float
        How long it stays ours without being renewed; it is renewed three times as often.
    allow_unsafe : bool
        Whether a store that keeps no conditions will do.
    """

    root: Location
    run: str
    lease_seconds: float
    allow_unsafe: bool = False
    _document: Document = field(init=False)
    _since: str = field(init=False, default="")
    _held: Seen | None = field(init=False, default=None)
    _lost: ConflictError | None = field(init=False, default=None)
    _alone: threading.Lock = field(init=False, default_factory=threading.Lock)
    _stop: threading.Event = field(init=False, default_factory=threading.Event)
    _thread: threading.Thread | None = field(init=False, default=None)

    def __post_init__(self) -> None:
        self._document = Document(self.root / LOCK)

    @property
    def unsafe(self) -> bool:
        """Whether the store was found to keep no conditions."""
        return self._document.unsafe

    def __enter__(self) -> Lock:
        try:
            self._acquire()
        except BaseException as error:
            self._release()
            if isinstance(error, NoisydaskError | ConflictError) or not isinstance(
                error, Exception
            ):
                raise
            raise cannot_write(error, self.root) from error
        self._thread = threading.Thread(target=self._keep, name="noisydask-lock", daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        with uninterrupted():
            self._stop.set()
            if self._thread is not None:
                self._thread.join()
            with self._alone:
                self._release()

    def _release(self) -> None:
        if self._held is None or self._lost is not None:
            return
        try:
            self._document.write(self._value() | {"released": True}, self._held)
            self._held = None
        except Exception as error:  # it ends with its lease
            logger.warning(
                "the lock of %s was not released (%s)", self.root.shown, type(error).__name__
            )

    def check(self) -> None:
        """Fail if the lock is not ours any more, as far as is known without asking."""
        if self._lost is not None:
            raise LockedError(
                f"this run lost its lock: {_holder(self.root, self._lost.found)}"
            ) from self._lost

    def confirm(self) -> None:
        """Renew the lock, and fail if it is not ours any more.

        Raises
        ------
        LockedError
            If another driver has taken it over.
        """
        try:
            with uninterrupted():
                self._renew()
        except ConflictError as error:
            self._lost = error
        except LockedError:
            raise
        except Exception as error:
            raise JobError(str(cannot_write(error, self.root))) from error
        self.check()

    def _acquire(self) -> None:
        self._since = _now()
        seen = self._document.read()
        if seen is not None:
            seen = self._wait_until_free(seen)
        try:
            self._take(seen)
            self._document.check_conditions(self._mine())
        except ConflictError as error:
            raise LockedError(_holder(self.root, error.found)) from error
        except IgnoredConditionError as error:
            self._without_conditions(str(error))
        except Exception as error:
            if not knows_no_conditions(error):
                raise
            self._without_conditions("it does not know them")

    def _take(self, seen: Seen | None) -> None:
        with uninterrupted():  # else it may be ours without our knowledge
            self._held = self._document.write(self._value(), seen)

    def _without_conditions(self, why: str) -> None:
        self._document = Document(self.root / LOCK, unsafe=True)
        if not self.allow_unsafe:
            self._release()
            raise InputError(
                f"the store of {self.root.shown} keeps no conditional writes ({why}), so that "
                "two runs at once could"
                " overwrite each other; use another store, or allow_unsafe_store if only one "
                "run ever writes there"
            )
        self._take(self._document.read())

    def _wait_until_free(self, seen: Seen) -> Seen | None:
        """Return what may be replaced: a lock that is released or dead, waited for as long as its
        holder may be alive.
        """
        lock = _parsed(seen)
        lease = _lease(lock, self.lease_seconds)
        alive = _process_lives(lock)
        if lock.get("released") or alive is False:
            return seen
        age = self._document.age(seen)
        if age is not None and age > lease + _CLOCK_STEP:
            return seen
        if alive and age is not None:
            raise LockedError(_holder(self.root, seen))
        logger.info(
            "%s; it is taken over if it is not renewed within %.0f s",
            _holder(self.root, seen),
            lease,
        )
        return self._unchanged_for(seen, lease)

    def _unchanged_for(self, seen: Seen, lease: float) -> Seen | None:
        """Watch a lock for a lease: itself if it did not change, what lies there if it is free now;
        else an error.
        """
        end = time.monotonic() + lease
        while time.monotonic() < end:
            time.sleep(min(1.0, lease / 10))
            now = self._document.read()
            if now is None or _parsed(now).get("released"):
                return now
            if now.tag != seen.tag:
                raise LockedError(_holder(self.root, now))
        return seen

    def _value(self) -> dict[str, Any]:
        """Return what the lock says of its holder."""
        pid = os.getpid()
        owner = {
            "host": platform.node(),
            "pid": pid,
            "started": _started(pid),
            "machine": _machine(),
        }
        times = {"since": self._since, "renewed": _now(), "lease": self.lease_seconds}
        return {"owner": owner, "run": self.run, **times}

    def _mine(self) -> Seen:
        assert self._held is not None
        return self._held

    def _renew(self) -> None:
        with self._alone:
            self._held = self._document.write(self._value(), self._mine())

    def _keep(self) -> None:
        """Renew until told to stop; what a store fails to do is tried again until the lease is
        over.
        """
        while not self._stop.wait(self.lease_seconds / 3):
            try:
                self._renew()
            except ConflictError as error:
                self._lost = error
                return
            except Exception as error:
                logger.warning(
                    "the lock of %s was not renewed (%s)", self.root.shown, type(error).__name__
                )


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")


def _parsed(seen: Seen | None) -> dict[str, Any]:
    """Return what a lock says; nothing, if it is damaged."""
    try:
        if seen:
            return seen.value
        return {}
    except ValueError:
        return {}


def _lease(lock: Mapping[str, Any], ours: float) -> float:
    """Return the lease of another driver's lock, within reason."""
    try:
        return min(max(float(lock["lease"]), 0.0), MAX_LEASE_SECONDS)
    except (KeyError, TypeError, ValueError):
        return ours


def _process_lives(lock: Mapping[str, Any]) -> bool | None:
    """Return whether the process that holds a lock lives on this machine; None if that cannot be
    told.
    """
    owner = lock.get("owner")
    machine = _machine()
    if not isinstance(owner, dict) or machine is None or owner.get("machine") != machine:
        return None
    return isinstance(owner.get("pid"), int) and _started(owner["pid"]) == owner.get("started")


def _started(pid: int) -> int | None:
    """Return when a process of this machine started, in ticks since its boot; None if there is none
    that runs.
    """
    try:
        with open(f"/proc/{pid}/stat") as file:
            fields = file.read().rpartition(")")[2].split()
    except OSError:
        return None
    if fields[0] in "ZX":
        return None
    return int(fields[19])


def _holder(root: Location, seen: Seen | None) -> str:
    """Say who holds an output, since when."""
    lock = _parsed(seen)
    owner = lock.get("owner")
    if not isinstance(owner, dict):
        return f"{root.shown} is locked, and its lock does not tell by whom ({LOCK})"
    who = f"process {owner.get('pid')} on {owner.get('host')}"
    return (
        f"{root.shown} is locked by {who} since {lock.get('since')} (run {lock.get('run')}, {LOCK})"
    )
