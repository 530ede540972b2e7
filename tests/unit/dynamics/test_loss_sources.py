"""What dense losses are read from: chunks that are not stored, inputs that change under the run,
fingerprints."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zarr
from conftest import Place

import noisydask
from noisydask import JobError
from noisydask.engine.progress import Silent
from noisydask.stores.arrays import zarr_store
from noisydask.stores.locations import Location

pytestmark = pytest.mark.thorough

RNG = np.random.default_rng(0)
LOSSES = RNG.exponential(1.0, (400, 12)).astype(np.float32)
GIVEN = {"losses": LOSSES, "labels": RNG.integers(0, 3, 400), "ids": np.arange(400) + 7}
CHUNKS = {"losses": (100, 4), "labels": (100,), "ids": (100,)}


def array(place: Place, name: str) -> zarr.Array[Any]:
    return zarr.open_array(
        zarr_store(Location.of((place / f"{name}.zarr").url, place.options, name)), mode="r+"
    )


def store(place: Place, **fill: Any) -> None:
    for name, values in GIVEN.items():
        where = zarr_store(Location.of((place / f"{name}.zarr").url, place.options, name))
        zarr.create_array(
            where, data=values, chunks=CHUNKS[name], fill_value=fill.get(name, 0), overwrite=True
        )


def run(place: Place, out: str = "out", **how: Any) -> noisydask.LossDynamics:
    urls = {name: (place / f"{name}.zarr").url for name in GIVEN}
    options = dict.fromkeys((*GIVEN, "out"), place.options)
    return noisydask.analyze_loss_dynamics(
        **urls, alpha=0.1, block_bytes=10_000, out=(place / out).url, storage_options=options, **how
    )


def remove(place: Place, key: str) -> None:
    found = Location.of((place / key).url, place.options, key)
    found.fs.rm_file(found.path)


class Meddler(Silent):
    """Somebody who changes the inputs while a run is under way."""

    def __init__(self, act: Callable[[], None]) -> None:
        self.act: Callable[[], None] | None = act

    def phase(self, name: str) -> None:
        if name.startswith("ranking") and self.act is not None:
            act, self.act = self.act, None
            act()


def bits(place: Place, found: noisydask.LossDynamics) -> dict[str, bytes]:
    """What a run says of the data."""
    start = (
        f"{found.run.place.path.rpartition('/runs/')[0].rpartition('/')[2]}/runs/{found.run.run}/"
    )
    told = ("candidates/", "mean_loss", "ema.zarr", "top_curves", "losses_per")
    objects = {
        name.removeprefix(start): data
        for name, data in place.objects().items()
        if name.startswith(start)
    }
    return {name: data for name, data in objects.items() if name.startswith(told)}


@pytest.mark.parametrize(("name", "key"), [("losses", "c/2/1"), ("ids", "c/3")])
def test_chunks_that_are_lost_are_named(name: str, key: str, place: Place) -> None:
    store(place)
    remove(place, f"{name}.zarr/{key}")
    first = int(key.split("/")[1]) * 100
    with pytest.raises(
        JobError,
        match=f"{name} at .*chunk {key}, rows {first} to {first + 99} cannot be read: it is not "
        "stored",
    ):
        run(place)
    assert "out/latest.json" not in place.objects()


def test_chunks_that_may_be_fill_value_are_counted(place: Place) -> None:
    store(place, losses=np.nan)
    remove(place, "losses.zarr/c/2/1")
    remove(place, "labels.zarr/c/1")
    found = run(place)
    inputs = found.manifest["inputs"]
    assert [inputs[name].get("chunks_not_stored") for name in GIVEN] == [1, 1, None]
    losses = LOSSES.copy()
    losses[200:300, 4:8] = np.nan
    assert found.ema([214], place.options).notna().sum(axis=1).tolist() == [8]
    assert found.manifest["counts"]["losses"] == np.count_nonzero(~np.isnan(losses))
    assert (found.top_k(400).set_index("index").loc[100:199, "label"] == 0).all()


@pytest.mark.parametrize("top_k", [5, pytest.param(None, marks=pytest.mark.slow)])
@pytest.mark.parametrize(
    "name", ["losses", *(pytest.param(name, marks=pytest.mark.slow) for name in ("labels", "ids"))]
)
def test_inputs_that_change_during_the_run(name: str, top_k: int | None, tmp_path: Path) -> None:
    place = Place(str(tmp_path))
    store(place)
    run(place, top_k=top_k)
    before = place.objects()["out/latest.json"]

    def meddle() -> None:
        array(place, name)[150:160] = 1

    array(place, "losses")[0] = 2.0
    with pytest.raises(JobError, match=f"{name} at .* changed while it was read"):
        run(place, top_k=top_k, reporter=Meddler(meddle))
    assert place.objects()["out/latest.json"] == before
    again = run(place, top_k=top_k)
    assert bits(place, again) == bits(place, run(place, "fresh", top_k=top_k))


@pytest.mark.parametrize("kind", ["csv", "json"])
def test_files_that_change_during_the_run(kind: str, place: Place) -> None:
    """Those that came since are no part of it: somebody may be recording."""
    told = {"iters": [0, 1], "loss_dynamics": [0.5, 0.25]}
    items = [{"id": "a", "annotations": [{"id": 0, "label_id": 0, "attributes": told}]}]
    infos = {"purpose": "noisy_label_detection", "task": "OTX-MultiClassCls"}
    dataset = {"infos": infos, "categories": {"label": {"labels": [{"name": "x"}]}}, "items": items}
    content = b"id,iteration,loss\n1,0,0.5\n" if kind == "csv" else json.dumps(dataset).encode()
    name = "table" if kind == "csv" else "datumaro"
    options = {"storage_options": {name: place.options, "out": place.options}}

    def analyze(changes: str) -> noisydask.LossDynamics:
        meddler = Meddler(
            lambda: place.write(f"data/annotations/{changes}.{kind}", content + b"\n")
        )
        where: Any = {name: f"{place.url}/data" + ("/annotations" if kind == "csv" else "")}
        return noisydask.analyze_loss_dynamics(
            **where, **options, out=f"{place.url}/out", full=True, reporter=meddler
        )

    place.write(f"data/annotations/train.{kind}", content)
    fingerprint = analyze("val").manifest["inputs"]["losses"]["fingerprint"]
    place.fs.rm_file(place.fs._strip_protocol(f"{place.url}/data/annotations/val.{kind}"))
    assert fingerprint is not None
    before = place.objects()["out/latest.json"]
    with pytest.raises(
        JobError, match=r"changed while it was read \(1 files, the first is .*train"
    ):
        analyze("train")
    assert place.objects()["out/latest.json"] == before


def test_fingerprints_of_inputs(place: Place) -> None:
    store(place)

    def fingerprints() -> dict[str, str]:
        return {name: found["fingerprint"] for name, found in run(place).manifest["inputs"].items()}

    first = fingerprints()
    assert None not in first.values()
    assert fingerprints() == first
    array(place, "labels")[5] = 1 - GIVEN["labels"][5] % 2
    assert {name for name, found in fingerprints().items() if found != first[name]} == {"labels"}
