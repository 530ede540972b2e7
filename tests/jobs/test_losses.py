"""The job on dense losses: the same bits from any source, blocks and workers; appended iterations;
refusals; the command."""

from __future__ import annotations

import json
import warnings
from pathlib import Path
from typing import Any

import dask
import dask.array as da
import numpy as np
import numpy.typing as npt
import pandas as pd
import pytest
import yaml
import zarr
from conftest import Place
from distributed import Client, LocalCluster
from layouts import write_npy, write_zarr

import noisydask
from noisydask.cli.app import main
from noisydask.core import curve_sums, ranking
from noisydask.core.dynamics import ema_curves
from noisydask.dynamics.results import LossDynamics
from noisydask.errors import InputError
from noisydask.stores.arrays import zarr_store
from noisydask.stores.locations import Location

pytestmark = pytest.mark.thorough

Array = npt.NDArray[Any]
ROWS, WIDTH, ALPHA = 1030, 24, 0.1


def made(rows: int = ROWS, width: int = WIDTH) -> tuple[Array, Array, Array]:
    """Losses with gaps and ties, labels, names."""
    rng = np.random.default_rng(0)
    losses = np.round(rng.exponential(1.0, (rows, width)), 1).astype(np.float32)
    losses[rng.random(losses.shape) < 0.2] = np.nan
    losses[7], losses[:, 5] = np.nan, np.nan
    losses[100:300] = losses[100]
    return losses, rng.integers(-1, 4, rows), np.array([f"img-{k}" for k in range(rows)])


LOSSES, LABELS, IDS = made()
ITERS = np.arange(WIDTH) * 10


def run(losses: Any = LOSSES, **how: Any) -> LossDynamics:
    return noisydask.analyze_loss_dynamics(
        losses, **{"iters": ITERS, "labels": LABELS, "ids": IDS, "alpha": ALPHA, **how}
    )


def bits(found: LossDynamics) -> dict[str, bytes]:
    """Every result, as bytes."""
    options = {
        name: value
        for name, value in found.run.place.options.items()
        if name != "use_listings_cache"
    }
    objects = Place(found.run.place.url, options).objects()
    arrays = {
        name
        for name in objects
        if not name.startswith(("ema.zarr", "changes/"))
        and not name.endswith(("manifest.json", "status.json"))
    }
    metric = zarr.open_array(zarr_store(found.run.place / "ema.zarr", read_only=True), mode="r")[
        ...
    ]
    return {name: objects[name] for name in arrays} | {"ema": metric.tobytes()}


@pytest.fixture(scope="module")
def expected() -> dict[int | None, dict[str, bytes]]:
    """The bits of a short ranking and of one of all examples, from one block."""
    return {top_k: bits(run(top_k=top_k)) for top_k in (50, None)}


def test_against_a_table_in_pandas() -> None:
    found = run().top_k(ROWS)
    curves = pd.DataFrame(ema_curves(LOSSES, ALPHA))
    last = curves.ffill(axis=1).iloc[:, -1]
    mean = curves.mean()
    expected = pd.DataFrame({"metric": last, "index": np.arange(ROWS)}).dropna()
    expected = expected.sort_values(["metric", "index"], ascending=[False, True])
    assert found["index"].tolist() == expected["index"].tolist()
    assert found["metric"].tolist() == expected["metric"].tolist()
    assert found["rank"].tolist() == list(range(1, ROWS))
    assert found["id"].tolist() == [f"img-{k}" for k in found["index"]]
    assert found["label"].tolist() == LABELS[found["index"]].tolist()
    losses = pd.DataFrame(LOSSES.astype(np.float64)).iloc[found["index"]]
    assert found["num_losses"].tolist() == losses.count(axis=1).tolist()
    np.testing.assert_allclose(found["mean_loss"], losses.mean(axis=1), rtol=1e-12)
    np.testing.assert_allclose(found["variance"], losses.var(axis=1, ddof=0), rtol=1e-9)
    assert found["min_loss"].tolist() == losses.min(axis=1).tolist()
    assert found["last_loss"].tolist() == losses.ffill(axis=1).iloc[:, -1].tolist()
    above = (curves > mean).iloc[found["index"]].to_numpy()
    crossed = np.where(above.any(axis=1), ITERS[above.argmax(axis=1)], -1)
    assert (crossed == -1).any()
    assert found["crossed_at"].tolist() == crossed.tolist()


def test_curves() -> None:
    found = run(top_k=30)
    curves = pd.DataFrame(ema_curves(LOSSES, ALPHA), columns=ITERS)
    pd.testing.assert_series_equal(
        found.mean_loss_dyns, curves.mean(), check_names=False, rtol=1e-12
    )
    assert list(found.mean_loss_dyns_per_label) == [-1, 0, 1, 2, 3]
    for label, mean in found.mean_loss_dyns_per_label.items():
        pd.testing.assert_series_equal(
            mean, curves[label == LABELS].mean(), check_names=False, rtol=1e-12
        )
    first = found.top_k(20)
    stored = zarr.open_array(zarr_store(found.run.place / "top_curves.zarr"), mode="r")[...]
    np.testing.assert_array_equal(stored, curves.iloc[first["index"]])
    np.testing.assert_array_equal(found.ema(first["id"][3:5]), curves.iloc[first["index"][3:5]])
    with pytest.raises(InputError, match="'img-7' is not a candidate"):
        found.ema(["img-7"])
    assert Path(found.run.place.path, "curves.png").read_bytes().startswith(b"\x89PNG")
    counts = zarr.open_array(zarr_store(found.run.place / "losses_per_iteration.zarr"), mode="r")[
        ...
    ]
    assert counts.tolist() == (~np.isnan(LOSSES)).sum(axis=0).tolist()
    whole = run()
    pd.testing.assert_frame_equal(whole.ranking.compute().reset_index(drop=True), whole.top_k(ROWS))


def titles(figure: Any) -> list[str]:
    return [axes.get_title() for axes in figure.axes]


def line(figure: Any, axes: int, number: int) -> Array:
    return np.asarray(figure.axes[axes].lines[number].get_ydata())


def test_plots(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    losses, labels = (
        write_npy(Place(str(tmp_path)) / "l.npy", LOSSES),
        write_npy(Place(str(tmp_path)) / "y.npy", LABELS),
    )
    found = run(losses, labels=labels, top_k=30, out=tmp_path / "out")
    curves, first = ema_curves(LOSSES, ALPHA), found.top_k(20)
    figure = found.plot_ema_loss_dynamics(linewidth=3)
    (axes,) = figure.axes
    assert [text.get_text() for text in axes.get_legend().get_texts()] == [
        "mean of all",
        *first["id"],
    ]
    assert {candidate.get_linewidth() for candidate in axes.lines[1:]} == {3}
    mean = found.mean_loss_dyns.dropna().to_numpy()
    np.testing.assert_array_equal(line(figure, 0, 0), mean)
    for number, index in enumerate(first["index"], 1):
        np.testing.assert_array_equal(
            line(figure, 0, number), curves[index][~np.isnan(curves[index])]
        )
    for run_again in (found, noisydask.open_run(tmp_path / "out")):
        named = first[first["label"].isin(first["label"].unique()[:2])]
        figure = run_again.plot_ema_loss_dynamics(named["id"], mode="label_mean", figsize=(5, 2))
        assert titles(figure) == [f"label {label}" for label in sorted(named["label"].unique())]
        for axes_number, (label, rows) in enumerate(named.groupby("label")):
            mean = found.mean_loss_dyns_per_label[label].dropna()
            np.testing.assert_array_equal(line(figure, axes_number, 0), mean)
            assert len(figure.axes[axes_number].lines) == 1 + len(rows)
    with pytest.raises(InputError, match="mode must be one of mean, label_mean"):
        found.plot_ema_loss_dynamics(mode="median")
    with pytest.raises(InputError, match="needs labels"):
        run(labels=None).plot_ema_loss_dynamics(mode="label_mean")


SOURCES = {
    "numpy": lambda place: LOSSES,
    "npy": lambda place: write_npy(place / "l.npy", LOSSES),
    "memmap": lambda place: np.load(write_npy(place / "l.npy", LOSSES), mmap_mode="r"),
    "dask": lambda place: da.from_array(LOSSES, chunks=(317, 3)),
} | {
    layout: lambda place, layout=layout: write_zarr(place / f"{layout}.zarr", LOSSES, layout)
    for layout in ("v2", "v3", "sharded", "split")
}


@pytest.mark.parametrize("top_k", [50, pytest.param(None, marks=pytest.mark.slow)])
@pytest.mark.parametrize("source", SOURCES)
def test_any_source(source: str, top_k: int | None, tmp_path: Path, expected: Any) -> None:
    found = run(SOURCES[source](Place(str(tmp_path))), top_k=top_k, block_bytes=40_000)
    assert found.manifest["counts"]["blocks"] > 3
    assert bits(found) == expected[top_k]


@pytest.mark.parametrize("top_k", [50, pytest.param(None, marks=pytest.mark.slow)])
@pytest.mark.parametrize("block_bytes", [1, 2_500, 10**6])
def test_any_blocks(block_bytes: int, top_k: int | None, tmp_path: Path, expected: Any) -> None:
    url = write_zarr(Place(str(tmp_path / "l.zarr")), LOSSES, "split")
    with dask.config.set(scheduler="synchronous"):
        assert bits(run(url, top_k=top_k, block_bytes=block_bytes)) == expected[top_k]


@pytest.mark.parametrize("top_k", [50, None])
def test_worker_processes(top_k: int | None, client: Client, place: Place, expected: Any) -> None:
    places = {name: (place / f"{name}.zarr") for name in ("losses", "labels", "ids", "out")}
    losses = write_zarr(places["losses"], LOSSES, "split")
    labels, ids = write_npy(place / "labels.npy", LABELS), write_npy(place / "ids.npy", IDS)
    options = dict.fromkeys(places, place.options)
    found = run(
        losses,
        labels=labels,
        ids=ids,
        top_k=top_k,
        block_bytes=12_000,
        out=places["out"].url,
        storage_options=options,
    )
    assert bits(found) == expected[top_k]
    again = noisydask.open_run(places["out"].url, place.options)
    pd.testing.assert_frame_equal(again.top_k(40), found.top_k(40))
    first = found.top_k(1)["id"].tolist()
    pd.testing.assert_frame_equal(again.ema(first, place.options), found.ema(first))


@pytest.mark.parametrize("workers", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_many_parts_are_one_ranking(
    workers: bool, one_worker: LocalCluster, monkeypatch: pytest.MonkeyPatch, expected: Any
) -> None:
    whole = run().top_k(ROWS)
    monkeypatch.setattr(ranking, "ROWS_PER_PART", 100)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = run(block_bytes=10_000)
    assert len(found.manifest["parts"]) > 5
    pd.testing.assert_frame_equal(found.top_k(ROWS), whole)
    pd.testing.assert_frame_equal(found.ranking.compute().reset_index(drop=True), whole)


def chunked(place: Place, losses: Array, chunk: int) -> Any:
    store = zarr_store(Location.of(place.url, place.options, "test"))
    return zarr.create_array(store, data=losses, chunks=(100, chunk), overwrite=True)


@pytest.mark.parametrize(
    ("chunk", "top_k", "block_bytes"),
    [
        (1, 50, 5_000),
        (5, None, 20_000),
        pytest.param(1, None, 5_000, marks=pytest.mark.slow),
        pytest.param(1, None, 20_000, marks=pytest.mark.slow),
        pytest.param(5, 50, 5_000, marks=pytest.mark.slow),
        pytest.param(5, 50, 20_000, marks=pytest.mark.slow),
    ],
)
def test_appended_iterations_cost_their_columns(
    place: Place, chunk: int, top_k: int | None, block_bytes: int, expected: Any
) -> None:
    array, options = (
        chunked(place / "l.zarr", LOSSES[:, :16], chunk),
        dict.fromkeys(("losses", "out"), place.options),
    )
    how: dict[str, Any] = {
        "top_k": top_k,
        "out": (place / "out").url,
        "storage_options": options,
        "block_bytes": block_bytes,
    }
    run((place / "l.zarr").url, iters=ITERS[:16], **how)
    array.resize(LOSSES.shape)
    array[:, 16:] = LOSSES[:, 16:]
    found = run((place / "l.zarr").url, **how)
    assert found.manifest["counts"]["iterations_read"] == WIDTH - 16 // chunk * chunk
    assert bits(found) == expected[top_k]
    whole = run((place / "l.zarr").url, full=True, **how)
    assert whole.manifest["counts"]["iterations_read"] == WIDTH
    assert found.manifest["bytes_read"]["losses"] < 0.6 * whole.manifest["bytes_read"]["losses"]


def test_candidates_that_stay_are_not_read_again(tmp_path: Path) -> None:
    losses = LOSSES.copy()
    losses[:900:100] += 1000
    array = chunked(Place(str(tmp_path / "l.zarr")), losses[:, :16], 4)
    how: dict[str, Any] = {"out": tmp_path / "out", "top_k": 9}
    run(tmp_path / "l.zarr", iters=ITERS[:16], **how)
    array.resize(LOSSES.shape)
    array[:, 16:] = losses[:, 16:]
    found = run(tmp_path / "l.zarr", **how)
    assert found.manifest["bytes_read"]["losses_again"] == 0
    assert bits(found) == bits(run(losses, top_k=9))


@pytest.mark.parametrize(
    "change",
    [
        "losses",
        *(pytest.param(name, marks=pytest.mark.slow) for name in ("labels", "alpha", "iters")),
    ],
)
def test_states_of_anything_else_are_not_taken(change: str, tmp_path: Path) -> None:
    place = Place(str(tmp_path))
    array = chunked(place / "l.zarr", LOSSES, 4)
    how: dict[str, Any] = {"labels": LABELS, "alpha": ALPHA, "iters": ITERS, "top_k": 50}
    noisydask.analyze_loss_dynamics((place / "l.zarr").url, out=str(tmp_path / "out"), **how)
    if change == "losses":
        array[300, 2] = 3.0
    elif change == "labels":
        how["labels"] = LABELS + 1
    elif change == "alpha":
        how["alpha"] = 0.2
    else:
        how["iters"] = ITERS + 1
    found = noisydask.analyze_loss_dynamics(
        (place / "l.zarr").url, out=str(tmp_path / "out"), **how
    )
    assert found.manifest["counts"]["iterations_read"] == WIDTH
    fresh = noisydask.analyze_loss_dynamics(
        (place / "l.zarr").url, out=str(tmp_path / "fresh"), **how
    )
    assert bits(found) == bits(fresh)


@pytest.mark.parametrize(
    ("how", "said"),
    [
        ({"losses": LOSSES[0]}, "two dimensions"),
        ({"losses": LOSSES[:0], "labels": None, "ids": None}, "empty"),
        ({"losses": LOSSES[:, :0], "iters": []}, "empty"),
        ({"losses": np.ones(LOSSES.shape, int)}, "must be float16, float32 or float64"),
        ({"iters": ITERS[:-1]}, "iters has 23 iterations, losses 24"),
        ({"iters": np.where(ITERS == 30, 20, ITERS)}, "iteration 20 2 times"),
        ({"iters": ITERS[::-1]}, "must rise"),
        ({"iters": ITERS / 3}, "iters must be integers"),
        ({"labels": LABELS[1:]}, "labels has shape"),
        ({"labels": LABELS / 2}, "labels must be integers"),
        ({"ids": IDS[1:]}, "ids has shape"),
        ({"ids": np.arange(1030) / 2}, "ids must be integers or text, not float64"),
        ({"labels": np.full(1030, 2**63, np.uint64)}, "labels holds 9223372036854775808, above"),
        (
            {"iters": np.uint64(2**63) + np.arange(24, dtype=np.uint64)},
            "iters holds 9223372036854775831, above",
        ),
        ({"alpha": 0.0}, "alpha"),
        ({"alpha": 1.5}, "alpha"),
        ({"top_k": 0}, "top_k"),
        ({"losses": None}, "give one of"),
    ],
)
def test_wrong_input_is_refused(how: dict[str, Any], said: str) -> None:
    with pytest.raises(InputError, match=said):
        run(how.pop("losses", LOSSES), **how)


@pytest.mark.parametrize(
    ("value", "said"),
    [(-0.5, "1 with negative losses"), (np.inf, "1 with infinite losses or losses above 3.4e+38")],
)
def test_impossible_losses_are_refused_and_leave_the_last_run(
    value: float, said: str, tmp_path: Path
) -> None:
    run(top_k=5, out=tmp_path / "out")
    before = (tmp_path / "out" / "latest.json").read_bytes()
    losses = LOSSES.copy()
    losses[501, 3] = value
    with pytest.raises(InputError) as caught:
        run(losses, top_k=5, out=tmp_path / "out")
    assert str(caught.value) == (
        f"1 of 1,030 examples are invalid: {said}; the first are rows 501. Correct them, or leave "
        "them out (on_invalid='skip')"
    )
    assert (tmp_path / "out" / "latest.json").read_bytes() == before


@pytest.mark.parametrize("block_bytes", [1, 10**9])
def test_an_example_with_two_faults_counts_once(block_bytes: int, tmp_path: Path) -> None:
    """Whichever tile of its losses comes first."""
    losses = LOSSES[:40].copy()
    losses[[2, 3], [0, 0]], losses[[2, 3], [20, 20]] = [-1, np.inf], [np.inf, -1]
    place = Place(str(tmp_path))
    at = zarr_store(Location.of((place / "l.zarr").url, None, "test"))
    zarr.create_array(at, data=losses, chunks=(2, 2))
    with pytest.raises(InputError, match="2 of 40 examples are invalid: 2 with infinite losses"):
        noisydask.analyze_loss_dynamics((place / "l.zarr").url, block_bytes=block_bytes)


@pytest.mark.parametrize("value", [0.1, 0.7, 1e-42, 3e6])
@pytest.mark.parametrize("alpha", [0.001, 0.125])
def test_who_is_the_mean_never_crosses_it(value: float, alpha: float) -> None:
    for rows in (1, 3):
        found = noisydask.analyze_loss_dynamics(np.full((rows, 20), value, np.float32), alpha=alpha)
        assert found.top_k(rows)["crossed_at"].tolist() == [-1] * rows
    alone = pd.DataFrame(
        {"id": [1, 2, 3], "iteration": [0, 1, 2], "loss": [value, value / 3, value * 7]}
    )
    assert (
        noisydask.analyze_loss_dynamics(table=alone, alpha=alpha).top_k(3)["crossed_at"].tolist()
        == [-1] * 3
    )


@pytest.mark.parametrize("dtype", [np.uint8, np.int32, np.uint64])
def test_any_type_of_iterations(dtype: Any, expected: Any) -> None:
    assert bits(run(iters=ITERS.astype(dtype), block_bytes=10**9)) == expected[None]


def test_labels_that_are_too_many_are_refused_whatever_the_blocks(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(curve_sums, "MOST_CELLS", 5_000)
    for block_bytes in (10_000, 10**9):
        with pytest.raises(InputError, match="are too many for mean curves"):
            run(labels=np.arange(1030), block_bytes=block_bytes)


def test_command_config_and_show(
    tmp_path: Path, one_worker: LocalCluster, capfd: pytest.CaptureFixture[str]
) -> None:
    places = {
        "losses": tmp_path / "l.npy",
        "labels": tmp_path / "y.npy",
        "ids": tmp_path / "i.npy",
        "iters": tmp_path / "t.npy",
    }
    for name, values in (("losses", LOSSES), ("labels", LABELS), ("ids", IDS), ("iters", ITERS)):
        np.save(places[name], values)
    given = [word for name, path in places.items() for word in (f"--{name}", str(path))]
    cluster = ["--scheduler", one_worker.scheduler_address]
    out = ["--out", str(tmp_path / "out")]
    assert main(["dynamics", *given, *out, *cluster, "--alpha", "0.1", "--top-k", "30"]) == 0
    assert "of 1,030 examples at 24 iterations" in capfd.readouterr().out
    assert main(["show", str(tmp_path / "out"), "--top", "4", "--json"]) == 0
    shown = json.loads(capfd.readouterr().out)
    expected = run(top_k=30).top_k(4)
    assert [row["id"] for row in shown["top"]] == expected["id"].tolist()
    assert [row["metric"] for row in shown["top"]] == expected["metric"].tolist()
    config = {"job": "dynamics", "alpha": 0.2, "top_k": 30, "out": str(tmp_path / "other")}
    config |= {name: str(path) for name, path in places.items()}
    (tmp_path / "job.yaml").write_text(yaml.safe_dump(config))
    assert main(["run", str(tmp_path / "job.yaml"), *cluster, "--alpha", "0.1"]) == 0
    assert bits(noisydask.open_run(tmp_path / "other")) == bits(
        noisydask.open_run(tmp_path / "out")
    )


@pytest.mark.parametrize(
    "more",
    [
        ["--alpha", "2"],
        ["--top-k", "0"],
        ["--table", "t.parquet"],
        ["--losses", "nothing.zarr"],
        ["--pred-probs", "p"],
    ],
)
def test_wrong_usage_is_one_error_and_status_2(
    more: list[str], tmp_path: Path, one_worker: LocalCluster, capfd: pytest.CaptureFixture[str]
) -> None:
    np.save(tmp_path / "l.npy", LOSSES)
    cluster = ["--scheduler", one_worker.scheduler_address]
    assert (
        main(
            [
                "dynamics",
                "--losses",
                str(tmp_path / "l.npy"),
                "--out",
                str(tmp_path / "out"),
                *cluster,
                *more,
            ]
        )
        == 2
    )
    assert sum("error" in line.lower() for line in capfd.readouterr().err.splitlines()) == 1
