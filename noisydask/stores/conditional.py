"""Small JSON documents that several drivers may write: each write says what it replaces, and is
refused if that has changed.

An object store takes a PUT that must create the object, or replace the version of it that was seen:
its ETag, on Google's its generation. On a local disk a lock on a file beside the document does the
same. Every document carries a write-id of its own. A
PUT whose answer is lost is sent again and then meets its own object: whatever a store answered,
what lies there afterwards says whose write it was.
"""

from __future__ import annotations

import json
import os
import random
import secrets
import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from functools import cached_property
from hashlib import sha256
from pathlib import Path
from typing import Any

import locket
from fsspec.implementations.memory import MemoryFileSystem

from noisydask.errors import LockedError
from noisydask.stores.locations import Location
from noisydask.stores.object_files import Version

#: Times that a write is tried which the store neither did nor refused.
_TRIES = 4
#: Seconds that a local write waits for others, each of which takes milliseconds.
_MUTEX_SECONDS = 10.0
_MEMORY = threading.Lock()
#: Lies beside the documents on a local disk.
MUTEX = ".mutex"
#: Ends the name of the object by which a store is asked for the time.
CLOCK = ".clock"


class ConflictError(Exception):
    """Somebody else has written the document; ``found`` is what lies there now."""

    def __init__(self, found: Seen | None) -> None:
        super().__init__("another process has written it")
        self.found = found


class IgnoredConditionError(Exception):
    """The store did a write that it had to refuse."""


@dataclass(frozen=True)
class Seen:
    """A document as it lay in the store.

    Attributes
    ----------
    content : bytes
        What was read.
    tag : str
        The version, by which a write says what it replaces.
    written : float or None
        When it was written, by the clock of the store, in seconds; None where that does not tell.
    """

    content: bytes
    tag: str
    written: float | None = None

    @property
    def value(self) -> dict[str, Any]:
        """The document; ValueError if it is not one."""
        value = json.loads(self.content)
        if not isinstance(value, dict):
            raise ValueError("not a JSON object")
        return value

    @property
    def write_id(self) -> str | None:
        """Which write it was; None for one that was not ours."""
        try:
            return str(self.value["write"])
        except (ValueError, KeyError):
            return None


class _Objects(ABC):
    """How one kind of store reads and writes a document."""

    def __init__(self, place: Location) -> None:
        self.place = place

    @abstractmethod
    def get(self) -> Seen | None:
        """Read what lies there."""

    @abstractmethod
    def put(self, content: bytes, tag: str | None) -> str:
        """Write if the version is still ``tag``, or if there is none; any error if it is not. The
        new version.
        """

    def now(self) -> float | None:
        """Return the time by the clock of the store; None where that does not tell."""
        return None

    def unlike(self, tag: str) -> str:
        """Return a version that no document has, in the form of one that a document has."""
        return f'"{"0" * 32}"'


class _CloudObjects(_Objects):
    """Objects of a bucket, with the versions that its store gives them."""

    def get(self) -> Seen | None:
        for attempt in range(_TRIES):
            try:
                content, version, written = self.place.fs.read_version(self.place.path)
            except FileNotFoundError:
                return None
            except Exception:
                if attempt == _TRIES - 1:
                    raise
                _pause(attempt)
                continue
            return Seen(content, json.dumps(version), written.timestamp())
        raise AssertionError("unreachable")

    def put(self, content: bytes, tag: str | None) -> str:
        fs = self.place.fs
        if tag is None:
            return json.dumps(fs.pipe_file(self.place.path, content, mode="create"))
        return json.dumps(fs.replace(self.place.path, content, Version(*json.loads(tag))))

    def now(self) -> float | None:
        """Write an object beside the document, to which the store gives a time."""
        clock = self.place.path + CLOCK
        self.place.fs.pipe_file(clock, b"1")
        try:
            when: datetime = self.place.fs.modified(clock)
        finally:
            self.place.fs.rm_file(clock)
        return when.timestamp()

    def unlike(self, tag: str) -> str:
        """Return another ETag, and another generation where the store tells generations: the first,
        which no document has.
        """
        version = Version(*json.loads(tag)).version
        number = "1" if version and version.isdecimal() else version
        return json.dumps(Version(f'"{"0" * 32}"', number))


class _LocalObjects(_Objects):
    def get(self) -> Seen | None:
        try:
            with open(self.place.path, "rb") as file:
                content = file.read()
                written = os.fstat(file.fileno()).st_mtime
        except FileNotFoundError:
            return None
        return Seen(content, _digest(content), written)

    def now(self) -> float | None:
        """Touch a file: on a network disk the clock is another machine's."""
        self.mutex.touch()
        return self.mutex.stat().st_mtime

    def put(self, content: bytes, tag: str | None) -> str:
        os.makedirs(os.path.dirname(self.place.path), exist_ok=True)
        with self._alone():
            current = self.get()
            if (current.tag if current else None) != tag:
                raise FileExistsError(self.place.path)
            # one name: what a killed process leaves, the next replaces
            beside = f"{self.place.path}.new"
            Path(beside).unlink(missing_ok=True)
            with open(beside, "xb") as file:  # and follows no link
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            os.replace(beside, self.place.path)
        return _digest(content)

    @property
    def mutex(self) -> Path:
        """The file whose lock is held while a document is replaced; a killed process lets go of
        it.
        """
        return Path(self.place.path).with_name(MUTEX)

    @contextmanager
    def _alone(self) -> Iterator[None]:
        try:
            with locket.lock_file(str(self.mutex), timeout=_MUTEX_SECONDS):
                yield
        except locket.LockError as error:
            raise LockedError(
                f"a process that does not go on holds {self.mutex} for {_MUTEX_SECONDS:.0f} s; "
                "let it go on, or end it"
            ) from error


class _MemoryObjects(_Objects):
    def get(self) -> Seen | None:
        try:
            content = self.place.read()
        except FileNotFoundError:
            return None
        return Seen(content, _digest(content))

    def put(self, content: bytes, tag: str | None) -> str:
        with _MEMORY:
            current = self.get()
            if (current.tag if current else None) != tag:
                raise FileExistsError(self.place.path)
            self.place.fs.pipe_file(self.place.path, content)
        return _digest(content)


class _PlainObjects(_MemoryObjects):
    """A store of which no conditional write is known: what was seen is looked at again, then
    overwritten.
    """

    def put(self, content: bytes, tag: str | None) -> str:
        current = self.get()
        if (current.tag if current else None) != tag:
            raise FileExistsError(self.place.path)
        self.place.fs.pipe_file(self.place.path, content)
        return _digest(content)


def _digest(content: bytes) -> str:
    """Return the version of a document where the store gives none: its write-id makes each content
    another.
    """
    return sha256(content).hexdigest()


def _pause(attempt: int) -> None:
    """Wait longer each time, and each process for another time."""
    time.sleep(random.uniform(0.5, 1) * 0.2 * 2**attempt)  # noqa: S311


@dataclass(frozen=True)
class Document:
    """A JSON document written under conditions.

    Attributes
    ----------
    place : Location
        Where it lies.
    unsafe : bool
        Whether the store may ignore conditions: then what was seen is looked at again just before
        each write.
    """

    place: Location
    unsafe: bool = field(default=False, kw_only=True)

    @cached_property
    def _objects(self) -> _Objects:
        fs = self.place.fs
        if self.place.is_local:
            return _LocalObjects(self.place)
        if isinstance(fs, MemoryFileSystem):
            return _MemoryObjects(self.place)
        if self.place.is_in_cloud and not self.unsafe:
            return _CloudObjects(self.place)
        return _PlainObjects(self.place)

    def read(self) -> Seen | None:
        """Read what lies there now, if anything."""
        return self._objects.get()

    def age(self, seen: Seen) -> float | None:
        """Return seconds since a document was written, by the clock of the store; None where that
        does not tell.
        """
        now = self._objects.now() if seen.written is not None else None
        return None if now is None or seen.written is None else now - seen.written

    def write(self, value: Mapping[str, Any], seen: Seen | None) -> Seen:
        """Replace what was seen, or create the document where nothing was.

        Raises
        ------
        ConflictError
            If something else lies there; nothing was written.
        """
        mine = secrets.token_hex(16)
        content = json.dumps({**value, "write": mine}, indent=1).encode()
        wanted = seen.tag if seen else None
        for attempt in range(_TRIES):
            try:
                return Seen(content, self._objects.put(content, wanted))
            except LockedError:
                raise
            except Exception as error:
                failed = error
            current = self.read()
            if current is not None and current.write_id == mine:
                return current
            if (current.tag if current else None) != wanted:
                raise ConflictError(current) from failed
            if isinstance(failed, PermissionError) or attempt == _TRIES - 1:
                raise failed
            _pause(attempt)
        raise AssertionError("unreachable")

    def check_conditions(self, held: Seen) -> None:
        """Ask the store for two writes that it must refuse; a document of ours, ``held``, lies
        there.

        What would be written is what lies there already, so that nothing changes where they are
        done.

        Raises
        ------
        IgnoredConditionError
            If the store does one of them, or knows no conditions.
        """
        if isinstance(self._objects, _PlainObjects):
            raise IgnoredConditionError("no conditional writes are known of this kind of store")
        another = self._objects.unlike(held.tag)
        for tag, condition in ((None, "that it must not exist"), (another, "its version")):
            try:
                self._objects.put(held.content, tag)
            except Exception as error:
                if not isinstance(error, FileExistsError):  # that a condition does not hold
                    raise
            else:
                raise IgnoredConditionError(f"it ignores {condition} as a condition")


def knows_no_conditions(error: Exception) -> bool:
    """Return whether a store refuses conditional writes as something that it has not."""
    return isinstance(error, NotImplementedError)
