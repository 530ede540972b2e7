"""Bad input is refused in one sentence and changes nothing, or is left out and counted; bad places
are named, soon."""

from __future__ import annotations

import json
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import Place
from distributed import Client
from layouts import Data, make, write_npy, write_zarr
from rig.server import BUCKET, KEY, SECRET, S3Server, free_ports

import noisydask
from noisydask.errors import InputError, JobError
from noisydask.issues import ranked
from noisydask.issues.results import LabelIssues

GOOD = make(rows=900)
ROWS = (3, 250, 251, 899)
BLOCK_BYTES = 10_000
SOON = 30.0


def spoiled(kind: str) -> Data:
    """The good data with :data:`ROWS` made bad in one way."""
    labels, probs, rows = GOOD.labels.copy(), GOOD.pred_probs.copy(), list(ROWS)
    if kind == "nan":
        probs[rows, 2] = np.nan
    elif kind == "infinity":
        probs[rows, 2] = -np.inf
    elif kind == "below 0":
        probs[rows, :2] = [-0.01, 1.01]
    elif kind == "above 1":
        probs[rows] = np.eye(7, dtype=np.float32)[0] * 1.005
    elif kind == "sum":
        probs[rows] *= 0.98
    elif kind == "label -1":
        labels[rows] = -1
    elif kind == "label K":
        labels[rows] = 7
    return Data(labels, probs)


KINDS = {
    "nan": "4 with NaN or infinite probabilities",
    "infinity": "4 with NaN or infinite probabilities",
    "below 0": "4 with probabilities outside 0 to 1",
    "above 1": "4 with probabilities outside 0 to 1",
    "sum": "4 with probabilities that do not sum to 1",
    "label -1": "4 with labels outside 0 to K-1",
    "label K": "4 with labels outside 0 to K-1",
}


def run(data: Data, place: Place, **how: Any) -> LabelIssues:
    """The job from stores to a store."""
    options = dict.fromkeys(("labels", "pred_probs", "out"), place.options)
    labels, probs = (
        write_zarr(place / "l.zarr", data.labels),
        write_npy(place / "p.npy", data.pred_probs),
    )
    how = {
        "out": (place / "out").url,
        "storage_options": options,
        "block_bytes": BLOCK_BYTES,
        **how,
    }
    return noisydask.find_label_issues(labels, probs, **how)


def published(place: Place) -> dict[str, bytes]:
    """What readers see: the pointer and the finished runs."""
    objects = (place / "out").objects()
    finished = tuple(
        name.removesuffix("manifest.json") for name in objects if name.endswith("/manifest.json")
    )
    return {
        name: content
        for name, content in objects.items()
        if name.startswith(("latest.json", *finished))
    }


@pytest.mark.parametrize("kind", KINDS)
def test_invalid_rows_are_refused(kind: str, tmp_path: Path) -> None:
    place = Place(str(tmp_path))
    run(GOOD, place)
    before = published(place)
    with pytest.raises(InputError) as caught:
        run(spoiled(kind), place)
    assert caught.value.exit_status == 2
    said = str(caught.value)
    assert said.startswith("4 of 900 rows are invalid: ")
    assert KINDS[kind] in said
    assert "the first are rows 3, 250, 251, 899." in said
    assert "\n" not in said
    assert published(place) == before


@pytest.mark.slow
def test_invalid_rows_are_refused_by_worker_processes(client: Client, s3_place: Place) -> None:
    run(GOOD, s3_place)
    before = published(s3_place)
    with pytest.raises(InputError, match="4 of 900 rows are invalid: 4 with NaN"):
        run(spoiled("nan"), s3_place)
    assert published(s3_place) == before
    check_skipped(run(spoiled("nan"), s3_place, on_invalid="skip"))


def test_several_kinds_at_once_are_counted_apart() -> None:
    labels, probs = GOOD.labels.copy(), GOOD.pred_probs.copy()
    labels[100:120], probs[300:303] = 99, np.nan
    with pytest.raises(
        InputError, match=r"23 of 900 rows are invalid: 3 with NaN.*; 20 with labels"
    ) as caught:
        noisydask.find_label_issues(labels, probs, block_bytes=BLOCK_BYTES)
    assert f"the first are rows {', '.join(map(str, range(100, 110)))}." in str(caught.value)
    assert "Labels from 0 to 99" in str(caught.value)


@pytest.mark.parametrize("kind", KINDS)
def test_skipped_rows_are_as_if_they_were_not_there(kind: str, tmp_path: Path) -> None:
    check_skipped(run(spoiled(kind), Place(str(tmp_path)), on_invalid="skip"))


def test_many_skipped_rows_are_written_chunk_by_chunk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ranked, "INDEX_CHUNK", 64)
    labels, rows = GOOD.labels.copy(), np.setdiff1d(np.arange(150, 900, 4), np.arange(300, 500))
    labels[rows] = 99
    inputs = [
        write_zarr(Place(str(tmp_path)) / name, values)
        for name, values in (("l", labels), ("p", GOOD.pred_probs))
    ]
    for scanned in (9, 0):  # counted by the scan, then told by receipts
        found = noisydask.find_label_issues(
            *inputs, out=tmp_path / "out", block_bytes=BLOCK_BYTES, on_invalid="skip"
        )
        assert found.manifest["blocks"]["scanned"] == scanned
        np.testing.assert_array_equal(found.invalid_indices, rows)
        sizes = {
            item["path"]: item["size"]
            for item in found.manifest["objects"]
            if "invalid_indices" in item["path"]
        }
        assert [sizes[f"invalid_indices.zarr/{k}"] for k in range(3)] == [64 * 8] * 3
        assert len(sizes) == 1 + -(-len(rows) // 64)


def check_skipped(found: LabelIssues) -> None:
    kept = np.delete(np.arange(900), ROWS)
    expected = noisydask.find_label_issues(GOOD.labels[kept], GOOD.pred_probs[kept])
    assert expected.num_issues > 50
    np.testing.assert_array_equal(found.indices, kept[expected.indices])
    for name in ("confident_thresholds", "class_counts", "confident_joint"):
        np.testing.assert_array_equal(getattr(found, name), getattr(expected, name))
    quality = found.label_quality.compute()
    np.testing.assert_array_equal(quality[kept], expected.label_quality.compute())
    assert np.isnan(quality[list(ROWS)]).all()
    np.testing.assert_array_equal(found.invalid_indices, ROWS)
    assert found.manifest["counts"]["invalid"] == 4
    assert found.manifest["counts"]["examples"] == 900


def test_nothing_is_left() -> None:
    with pytest.raises(InputError, match="900 of 900 rows are invalid"):
        noisydask.find_label_issues(GOOD.labels, GOOD.pred_probs * np.nan, on_invalid="skip")


def test_log_probabilities_are_refused() -> None:
    with pytest.raises(InputError, match="are they logits or log-probabilities"):
        noisydask.find_label_issues(GOOD.labels, np.log(GOOD.pred_probs))


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_quantised_probabilities_are_accepted(dtype: Any) -> None:
    assert (
        noisydask.find_label_issues(
            GOOD.labels, GOOD.pred_probs.astype(np.float16).astype(dtype)
        ).num_issues
        > 50
    )


@pytest.mark.parametrize(
    ("labels", "probs", "says"),
    [
        (
            GOOD.labels[:-1],
            GOOD.pred_probs,
            "labels has 899 examples, pred_probs 900: they must match",
        ),
        (
            GOOD.labels,
            GOOD.pred_probs[:-1],
            "labels has 900 examples, pred_probs 899: they must match",
        ),
        (GOOD.labels[:, None], GOOD.pred_probs, "labels must have one dimension"),
        (GOOD.labels, GOOD.pred_probs[:, 0], "pred_probs must have two dimensions"),
        (GOOD.labels.astype(float), GOOD.pred_probs, "labels must be integers"),
        (GOOD.labels, GOOD.labels[:, None], "pred_probs must be float16, float32 or float64"),
        (GOOD.labels[:0], GOOD.pred_probs[:0], "are empty"),
        (GOOD.labels, GOOD.pred_probs[:, :0], "pred_probs must have two dimensions"),
    ],
)
@pytest.mark.parametrize("stored", [True, False])
def test_shapes_and_types_that_are_refused(
    labels: Any, probs: Any, says: str, stored: bool, tmp_path: Path
) -> None:
    place, before = Place(str(tmp_path)), {}
    if stored:
        labels, probs = write_npy(place / "l.npy", labels), write_npy(place / "p.npy", probs)
        before = place.objects()
    with pytest.raises(InputError, match=says):
        noisydask.find_label_issues(labels, probs, out=(place / "out").url)
    assert place.objects() == before


def test_objects_in_npy_are_never_loaded(tmp_path: Path) -> None:
    class Trap:
        def __reduce__(self) -> Any:
            return (Path.touch, (tmp_path / "sprung",))

    url = write_npy(Place(str(tmp_path)) / "l.npy", np.array([Trap(), Trap()], object))
    with pytest.raises(InputError, match="holds Python objects, which are never loaded"):
        noisydask.find_label_issues(url, GOOD.pred_probs)
    assert not (tmp_path / "sprung").exists()


@pytest.fixture
def quiet(capfd: pytest.CaptureFixture[str]) -> Iterator[None]:
    """The test writes nothing to the standard streams, and takes not long."""
    capfd.readouterr()
    began = time.monotonic()
    yield
    assert time.monotonic() - began < SOON
    assert capfd.readouterr().err == ""


def refused(says: str, **how: Any) -> None:
    """The job is refused in one sentence, as input or output that cannot be used."""
    with pytest.raises(InputError, match=says) as caught:
        noisydask.find_label_issues(
            **({"labels": GOOD.labels, "pred_probs": GOOD.pred_probs} | how)
        )
    said = str(caught.value)
    assert "\n" not in said
    assert KEY not in said
    assert SECRET not in said
    assert "wrong" not in said
    assert caught.value.exit_status == 2


@pytest.mark.usefixtures("quiet")
@pytest.mark.parametrize(
    "name", ["none.zarr", "none.npy", "none.parquet#a", "no/such/folder/none.zarr"]
)
def test_missing_inputs(name: str, place: Place) -> None:
    place.write("other", b"1")
    url, options = f"{place.url}/{name}", {"labels": place.options, "pred_probs": place.options}
    refused(
        r"^labels at .*none\.\w+: there is no array; check the path$",
        labels=url,
        storage_options={"labels": place.options},
    )
    refused("^pred_probs at .*: there is no array", pred_probs=url, storage_options=options)


@pytest.mark.usefixtures("quiet")
def test_what_is_no_array(place: Place) -> None:
    place.write("folder/file", b"1")
    write_zarr(place / "group/array", GOOD.labels)
    options = {"labels": place.options}
    refused(
        "^labels at .*folder: that is not an array",
        labels=f"{place.url}/folder",
        storage_options=options,
    )
    refused(
        "^labels at .*group: that is not an array",
        labels=f"{place.url}/group",
        storage_options=options,
    )


@pytest.mark.slow
@pytest.mark.usefixtures("quiet")
@pytest.mark.parametrize("role", ["labels", "pred_probs", "out"])
@pytest.mark.parametrize("name", ["a.zarr", "a.npy"])
def test_buckets_and_credentials(role: str, name: str, s3: S3Server) -> None:
    at, nowhere = f"s3://{BUCKET}/{name}", f"s3://no-such-bucket/{name}"
    refused(
        f"^{role} at {nowhere}: the bucket .*does not exist",
        **{role: nowhere},
        storage_options={role: s3.options()},
    )
    for options in (
        s3.options(secret="wrong-secret"),
        s3.options(key="wrong-key"),
        s3.public_options() | {"anon": True},
    ):
        refused(
            f"^{role} at {at}: (access refused|no valid credentials);",
            **{role: at},
            storage_options={role: options},
        )
    refused(
        f"^{role} at {at}: (access refused|no valid credentials);",
        **{role: f"s3://{KEY}:wrong@{BUCKET}/{name}"},
        storage_options={role: s3.public_options()},
    )


@pytest.mark.slow
@pytest.mark.usefixtures("quiet")
@pytest.mark.parametrize(
    ("role", "name"), [("labels", "a.zarr"), ("pred_probs", "a.npy"), ("out", "a")]
)
def test_nobody_listens(role: str, name: str) -> None:
    pytest.importorskip("s3fs")
    options = S3Server(f"http://127.0.0.1:{free_ports(1)[0]}").options()
    how = {"labels": GOOD.labels, "pred_probs": GOOD.pred_probs, role: f"s3://b23/{name}"}
    with pytest.raises(
        JobError, match=f"^{role} at .*: the store cannot be reached"
    ) as caught:  # it may answer tomorrow
        noisydask.find_label_issues(**how, storage_options={role: options})
    assert caught.value.exit_status == 1


@pytest.mark.usefixtures("quiet")
def test_out_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    refused("^out at .*file/out: ", out=tmp_path / "file/out")


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of one megabyte."""
    folder = tmp_path / "small"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(folder)]
    try:
        subprocess.run(mount, check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("needs the right to mount")
    yield folder
    subprocess.run(["umount", "-l", str(folder)], check=True)


@pytest.mark.parametrize("left", [0, 8_192, 200_000])
@pytest.mark.parametrize("workers", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_full_disk(
    small_disk: Path, left: int, workers: bool, request: pytest.FixtureRequest
) -> None:
    if workers:
        request.getfixturevalue("client")
    large = make(rows=40_000, classes=3)
    small = noisydask.find_label_issues(GOOD.labels, GOOD.pred_probs, out=small_disk / "out")
    before = published(Place(str(small_disk)))
    free = int(subprocess.check_output(["stat", "-f", "-c", "%f", small_disk])) * 4096
    (small_disk / "filler").write_bytes(b"x" * max(0, free - left))
    with pytest.raises(
        JobError, match=r"^out at .*: no space left; free some or give another place$"
    ) as caught:
        noisydask.find_label_issues(
            large.labels, large.pred_probs, out=small_disk / "out", block_bytes=100_000
        )
    assert caught.value.exit_status == 1
    after = published(Place(str(small_disk)))
    assert {name: after[name] for name in before} == before
    assert json.loads(after["latest.json"])["run"] == small.run.run


@pytest.mark.parametrize(
    ("how", "said"),
    [
        (
            {"block_bytes": 1.5},
            "block_bytes must be a whole number of at least 1, not 1.5",
        ),
        ({"block_bytes": float("nan")}, "block_bytes must be a whole number"),
        ({"fail_above": "x"}, "fail_above must be a number"),
        ({"class_names": 5}, "class_names must be a list of names"),
        ({"class_names": dict.fromkeys("abcdefg")}, "class_names must be a list of names"),
        (
            {"storage_options": {"lables": {}}},
            "storage_options has 'lables': it maps labels, pred_probs, pred_classes, ",
        ),
        ({"storage_options": {"labels": 5}}, "storage_options has 'labels'"),
        ({"storage_options": "key"}, "storage_options must be a mapping"),
        ({"class_names": ["a\udcff", *"bcdefg"]}, "class_names holds 'a.udcff'"),
    ],
)
def test_options_of_another_type(how: dict[str, Any], said: str) -> None:
    with pytest.raises(InputError, match=said):
        noisydask.find_label_issues(GOOD.labels, GOOD.pred_probs, **how)


def test_numbers_of_numpy_are_numbers(tmp_path: Path) -> None:
    how = {"block_bytes": np.int64(9_000), "keep_runs": np.int32(2), "fail_above": np.float32(0.5)}
    found = noisydask.find_label_issues(
        GOOD.labels, GOOD.pred_probs, out=str(tmp_path / "out"), **how
    )
    assert found.manifest["settings"]["block_bytes"] == 9_000
