"""No result depends on the scheduler, the workers, the blocks, or how the same numbers are stored:
bit for bit."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import dask
import dask.array as da
import numpy as np
import pandas as pd
import pytest
from conftest import Place
from distributed import Client, LocalCluster
from layouts import ZARR_LAYOUTS, Data, make, write_npy, write_zarr

import noisydask
from noisydask.core import ranking
from noisydask.issues.results import LabelIssues

SLOW = pytest.mark.slow
# Two digits make many equal scores.
DATA = make(rows=2570, digits=2)
SOURCES = {
    "numpy": lambda place, values: values,
    "npy": lambda place, values: write_npy(place / f"{values.ndim}.npy", values),
    "memmap": lambda place, values: np.load(
        write_npy(place / f"{values.ndim}.npy", values), mmap_mode="r"
    ),
    "dask": lambda place, values: da.from_array(values, chunks=(317, 3)[: values.ndim]),
    "dask, odd": lambda place, values: da.from_array(
        values, chunks=((1, 2000, 69, 500), 7)[: values.ndim]
    ),
} | {
    layout: lambda place, values, layout=layout: write_zarr(
        place / f"{layout}{values.ndim}.zarr", values, layout
    )
    for layout in ZARR_LAYOUTS
}
SETTINGS: list[dict[str, Any]] = [
    {},
    {"quality_score": "normalized_margin", "adjust_pred_probs": True},
    {
        "quality_score": "confidence_weighted_entropy",
        "estimation_method": "off_diagonal_calibrated",
    },
    {"quality_score": "threshold_margin"},
]


def bits(found: LabelIssues) -> dict[str, bytes]:
    """Every output as bytes, but for ids that were in memory, which lie in a file a block."""
    run = Place(found.run.place.url)
    parts = {
        name: content
        for name, content in run.objects().items()
        if name.endswith(".parquet") and not name.startswith("ids/")
    }
    names = ("indices", "confident_thresholds", "class_counts", "confident_joint")
    arrays = {name: np.asarray(getattr(found, name)) for name in names} | {
        "quality": found.label_quality.compute()
    }
    return parts | {
        name: str(array.dtype).encode() + array.tobytes() for name, array in arrays.items()
    }


@pytest.fixture(scope="module")
def expected() -> list[dict[str, bytes]]:
    """The bits for each of :data:`SETTINGS`, from one block."""
    return [
        bits(noisydask.find_label_issues(DATA.labels, DATA.pred_probs, **how)) for how in SETTINGS
    ]


@pytest.mark.parametrize(
    "labels", ["numpy", pytest.param("sharded", marks=SLOW), pytest.param("dask", marks=SLOW)]
)
@pytest.mark.parametrize("source", SOURCES)
def test_any_source(source: str, labels: str, tmp_path: Path, expected: Any) -> None:
    place = Place(str(tmp_path))
    labels_from, probs_from = (
        SOURCES[labels](place, DATA.labels),
        SOURCES[source](place, DATA.pred_probs),
    )
    found = noisydask.find_label_issues(labels_from, probs_from, block_bytes=15_000)
    assert found.manifest["counts"]["blocks"] > 5
    assert bits(found) == expected[0]


@pytest.mark.parametrize("block_bytes", [1, 7_000, 50_000, 10**6, 10**9])
@pytest.mark.parametrize(
    "setting", [0, *(pytest.param(setting, marks=SLOW) for setting in range(1, len(SETTINGS)))]
)
def test_any_blocks(block_bytes: int, setting: int, tmp_path: Path, expected: Any) -> None:
    url = write_zarr(Place(str(tmp_path / "p.zarr")), DATA.pred_probs)
    found = noisydask.find_label_issues(
        DATA.labels, url, block_bytes=block_bytes, **SETTINGS[setting]
    )
    assert bits(found) == expected[setting]


IDS = {
    "none": lambda place, names: None,
    "text": lambda place, names: names.astype(object),
    "zarr, text": lambda place, names: write_zarr(
        place / "ids.zarr", names.astype(np.dtypes.StringDType())
    ),
    "zarr, text of one length": lambda place, names: write_zarr(place / "ids.zarr", names, "v2"),
    "zarr, int32": lambda place, names: write_zarr(
        place / "ids.zarr", np.arange(len(names), dtype=np.int32)
    ),
}


@pytest.mark.parametrize("ids", IDS)
def test_blocks_without_issues(ids: str, tmp_path: Path) -> None:
    """Two issues in ten blocks: the types of the output are not those of blocks that hold none."""
    labels = np.arange(300) % 5
    probs = np.full((300, 5), 0.0625, np.float32)
    probs[np.arange(300), labels] = 0.75
    labels[[70, 290]] += 1
    how: dict[str, Any] = {
        "ids": IDS[ids](Place(str(tmp_path)), np.array([f"img{k}" for k in range(300)]))
    }
    whole, some = (
        bits(noisydask.find_label_issues(labels, probs, block_bytes=size, **how))
        for size in (10**9, 600)
    )
    assert some == whole


@pytest.mark.parametrize("dtype", [np.int8, np.uint8, np.uint16, np.int32, np.uint64, ">i4"])
def test_any_type_of_labels(dtype: Any, tmp_path: Path, expected: Any) -> None:
    labels = DATA.labels.astype(dtype)
    for source in (labels, write_npy(Place(str(tmp_path)) / "l.npy", labels)):
        assert bits(noisydask.find_label_issues(source, DATA.pred_probs)) == expected[0]


@pytest.mark.parametrize("scheduler", ["synchronous", "threads"])
def test_local_schedulers(scheduler: str, expected: Any) -> None:
    with dask.config.set(scheduler=scheduler):
        for _ in range(3):
            assert (
                bits(noisydask.find_label_issues(DATA.labels, DATA.pred_probs, block_bytes=9_000))
                == expected[0]
            )


@pytest.mark.parametrize("workers", [pytest.param("one_worker", marks=SLOW), "four_workers"])
@pytest.mark.parametrize("setting", [0, pytest.param(1, marks=SLOW), pytest.param(2, marks=SLOW)])
def test_worker_processes(
    workers: str, setting: int, request: pytest.FixtureRequest, tmp_path: Path, expected: Any
) -> None:
    cluster: LocalCluster = request.getfixturevalue(workers)
    place, how = Place(str(tmp_path)), SETTINGS[setting]
    with Client(cluster):
        for source, block_bytes in zip(
            ("v2", "sharded", "split", "npy", "dask"), itertools.cycle((15_000, 60_000))
        ):
            probs = SOURCES[source](place, DATA.pred_probs)
            found = noisydask.find_label_issues(DATA.labels, probs, block_bytes=block_bytes, **how)
            assert bits(found) == expected[setting], (source, block_bytes)


def many_ties() -> Data:
    """Two thirds of the labels are wrong, and nearly all scores are one of three."""
    rng = np.random.default_rng(1)
    labels = rng.integers(0, 3, 6000)
    top = np.where(rng.random(6000) < 2 / 3, (labels + 1) % 3, labels)
    probs = np.full((6000, 3), 0.25, np.float32)
    probs[np.arange(6000), top] = 0.5
    some = np.flatnonzero((top != labels) & (np.arange(6000) % 3 == 0))  # surer of another class
    probs[some, top[some]] += 0.125
    probs[some, 3 - labels[some] - top[some]] -= 0.125
    probs[::500] = [0.5, 0.375, 0.125]
    return Data(labels, probs)


def unlike() -> Data:
    """Hardly two scores are equal."""
    return make(rows=6000, noise=0.6, seed=3)


#: Data that are suspicious on purpose.
ODD = pytest.mark.filterwarnings("ignore::noisydask.LabelWarning")


@pytest.fixture
def small_parts(monkeypatch: pytest.MonkeyPatch) -> int:
    """Parts of few rows; the search for them runs on the client alone."""
    rows = 100
    monkeypatch.setattr(ranking, "ROWS_PER_PART", rows)
    return rows


# Ties are counted, and cut, by TIE_ROWS indices: more rows than there are here.
@ODD
@pytest.mark.parametrize(("data", "at_least"), [(many_ties, 1), (unlike, 10)])
@pytest.mark.parametrize(
    "workers",
    [
        None,
        pytest.param("one_worker", marks=pytest.mark.soak),
        pytest.param("four_workers", marks=SLOW),
    ],
)
def test_many_parts_are_one_ranking(
    data: Any, at_least: int, workers: str | None, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    made = data()
    ids = np.array([f"img{k}" for k in range(len(made.labels))], object)
    how: dict[str, Any] = {
        "ids": ids,
        "class_names": [f"c{k}" for k in range(made.pred_probs.shape[1])],
    }
    whole = noisydask.find_label_issues(made.labels, made.pred_probs, **how)
    assert whole.num_issues > 2000
    request.getfixturevalue("small_parts")
    if workers is None:
        found = noisydask.find_label_issues(made.labels, made.pred_probs, block_bytes=10_000, **how)
        return check_parts(found, whole, at_least)
    with Client(request.getfixturevalue(workers)):
        probs = write_zarr(Place(str(tmp_path / "p.zarr")), made.pred_probs)
        check_parts(
            noisydask.find_label_issues(made.labels, probs, block_bytes=10_000, **how),
            whole,
            at_least,
        )


def check_parts(found: LabelIssues, whole: LabelIssues, at_least: int) -> None:
    assert len(found.manifest["parts"]) >= at_least
    assert len(whole.manifest["parts"]) == 1
    pd.testing.assert_frame_equal(found.to_dataframe(), whole.to_dataframe())
    np.testing.assert_array_equal(found.indices, whole.indices)
    np.testing.assert_array_equal(found.label_quality.compute(), whole.label_quality.compute())
    assert found.to_dataframe()["rank"].tolist() == list(range(1, whole.num_issues + 1))
    pd.testing.assert_frame_equal(found.to_dataframe(150), whole.to_dataframe(150))


@ODD
def test_nobody_is_an_issue(small_parts: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """More candidates than fit a part, all of whose labels are the prediction."""
    monkeypatch.setattr(ranking, "TIE_ROWS", 10)
    found = noisydask.find_label_issues(np.arange(600) % 4, np.full((600, 4), 0.25, np.float32))
    assert found.indices.tolist() == []


@ODD
def test_ties_are_ordered_and_cut_alike(small_parts: int, monkeypatch: pytest.MonkeyPatch) -> None:
    made = many_ties()
    whole = noisydask.find_label_issues(made.labels, made.pred_probs)
    rows = whole.to_dataframe()
    order = np.lexsort((rows["index"], -rows["suggested_prob"], rows["label_quality"]))
    assert order.tolist() == list(range(len(rows)))
    assert rows.groupby("label_quality")["suggested_prob"].nunique().max() > 1
    monkeypatch.setattr(ranking, "TIE_ROWS", 64)
    found = noisydask.find_label_issues(made.labels, made.pred_probs, block_bytes=10_000)
    pd.testing.assert_frame_equal(found.to_dataframe(), whole.to_dataframe())
    assert len(found.manifest["parts"]) > 20
