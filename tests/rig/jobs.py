"""Jobs as child processes, killed and started again; and what must hold of their output
afterwards.
"""

from __future__ import annotations

import json
import multiprocessing
import os
import signal
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import google_crc32c

from rig import child
from rig.cases import CHUNK, Case
from rig.place import Place
from rig.server import Server

#: Parts of a run that differ between two runs of the same data: they tell of times and names.
_TELLS_OF_ITSELF = ("manifest.json", "status.json")


# Children are forked from a process that has imported everything: a job of a second does not wait
# two for its imports.
os.environ["PYTHONPATH"] = str(Path(__file__).parents[1])  # the process that forks finds this
_FORKS = multiprocessing.get_context("forkserver")
_FORKS.set_forkserver_preload(["noisydask.cli.app", "obstore", "rig.child"])


@dataclass(frozen=True)
class Job:
    """A job on the data of a bucket, on two threads of one process: what a kill takes is all there
    is.

    Attributes
    ----------
    server : Server
        The server, or a proxy before it.
    prefix : str
        Where data and output lie in the bucket.
    block_bytes : int
        Bytes of a block.
    reads : {"pred_probs", "models", "losses"}
        The main job, of one model or of two and by another filter, or the job on losses.
    """

    server: Server
    prefix: str
    block_bytes: int = 4000
    reads: str = "pred_probs"

    def start(self, **more: Any) -> Child:
        """Start it."""
        options = self.server.options()
        array = "losses" if self.reads == "losses" else "pred_probs"
        places = {"labels": "labels.zarr", array: f"{array}.zarr", "out": "out"}
        at = f"{self.server.url}/{self.prefix}"
        how: dict[str, Any] = {name: f"{at}/{path}" for name, path in places.items()}
        how |= {
            "storage_options": dict.fromkeys(places, options),
            "block_bytes": self.block_bytes,
            **more,
        }
        if self.reads == "losses":
            how |= {"alpha": 0.1, "top_k": 40}
        if self.reads == "models":
            how |= {"pred_probs": [how["pred_probs"], f"{at}/second.zarr"], "filter_by": "both"}
            how |= {"block_bytes": 2 * self.block_bytes}
        return start(self.reads, how)

    def run(self, timeout: float = 120, **more: Any) -> Ended:
        """Run it to its end."""
        return self.start(**more).wait(timeout)


@dataclass(frozen=True)
class Ended:
    """How a job ended."""

    status: int
    said: str

    def one_error(self) -> str:
        """The only error that was said; a traceback is none."""
        assert "Traceback" not in self.said, self.said
        errors = [line for line in self.said.splitlines() if line.startswith("error:")]
        assert len(errors) == 1, self.said
        return errors[0]


@dataclass(frozen=True)
class Child:
    """A job that runs."""

    process: Any
    _said: Path

    def wait(self, timeout: float = 120) -> Ended:
        """Wait for it; one that does not end is a failure, and is killed."""
        self.process.join(timeout)
        late = self.process.exitcode is None
        if late:
            self.kill()
            self.process.join()
        said = self._said.read_text()
        self._said.unlink()
        assert not late, f"the job did not end in {timeout} s:\n{said}"
        return Ended(self.process.exitcode, said)

    def kill(self) -> None:
        """Kill it as the kernel does."""
        self.process.kill()

    def stop(self) -> None:
        """Stop it where it stands, as the lid of a laptop does."""
        os.kill(self.process.pid, signal.SIGSTOP)
        status = Path(f"/proc/{self.process.pid}/stat")
        while status.read_text().rpartition(")")[2].split()[0] != "T":
            time.sleep(0.01)

    def go_on(self) -> None:
        """Let it go on."""
        os.kill(self.process.pid, signal.SIGCONT)


def start(reads: str, how: dict[str, Any]) -> Child:
    """Start a job in a process of its own, with these arguments."""
    said = tempfile.NamedTemporaryFile(prefix="said-", delete=False)  # noqa: SIM115  the child writes it
    said.close()
    process = _FORKS.Process(target=child.run, args=(reads, how, said.name), daemon=True)
    process.start()
    return Child(process, Path(said.name))


def write_data(server: Server, prefix: str, data: Case) -> Place:
    """Put the data where jobs look for it; the place of their output."""
    place = Place(f"{server.url}/{prefix}", server.options())
    (place / "labels.zarr").write_array(data.labels, CHUNK)
    (place / "pred_probs.zarr").write_array(data.pred_probs, CHUNK)
    (place / "losses.zarr").write_array(data.losses, CHUNK)
    (place / "second.zarr").write_array(data.second, CHUNK)
    return place / "out"


def published(out: Place) -> dict[str, bytes] | None:
    """The published run's objects, without those that tell of the run itself; each is checked
    against the manifest.
    """
    objects = out.objects()
    if "latest.json" not in objects:
        return None
    latest = json.loads(objects["latest.json"])
    run = _objects_of(latest["run"], objects)
    check(latest["manifest"], run)
    manifest = json.loads(run["manifest.json"])
    own = {stored["path"] for stored in manifest["objects"] if "run" not in stored}
    assert own == set(run) - {"manifest.json"}
    if "repeats" in manifest:
        origin = _objects_of(manifest["repeats"], objects)
        run |= {
            stored["path"]: origin[stored["path"]]
            for stored in manifest["objects"]
            if "run" in stored
        }
    for stored in manifest["objects"]:
        check(stored, run)
    return {
        name: content
        for name, content in run.items()
        if name not in _TELLS_OF_ITSELF and not name.startswith("changes/")
    }


def _objects_of(run: str, objects: dict[str, bytes]) -> dict[str, bytes]:
    prefix = f"runs/{run}/"
    return {
        name.removeprefix(prefix): content
        for name, content in objects.items()
        if name.startswith(prefix)
    }


def check(stored: dict[str, Any], run: dict[str, bytes]) -> None:
    """An object is what a manifest says of it."""
    content = run[stored["path"]]
    assert (len(content), f"{google_crc32c.value(content):08x}") == (
        stored["size"],
        stored["crc32c"],
    ), stored["path"]


def generation(out: Place) -> int:
    """How often something was published."""
    objects = out.objects()
    return int(json.loads(objects["latest.json"])["generation"]) if "latest.json" in objects else 0
