"""Seeded trials: a job is disturbed at random, and run again; then all must be as if nothing had
been.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from rig.azure import azure_server
from rig.cases import CHUNK, EDGES, Case, ordinary
from rig.jobs import Child, Ended, Job, generation, published, write_data
from rig.place import Place
from rig.proxy import MUTATING, Proxy, Request, proxy
from rig.server import BUCKET, Server, s3_server, until_it_works

#: Seconds of a lease: the lock of a run that was stopped is soon taken over.
LEASE = 2.0
#: Threads of a job, and blocks that are in flight of each: two are read, one waits for the one that
#: is written.
THREADS = 2
IN_FLIGHT = THREADS * 4


@dataclass
class Trial:
    """A dataset in a bucket, the job on it, and what an undisturbed run of it publishes."""

    server: Server
    way: Proxy
    chance: random.Random
    case: Case
    prefix: str
    reads: str = "pred_probs"
    job: Job = field(init=False)
    out: Place = field(init=False)
    expected: dict[str, bytes] = field(init=False)

    def __post_init__(self) -> None:
        self.way.clear()
        self.job = Job(
            self.server.through(self.way.endpoint), self.prefix, self.case.block_bytes, self.reads
        )
        self.out = write_data(self.server, self.prefix, self.case)
        self.expected = self.undisturbed(self.case)

    @property
    def chunks(self) -> str:
        """What the paths of chunks of the job's input hold."""
        return f"{self.array}.zarr/c/"

    @property
    def array(self) -> str:
        """The input that is read chunk by chunk, of several models the first."""
        return "losses" if self.reads == "losses" else "pred_probs"

    @property
    def place(self) -> Place:
        """Where data and output lie."""
        return Place(f"{self.server.url}/{self.prefix}", self.server.options())

    def undisturbed(self, case: Case) -> dict[str, bytes]:
        """What a run of a dataset publishes that nothing disturbs."""
        prefix = f"{self.prefix}-undisturbed-{self.chance.getrandbits(32):08x}"
        out = write_data(self.server, prefix, case)
        ended = Job(self.server, prefix, case.block_bytes, self.reads).run()
        found = published(out)
        assert ended.status == 0, ended.said
        assert found
        return found

    def run(self) -> Ended:
        """Run the job to its end."""
        return self.job.run(lease_seconds=LEASE)

    def start(self) -> Child:
        """Start the job."""
        return self.job.start(lease_seconds=LEASE)

    def kill_after(self, mutation: int) -> bool:
        """Kill the job when the store has done the n-th request that changes something; whether it
        came so far.
        """
        children: list[Child] = []

        def kill(request: Request) -> None:
            if request.mutation == mutation:
                children[0].kill()

        before = len(self.way.mutations())
        mutation += before
        rule = self.way.add("forward", methods=MUTATING, call=kill)
        children.append(self.start())
        status = children[0].wait().status
        self.way.rules.remove(rule)
        assert status in (0, -9), status
        return status == -9

    def check(self) -> None:
        """Readers see nothing, or a complete run."""
        found = published(self.out)
        assert found is None or found == self.expected, (
            "another run than an undisturbed one is published"
        )

    def check_again(self) -> None:
        """The same command ends well, and with the same bytes; nothing is locked."""
        self.check()
        before = generation(self.out)
        ended = self.run()
        assert ended.status == 0, ended.said
        assert published(self.out) == self.expected, "not what an undisturbed run publishes"
        assert generation(self.out) == before + 1

    def chunks_read(self) -> int:
        """How many chunks of what the job reads were asked for."""
        return sum(
            request.method == "GET" and self.chunks in request.path for request in self.way.requests
        )

    def check_blocks_read(self, kills: int) -> None:
        """No block was read twice but those in flight at a kill; a block is a chunk.

        The job on losses looks once more at those that hold its candidates, a filter that prunes at
        those with open rows.
        """
        again = 0 if self.reads == "pred_probs" else self.case.blocks * (1 + kills)
        assert self.chunks_read() <= self.case.blocks + again + kills * IN_FLIGHT


def killed_after_a_request(trial: Trial) -> None:
    """Killed when the store has done some request; the blocks that were complete are not read
    again.
    """
    killed = trial.kill_after(trial.chance.randint(1, 30 + 8 * trial.case.blocks))
    trial.check_again()
    trial.check_blocks_read(int(killed))


def killed_at_a_random_moment(trial: Trial) -> None:
    """Killed by the clock, once to three times, then run again."""
    kills = trial.chance.randint(1, 3)
    for _ in range(kills):
        child = trial.start()
        time.sleep(trial.chance.uniform(0.05, 2.0))
        child.kill()
        child.wait()
        trial.check()
    trial.check_again()
    trial.check_blocks_read(kills)


def an_answer_is_lost(trial: Trial) -> None:
    """The store does a write, and the writer does not hear of it."""
    name = trial.chance.choice([r"latest\.json", r"manifest\.json", r"lock\.json", "receipts/"])
    action = trial.chance.choice(["cut_after", "cut_before"])
    rule = trial.way.add(action, methods=("PUT",), pattern=name, count=1)
    ended = trial.run()
    assert ended.status == 0, ended.said
    assert rule.done == 1
    assert published(trial.out) == trial.expected
    assert generation(trial.out) == 1
    trial.check_again()


def requests_fail(trial: Trial) -> None:
    """A share of the requests is answered by errors, cut, or cut short: the exact result, or one
    error.
    """
    how: dict[str, Any] = trial.chance.choice(
        [
            {"action": "status", "status": 503},
            {"action": "status", "status": 500},
            {"action": "refuse"},
            {"action": "cut_before"},
            {"action": "cut_after"},
            {"action": "truncate", "methods": ("GET",)},
        ]
    )
    trial.way.add(share=0.05, **how)
    ended = trial.run()
    trial.way.rules.clear()
    if ended.status:
        ended.one_error()
        assert ended.status in (1, 2), ended.said
    trial.check_again()


def two_drivers(trial: Trial) -> None:
    """One works; the other says who does."""
    ends = [child.wait() for child in [trial.start(), trial.start()]]
    assert sorted(end.status for end in ends) == [0, 4], [end.said for end in ends]
    for end in ends:
        assert end.status == 0 or "is locked by process" in end.one_error()
    assert generation(trial.out) == 1
    trial.check_again()


def asleep_past_the_lease(trial: Trial) -> None:
    """Stopped at some write, for longer than its lease; another publishes, and the first goes
    on.
    """
    pattern = trial.chance.choice([r"receipts/", "label_quality", r"manifest\.json"])
    children: list[Child] = []
    rule = trial.way.add(
        "forward", methods=("PUT",), pattern=pattern, count=1, call=lambda _: children[0].stop()
    )
    children.append(trial.start())
    while not rule.done:
        time.sleep(0.01)
    time.sleep(LEASE + 3.5)  # a store tells times in whole seconds
    ended = trial.run()
    assert ended.status == 0, ended.said
    pointer = trial.out.read("latest.json")
    children[0].go_on()
    woken = children[0].wait()
    assert woken.status == 4, woken.said
    assert trial.out.read("latest.json") == pointer, "it published all the same"
    assert published(trial.out) == trial.expected
    trial.check_again()


@dataclass(frozen=True)
class Change:
    """What becomes of the inputs: other data, or the key of a chunk that cannot be read any
    more.
    """

    case: Case | None
    broken: str = ""


def change_inputs(trial: Trial, how: str) -> Change:
    """Change the inputs as they are stored."""
    case, probs = trial.case, trial.place / f"{trial.array}.zarr"
    chunk = trial.chance.randrange(case.blocks)
    key = f"c/{chunk}/0"
    if how == "deleted":
        probs.remove(key)
        return Change(None, key)
    if how == "corrupted":
        probs.write(key, probs.read(key)[:-5])
        return Change(None, key)
    if how == "swapped":
        one, other = probs.read("c/0/0"), probs.read("c/1/0")
        probs.write("c/0/0", other)
        probs.write("c/1/0", one)
        order = np.r_[CHUNK : 2 * CHUNK, :CHUNK, 2 * CHUNK : len(case.labels)]
        return Change(replace(case, pred_probs=case.pred_probs[order]))
    more = ordinary(rows=70, seed=trial.chance.getrandbits(16))
    longer = Case(
        np.concatenate([case.labels, more.labels]),
        np.concatenate([case.pred_probs, more.pred_probs]),
    )
    write_data(trial.server, trial.prefix, longer)
    return Change(longer)


CHANGES = ("deleted", "corrupted", "swapped", "appended")


def inputs_change(trial: Trial, how: str | None = None, during: bool | None = None) -> None:
    """Input chunks deleted, corrupted, swapped or appended, between two runs or during one."""
    how = how or trial.chance.choice(CHANGES)
    during = trial.chance.random() < 0.5 if during is None else during
    done: list[Change] = []
    if during:
        trial.way.add(
            "forward",
            methods=("GET",),
            pattern=trial.chunks,
            first=2,
            count=1,
            call=lambda _: done.append(change_inputs(trial, how)),
        )
        ended = trial.run()
        trial.way.rules.clear()
        assert ended.status == 1, ended.said
        error = ended.one_error()
        assert "changed while it was read" in error or done[0].broken in error, error
        assert published(trial.out) is None
    else:
        assert trial.run().status == 0
        done.append(change_inputs(trial, how))
    (change,) = done
    if change.case is None:
        ended = trial.run()
        assert ended.status == 1, ended.said
        assert change.broken in ended.one_error()
        trial.check()
        write_data(trial.server, trial.prefix, trial.case)
        trial.check_again()
        return
    before = generation(trial.out)
    trial.expected = trial.undisturbed(change.case)
    assert trial.run().status == 0
    assert published(trial.out) == trial.expected, "an incremental run differs from a full one"
    assert generation(trial.out) == before + 1


#: What is tried, in turns.
KINDS: Mapping[str, Callable[[Trial], None]] = {
    "driver killed after a request": killed_after_a_request,
    "driver killed at a random moment": killed_at_a_random_moment,
    "edge cases, driver killed": killed_after_a_request,
    "an answer lost": an_answer_is_lost,
    "5 % of requests failing": requests_fail,
    "two drivers at once": two_drivers,
    "driver asleep past its lease": asleep_past_the_lease,
    "inputs changed before or during": inputs_change,
    "models, driver killed after a request": killed_after_a_request,
    "models, driver killed at a random moment": killed_at_a_random_moment,
    "models, an answer lost": an_answer_is_lost,
    "models, 5 % of requests failing": requests_fail,
    "models, inputs changed before or during": inputs_change,
    "losses, driver killed after a request": killed_after_a_request,
    "losses, driver killed at a random moment": killed_at_a_random_moment,
    "losses, an answer lost": an_answer_is_lost,
    "losses, 5 % of requests failing": requests_fail,
    "losses, inputs changed before or during": inputs_change,
}


def kind_of(seed: int) -> str:
    """What a seed tries."""
    return list(KINDS)[seed % len(KINDS)]


def run_trial(seed: int, server: Server, way: Proxy) -> None:
    """Do a trial; what does not hold is an AssertionError."""
    chance = random.Random(seed)
    kind = kind_of(seed)
    case = (
        EDGES[chance.choice(list(EDGES))]()
        if kind.startswith("edge")
        else ordinary(rows=550, seed=seed)
    )
    first = kind.partition(",")[0]
    reads = first if first in ("losses", "models") else "pred_probs"
    trial = Trial(server, way, chance, case, f"trial-{seed}-{chance.getrandbits(32):08x}", reads)
    try:
        KINDS[kind](trial)
    finally:
        way.clear()
    trial.place.remove()


@contextmanager
def stage(cloud: str = "s3") -> Iterator[tuple[Server, Proxy]]:
    """A server of a cloud, S3 or Azure, and a proxy before it, for the time of the context."""
    serve: Any = azure_server if cloud == "azure" else s3_server
    with (
        TemporaryDirectory() as folder,
        serve(Path(folder)) as server,
        proxy(server.endpoint) as way,
    ):
        fs = Place(server.url, server.options()).fs
        until_it_works(lambda: fs.mkdir(BUCKET))
        until_it_works(
            lambda: fs.pipe_file(f"{BUCKET}/first", b"1")
        )  # the volumes of a new bucket take a moment
        yield server, way
