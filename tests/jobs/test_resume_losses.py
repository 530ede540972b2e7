"""The dense job on losses goes on where it was: from blocks that have a receipt, from the
iterations that were read."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import zarr
from conftest import Place
from layouts import unlike_the_last, write_zarr
from test_losses import bits
from test_resume import kill_after

import noisydask
from noisydask.dynamics import candidate_parts
from noisydask.dynamics.results import LossDynamics
from noisydask.errors import JobError
from noisydask.stores.arrays import zarr_store
from noisydask.stores.locations import Location

pytestmark = pytest.mark.thorough
SLOW = pytest.mark.slow

Array = npt.NDArray[Any]
BLOCKS, ROWS, WIDTH, CHUNK, ALPHA = 20, 100, 14, 4, 0.1
BLOCK_BYTES = 10_000  # 100 rows of 14 iterations, or of 18
#: A job whose blocks come one after another, not too fast to be killed between two.
ONE_BY_ONE = """
import sys, time, dask, json, noisydask
from noisydask.dynamics import dense_passes as dynamics_passes
advance = dynamics_passes.advance
def slowly(*args):
    time.sleep(0.03)
    return advance(*args)
dynamics_passes.advance = slowly
losses, labels, out, how, options = sys.argv[1:]
options = dict.fromkeys(("losses", "labels", "out"), json.loads(options))
with dask.config.set(scheduler="synchronous"):
    options = dict(labels=labels, out=out, storage_options=options)
    noisydask.analyze_loss_dynamics(losses, **options, **json.loads(how))
"""


def made(blocks: int = BLOCKS) -> tuple[Array, Array]:
    """Losses of 18 iterations with gaps and ties, labels."""
    rng = np.random.default_rng(0)
    losses = np.round(rng.exponential(1.0, (ROWS * blocks, 18)), 1).astype(np.float32)
    losses[rng.random(losses.shape) < 0.2] = np.nan
    return losses, rng.integers(-1, 4, len(losses))


LOSSES, LABELS = made()


def store(place: Place, losses: Array = LOSSES, width: int = WIDTH) -> Any:
    write_zarr(place / "labels.zarr", LABELS[: len(losses)])
    at = zarr_store(Location.of((place / "losses.zarr").url, place.options, "test"))
    return zarr.create_array(at, data=losses[:, :width], chunks=(ROWS, CHUNK), overwrite=True)


def append(array: Any, losses: Array = LOSSES) -> None:
    array.resize(losses.shape)
    array[:, WIDTH:] = losses[:, WIDTH:]


def run(place: Place, out: str = "out", **how: Any) -> LossDynamics:
    unlike_the_last(place / out)  # what is tried are its states
    options = dict.fromkeys(("losses", "labels", "out"), place.options)
    how = {
        "alpha": ALPHA,
        "block_bytes": BLOCK_BYTES,
        "storage_options": options,
        "top_k": 30,
        **how,
    }
    losses, labels = ((place / f"{name}.zarr").url for name in ("losses", "labels"))
    return noisydask.analyze_loss_dynamics(losses, labels=labels, out=(place / out).url, **how)


def blocks(found: LossDynamics) -> dict[str, Any]:
    return dict(found.manifest["blocks"])


def receipts(place: Place) -> int:
    return len(place.fs.find(f"{place.url}/out/evidence-dynamics/receipts"))


def start(place: Place, **how: Any) -> subprocess.Popen[bytes]:
    how = {"alpha": ALPHA, "block_bytes": BLOCK_BYTES, "top_k": 30, **how}
    arguments = [(place / name).url for name in ("losses.zarr", "labels.zarr", "out")]
    return subprocess.Popen(
        [sys.executable, "-c", ONE_BY_ONE, *arguments, json.dumps(how), json.dumps(place.options)],
        start_new_session=True,
    )


@SLOW
@pytest.mark.parametrize("top_k", [30, pytest.param(None, marks=pytest.mark.soak)])
def test_killed_driver(place: Place, top_k: int | None) -> None:
    store(place)
    fresh = run(place, "fresh", top_k=top_k)
    assert blocks(fresh)["scanned"] == BLOCKS
    complete = 0
    for wanted in (1, BLOCKS // 2):
        kill_after(start(place, top_k=top_k), lambda wanted=wanted: receipts(place) >= wanted)
        assert receipts(place) >= complete
        complete = receipts(place)
        assert "latest.json" not in (place / "out").objects()
    assert BLOCKS // 2 <= complete < BLOCKS
    found = run(place, top_k=top_k)
    # One block may have been complete but for a part of its receipt.
    assert complete - 1 <= blocks(found)["reused"] <= complete
    size = fresh.manifest["bytes_read"]["losses"] / BLOCKS
    assert found.manifest["bytes_read"]["losses"] == pytest.approx(
        blocks(found)["scanned"] * size, rel=0.1
    )
    assert bits(found) == bits(fresh)


@pytest.mark.parametrize("block_bytes", [BLOCK_BYTES, pytest.param(1_000, marks=SLOW)])
@pytest.mark.parametrize("top_k", [30, pytest.param(None, marks=SLOW)])
def test_nothing_changed_nothing_read(place: Place, top_k: int | None, block_bytes: int) -> None:
    """Where rows are read whole, and where they are read in pieces of their iterations."""
    store(place)
    first = run(place, top_k=top_k, block_bytes=block_bytes)
    found = run(place, top_k=top_k, block_bytes=block_bytes)
    assert blocks(found) == {"scanned": 0, "reused": BLOCKS, "why": {}, "evidence_not_used": None}
    assert found.manifest["bytes_read"] == {"losses": 0, "losses_again": 0}
    assert found.manifest["counts"]["iterations_read"] == 0
    assert bits(found) == bits(first)


@SLOW
def test_killed_while_iterations_are_appended(place: Place) -> None:
    array = store(place)
    first = run(place)
    append(array)
    before = {
        path: place.fs.cat_file(path)
        for path in place.fs.find(f"{place.url}/out/evidence-dynamics/receipts")
    }

    def renewed() -> int:
        return sum(place.fs.cat_file(path) != content for path, content in before.items())

    kill_after(start(place), lambda: renewed() >= BLOCKS // 2)
    found = run(place)
    told = blocks(found)
    assert 0 < told["scanned"] <= BLOCKS // 2
    # A block may have been killed between its states and its receipt: it is read from what is left.
    assert told["why"].get("iterations appended", 0) >= told["scanned"] - 1
    assert bits(found) == bits(run(place, "fresh"))
    assert found.manifest["bytes_read"]["losses"] < first.manifest["bytes_read"]["losses"]
    assert run(place).manifest["bytes_read"] == {"losses": 0, "losses_again": 0}


@SLOW
def test_appended_after_a_kill(tmp_path: Path) -> None:
    place = Place(str(tmp_path))
    array = store(place)
    kill_after(start(place), lambda: receipts(place) >= BLOCKS // 2)
    complete = receipts(place)
    append(array)
    found = run(place)
    why = blocks(found)["why"]
    assert complete - 1 <= why["iterations appended"] <= complete
    assert why["new"] == BLOCKS - why["iterations appended"]
    assert bits(found) == bits(run(place, "fresh"))


def damage_receipt(place: Place, array: Any) -> None:
    name = "out/evidence-dynamics/receipts/00000003.json"
    place.write(name, (place / "out").objects()[name.removeprefix("out/")][:-20])


def damage_column(place: Place, array: Any) -> None:
    name = "out/evidence-dynamics/squares/3"
    content = bytearray((place / "out").objects()[name.removeprefix("out/")])
    content[17] ^= 1
    place.write(name, bytes(content))


def cut_column(place: Place, array: Any) -> None:
    place.write("out/evidence-dynamics/ema/3", b"short")


def lose_sums(place: Place, array: Any) -> None:
    place.fs.rm_file(
        place.fs._strip_protocol(f"{place.url}/out/evidence-dynamics/sums/00000003.bin")
    )


def rewrite_first_chunk(place: Place, array: Any) -> None:
    array[301, 1] = 7.0


def rewrite_last_chunk(place: Place, array: Any) -> None:
    array[301, 13] = 7.0


def correct_label(place: Place, array: Any) -> None:
    labels = LABELS.copy()
    labels[301] = 3 - labels[301]
    write_zarr(place / "labels.zarr", labels)


#: What happens to block 3, why it is read then, and how many iterations of it.
CHANGES: dict[str, tuple[Callable[[Place, Any], None], str, int]] = {
    "receipt cut short": (damage_receipt, "new", WIDTH),
    "state altered": (damage_column, "evidence damaged or missing", WIDTH % CHUNK),
    "state cut short": (cut_column, "evidence damaged or missing", WIDTH % CHUNK),
    "sums lost": (lose_sums, "evidence damaged or missing", WIDTH),
    "chunk rewritten": (rewrite_first_chunk, "source changed", WIDTH),
    "last chunk rewritten": (rewrite_last_chunk, "source changed", WIDTH % CHUNK),
    "label corrected": (correct_label, "labels changed", WIDTH),
}


@pytest.mark.parametrize(
    "change",
    [pytest.param(name, marks=SLOW if name != "state altered" else ()) for name in CHANGES],
)
def test_one_block_is_read_again(place: Place, change: str) -> None:
    array = store(place)
    first = run(place)
    happens, why, iterations = CHANGES[change]
    happens(place, array)
    found = run(place)
    assert blocks(found) == {
        "scanned": 1,
        "reused": BLOCKS - 1,
        "why": {why: 1},
        "evidence_not_used": None,
    }
    assert found.manifest["counts"]["iterations_read"] == iterations
    assert (
        0
        < found.manifest["bytes_read"]["losses"]
        < 1.2 * first.manifest["bytes_read"]["losses"] / BLOCKS
    )
    assert bits(found) == bits(run(place, "fresh"))


@pytest.mark.parametrize(
    ("how", "said"),
    [
        ({"alpha": 0.2}, "it has alpha 0.1 instead of 0.2"),
        pytest.param(
            {"block_bytes": 20_000}, "it has block bytes 10000 instead of 20000", marks=SLOW
        ),
        pytest.param({"full": True}, "it was not asked for", marks=SLOW),
    ],
)
def test_states_of_another_kind_are_named_and_made_anew(
    tmp_path: Path, how: dict[str, Any], said: str
) -> None:
    place = Place(str(tmp_path))
    store(place)
    run(place)
    found = run(place, **how)
    assert blocks(found)["reused"] == 0
    assert blocks(found)["evidence_not_used"].startswith(said)
    assert bits(found) == bits(run(place, "fresh", **how))
    assert blocks(run(place, **how | {"full": False}))["scanned"] == 0


@pytest.mark.parametrize(
    ("before", "after"),
    [(30, 50), (None, 30), pytest.param(50, 30, marks=SLOW), pytest.param(30, None, marks=SLOW)],
)
def test_another_length_of_the_ranking(
    tmp_path: Path, before: int | None, after: int | None
) -> None:
    place = Place(str(tmp_path))
    store(place)
    run(place, top_k=before)
    found = run(place, top_k=after)
    assert blocks(found)["scanned"] == 0
    assert bits(found) == bits(run(place, "fresh", top_k=after))


def test_rows_appended(tmp_path: Path) -> None:
    place = Place(str(tmp_path))
    array = store(place, LOSSES[:1850])
    run(place)
    array.resize((len(LOSSES), WIDTH))
    array[1850:] = LOSSES[1850:, :WIDTH]
    write_zarr(place / "labels.zarr", LABELS)
    found = run(place)
    assert blocks(found)["why"] == {"source changed": 1, "new": 1}
    assert bits(found) == bits(run(place, "fresh"))


def test_invalid_losses_leave_the_receipts_of_others(tmp_path: Path) -> None:
    place = Place(str(tmp_path))
    array = store(place)
    array[301, 2] = -1
    with pytest.raises(noisydask.InputError, match="1 with negative losses"):
        run(place)
    with pytest.raises(noisydask.InputError, match="1 with negative losses"):
        run(place)
    array[301, 2] = 1
    found = run(place)
    assert blocks(found)["scanned"] == 1
    assert bits(found) == bits(run(place, "fresh"))


def test_changed_while_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    place = Place(str(tmp_path))
    array = store(place)
    real = candidate_parts.write_means

    def late(*args: Any) -> None:
        array[301, 2] = 7.0
        real(*args)

    with monkeypatch.context() as patch:
        patch.setattr(candidate_parts, "write_means", late)
        with pytest.raises(JobError, match="changed while it was read"):
            run(place)
    assert not (tmp_path / "out/latest.json").exists()
    found = run(place)
    assert blocks(found)["why"] == {"new": 1}  # its receipt went with the failed run
    assert bits(found) == bits(run(place, "fresh"))
