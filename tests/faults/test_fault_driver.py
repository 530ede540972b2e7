"""The driver killed, stopped, doubled; answers lost: readers see the old run or a complete new one,
byte for byte."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from rig.cases import Case, ordinary
from rig.jobs import Child, Job, generation, published, write_data
from rig.place import Place
from rig.plans import Trial
from rig.proxy import Proxy, Request
from rig.server import S3Server

DATA = ordinary()
#: Takes the lock over soon; the process on this machine that held it is found dead at once anyway.
LEASE = 2.0


@pytest.fixture
def job(s3: S3Server, way: Proxy, tmp_path: Path) -> Job:
    return Job(s3.through(way.endpoint), tmp_path.name)


@pytest.fixture
def out(s3: S3Server, job: Job) -> Place:
    return write_data(s3, job.prefix, DATA)


@pytest.fixture(scope="module")
def expected(s3: S3Server) -> dict[str, bytes]:
    """The output of an undisturbed run."""
    undisturbed = Job(s3, "undisturbed")
    where = write_data(s3, "undisturbed", DATA)
    assert undisturbed.run().status == 0
    found = published(where)
    assert found
    return found


def kill_after(way: Proxy, job: Job, mutation: int) -> bool:
    """Start the job, kill it when the store has done the n-th request that changes something;
    whether it came so far."""
    way.clear()
    started: list[Child] = []

    def kill(request: Request) -> None:
        if request.mutation == mutation:
            started[0].kill()

    way.add("forward", methods=("PUT", "POST", "DELETE"), call=kill)
    started.append(job.start(lease_seconds=LEASE))
    status = started[0].wait().status
    way.clear()
    assert status in (0, -9), f"killed after {mutation}: {status}"
    return status == -9


def check_killed(
    way: Proxy, job: Job, out: Place, expected: dict[str, bytes], mutation: int
) -> bool:
    """Killed after a request, then run again: the same output, one generation more at least."""
    was_killed = kill_after(way, job, mutation)
    before = generation(out)
    found = published(out)
    assert found is None or found == expected
    again = job.run(lease_seconds=LEASE)
    assert again.status == 0, again.said
    assert published(out) == expected
    assert generation(out) == before + 1
    return was_killed


_SLOW = pytest.mark.slow


@pytest.mark.parametrize(
    "share", [pytest.param(share, marks=_SLOW) for share in (0.0, 0.6, 1.0)] + [0.3, 0.9]
)
def test_killed_after_some_requests(
    share: float, way: Proxy, job: Job, out: Place, expected: dict[str, bytes]
) -> None:
    assert job.run().status == 0
    last = len(way.mutations())
    out.fs.rm(out.fs._strip_protocol(out.url), recursive=True)
    check_killed(way, job, out, expected, max(1, round(share * last)))


def test_an_unchanged_night_killed_after_every_request(
    way: Proxy, job: Job, out: Place, expected: dict[str, bytes]
) -> None:
    assert job.run().status == 0
    computed, mutation = json.loads(out.read("latest.json"))["run"], 1
    while check_killed(way, job, out, expected, mutation):
        latest = json.loads(out.read("latest.json"))["run"]
        assert json.loads(out.read(f"runs/{latest}/manifest.json"))["repeats"] == computed
        mutation += 1
    assert mutation > 5


@pytest.mark.soak
@pytest.mark.slow
def test_killed_after_every_request(
    way: Proxy, job: Job, out: Place, expected: dict[str, bytes]
) -> None:
    mutation, killed = 1, 0
    while True:
        out.fs.rm(out.fs._strip_protocol(out.url), recursive=True) if out.objects() else None
        if not check_killed(way, job, out, expected, mutation):
            break
        mutation, killed = mutation + 1, killed + 1
    assert killed > 20


@pytest.mark.soak
@pytest.mark.slow
def test_killed_at_a_hundred_random_moments(new_trial: Callable[[Case], Trial]) -> None:
    """Ten times ten kills on the way to one run: what is read, at most the blocks in flight are
    read again."""
    trial = new_trial(ordinary(rows=1000))
    for _ in range(10):
        trial.way.clear()
        trial.out.remove()
        for _ in range(10):
            child = trial.start()
            time.sleep(trial.chance.uniform(0.05, 1.5))
            child.kill()
            child.wait()
            trial.check()
        trial.check_again()
        trial.check_blocks_read(10)


@pytest.mark.parametrize("name", ["latest.json", "manifest.json", "lock.json", "receipts/"])
@pytest.mark.parametrize("action", ["cut_after", pytest.param("cut_before", marks=_SLOW)])
def test_lost_answers(
    name: str, action: str, way: Proxy, job: Job, out: Place, expected: dict[str, bytes]
) -> None:
    lost = way.add(action, methods=("PUT",), pattern=name, count=1)
    for run in (1, 2):
        ended = job.run()
        assert ended.status == 0, ended.said
        assert published(out) == expected
        assert generation(out) == run
    assert lost.done == 1


def test_two_drivers_at_once(way: Proxy, job: Job, out: Place, expected: dict[str, bytes]) -> None:
    two_at_once(job, out, expected, 3)


@pytest.mark.soak
@pytest.mark.slow
def test_two_drivers_at_once_again_and_again(
    way: Proxy, job: Job, out: Place, expected: dict[str, bytes]
) -> None:
    two_at_once(job, out, expected, 20)


def two_at_once(job: Job, out: Place, expected: dict[str, bytes], times: int) -> None:
    for _ in range(times):
        before = generation(out)
        ends = [child.wait() for child in [job.start(full=True), job.start(full=True)]]
        assert sorted(end.status for end in ends) == [0, 4], [end.said for end in ends]
        (loser,) = (end for end in ends if end.status == 4)
        assert "is locked by process" in loser.one_error()
        assert "since" in loser.one_error()
        assert generation(out) == before + 1
        assert published(out) == expected


@pytest.mark.parametrize("at", [pytest.param("label_quality", marks=_SLOW), r"manifest\.json"])
def test_a_driver_that_sleeps_through_its_lease_does_not_publish(
    at: str, way: Proxy, job: Job, out: Place, expected: dict[str, bytes]
) -> None:
    asleep: list[Child] = []

    def sleep(request: Request) -> None:
        asleep[0].stop()

    rule = way.add("forward", methods=("PUT",), pattern=at, count=1, call=sleep)
    asleep.append(job.start(lease_seconds=LEASE))
    while not rule.done:
        time.sleep(0.01)
    time.sleep(2 * LEASE + 3)  # a store tells times in whole seconds
    other = job.run(lease_seconds=LEASE)
    assert other.status == 0, other.said
    after = out.objects()["latest.json"]
    asleep[0].go_on()
    woken = asleep[0].wait()
    assert woken.status == 4, woken.said
    woken.one_error()
    assert out.objects()["latest.json"] == after
    assert published(out) == expected


def test_a_lock_of_elsewhere_is_taken_over_after_its_lease(
    way: Proxy, job: Job, out: Place
) -> None:
    out.write(
        "lock.json", b'{"owner": {"host": "elsewhere", "pid": 1}, "since": "then", "lease": 2.0}'
    )
    start = time.monotonic()
    ended = job.run()
    assert ended.status == 0, ended.said
    assert time.monotonic() - start >= 2
