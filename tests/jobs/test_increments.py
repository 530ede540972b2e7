"""What did not change is not read again, and the result is that of a full run, bit for bit."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import dask
import dask.array as da
import numpy as np
import pytest
import zarr
from conftest import Place
from distributed import Client
from layouts import Data, make, unlike_the_last, write_npy, write_zarr

import noisydask
from noisydask.core.versions import EVIDENCE_VERSION
from noisydask.engine.progress import Silent
from noisydask.errors import InputError, JobError
from noisydask.issues.results import LabelIssues
from noisydask.stores.arrays import zarr_store
from noisydask.stores.locations import Location

pytestmark = pytest.mark.thorough

DATA = make(rows=1500)
#: Three classes are hard: in each block some rows are left open by the evidence.
HARD = make(rows=1500, strength=[1, 1, 1, 6, 6, 6, 6])
ROWS = 1030
BLOCK_ROWS = 200
BLOCK_BYTES = 15_000


@pytest.fixture(autouse=True)
def synchronous() -> Any:
    with dask.config.set(scheduler="synchronous"):
        yield


def store(place: Place, rows: int = ROWS, layout: str = "v3", data: Data = DATA) -> None:
    """The dataset of which runs are made."""
    write_zarr(place / "l.zarr", data.labels[:rows])
    write_zarr(place / "p.zarr", data.pred_probs[:rows], layout)


def run(place: Place, out: str = "out", **how: Any) -> LabelIssues:
    """The job from stores to a store, which goes by the evidence of the run before, not by that
    run.
    """
    unlike_the_last(place / out)
    options = dict.fromkeys(("labels", "pred_probs", "out"), place.options)
    how = {
        "labels": (place / "l.zarr").url,
        "pred_probs": (place / "p.zarr").url,
        "block_bytes": BLOCK_BYTES,
        **how,
    }
    return noisydask.find_label_issues(**how, out=(place / out).url, storage_options=options)


def opened(place: Place) -> zarr.Array[Any]:
    return zarr.open_array(zarr_store(Location.of(place.url, place.options, "test")), mode="r+")


def results(place: Place, found: LabelIssues, out: str = "out") -> dict[str, bytes]:
    """All objects of a run but the manifest."""
    objects = (place / out / "runs" / found.run.run).objects()
    assert len(objects) > 10
    own = ("manifest.json", "status.json", "changes/")  # these tell of the run itself
    return {name: content for name, content in objects.items() if not name.startswith(own)}


def remove(place: Place, path: str) -> None:
    place.fs.rm_file(place.fs._strip_protocol(f"{place.url}/{path}"))


def change(place: Place, path: str, how: Callable[[bytes], bytes]) -> None:
    place.write(path, how(place.objects()[path]))


def append(place: Place, rows: int, data: Data = DATA) -> None:
    for name, values in (("l.zarr", data.labels), ("p.zarr", data.pred_probs)):
        array = opened(place / name)
        before = array.shape[0]
        array.resize((rows, *values.shape[1:]))
        if rows > before:
            array[before:rows] = values[before:rows]


def correct_label(place: Place) -> None:
    array = opened(place / "l.zarr")
    array[777] = (array[777] + 1) % 7


def rewrite_chunk(place: Place) -> None:
    opened(place / "p.zarr")[300:400] = DATA.pred_probs[1300:1400]


def rewrite_chunks_of_two_blocks(place: Place) -> None:
    opened(place / "p.zarr")[350:450] = DATA.pred_probs[1300:1400]


def swap_chunks(place: Place) -> None:
    objects = (place / "p.zarr").objects()
    place.write("p.zarr/c/1/0", objects["c/8/0"])
    place.write("p.zarr/c/8/0", objects["c/1/0"])


def flip(content: bytes) -> bytes:
    return content[:50] + bytes([content[50] ^ 1]) + content[51:]


#: What happens between two runs, and why which blocks are read again.
CHANGES: dict[str, tuple[Callable[[Place], None], dict[str, list[int]]]] = {
    "nothing": (lambda place: None, {}),
    "rows appended to the last block": (lambda place: append(place, 1130), {"source changed": [5]}),
    "rows appended, new blocks": (
        lambda place: append(place, 1430),
        {"source changed": [5], "new": [6, 7]},
    ),
    "rows removed": (lambda place: append(place, 730), {"source changed": [3]}),
    "whole blocks removed": (lambda place: append(place, 600), {}),
    "one label corrected": (correct_label, {"labels changed": [3]}),
    "a chunk rewritten": (rewrite_chunk, {"source changed": [1]}),
    "two chunks rewritten": (rewrite_chunks_of_two_blocks, {"source changed": [1, 2]}),
    "chunks swapped": (swap_chunks, {"source changed": [0, 4]}),
    "evidence of a block removed": (
        lambda p: remove(p, "out/evidence/top1/2"),
        {"evidence damaged or missing": [2]},
    ),
    "evidence cut short": (
        lambda p: change(p, "out/evidence/p_given/2", lambda content: content[:-9]),
        {"evidence damaged or missing": [2]},
    ),
    "evidence emptied": (
        lambda p: change(p, "out/evidence/given/2", lambda _: b""),
        {"evidence damaged or missing": [2]},
    ),
    "evidence altered": (
        lambda p: change(p, "out/evidence/p_top2/2", flip),
        {"evidence damaged or missing": [2]},
    ),
    "a receipt removed": (lambda p: remove(p, "out/evidence/receipts/00000004.json"), {"new": [4]}),
    "a receipt cut short": (
        lambda p: change(p, "out/evidence/receipts/00000004.json", lambda c: c[:-9]),
        {"new": [4]},
    ),
    "a receipt altered": (
        lambda p: change(
            p,
            "out/evidence/receipts/00000004.json",
            lambda c: c.replace(b'"classes":[0', b'"classes":[1'),
        ),
        {"new": [4]},
    ),
    "a column's metadata removed": (
        lambda p: remove(p, "out/evidence/top2/zarr.json"),
        {},  # they are made anew; what the receipts vouch for is there
    ),
    "the group's metadata removed": (
        lambda p: remove(p, "out/evidence/zarr.json"),
        {"new": [0, 1, 2, 3, 4, 5]},
    ),
}


def stored_of(place: Place, blocks: list[int], layout: str = "v3") -> int:
    """Stored bytes of the probabilities of some blocks."""
    chunks = {f"c/{chunk}/0" for block in blocks for chunk in (2 * block, 2 * block + 1)}
    return sum(
        len(content) for name, content in (place / "p.zarr").objects().items() if name in chunks
    )


#: Those whose like are tried by others.
LIKE_OTHERS = (
    "whole blocks removed",
    "two chunks rewritten",
    "evidence emptied",
    "a receipt removed",
    "a receipt cut short",
    "a column's metadata removed",
)


@pytest.mark.parametrize(
    "what",
    [pytest.param(what, marks=pytest.mark.slow if what in LIKE_OTHERS else ()) for what in CHANGES],
)
def test_only_what_changed_is_read(what: str, place: Place) -> None:
    store(place)
    first = run(place)
    assert first.manifest["blocks"] == {
        "scanned": 6,
        "reused": 0,
        "why": {"new": 6},
        "evidence_not_used": None,
    }
    alter, why = CHANGES[what]
    alter(place)
    again, fresh = run(place), run(place, "fresh")
    read = sorted(block for blocks in why.values() for block in blocks)
    blocks = again.manifest["blocks"]
    assert blocks["why"] == {reason: len(numbers) for reason, numbers in why.items()}
    assert (blocks["scanned"], blocks["reused"]) == (
        len(read),
        again.manifest["counts"]["blocks"] - len(read),
    )
    assert again.manifest["bytes_read"]["pred_probs"] == stored_of(place, read)
    assert fresh.manifest["blocks"]["reused"] == 0
    assert fresh.num_issues > 50
    assert results(place, again) == results(place, fresh, "fresh")
    for name in ("labels", "pred_probs"):
        assert (
            again.manifest["inputs"][name]["fingerprint"]
            == fresh.manifest["inputs"][name]["fingerprint"]
            is not None
        )
    assert run(place).manifest["blocks"]["scanned"] == 0  # and what was read is kept again


def test_another_spelling_of_a_path_is_the_same_array(tmp_path: Path) -> None:
    store(Place(str(tmp_path)))
    (tmp_path / "link").symlink_to(tmp_path)
    for folder in (tmp_path, tmp_path / "nights" / "..", tmp_path / "link"):
        (tmp_path / "nights").mkdir(exist_ok=True)
        found = noisydask.find_label_issues(
            folder / "l.zarr", folder / "p.zarr", out=tmp_path / "out"
        )
    assert found.manifest["blocks"]["scanned"] == 0


@pytest.mark.parametrize("layout", ["v2", "sharded", "split"])
def test_other_layouts(layout: str, tmp_path: Path) -> None:
    place = Place(str(tmp_path))
    store(place, layout=layout)
    run(place)
    assert run(place).manifest["bytes_read"]["pred_probs"] == 0
    rewrite_chunk(place)
    again = run(place)
    assert again.manifest["blocks"]["why"] == {"source changed": 1}
    assert results(place, again) == results(place, run(place, "fresh"), "fresh")


def test_rows_that_come_back_after_they_went(tmp_path: Path) -> None:
    place = Place(str(tmp_path))
    store(place)
    for rows in (730, 1030, 90, 1430, 200, 150, 1030):
        append(place, rows)
        again = run(place)
        fresh = run(place, "fresh", full=True)
        assert again.manifest["counts"]["examples"] == rows
        assert results(place, again) == results(place, fresh, "fresh")


@pytest.mark.slow
@pytest.mark.parametrize("data", [DATA, HARD], ids=["easy", "hard"])
def test_random_histories(data: Data, tmp_path: Path) -> None:
    """Many changes one after another, several between two runs."""
    place, rng = Place(str(tmp_path)), np.random.default_rng(7)
    store(place, data=data)
    for _ in range(12):
        for _ in range(rng.integers(0, 4)):
            probs, labels = opened(place / "p.zarr"), opened(place / "l.zarr")
            row, other = int(rng.integers(0, labels.shape[0])), int(rng.integers(0, 1500))
            kind = rng.integers(0, 3)
            if kind == 0:
                labels[row] = data.labels[other]
            elif kind == 1:
                probs[row] = data.pred_probs[other]
            else:
                append(place, int(rng.integers(300, 1500)), data)
        again = run(
            place,
            quality_score=str(rng.choice(["normalized_margin", "confidence_weighted_entropy"])),
        )
        how = {"quality_score": again.manifest["settings"]["quality_score"]}
        assert results(place, again) == results(
            place, run(place, "fresh", full=True, **how), "fresh"
        )


def read_again(found: LabelIssues) -> tuple[int, int]:
    """Blocks read by the scan, and to resolve rows; what the bytes say agrees."""
    blocks, count = (
        found.manifest["blocks"]["scanned"],
        found.manifest["counts"]["blocks_read_again"],
    )
    read = found.manifest["bytes_read"]
    assert (read["pred_probs"] > 0, read["pred_probs_again"] > 0) == (blocks > 0, count > 0)
    return blocks, count


def test_rows_left_open_are_kept(place: Place) -> None:
    store(place, data=HARD)
    first = run(place)
    assert read_again(first) == (6, 6)
    assert results(place, run(place)) == results(place, first)
    for alter, read in (
        (lambda place: None, (0, 0)),
        (correct_label, (1, 0)),  # the rows kept of that block are what they were
        (rewrite_chunk, (1, 1)),
        (lambda place: append(place, 1130, HARD), (1, 1)),  # all thresholds move a little
        (lambda place: append(place, 930, HARD), (1, 1)),
    ):
        alter(place)
        again = run(place)
        assert read_again(again) == read
        assert results(place, again) == results(place, run(place, "fresh", full=True), "fresh")
    assert read_again(run(place, full=True)) == (5, 5)
    assert read_again(run(place)) == (0, 0)


def test_thresholds_that_move_far_open_other_rows(tmp_path: Path) -> None:
    place = Place(str(tmp_path))
    store(place, data=HARD)
    run(place)
    labels = opened(place / "l.zarr")
    for given, read in (
        (1, (1, 6)),
        (HARD.labels[200:400], (1, 1)),
    ):  # the lowest threshold falls far, and comes back
        labels[200:400] = given
        again = run(place)
        assert read_again(again) == read
        assert results(place, again) == results(place, run(place, "fresh", full=True), "fresh")


KEPT = "out/evidence/open_rows/00000002.bin"


@pytest.mark.parametrize(
    "alter",
    [
        lambda place: remove(place, KEPT),
        lambda place: change(place, KEPT, lambda content: content[:-9]),
        lambda place: change(place, KEPT, lambda _: b""),
        lambda place: change(place, KEPT, flip),
        lambda place: change(place, KEPT, lambda content: content[:-1] + bytes([content[-1] ^ 1])),
        lambda place: place.write(KEPT, place.objects()[KEPT.replace("2.bin", "1.bin")]),
    ],
    ids=["removed", "cut short", "emptied", "of another source", "altered", "of another block"],
)
def test_kept_rows_that_are_damaged_are_read_again(alter: Any, place: Place) -> None:
    store(place, data=HARD)
    first = run(place)
    alter(place)
    again = run(place)
    assert read_again(again) == (0, 1)
    assert results(place, again) == results(place, first)
    assert read_again(run(place)) == (0, 0)


def test_evidence_without_kept_rows_serves(tmp_path: Path) -> None:
    place = Place(str(tmp_path))
    store(place, data=HARD)
    run(place)
    shutil.rmtree(tmp_path / "out/evidence/open_rows")
    assert [read_again(run(place)) for _ in range(2)] == [(0, 6), (0, 0)]


def test_too_many_rows_are_not_kept(tmp_path: Path) -> None:
    place, weak = Place(str(tmp_path)), make(classes=30, strength=[1] * 3 + [4] * 27)
    store(place, data=weak)
    first = run(place)
    again = run(place)
    assert read_again(again)[1] > 1
    assert results(place, again) == results(place, first)
    sizes = [len(content) for content in (place / "out/evidence/open_rows").objects().values()]
    assert max(sizes) < 100 * 30 * 4 / 4 + 300


def test_kept_rows_on_worker_processes(client: Client, tmp_path: Path) -> None:
    place = Place(str(tmp_path))
    store(place, data=HARD)
    with dask.config.set(scheduler=client):
        first, again = run(place), run(place)
    assert (read_again(first), read_again(again)) == ((6, 6), (0, 0))
    assert (
        results(place, again)
        == results(place, first)
        == results(place, run(place, "fresh"), "fresh")
    )


def test_another_score_reads_only_what_it_lacks(tmp_path: Path) -> None:
    place, entropy = Place(str(tmp_path)), {"quality_score": "confidence_weighted_entropy"}
    store(place)
    run(place)
    assert run(place, quality_score="normalized_margin").manifest["blocks"]["scanned"] == 0
    assert run(place, **entropy).manifest["blocks"]["why"] == {"evidence lacks columns": 6}
    for how in (entropy, {}, entropy):
        again = run(place, **how)
        assert again.manifest["blocks"]["scanned"] == 0
        assert results(place, again) == results(
            place, run(place, "fresh", full=True, **how), "fresh"
        )
    rewrite_chunk(place)
    assert run(place).manifest["blocks"]["why"] == {"source changed": 1}
    again = run(place, **entropy)
    assert again.manifest["blocks"]["why"] == {"evidence lacks columns": 1}
    assert results(place, again) == results(
        place, run(place, "fresh", full=True, **entropy), "fresh"
    )


def other_version(place: Place) -> None:
    change(
        place,
        "out/evidence/zarr.json",
        lambda c: c.replace(
            b'"evidence_version": %d' % EVIDENCE_VERSION, b'"evidence_version": 99'
        ),
    )


def fewer_classes(place: Place) -> None:
    write_zarr(place / "p.zarr", make(rows=ROWS, classes=5).pred_probs)
    write_zarr(place / "l.zarr", make(rows=ROWS, classes=5).labels)


def doubles(place: Place) -> None:
    write_zarr(place / "p.zarr", make(rows=ROWS).pred_probs.astype(np.float64))


@pytest.mark.parametrize(
    ("alter", "how", "named"),
    [
        (other_version, {}, f"evidence version 99 instead of {EVIDENCE_VERSION}"),
        (fewer_classes, {}, "classes 7 instead of 5"),
        (doubles, {}, "dtype float32 instead of float64"),
        (lambda place: None, {"block_bytes": 2 * BLOCK_BYTES}, "block rows 200 instead of 400"),
        (lambda place: None, {"full": True}, "not asked for"),
    ],
)
def test_evidence_of_another_kind_is_named_and_made_anew(
    alter: Any, how: Any, named: str, place: Place
) -> None:
    store(place)
    run(place)
    alter(place)
    again = run(place, **how)
    blocks = again.manifest["blocks"]
    assert named in blocks["evidence_not_used"]
    assert blocks["reused"] == 0
    assert results(place, again) == results(place, run(place, "fresh", **how), "fresh")
    assert run(place, **(how | {"full": False})).manifest["blocks"]["scanned"] == 0


def test_npy_is_one_object(place: Place) -> None:
    sources = {
        "labels": write_npy(place / "l.npy", DATA.labels),
        "pred_probs": write_npy(place / "p.npy", DATA.pred_probs),
    }
    run(place, **sources)
    assert run(place, **sources).manifest["bytes_read"]["pred_probs"] == 0
    labels = DATA.labels.copy()
    labels[5] = (labels[5] + 1) % 7
    write_npy(place / "l.npy", labels)
    assert run(place, **sources).manifest["blocks"]["why"] == {"labels changed": 1}
    write_npy(place / "p.npy", (DATA.pred_probs + np.float32(1 / 7)) / 2)
    again = run(place, **sources)
    assert again.manifest["blocks"]["why"] == {"source changed": again.manifest["counts"]["blocks"]}
    assert results(place, again) == results(place, run(place, "fresh", **sources), "fresh")


def test_labels_from_memory_and_from_a_graph(tmp_path: Path) -> None:
    place = Place(str(tmp_path))
    store(place)
    labels = DATA.labels[:ROWS].copy()
    run(place, labels=labels)
    assert run(place, labels=da.from_array(labels, chunks=77)).manifest["blocks"]["scanned"] == 0
    labels[999] = (labels[999] + 1) % 7
    change(place, "out/evidence/p_given/2", flip)
    again = run(place, labels=labels)
    assert again.manifest["blocks"]["why"] == {
        "labels changed": 1,
        "evidence damaged or missing": 1,
    }
    assert results(place, again) == results(place, run(place, "fresh", labels=labels), "fresh")


def test_probabilities_without_identity_are_always_read(tmp_path: Path) -> None:
    place = Place(str(tmp_path))
    store(place)
    run(place)
    memory = zarr.create_array(
        zarr.storage.MemoryStore(), data=DATA.pred_probs[:ROWS], chunks=(100, 7)
    )
    for source in (
        DATA.pred_probs[:ROWS],
        da.from_array(DATA.pred_probs[:ROWS], chunks=(300, 7)),
        memory,
    ):
        found = run(place, pred_probs=source)
        assert found.manifest["blocks"]["why"] == {
            "source without identity": found.manifest["counts"]["blocks"]
        }
    again = run(place)
    assert again.manifest["blocks"]["scanned"] == 6
    assert results(place, again) == results(place, found)


def test_another_array_with_the_same_chunks_is_another(tmp_path: Path) -> None:
    place = Place(str(tmp_path))
    store(place)
    run(place)
    write_zarr(place / "other.zarr", DATA.pred_probs[:ROWS])
    assert run(place, pred_probs=(place / "other.zarr").url).manifest["blocks"]["why"] == {
        "source changed": 6
    }


def test_refused_rows_are_refused_again_without_reading(tmp_path: Path) -> None:
    place = Place(str(tmp_path))
    store(place)
    opened(place / "p.zarr")[[3, 500]] = np.nan
    said = set()
    for _ in range(2):
        with pytest.raises(InputError, match=r"2 of 1,030 rows are invalid.* 3, 500") as caught:
            run(place)
        said.add(str(caught.value))
    assert len(said) == 1
    found = run(place, on_invalid="skip")
    assert found.manifest["blocks"]["scanned"] == 0
    assert found.invalid_indices.tolist() == [3, 500]
    assert results(place, found) == results(place, run(place, "fresh", on_invalid="skip"), "fresh")


class Meddler(Silent):
    """Somebody who changes the inputs while a run is under way."""

    def __init__(self, act: Callable[[], None], at: str = "counting") -> None:
        self.act: Callable[[], None] | None = act
        self.at = at

    def phase(self, name: str) -> None:
        if name.startswith(self.at) and self.act is not None:
            act, self.act = self.act, None
            act()


@pytest.mark.parametrize(
    ("meddle", "where"),
    [
        (rewrite_chunk, "pred_probs"),
        (correct_label, "labels"),
        (lambda place: append(place, 1130), "labels"),
        (lambda place: remove(place, "p.zarr/c/4/0"), "pred_probs"),
    ],
)
def test_inputs_that_change_during_the_run(meddle: Any, where: str, place: Place) -> None:
    store(place)
    run(place)
    before = place.objects()["out/latest.json"]
    correct_label(place)
    with pytest.raises(JobError, match=f"{where} at .* changed while it was read"):
        run(place, reporter=Meddler(lambda: meddle(place)))
    assert place.objects()["out/latest.json"] == before
    store(place, 1430)
    again = run(place)
    assert results(place, again) == results(place, run(place, "fresh"), "fresh")


def test_a_change_during_the_run_is_read_by_the_next(place: Place) -> None:
    store(place)
    with pytest.raises(JobError, match="changed while it was read"):
        run(place, reporter=Meddler(lambda: rewrite_chunk(place)))
    again = run(place)
    assert again.manifest["blocks"]["why"] == {"new": 1}  # its receipt went with the failed run
    assert results(place, again) == results(place, run(place, "fresh"), "fresh")


def test_rows_kept_of_a_change_during_the_run_go_with_its_receipt(tmp_path: Path) -> None:
    place, chunk = Place(str(tmp_path)), tmp_path / "p.zarr/c/3/0"
    store(place, data=HARD)
    shutil.copy2(chunk, tmp_path / "before")
    with pytest.raises(JobError, match="changed while it was read"):
        run(place, reporter=Meddler(lambda: rewrite_chunk(place), "reading 6 blocks again"))
    shutil.copy2(tmp_path / "before", chunk)  # what was listed came back
    again = run(place)
    assert again.manifest["blocks"]["why"] == {"new": 1}
    assert results(place, again) == results(place, run(place, "fresh"), "fresh")


def test_receipts_are_plain_json_without_secrets(s3_place: Place) -> None:
    store(s3_place)
    run(s3_place)
    receipts = (s3_place / "out/evidence/receipts").objects()
    assert sorted(receipts) == [f"{block:08d}.json" for block in range(6)]
    for content in receipts.values():
        assert json.loads(content)["receipt"]["rows"] in (BLOCK_ROWS, 30)
        assert s3_place.options["secret"].encode() not in content
