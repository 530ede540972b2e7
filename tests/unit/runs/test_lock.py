"""Conditional writes, and the lock with a lease, on local disk, on S3 and in memory."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import fsspec
import pytest
from conftest import Place

from noisydask.errors import InputError, LockedError
from noisydask.issues.options import GateSettings
from noisydask.runs.lock import LOCK, Lock
from noisydask.stores.conditional import (
    MUTEX,
    ConflictError,
    Document,
    IgnoredConditionError,
    Seen,
)
from noisydask.stores.locations import Location

pytestmark = pytest.mark.thorough


@pytest.fixture(params=["local", "s3", "azure", "google", "memory"])
def root(request: pytest.FixtureRequest, tmp_path: Any) -> Location:
    """An empty output."""
    if request.param == "memory":
        fsspec.filesystem("memory").store.clear()
        return Location.of("memory://root/out", None, "out")
    if request.param == "local":
        place = Place(str(tmp_path))
    else:
        place = request.getfixturevalue(f"{request.param}_place")
    return Location.of(f"{place.url}/out", place.options, "out")


def lock(root: Location, lease: float = 30.0, **how: Any) -> Lock:
    return Lock(root, "a-run", lease, **how)


def test_what_fails_after_the_lock_was_taken_leaves_it_free(
    root: Location, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Document, "check_conditions", lambda document, held: 1 / 0)
    with pytest.raises(InputError):
        lock(root).__enter__()
    monkeypatch.undo()
    with lock(root):
        pass


def test_a_document_is_written_only_over_what_was_seen(root: Location) -> None:
    document = Document(root / "d.json")
    assert document.read() is None
    first = document.write({"a": 1}, None)
    with pytest.raises(ConflictError) as conflict:
        document.write({"a": 2}, None)
    assert conflict.value.found is not None
    assert conflict.value.found.value["a"] == 1
    second = document.write({"a": 2}, first)
    for seen in (first, None, Seen(b"", '["0123", "5"]')):
        with pytest.raises(ConflictError):
            document.write({"a": 3}, seen)
    found = document.read()
    assert found is not None
    assert (found.tag, found.value["a"], found.write_id) == (second.tag, 2, second.write_id)
    document.check_conditions(found)
    again = document.read()
    assert again is not None
    assert (again.content, again.tag) == (found.content, found.tag)
    age = document.age(again)
    assert age is None or -2 <= age < 20
    assert {name for name in root.list() if not name.startswith(".")} == {"d.json"}


def test_equal_documents_are_different_writes(root: Location) -> None:
    document = Document(root / "d.json")
    first = document.write({"a": 1}, None)
    document.write({"a": 1}, first)
    with pytest.raises(ConflictError):
        document.write({"a": 1}, first)


def test_of_many_writers_one_wins_each_time(root: Location) -> None:
    document = Document(root / "count.json")
    document.write({"n": 0}, None)
    done: list[int] = []

    def add() -> None:
        while len(done) < 30:
            seen = document.read()
            assert seen is not None
            try:
                document.write({"n": seen.value["n"] + 1}, seen)
            except ConflictError:
                continue
            done.append(1)

    threads = [threading.Thread(target=add) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    found = document.read()
    assert found is not None
    assert found.value["n"] == len(done)


def test_an_answer_lost_is_no_conflict(root: Location, monkeypatch: pytest.MonkeyPatch) -> None:
    document = Document(root / "d.json")
    put, calls = document._objects.put, []

    def lose(content: bytes, tag: str | None) -> str:
        calls.append(tag)
        put(content, tag)
        raise ConnectionResetError

    monkeypatch.setattr(document._objects, "put", lose)
    seen = document.write({"a": 1}, None)
    assert document.write({"a": 2}, seen).value["a"] == 2
    assert len(calls) == 2


@pytest.mark.slow
def test_only_one_holds_the_lock(root: Location) -> None:
    with lock(root) as held:
        with (
            pytest.raises(
                LockedError, match=r"is locked by process \d+ on .* since 20.*run a-run"
            ) as caught,
            lock(root, 3.0),
        ):
            pass
        assert caught.value.exit_status == 4
        held.confirm()
    with lock(root):
        pass


@pytest.mark.slow
def test_a_lock_is_renewed_and_outlives_its_lease(root: Location) -> None:
    with lock(root, 1.0) as held:
        first = Document(root / LOCK).read()
        time.sleep(4.5)
        now = Document(root / LOCK).read()
        assert first is not None
        assert now is not None
        assert now.tag != first.tag
        with pytest.raises(LockedError), lock(root):
            pass
        held.check()


def test_who_lost_the_lock_is_told(root: Location) -> None:
    with lock(root) as held:
        document = Document(root / LOCK)
        theirs = document.write(
            {"owner": {"host": "h", "pid": 1}, "since": "now", "run": "other"}, document.read()
        )
        with pytest.raises(
            LockedError,
            match=r"lost its lock: .* is locked by process 1 on h since now \(run other",
        ):
            held.confirm()
        with pytest.raises(LockedError):
            held.check()
    found = document.read()
    assert found is not None
    assert found.tag == theirs.tag  # not released: it is theirs


@pytest.mark.parametrize(
    "content",
    [
        {"owner": {"host": "h", "pid": 1, "machine": "another"}, "lease": 0.6},
        {"owner": {"host": "h", "pid": "1", "machine": None, "started": []}, "lease": 0.6},
        {"owner": "nobody", "lease": 0.6},
        {},
        b"not json",
        b"[]",
        b"",
    ],
)
def test_a_lock_that_nobody_renews_is_taken_over_after_its_lease(
    root: Location, content: Any
) -> None:
    raw = content if isinstance(content, bytes) else json.dumps(content).encode()
    root.fs.makedirs(root.path, exist_ok=True) if "://" not in root.url else None
    root.fs.pipe_file((root / LOCK).path, raw)
    start = time.monotonic()
    with lock(root, 0.6) as held:
        assert time.monotonic() - start > 0.5
        held.confirm()


def test_a_lock_renewed_while_waited_for_is_respected(root: Location) -> None:
    document = Document(root / LOCK)
    theirs = {"owner": {"host": "elsewhere", "pid": 1}, "since": "then", "lease": 3.0}
    seen = document.write(theirs, None)

    def renew() -> None:
        time.sleep(0.5)
        document.write(theirs, seen)

    thread = threading.Thread(target=renew)
    thread.start()
    with pytest.raises(LockedError, match="process 1 on elsewhere since then"), lock(root):
        pass
    thread.join()


def test_the_lock_of_a_killed_process_of_this_machine_is_free_at_once(tmp_path: Any) -> None:
    script = (
        "import sys, os\nfrom noisydask.runs.lock import Lock\nfrom "
        "noisydask.stores.locations import Location\n"
        "Lock(Location.of(sys.argv[1], None, 'out'), 'r', 60.0).__enter__()\nprint('held', "
        "flush=True)\ninput()"
    )
    child = subprocess.Popen(
        [sys.executable, "-c", script, str(tmp_path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    try:
        assert child.stdout is not None
        assert child.stdout.readline() == b"held\n"
        root = Location.of(str(tmp_path), None, "out")
        with pytest.raises(LockedError, match=f"process {child.pid} "), lock(root):
            pass
    finally:
        child.kill()
    start = time.monotonic()
    while Path(f"/proc/{child.pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z":
        time.sleep(0.01)
    with lock(root):  # not yet waited for: a zombie holds nothing
        assert time.monotonic() - start < 5
    child.communicate()


def test_a_process_stopped_in_the_middle_of_a_write_is_named(
    tmp_path: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("noisydask.stores.conditional._MUTEX_SECONDS", 1.0)
    root = Location.of(str(tmp_path), None, "out")
    script = (
        "import sys, fcntl\nfile = open(sys.argv[1], 'w')\nfcntl.flock(file, fcntl.LOCK_EX)\n"
        "open(sys.argv[2], 'w').write('{')\nprint('held', flush=True)\ninput()"
    )
    beside = str(tmp_path / f"{LOCK}.new")
    child = subprocess.Popen(
        [sys.executable, "-c", script, str(tmp_path / MUTEX), beside],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    try:
        assert child.stdout is not None
        assert child.stdout.readline() == b"held\n"
        start = time.monotonic()
        with pytest.raises(LockedError, match=r"does not go on holds .*\.mutex"), lock(root):
            pass
        assert time.monotonic() - start < 5
    finally:
        child.kill()
        child.communicate()
    with lock(root) as held:
        held.confirm()
    assert not Path(beside).exists()


def test_a_store_that_ignores_conditions_is_refused(
    tmp_path: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = Location.of(str(tmp_path), None, "out")
    monkeypatch.setattr("noisydask.runs.lock.Document.check_conditions", _ignored)
    with (
        pytest.raises(InputError, match=r"keeps no conditional writes .* allow_unsafe_store"),
        lock(root),
    ):
        pass
    with lock(root, allow_unsafe=True) as held:
        assert held.unsafe
        held.confirm()


def _ignored(self: Document, held: Seen) -> None:
    raise IgnoredConditionError("it ignores If-Match")


@pytest.mark.parametrize(
    "wrong",
    [
        {"lease_seconds": 0.5},
        {"lease_seconds": 1e9},
        {"lease_seconds": float("nan")},
        {"keep_runs": 0},
        {"keep_days": -1},
        {"grace_seconds": -1},
        {"fail_above": 2},
        {"fail_new_above": -1},
    ],
)
def test_wrong_settings(wrong: dict[str, Any]) -> None:
    with pytest.raises(InputError, match=next(iter(wrong))):
        GateSettings.of(wrong)
