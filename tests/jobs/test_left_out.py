"""Duplicate and invalid losses: refused, with the option that takes them; or one of each is taken,
and what is invalid left out, whatever the files, blocks and workers are."""

from __future__ import annotations

import json
import math
import random
import tempfile
from itertools import pairwise
from pathlib import Path
from typing import Any

import dask
import dask.dataframe as dd
import numpy as np
import numpy.typing as npt
import pandas as pd
import pytest
import yaml
import zarr
from conftest import Place
from distributed import Client, LocalCluster
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from test_loss_table import ALPHA, analyze, bits, put
from test_losses import bits as dense_bits

import noisydask
from noisydask import InputError, LossDynamics, LossDynamicsAnalyzer
from noisydask.cli.app import main

Array = npt.NDArray[Any]

KEY = ["id", "subset", "ann_id"]
HOW = ["first", "last", "mean"]
#: Finite and valid, of sizes whose sums depend on the order unless they are rounded once.
VALID = [0.0, 1e-300, 0.1, 0.7, 1.0, 1e16, 3.0, 3e38]
INVALID = [-1e-300, -2.0, -np.inf, np.inf, 3.5e38, 1e300]


def rows_of(seed: int, rows: int = 300, ids: int = 9, text: bool = False) -> pd.DataFrame:
    """Rows of a few examples, most of them recorded several times; some NaN, some invalid."""
    rng = np.random.default_rng(seed)
    frame = pd.DataFrame(
        {
            "id": rng.integers(0, ids, rows),
            "iteration": rng.integers(0, 4, rows) * 3,
            "loss": rng.choice(VALID, rows),
            "subset": rng.choice(["train", "val"], rows),
            "ann_id": rng.integers(0, 2, rows),
        }
    )
    frame["label"] = frame["id"] % 3
    bad = rng.random(rows)
    frame.loc[bad < 0.2, "loss"] = rng.choice(INVALID, (bad < 0.2).sum())
    frame.loc[bad > 0.9, "loss"] = np.nan
    frame.loc[frame["id"] == 0, "loss"] = rng.choice([*INVALID, np.nan], (frame["id"] == 0).sum())
    return frame.assign(id="img " + frame["id"].astype(str)) if text else frame


def cleaned(frame: pd.DataFrame, how: str) -> tuple[pd.DataFrame, dict[str, int]]:
    """What is meant, by pandas: rows without a loss, then invalid ones, then duplicates go."""
    some = frame.dropna(subset="loss")
    valid = some[some["loss"].between(0, float(np.finfo(np.float32).max))]
    if how == "mean":
        mean = valid.groupby([*KEY, "iteration", "label"])["loss"].agg(
            lambda losses: math.fsum(losses) / len(losses)
        )
        once = mean.reset_index()
    else:
        once = valid.drop_duplicates([*KEY, "iteration"], keep=how)  # type: ignore[call-overload]
    counts = {
        "duplicates": len(valid) - len(once),
        "invalid": len(some) - len(valid),
        "nan": len(frame) - len(some),
    }
    return once, counts


def split(frame: pd.DataFrame, folder: str, cuts: list[int], kind: str, groups: int) -> Any:
    """The rows in files or partitions that come in their order: ``9`` before ``10``."""
    parts = [frame[low:high] for low, high in pairwise([0, *sorted(cuts), len(frame)])]
    if kind == "pandas":
        return frame
    if kind == "dask":
        return dd.concat([dd.from_pandas(part, npartitions=1, sort=False) for part in parts])
    for number, part in enumerate(parts):
        if kind == "csv":
            part.to_csv(Path(folder) / f"{number + 8}.csv", index=False)
        else:
            put(Place(folder), f"{number + 8}.parquet", part, row_group_size=groups)
    return folder


@settings(max_examples=8, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    seed=st.integers(0, 10**6),
    text=st.booleans(),
    cuts=st.lists(st.integers(0, 300), min_size=3, max_size=6),
    groups=st.integers(1, 200),
    block_bytes=st.integers(1_500, 30_000),
    kind=st.sampled_from(["parquet", "by id", "csv", "pandas", "dask"]),
    how=st.sampled_from(HOW),
)
def test_any_partitioning(
    seed: int, text: bool, cuts: list[int], groups: int, block_bytes: int, kind: str, how: str
) -> None:
    frame = rows_of(seed, text=text)
    if kind == "by id":  # no shuffle is needed then
        frame = frame.sort_values("id", kind="stable", ignore_index=True)
    clean, counts = cleaned(frame, how)
    whole = bits(analyze(clean, 10**9))
    with tempfile.TemporaryDirectory() as folder, dask.config.set(scheduler="threads"):
        table = split(frame, folder, cuts, kind, groups)
        found = analyze(table, block_bytes, on_duplicate=how, on_invalid="skip")
        assert bits(found) == whole
        assert found.dropped == counts
        assert found.manifest["counts"]["losses"] == len(clean)
        assert found.manifest["counts"]["examples"] == len(clean[KEY].drop_duplicates())


@pytest.mark.parametrize("how", HOW)
def test_worker_processes(how: str, client: Client, tmp_path: Path) -> None:
    frame = rows_of(7, rows=3000, ids=40)
    clean, counts = cleaned(frame, how)
    table = split(frame, str(tmp_path), [1000, 1500, 1700, 2900], "parquet", 150)
    found = analyze(table, 20_000, on_duplicate=how, on_invalid="skip")
    assert bits(found) == bits(analyze(clean, 10**9))
    assert found.dropped == counts


def test_the_mean_is_that_of_the_losses_whatever_their_order() -> None:
    losses = [1e16, 1.0, 1.0, 1.0, 3.0]
    seen = set()
    for seed in range(8):
        random.Random(seed).shuffle(losses)
        frame = pd.DataFrame({"id": 1, "iteration": 0, "loss": losses})
        found = noisydask.analyze_loss_dynamics(table=frame, alpha=1.0, on_duplicate="mean")
        seen.add(found.top_k(1)["metric"].item())
    assert seen == {(10**16 + 6) / 5}


def test_what_is_left_out_counts_for_nothing() -> None:
    """The first valid loss is the first; an example of which nothing is left is not known."""
    frame = pd.DataFrame(
        {
            "id": [1, 1, 1, 2, 2, 3],
            "iteration": [0, 0, 0, 0, 1, 0],
            "loss": [np.nan, -1.0, 0.5, np.inf, np.nan, 0.25],
        }
    )
    found = noisydask.analyze_loss_dynamics(
        table=frame, alpha=1.0, on_duplicate="first", on_invalid="skip"
    )
    assert found.top_k(9)[["id", "metric"]].to_numpy().tolist() == [[1, 0.5], [3, 0.25]]
    assert found.dropped == {"duplicates": 0, "invalid": 2, "nan": 2}
    assert found.manifest["counts"]["examples"] == 2
    with pytest.raises(InputError, match="no loss is recorded there"):
        noisydask.analyze_loss_dynamics(table=frame[3:5], on_invalid="skip")


@pytest.mark.parametrize(
    ("change", "options"),
    [
        ({"iteration": 0}, ["on_duplicate='first'"]),
        ({"loss": -1.0}, ["on_invalid='skip'"]),
        ({"loss": np.inf}, ["on_invalid='skip'"]),
        ({"label": 4}, []),
    ],
)
@pytest.mark.parametrize("taken", [{}, {"on_duplicate": "last"}, {"on_invalid": "skip"}])
def test_the_error_names_the_option_that_takes_it(
    change: dict[str, Any], options: list[str], taken: dict[str, str]
) -> None:
    frame = pd.DataFrame({"id": 1, "iteration": [0, 1], "loss": 0.5, "label": 0})
    frame.loc[1, list(change)] = list(change.values())
    call = {"table": frame, "label_column": "label", **taken}
    if any(name in option for name in taken for option in options):
        noisydask.analyze_loss_dynamics(**call)
        return
    with pytest.raises(InputError, match="of 2 recorded losses") as caught:
        noisydask.analyze_loss_dynamics(**call)
    assert all(option in str(caught.value) for option in options)
    assert ("on_" in str(caught.value)) == bool(options)


def test_labels_that_differ_are_refused_also_of_duplicates() -> None:
    frame = pd.DataFrame({"id": 1, "iteration": 0, "loss": 0.5, "label": [0, 1]})
    for how in HOW:
        with pytest.raises(InputError, match="1 with another label"):
            noisydask.analyze_loss_dynamics(table=frame, label_column="label", on_duplicate=how)


def test_options_that_are_none() -> None:
    frame = pd.DataFrame({"id": [1], "iteration": [0], "loss": [0.5]})
    for wrong, how in (("on_duplicate", "skip"), ("on_invalid", "first")):
        with pytest.raises(InputError, match=f"{wrong} must be one of raise,"):
            noisydask.analyze_loss_dynamics(table=frame, **{wrong: how})  # type: ignore[arg-type]
    with pytest.raises(InputError, match="on_duplicate belongs to a table or a Datumaro dataset"):
        noisydask.analyze_loss_dynamics(np.ones((2, 2)), on_duplicate="last")


def padded(folder: Path) -> str:
    """What two processes recorded whose sampler padded the last batch, and a loss that ran off."""
    for losses in ([0.5, 0.2, 0.9], [0.75, np.inf, -1.0]):
        with noisydask.LossRecorder(folder) as recorder:
            recorder.record(0, [1, 2, 3], losses)
    return str(folder)


def test_command_line_and_configs(
    tmp_path: Path, one_worker: LocalCluster, capfd: pytest.CaptureFixture[str]
) -> None:
    address = one_worker.scheduler_address
    cluster = ["--scheduler", address]
    table = padded(tmp_path / "losses")
    given = ["dynamics", "--table", table, "--out", str(tmp_path / "out"), *cluster]
    assert main(given) == 2
    told = capfd.readouterr().err
    assert "--on-duplicate first" in told
    assert "--on-invalid skip" in told
    assert main([*given, "--on-duplicate", "most"]) == 2
    assert "--on-duplicate must be one of raise, first, last, mean" in capfd.readouterr().err
    taken = {"on_duplicate": "mean", "on_invalid": "skip"}
    words = ["--on-duplicate", "mean", "--on-invalid", "skip", "--alpha", "1"]
    assert main([*given, *words]) == 0
    assert "1 duplicate, 2 invalid" in capfd.readouterr().out
    expected = [[3, 0.9], [1, 0.625], [2, 0.2]]
    job = {"table": table, "alpha": 1, **taken}
    for name, config in (
        ("job", {"job": "dynamics", **job, "out": str(tmp_path / "job")}),
        ("night", {"job": "nightly", "dynamics": {**job, "out": str(tmp_path / "night")}}),
    ):
        (tmp_path / "job.yaml").write_text(yaml.safe_dump(config))
        assert main(["run", str(tmp_path / "job.yaml"), *cluster]) == 0, name
    for name in ("out", "job", "night"):
        found = noisydask.open_run(tmp_path / name)
        ranked = found.top_k(3)[["id", "metric"]].to_numpy()
        np.testing.assert_allclose(ranked, expected, rtol=1e-7)  # recorded as float32 or float64
        assert found.dropped == {"duplicates": 1, "invalid": 2, "nan": 0}
        assert found.manifest["settings"]["on_duplicate"] == "mean"


ROWS, WIDTH, CHUNK = 90, 14, 4


def dense(dtype: Any = np.float32) -> tuple[Array, Array]:
    """Losses of which some are invalid, and the same where nothing was recorded instead."""
    rng = np.random.default_rng(0)
    clean = rng.exponential(1.0, (ROWS, WIDTH)).astype(dtype)
    clean[rng.random(clean.shape) < 0.2] = np.nan
    dirty, wrong = clean.copy(), rng.random(clean.shape) < 0.1
    wrong[7] = True
    dirty[wrong] = rng.choice([-1.0, -np.inf, np.inf], wrong.sum())
    clean[wrong] = np.nan
    return dirty, clean


def invalid_of(losses: Array) -> int:
    return int(((losses < 0) | np.isinf(losses)).sum())


@pytest.mark.parametrize(("dtype", "top_k"), [(np.float16, 5), (np.float32, None), (float, 5)])
def test_invalid_losses_of_an_array_are_as_not_recorded(
    dtype: Any, top_k: int | None, tmp_path: Path
) -> None:
    dirty, clean = dense(dtype)
    how: dict[str, Any] = {"alpha": ALPHA, "top_k": top_k, "labels": np.arange(ROWS) % 3}
    expected = noisydask.analyze_loss_dynamics(clean, **how)
    zarr.create_array(tmp_path / "l.zarr", data=dirty, chunks=(20, CHUNK))
    for losses in (dirty, dask.array.from_array(dirty, chunks=(30, 5)), tmp_path / "l.zarr"):
        for block_bytes in (500, 10**9):
            with pytest.raises(InputError, match=r"examples are invalid.*on_invalid='skip'"):
                noisydask.analyze_loss_dynamics(losses, block_bytes=block_bytes, **how)
            found = noisydask.analyze_loss_dynamics(
                losses, block_bytes=block_bytes, on_invalid="skip", **how
            )
            assert dense_bits(found) == dense_bits(expected)
            assert found.dropped == {"invalid": invalid_of(dirty)}
    some = [7, *found.top_k(3)["index"].tolist()]
    pd.testing.assert_frame_equal(found.ema(some), expected.ema(some))
    assert found.ema([7]).isna().all(axis=None)


def stored(folder: Path, **how: Any) -> LossDynamics:
    return noisydask.analyze_loss_dynamics(
        folder / "l.zarr", alpha=ALPHA, block_bytes=1_500, out=folder / "out", **how
    )


@pytest.mark.parametrize("top_k", [5, None])
def test_states_that_are_kept_know_what_was_left_out(top_k: int | None, tmp_path: Path) -> None:
    dirty, clean = dense()
    dirty[:20] = clean[:20]  # of the first chunk nothing was left out
    dirty[40:60, 4:] = clean[40:60, 4:]
    array = zarr.create_array(tmp_path / "l.zarr", data=dirty[:, :10], chunks=(20, CHUNK))
    skip = {"on_invalid": "skip", "top_k": top_k}
    first = stored(tmp_path, **skip)
    assert first.dropped == {"invalid": invalid_of(dirty[:, :10])}
    assert first.manifest["blocks"]["scanned"] > 1
    again = stored(tmp_path, **skip)
    assert again.manifest["blocks"]["scanned"] == 0
    assert again.dropped == first.dropped
    refuse(tmp_path, dirty[:, :10])
    array.resize(dirty.shape)
    array[:, 10:] = dirty[:, 10:]
    appended = stored(tmp_path, **skip)
    assert appended.manifest["counts"]["iterations_read"] == WIDTH - 2 * CHUNK
    assert appended.dropped == {"invalid": invalid_of(dirty)}
    whole = noisydask.analyze_loss_dynamics(clean_of(dirty), alpha=ALPHA, top_k=top_k)
    assert dense_bits(appended) == dense_bits(whole)
    refuse(tmp_path, dirty)


def refuse(folder: Path, losses: Array) -> None:
    """A run that is not to leave anything out says what it would say of losses in memory."""
    with pytest.raises(InputError) as caught:
        stored(folder)
    with pytest.raises(InputError) as fresh:
        noisydask.analyze_loss_dynamics(losses)
    assert str(caught.value) == str(fresh.value)


def clean_of(losses: Array) -> Array:
    return np.where((losses < 0) | np.isinf(losses), np.nan, losses)


def test_states_of_valid_losses_serve_both(tmp_path: Path) -> None:
    _, clean = dense()
    zarr.create_array(tmp_path / "l.zarr", data=clean, chunks=(20, CHUNK))
    stored(tmp_path)
    assert stored(tmp_path, on_invalid="skip").manifest["blocks"]["scanned"] == 0
    assert stored(tmp_path).manifest["blocks"]["scanned"] == 0


DATA = Path(__file__).parents[1] / "data" / "datumaro"


def dataset(folder: Path, name: str, series: list[tuple[list[int], list[Any]]]) -> Path:
    """A dataset of one annotation a series."""
    items = [
        {
            "id": f"img {k}",
            "annotations": [
                {"id": 0, "label_id": 0, "attributes": {"iters": iters, "loss_dynamics": losses}}
            ],
        }
        for k, (iters, losses) in enumerate(series)
    ]
    content = {
        "infos": {"purpose": "noisy_label_detection", "task": "OTX-MultiClassCls"},
        "categories": {"label": {"labels": [{"name": "cat"}]}},
        "items": items,
    }
    path = folder / name / "annotations" / "train.json"
    path.parent.mkdir(parents=True)
    path.write_text(json.dumps(content))
    return folder / name


@pytest.mark.parametrize(("how", "taken"), [("first", 3.0), ("last", 2.0), ("mean", 2.0)])
def test_datumaro(how: str, taken: float, tmp_path: Path) -> None:
    dirty = dataset(
        tmp_path,
        "dirty",
        [([5, 1, 1, 1], [0.5, 3.0, 1.0, 2.0]), ([1, 1, 2], [-1.0, 0.25, 1e300]), ([1], [-2.0])],
    )
    clean = dataset(tmp_path, "clean", [([1, 5], [taken, 0.5]), ([1], [0.25]), ([1], [None])])
    options: dict[str, Any] = {"on_duplicate": how, "on_invalid": "skip"}
    dropped = {"duplicates": 2, "invalid": 3, "nan": 0}
    found = noisydask.analyze_loss_dynamics(datumaro=dirty, alpha=ALPHA, **options)
    assert bits(found) == bits(noisydask.analyze_loss_dynamics(datumaro=clean, alpha=ALPHA))
    assert found.dropped == dropped
    analyzer = LossDynamicsAnalyzer(dirty, ALPHA, **options)
    pd.testing.assert_frame_equal(
        analyzer.ema_dataframe, LossDynamicsAnalyzer(clean, ALPHA).ema_dataframe
    )
    assert analyzer.dropped == dropped
    for left in options:
        with pytest.raises(InputError, match=left):
            LossDynamicsAnalyzer(dirty, ALPHA, **{k: v for k, v in options.items() if k != left})


def test_columns_of_a_table_may_be_called_like_ours(tmp_path: Path) -> None:
    """Numbers of rows are no column of the table's."""
    frame = pd.DataFrame({"row": [1, 1], "order": [0, 0], "loss": [0.5, 0.25]})
    put(Place(str(tmp_path)), "t/1.parquet", frame)
    for table in (frame, tmp_path / "t"):
        found = noisydask.analyze_loss_dynamics(
            table=table,
            id_column="row",
            iteration_column="order",
            alpha=1.0,
            on_duplicate="last",
        )
        assert found.top_k(2)[["id", "metric"]].to_numpy().tolist() == [[1, 0.25]]
