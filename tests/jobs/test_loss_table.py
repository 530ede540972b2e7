"""A table of losses gives the same bits however it is stored, cut and shuffled; they are those of
the formula."""

from __future__ import annotations

import gzip
import io
import tempfile
from collections.abc import Callable, Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import dask
import dask.dataframe as dd
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from conftest import Place
from distributed import Client, LocalCluster
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import noisydask
from noisydask import InputError, JobError, LossDynamics
from noisydask.core import ranking
from noisydask.dynamics import files
from noisydask.dynamics.files import LossFiles
from noisydask.dynamics.table import LossColumns
from noisydask.stores.locations import Location

pytestmark = pytest.mark.thorough

ALPHA = 0.125
COLUMNS: dict[str, Any] = {
    "label_column": "label",
    "subset_column": "subset",
    "ann_id_column": "ann_id",
}


def make(rows: int = 3000, examples: int = 211, seed: int = 0, text: bool = False) -> pd.DataFrame:
    """Rows in no order: examples of two subsets and two annotations, recorded at some of 40
    iterations; some NaN."""
    rng = np.random.default_rng(seed)
    frame = pd.DataFrame(
        {
            "id": rng.integers(0, examples, rows) * 7 - 300,
            "iteration": rng.integers(0, 40, rows) * 5,
            "loss": rng.exponential(2, rows),
            "subset": rng.choice(["train", "val"], rows),
            "ann_id": rng.integers(0, 2, rows),
        }
    )
    frame["label"] = (frame["id"] + frame["ann_id"]) % 5
    frame = frame.drop_duplicates(["id", "iteration", "subset", "ann_id"], ignore_index=True)
    frame.loc[rng.random(len(frame)) < 0.05, "loss"] = np.nan
    return frame.assign(id="img " + frame["id"].astype(str)) if text else frame


def put(place: Place, name: str, frame: pd.DataFrame, **how: Any) -> None:
    buffer = io.BytesIO()
    pq.write_table(pa.Table.from_pandas(frame, preserve_index=False), buffer, **how)
    place.write(name, buffer.getvalue())


def parquet(place: Place, frame: pd.DataFrame) -> str:
    for number, low in enumerate(range(0, len(frame), 700)):
        put(place, f"{number}.parquet", frame[low : low + 700], row_group_size=150)
    return place.url


def sorted_parquet(place: Place, frame: pd.DataFrame) -> str:
    return parquet(place, frame.sort_values("id"))


def csv(place: Place, frame: pd.DataFrame) -> str:
    place.write("a.csv", frame[:1900].to_csv(index=False).encode())
    place.write("b.csv.gz", gzip.compress(frame[1900:].to_csv(index=False).encode()))
    return place.url


def hive(place: Place, frame: pd.DataFrame) -> str:
    for (subset, ann_id), part in frame.groupby(["subset", "ann_id"]):
        put(
            place,
            f"subset={subset}/ann_id={ann_id}/part.parquet",
            part.drop(columns=["subset", "ann_id"]),
        )
    return place.url


SOURCES: dict[str, Callable[[Place, pd.DataFrame], Any]] = {
    "pandas": lambda place, frame: frame.iloc[::-1],
    "dask": lambda place, frame: dd.from_pandas(frame, npartitions=7, sort=False),
    "dask, by id": lambda place, frame: dd.from_pandas(frame.set_index("id"), npartitions=5),
    "parquet": parquet,
    "sorted parquet": sorted_parquet,
    "csv": csv,
    "hive": hive,
}


def analyze(table: Any, block_bytes: int = 20_000, **how: Any) -> LossDynamics:
    return noisydask.analyze_loss_dynamics(
        table=table, alpha=ALPHA, block_bytes=block_bytes, **(COLUMNS | how)
    )


def bits(found: LossDynamics) -> dict[str, bytes]:
    """Every output as bytes, but how the losses lie in the run."""
    objects = Place(found.run.place.url).objects()
    return {
        name: data
        for name, data in objects.items()
        if not name.startswith(("losses/", "manifest", "status"))
    }


def by_hand(frame: pd.DataFrame) -> tuple[pd.DataFrame, pd.Series, pd.DataFrame]:
    """The ranking, the mean curve and that of each label, by plain loops."""
    curves: dict[Any, dict[int, float]] = {}
    rows = []
    for name, part in frame.dropna(subset="loss").groupby(["id", "subset", "ann_id"]):
        part = part.sort_values("iteration")
        ema, curve = 0.0, {}
        for iteration, loss in zip(part["iteration"], part["loss"], strict=True):
            ema = (1 - ALPHA) * ema + ALPHA * loss
            curve[iteration] = ema
        losses = part["loss"].to_numpy()
        curves[*name, part["label"].iloc[0]] = curve
        told = (ema, len(losses), losses.mean(), losses.var(), losses.min(), losses[-1])
        rows.append((*name, part["label"].iloc[0], *told))
    table = pd.DataFrame(curves).T.sort_index(axis=1)
    mean = table.mean()
    names = (
        "id",
        "subset",
        "ann_id",
        "label",
        "metric",
        "num_losses",
        "mean_loss",
        "variance",
        "min_loss",
        "last_loss",
    )
    ranked = pd.DataFrame(rows, columns=list(names))
    crossed = [[t for t, ema in curve.items() if ema > mean[t]] for curve in curves.values()]
    ranked["crossed_at"] = [min(at, default=-1) for at in crossed]
    ranked = ranked.sort_values(
        ["metric", "id", "subset", "ann_id"], ascending=[False, True, True, True], ignore_index=True
    )
    return ranked.assign(rank=range(1, len(ranked) + 1)), mean, table.groupby(level=3).mean()


@pytest.fixture(scope="module")
def expected() -> Iterator[dict[bool, dict[str, bytes]]]:
    """The bits for integer and text ids, from one block."""
    return {text: bits(analyze(make(text=text), 10**9)) for text in (False, True)}  # type: ignore[return-value]


@pytest.mark.parametrize("text", [False, True])
def test_the_formula(text: bool) -> None:
    frame = make(text=text)
    found, (ranked, mean, per_label) = analyze(frame), by_hand(frame)
    top = found.top_k(10**6)
    assert top["crossed_at"].gt(-1).mean() > 0.3
    pd.testing.assert_frame_equal(top[list(ranked)], ranked, check_dtype=False, rtol=1e-12)
    np.testing.assert_allclose(found.mean_loss_dyns, mean, rtol=1e-12)
    assert found.mean_loss_dyns.index.tolist() == mean.index.tolist()
    assert list(found.mean_loss_dyns_per_label) == per_label.index.tolist()
    for label, series in found.mean_loss_dyns_per_label.items():
        np.testing.assert_allclose(series, per_label.loc[label], rtol=1e-12)
    counts = found.manifest["counts"]
    assert (counts["examples"], counts["losses"]) == (len(ranked), frame["loss"].notna().sum())


def test_the_bytes_read_are_those_of_the_columns(tmp_path: Path) -> None:
    frame, place = make(), Place(str(tmp_path))
    csv(place / "csv", frame)
    sizes = sum(path.stat().st_size for path in (tmp_path / "csv").iterdir())
    assert analyze((place / "csv").url).manifest["bytes_read"] == {"losses": sizes}
    wide = frame.assign(other=np.random.default_rng(1).random(len(frame)))
    read = []
    for name, rows in {"wide": wide, "narrow": frame}.items():
        put(place, f"{name}.parquet", rows)
        read.append(analyze((place / f"{name}.parquet").url).manifest["bytes_read"])
    assert read[0] == read[1]
    narrow = (tmp_path / "narrow.parquet").stat().st_size
    assert 0.8 * narrow < read[1]["losses"] < narrow
    assert "bytes_read" not in analyze(frame).manifest  # nothing was fetched


def test_curves_of_chosen_examples() -> None:
    frame = make()
    found = analyze(frame)
    ids = found.top_k(5)["id"].tolist()[::-1]
    curves = found.ema(ids)
    assert curves.index.get_level_values("id").drop_duplicates().tolist() == list(
        dict.fromkeys(ids)
    )
    part = frame[frame["id"].isin(ids)].dropna(subset="loss").sort_values("iteration")
    for name, series in part.groupby(["id", "subset", "ann_id"]):
        expected = pd.Series([0.0, *series["loss"]]).ewm(alpha=ALPHA, adjust=False).mean()[1:]
        np.testing.assert_allclose(curves.sort_index().loc[name].dropna(), expected, rtol=1e-12)
    with pytest.raises(InputError, match="12345 is not an example"):
        found.ema([ids[0], 12345])
    pytest.importorskip("matplotlib")
    figure = found.plot_ema_loss_dynamics(ids, mode="label_mean")
    assert [axes.get_title() for axes in figure.axes] == [
        f"label {label}" for label in sorted(part["label"].unique())
    ]
    assert sum(len(axes.lines) - 1 for axes in figure.axes) == len(curves)
    first = found.plot_ema_loss_dynamics().axes[0].get_legend().get_texts()[1].get_text()
    assert first == ", ".join(map(str, found.top_k(1)[["id", "subset", "ann_id"]].iloc[0]))


@pytest.mark.parametrize("text", [False, pytest.param(True, marks=pytest.mark.slow)])
@pytest.mark.parametrize("source", SOURCES)
def test_any_source(source: str, text: bool, tmp_path: Path, expected: Any) -> None:
    given = SOURCES[source](Place(str(tmp_path)), make(text=text))
    assert bits(analyze(given)) == expected[text]


@pytest.mark.parametrize("scheduler", ["synchronous", "threads"])
def test_local_schedulers(scheduler: str, tmp_path: Path, expected: Any) -> None:
    url = parquet(Place(str(tmp_path)), make())
    with dask.config.set(scheduler=scheduler):
        assert bits(analyze(url, 7_000)) == expected[False]


@pytest.mark.slow
@pytest.mark.parametrize(
    "workers", [pytest.param("one_worker", marks=pytest.mark.soak), "four_workers"]
)
def test_worker_processes(
    workers: str, request: pytest.FixtureRequest, tmp_path: Path, expected: Any
) -> None:
    cluster: LocalCluster = request.getfixturevalue(workers)
    with Client(cluster):
        for text, source in (
            (False, "parquet"),
            (True, "parquet"),
            (False, "dask"),
            (False, "sorted parquet"),
        ):
            given = SOURCES[source](Place(str(tmp_path / f"{source}{text}")), make(text=text))
            assert bits(analyze(given, 15_000)) == expected[text], source


def test_any_store(place: Place, client: Client, expected: Any) -> None:
    for source in ("parquet", "csv"):
        url = SOURCES[source](place / source, make())
        options = {"table": place.options, "out": place.options}
        found = analyze(url, storage_options=options, out=f"{place.url}/out {source}")
        run = (place / f"out {source}/runs/{found.run.run}").objects()
        assert {name: run[name] for name in expected[False]} == expected[False]
        assert {item["path"] for item in found.manifest["objects"]} == set(run) - {"manifest.json"}
        again = noisydask.open_run(f"{place.url}/out {source}", place.options)
        pd.testing.assert_frame_equal(
            again.ema([found.top_k(1)["id"][0]]), found.ema([found.top_k(1)["id"][0]])
        )


@pytest.mark.slow
@settings(
    deadline=None, max_examples=8, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    seed=st.integers(0, 10**6),
    cuts=st.lists(st.integers(0, 400), max_size=6),
    groups=st.integers(1, 200),
    block_bytes=st.integers(1_500, 30_000),
    by_id=st.booleans(),
)
def test_any_partitioning(
    seed: int, cuts: list[int], groups: int, block_bytes: int, by_id: bool
) -> None:
    frame = make(400, 37, seed)
    whole = bits(analyze(frame, 10**9))
    frame = (
        frame.sort_values("id", kind="stable") if by_id else frame.sample(frac=1, random_state=seed)
    )
    with tempfile.TemporaryDirectory() as folder, dask.config.set(scheduler="synchronous"):
        edges = [0, *sorted(cuts), len(frame)]
        for number, (low, high) in enumerate(pairwise(edges)):
            put(Place(folder), f"{number}.parquet", frame[low:high], row_group_size=groups)
        assert bits(analyze(folder, block_bytes)) == whole


def units(place: Place, **how: Any) -> LossFiles:
    return LossFiles.open(
        Location.of(place.url, place.options, "table"), LossColumns(**how), 20_000
    )


def test_nothing_moves_where_ids_lie_apart(tmp_path: Path) -> None:
    place = Place(str(tmp_path))
    sorted_parquet(place / "sorted", make())
    parquet(place / "mixed", make())
    apart, mixed = units(place / "sorted"), units(place / "mixed")
    assert apart.whole
    assert not mixed.whole
    seen: dict[int, int] = {}
    rows = 0
    for unit in range(len(apart.units)):
        found = apart.read(unit)
        rows += len(found)
        for name in np.unique(found["id"]):
            assert seen.setdefault(name, unit) == unit
    assert rows == len(make())
    assert len(apart.units) > 3


def nested(rows: int) -> pa.Table:
    """A column whose field is called like the ids, before them."""
    ids = np.arange(rows)
    meta = pa.array([{"id": int(name)} for name in ids // 125])
    return pa.table(
        {"meta": meta, "id": ids, "iteration": np.zeros(rows, int), "loss": np.ones(rows)}
    )


def test_a_field_that_is_called_like_the_ids(tmp_path: Path) -> None:
    pq.write_table(nested(1000), tmp_path / "t.parquet", row_group_size=125)
    assert noisydask.analyze_loss_dynamics(table=tmp_path, block_bytes=2000).num_candidates == 1000


def test_statistics_that_are_wrong(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pq.write_table(nested(1000), tmp_path / "t.parquet", row_group_size=125)
    monkeypatch.setattr(files, "_bounds", lambda found: (found.min // 125,) * 2)
    with pytest.raises(JobError, match="126 rows were taken in of the 1,000 of the table"):
        noisydask.analyze_loss_dynamics(table=tmp_path, block_bytes=2000)


def test_many_parts_are_one_ranking(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    frame = make(text=True)
    whole = analyze(frame).top_k(10**6)
    monkeypatch.setattr(ranking, "ROWS_PER_PART", 50)
    found = analyze(parquet(Place(str(tmp_path)), frame))
    assert len(found.manifest["parts"]) > 5
    pd.testing.assert_frame_equal(found.top_k(10**6), whole)
    pd.testing.assert_frame_equal(found.ranking.compute().reset_index(drop=True), whole)


@pytest.mark.parametrize(
    ("text", "tie_rows"), [(True, 64), (False, 150)]
)  # cut by all ids, by a sample
def test_ties_are_cut_by_id(
    text: bool, tie_rows: int, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    frame = make(text=text).drop_duplicates(["id", "subset", "ann_id"])
    frame["loss"] = np.where(frame["id"].rank() % 3 < 1, 0.5, 2.0)
    frame.loc[frame.index[:5], "loss"] = 4.0  # a part of less candidates than have curves
    whole = analyze(frame).top_k(10**6)
    monkeypatch.setattr(ranking, "TIE_ROWS", tie_rows)
    monkeypatch.setattr(ranking, "ROWS_PER_PART", 100)
    url = parquet(Place(str(tmp_path)), frame)
    found = analyze(url)
    assert len(found.manifest["parts"]) > 5
    pd.testing.assert_frame_equal(found.top_k(10**6), whole)
    assert bits(analyze(url, 7_000)) == bits(found)
    pd.testing.assert_frame_equal(analyze(url, top_k=300).top_k(10**6), whole[:300])


@pytest.mark.parametrize(
    "top_k", [10, *(pytest.param(k, marks=pytest.mark.slow) for k in (1, 10**6))]
)
def test_top_k(top_k: int) -> None:
    frame = make()
    found, whole = analyze(frame, top_k=top_k), analyze(frame).top_k(top_k)
    pd.testing.assert_frame_equal(found.top_k(10**6), whole)


def test_what_a_recorder_wrote(place: Place) -> None:
    rng = np.random.default_rng(0)
    rows = []
    with noisydask.LossRecorder(place.url, place.options, flush_rows=300) as recorder:
        for iteration in range(12):
            ids, losses = rng.permutation(100), rng.random(100)
            recorder.record(iteration, ids, losses)
            rows.append(pd.DataFrame({"id": ids, "iteration": iteration, "loss": losses}))
    place.write(".left-behind.parquet.part", b"half a file")
    found = noisydask.analyze_loss_dynamics(
        table=place.url, alpha=ALPHA, storage_options={"table": place.options}
    )
    dense = pd.concat(rows).pivot_table(index="id", columns="iteration", values="loss").to_numpy()
    expected = noisydask.analyze_loss_dynamics(dense, alpha=ALPHA)
    names = [
        "id",
        "metric",
        "num_losses",
        "mean_loss",
        "variance",
        "min_loss",
        "last_loss",
        "crossed_at",
    ]
    pd.testing.assert_frame_equal(found.top_k(100)[names], expected.top_k(100)[names])
    np.testing.assert_array_equal(found.mean_loss_dyns, expected.mean_loss_dyns)


BAD_ROWS: list[tuple[dict[str, Any], str]] = [
    ({"loss": -0.5}, "1 with negative losses; the first are id 7 at iteration 3"),
    ({"loss": np.inf}, "1 with infinite losses or losses above 3.4e"),
    (
        {"iteration": 2},
        "1 with duplicate iterations of an example; the first are id 7 at iteration 2",
    ),
    ({"label": 1}, "2 with another label than the row before of the same example"),
]


@pytest.mark.parametrize(("change", "said"), BAD_ROWS)
def test_invalid_rows(change: dict[str, Any], said: str, client: Client, tmp_path: Path) -> None:
    names = np.repeat(np.arange(50), 6)
    frame = pd.DataFrame(
        {"id": names, "iteration": np.tile(np.arange(6), 50), "loss": 0.5, "label": 0}
    )
    for column, value in change.items():
        frame.loc[7 * 6 + 3, column] = value
    put(
        Place(str(tmp_path)),
        "table/1.parquet",
        frame.sample(frac=1, random_state=0),
        row_group_size=20,
    )
    for table in (str(tmp_path / "table"), frame):
        with pytest.raises(InputError, match=said):
            noisydask.analyze_loss_dynamics(
                table=table, label_column="label", block_bytes=2000, out=tmp_path / "out"
            )
    assert not (tmp_path / "out/latest.json").exists()


GOOD = pd.DataFrame({"id": [1, 2], "iteration": [0, 0], "loss": [0.5, 0.25], "label": [0, 1]})
BAD_TABLES: list[tuple[Any, str]] = [
    (GOOD.drop(columns="loss"), "has no column 'loss'; it has: id, iteration, label"),
    (GOOD[:0], "no loss is recorded there"),
    (GOOD.assign(loss=np.nan), "no loss is recorded there"),
    (GOOD.assign(id=[0.5, 1.5]), "'id' holds float64; ids are integers or text"),
    (GOOD.assign(id=["a", None]), "'id' of the table has 1 empty cells"),
    (
        GOOD.assign(iteration=[0.5, 1.5]),
        "'iteration' of the table holds float64; it must be integers",
    ),
    (GOOD.assign(label=["a", "b"]), "'label' of the table holds .*; it must be integers"),
    (GOOD.assign(loss=["a", "b"]), "'loss' of the table holds .*; losses are numbers"),
    (7, "not int"),
]


@pytest.mark.parametrize(("table", "said"), BAD_TABLES)
def test_what_is_no_table(table: Any, said: str, tmp_path: Path) -> None:
    sources = [table]
    if isinstance(table, pd.DataFrame):
        table.to_parquet(tmp_path / "table.parquet")
        sources.append(tmp_path / "table.parquet")
        sources.append(dd.from_pandas(table, npartitions=1))
    for source in sources:
        with pytest.raises(InputError, match=said.replace("the table", ".*table")):
            noisydask.analyze_loss_dynamics(table=source, label_column="label")


def test_what_is_no_file(place: Place) -> None:
    options = {"table": place.options}
    with pytest.raises(
        InputError,
        match=r"table at .*: there is no table; check the path|has no Parquet or CSV file",
    ):
        noisydask.analyze_loss_dynamics(table=f"{place.url}/nothing", storage_options=options)
    place.write("both/a.csv", b"id,iteration,loss\n")
    put(place, "both/a.parquet", GOOD)
    with pytest.raises(InputError, match="both Parquet and CSV"):
        noisydask.analyze_loss_dynamics(table=f"{place.url}/both", storage_options=options)
    place.write("damaged/a.parquet", b"PAR1 and nothing")
    with pytest.raises(InputError, match=r"table at .* cannot be read"):
        noisydask.analyze_loss_dynamics(table=f"{place.url}/damaged", storage_options=options)
    place.write("words/a.csv", b"id,iteration,loss\n1,0,0.5\n2,x,0.5\n")
    with pytest.raises(InputError, match="'iteration' of the table holds"):
        noisydask.analyze_loss_dynamics(table=f"{place.url}/words", storage_options=options)
    put(place, "kinds/a.parquet", GOOD)
    put(place, "kinds/b.parquet", GOOD.assign(id=["a", "b"]))
    with pytest.raises(InputError, match="as integers and as text"):
        noisydask.analyze_loss_dynamics(table=f"{place.url}/kinds", storage_options=options)
    with pytest.raises(InputError, match="one column cannot be two things"):
        noisydask.analyze_loss_dynamics(table=GOOD, label_column="id")
    with pytest.raises(InputError, match="belong to losses"):
        noisydask.analyze_loss_dynamics(table=GOOD, labels=[0, 1])
    with pytest.raises(InputError, match="belong to a table"):
        noisydask.analyze_loss_dynamics([[0.5]], label_column="label")
    with pytest.raises(InputError, match="belongs to a Datumaro dataset"):
        noisydask.analyze_loss_dynamics(table=GOOD, tracking_loss_type="cls")
    with pytest.raises(InputError, match="give one of"):
        noisydask.analyze_loss_dynamics(table=GOOD, datumaro="x")


def test_a_file_that_goes_away(tmp_path: Path) -> None:
    place = Place(str(tmp_path))
    put(place, "a.parquet", GOOD)
    found = units(place)
    (tmp_path / "a.parquet").unlink()
    with pytest.raises(JobError, match="it is gone"):
        found.read(0)


def test_pieces_without_rows(tmp_path: Path) -> None:
    """The last range of bytes begins inside the last row; a file has only its header; a partition
    is empty."""
    rows = pd.DataFrame({"id": np.arange(500), "iteration": 0, "loss": 1.5})
    rows.to_csv(tmp_path / "a.csv", index=False)
    size = (tmp_path / "a.csv").stat().st_size
    rows[:0].to_csv(tmp_path / "b.csv", index=False)
    empty = pd.DataFrame(columns=["id", "iteration", "loss"])
    frame = dd.from_map(lambda part: part, [rows, empty], meta=rows[:0])
    for table, block_bytes in ((tmp_path / "a.csv", size - 3), (tmp_path, size), (frame, size)):
        given = table if table is frame else str(table)
        assert (
            noisydask.analyze_loss_dynamics(table=given, block_bytes=block_bytes).num_candidates
            == 500
        )


def test_files_whose_types_differ(tmp_path: Path) -> None:
    for name, ids in (
        ("a", np.arange(5)),
        ("b", np.arange(5, 9, dtype=np.uint64)),
        ("c", pd.Categorical([9, 10])),
    ):
        pd.DataFrame({"id": ids, "iteration": 0, "loss": 1.0}).to_parquet(
            tmp_path / f"{name}.parquet"
        )
    assert noisydask.analyze_loss_dynamics(table=str(tmp_path)).num_candidates == 11


@pytest.mark.parametrize(
    ("said", "text"),
    [(["1", "2"], False), (["007", "7"], True), (["--5", "1"], True), (["a", "1"], True)],
)
def test_folders_that_say_a_column(said: list[str], text: bool, tmp_path: Path) -> None:
    rows = pd.DataFrame({"id": [3], "subset": "train", "loss": 1.0})
    for value in said:
        for name, left in (("s", rows), ("id", rows.drop(columns="id"))):
            folder = tmp_path / f"{name}/{name}={value}/iteration=007"
            folder.mkdir(parents=True)
            left.to_parquet(folder / "a.parquet")
    found = noisydask.analyze_loss_dynamics(table=tmp_path / "s", subset_column="s")
    assert found.top_k(2)["subset"].tolist() == sorted(said)
    assert found.mean_loss_dyns.index.tolist() == [7]
    ids = noisydask.analyze_loss_dynamics(table=tmp_path / "id").top_k(2)["id"].tolist()
    assert ids == (sorted(said) if text else [1, 2])
    with pytest.raises(InputError, match="'subset' of the table holds str; it must be integers"):
        noisydask.analyze_loss_dynamics(table=tmp_path / "s", label_column="subset")


@pytest.mark.parametrize("kind", ["frame", "parquet"])
def test_ids_above_63_bits_are_refused(kind: str, tmp_path: Path) -> None:
    rows = pd.DataFrame(
        {"id": np.arange(100, dtype=np.uint64) << np.uint64(57), "iteration": 0, "loss": 1.0}
    )
    rows.to_parquet(tmp_path / "t.parquet", row_group_size=30)
    table = rows if kind == "frame" else str(tmp_path / f"t.{kind}")
    for block_bytes in (1_000, 10**9):
        with pytest.raises(
            InputError, match=r"column 'id' of the table holds .* give such numbers as text"
        ):
            noisydask.analyze_loss_dynamics(table=table, block_bytes=block_bytes)


def test_csv_cells(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text(
        'id,iteration,loss\nNA,0,0.5\n"a,b",0,\nnull,0,nan\n"a,b",1,2\n'
    )
    found = noisydask.analyze_loss_dynamics(table=tmp_path / "t.csv", alpha=0.5).top_k(9)
    assert found[["id", "metric"]].values.tolist() == [["a,b", 1.0], ["NA", 0.25]]


@pytest.mark.parametrize("ids", [["7", "007"], ["7", str(1 << 63)], ["+7", "7"]])
def test_csv_ids_that_are_text(ids: list[str], tmp_path: Path) -> None:
    for number, name in enumerate(ids):
        (tmp_path / f"{number}.csv").write_text(f"id,iteration,loss\n{name},0,1\n")
    found = noisydask.analyze_loss_dynamics(table=tmp_path)
    assert found.top_k(9)["id"].tolist() == sorted(ids)


@pytest.mark.parametrize("last", ["A1", "007", str(1 << 63)])
def test_csv_ids_that_are_text_late(last: str, tmp_path: Path) -> None:
    table = tmp_path / "t.csv"
    table.write_text(
        "id,iteration,loss\n" + "".join(f"{name},0,0.5\n" for name in [*range(20_000), last])
    )
    for block_bytes in (20_000, 10**9):
        with pytest.raises(
            InputError, match=f"holds '{last}', but integers in the first rows of its files"
        ):
            noisydask.analyze_loss_dynamics(table=table, block_bytes=block_bytes)
    (tmp_path / "a.csv").write_text(f"id,iteration,loss\n{last},1,0.5\n")
    assert noisydask.analyze_loss_dynamics(table=tmp_path).num_candidates == 20_001


def test_compressed_csv_takes_more_room_than_its_files(tmp_path: Path) -> None:
    rows = pd.DataFrame(
        {"id": np.arange(90_000), "iteration": 0, "loss": np.arange(90_000) % 7 / 8}
    )
    for number in range(3):
        rows[number::3].to_csv(tmp_path / f"{number}.csv.gz", index=False)
    taken = LossColumns().row_bytes(False) * len(rows)
    assert taken / 3 < units(Place(str(tmp_path))).num_bytes < 3 * taken
