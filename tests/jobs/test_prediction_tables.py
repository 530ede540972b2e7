"""Predictions and labels as people have them (tables, text, frames) give the answer of the arrays,
bit for bit.
"""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import dask.dataframe as dd
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.csv as pc
import pyarrow.feather as pf
import pyarrow.parquet as pq
import pytest
from conftest import Place
from layouts import make

import noisydask
from noisydask.errors import InputError, JobError

#: Not in the order of the alphabet, nor in that of the rows.
CLASSES = ["zebra", "ant", "mule", "bee", "10", "2", 'Ü, "x"\n']
DATA = make(rows=1030, classes=7)
IDS = [f"img/{number:05}" for number in range(1030)]
KINDS = ["parquet", "csv", "arrow", "stream", "list", "fixed", "npz", "packed"]
BLOCKS = [128 << 20, 9000]


def frame() -> pd.DataFrame:
    """All columns, those of classes not side by side."""
    probs = pd.DataFrame(DATA.pred_probs, columns=[f"p_{name}" for name in CLASSES])
    probs.insert(3, "label", np.array(CLASSES)[DATA.labels])
    return probs.assign(id=IDS, fold=np.arange(1030) % 5)


def write(place: Place, kind: str, table: pd.DataFrame | None = None, name: str = "t") -> str:
    """Store a table; return its URL."""
    rows = pa.Table.from_pandas(frame() if table is None else table, preserve_index=False)
    buffer = io.BytesIO()
    if kind in ("list", "fixed"):
        lists = pa.array(list(DATA.pred_probs))
        if kind == "fixed":
            lists = pa.FixedSizeListArray.from_arrays(pa.array(DATA.pred_probs.ravel()), 7)
        rows = rows.select(["label", "id"]).append_column("probs", lists)
    if kind in ("parquet", "list", "fixed"):
        pq.write_table(rows, buffer, row_group_size=170)
        ending = "parquet"
    elif kind == "csv":
        pc.write_csv(rows, buffer)
        ending = "csv"
    elif kind == "arrow":
        pf.write_feather(rows, buffer, chunksize=170)
        ending = "feather"
    elif kind == "stream":
        with pa.ipc.new_stream(buffer, rows.schema) as writer:
            writer.write_table(rows, max_chunksize=170)
        ending = "arrow"
    else:
        save = np.savez if kind == "npz" else np.savez_compressed
        save(buffer, probs=DATA.pred_probs, labels=DATA.labels, ids=np.array(IDS))
        ending = "npz"
    place.write(f"{name}.{ending}", buffer.getvalue())
    return f"{place.url}/{name}.{ending}"


def inputs(url: str, kind: str, place: Place) -> dict[str, Any]:
    """How the columns of a stored table are named."""
    options = dict.fromkeys(("table", "labels", "pred_probs", "ids", "out"), place.options)
    if kind in ("npz", "packed"):
        arrays = {"labels": f"{url}#labels", "pred_probs": f"{url}#probs", "ids": f"{url}#ids"}
        return arrays | {"class_names": CLASSES, "storage_options": options}
    columns: dict[str, Any] = {"class_columns": "p_*"}
    if kind in ("list", "fixed"):
        columns = {"class_columns": "probs", "class_names": CLASSES}
    return {"table": url, "id_column": "id", **columns, "storage_options": options}


def check_same(found: Any) -> None:
    """A run is that of the arrays."""
    wanted = noisydask.find_label_issues(DATA.labels, DATA.pred_probs, ids=IDS, class_names=CLASSES)
    assert found.num_issues > 50
    np.testing.assert_array_equal(found.indices, wanted.indices)
    np.testing.assert_array_equal(found.label_quality.compute(), wanted.label_quality.compute())
    pd.testing.assert_frame_equal(found.to_dataframe(), wanted.to_dataframe())


@pytest.mark.parametrize("kind", KINDS)
def test_tables_give_the_answer_of_the_arrays(kind: str, place: Place) -> None:
    given = inputs(write(place, kind), kind, place)
    for block_bytes in BLOCKS:
        check_same(noisydask.find_label_issues(**given, block_bytes=block_bytes))


@pytest.mark.parametrize("kind", ["parquet", "csv", "arrow"])
def test_columns_of_all_files_are_taken_by_name(kind: str, tmp_path: Path) -> None:
    (tmp_path / "t").mkdir()
    place = Place(str(tmp_path))
    whole = frame()
    rng = np.random.default_rng(0)
    for number, low in enumerate(range(0, 1030, 100)):
        part = whole.iloc[low : low + 100]
        order = rng.permutation(part.columns) if number else part.columns
        write(place, kind, part[order], f"t/part.{number}")
    for block_bytes in BLOCKS:
        given = inputs(f"{tmp_path}/t", kind, place)
        check_same(noisydask.find_label_issues(**given, block_bytes=block_bytes))


class Capsule:
    """A frame of a library that is not known, which hands out Arrow."""

    def __init__(self, table: pa.Table) -> None:
        self._table = table
        self.columns = table.column_names

    def __arrow_c_stream__(self, schema: Any = None) -> Any:
        return self._table.__arrow_c_stream__(schema)


@pytest.mark.parametrize("kind", ["columns", "list"])
def test_numbers_that_a_table_has_names_for(kind: str, tmp_path: Path) -> None:
    """As Hugging Face writes it: its ClassLabel counts in another order than the columns."""
    names = sorted(CLASSES) if kind == "columns" else CLASSES
    codes = np.array([names.index(CLASSES[label]) for label in DATA.labels])
    codes[3] = -1  # of no class
    table = pa.Table.from_pandas(frame().assign(label=codes), preserve_index=False)
    if kind == "list":
        table = table.append_column("probs", pa.array(list(DATA.pred_probs)))
    features = {"label": {"names": names, "_type": "ClassLabel"}}
    table = table.replace_schema_metadata(
        {"huggingface": json.dumps({"info": {"features": features}})}
    )
    pq.write_table(table, tmp_path / "t.parquet")
    columns = "p_*" if kind == "columns" else "probs"
    found = noisydask.find_label_issues(
        table=tmp_path / "t.parquet", class_columns=columns, on_invalid="skip"
    )
    labels = DATA.labels.copy()
    labels[3] = -1
    wanted = noisydask.find_label_issues(labels, DATA.pred_probs, on_invalid="skip")
    np.testing.assert_array_equal(found.indices, wanted.indices)
    assert list(found.class_names) == CLASSES


def frames() -> dict[str, Any]:
    """The table as frames of all kinds."""
    return {
        "pandas": frame(),
        "categories": frame().astype({"label": "category"}),
        "dask": dd.from_pandas(frame(), npartitions=3),
        "arrow": pa.Table.from_pandas(frame()),
        "batch": pa.RecordBatch.from_pandas(frame()),
        "capsule": Capsule(pa.Table.from_pandas(frame())),
    }


@pytest.mark.parametrize("kind", frames())
def test_frames_give_the_answer_of_the_arrays(kind: str) -> None:
    check_same(
        noisydask.find_label_issues(table=frames()[kind], id_column="id", class_columns="p_*")
    )


@pytest.mark.parametrize("kind", ["pandas", "arrow"])
def test_frames_with_a_column_of_lists(kind: str) -> None:
    columns = {"label": frame()["label"], "id": IDS, "p": list(DATA.pred_probs)}
    table: Any = pd.DataFrame(columns) if kind == "pandas" else pa.table(columns)
    how: dict[str, Any] = {"class_columns": "p", "class_names": CLASSES, "id_column": "id"}
    check_same(noisydask.find_label_issues(table=table, **how))
    with pytest.raises(InputError, match="has no column 'q'"):
        noisydask.find_label_issues(table=table, **{**how, "class_columns": "q"})


def test_columns_of_frames_are_classes() -> None:
    probs = pd.DataFrame(DATA.pred_probs, columns=CLASSES)
    labels = frame()["label"]
    check_same(noisydask.find_label_issues(labels, probs, ids=IDS))
    # Class names order the columns.
    shuffled = probs[[*reversed(CLASSES)]]
    check_same(noisydask.find_label_issues(labels, shuffled, ids=IDS, class_names=CLASSES))
    numbers = DATA.pred_probs[:, ::-1]
    by_number = noisydask.find_label_issues(
        np.arange(7)[::-1][DATA.labels] + 3, pd.DataFrame(numbers, columns=range(3, 10))
    )
    wanted = noisydask.find_label_issues(DATA.labels, DATA.pred_probs)
    np.testing.assert_array_equal(by_number.indices, wanted.indices)


def test_numbers_that_name_classes_are_not_positions(tmp_path: Path) -> None:
    """Columns in the order of text: class 10 comes before class 2."""
    data = make(rows=500, classes=12)
    order = sorted(range(12), key=str)
    table = pd.DataFrame(data.pred_probs[:, order], columns=[f"p{k}" for k in order])
    table.assign(label=data.labels).to_parquet(tmp_path / "t.parquet")
    found = noisydask.find_label_issues(table=tmp_path / "t.parquet", class_columns="p*")
    wanted = noisydask.find_label_issues(data.labels, data.pred_probs)
    np.testing.assert_array_equal(np.sort(found.indices), np.sort(wanted.indices))
    assert found.class_names == tuple(map(str, order)) or list(found.class_names) == [
        *map(str, order)
    ]


def test_true_and_false_are_two_classes(tmp_path: Path) -> None:
    data = make(rows=300, classes=2)
    wanted = noisydask.find_label_issues(data.labels, data.pred_probs)
    given = data.labels.astype(bool)
    found = noisydask.find_label_issues(given, data.pred_probs)
    np.testing.assert_array_equal(found.indices, wanted.indices)
    table = pd.DataFrame(data.pred_probs[:, ::-1], columns=["True", "False"]).assign(label=given)
    table.to_csv(tmp_path / "t.csv", index=False)
    found = noisydask.find_label_issues(table=tmp_path / "t.csv")
    np.testing.assert_array_equal(np.sort(found.indices), np.sort(wanted.indices))
    with pytest.raises(InputError, match="labels are true or false, but pred_probs has 7 classes"):
        noisydask.find_label_issues(np.ones(1030, bool), DATA.pred_probs)


@pytest.mark.parametrize("kind", ["parquet", "csv"])
def test_labels_that_are_missing_or_no_class(kind: str, tmp_path: Path) -> None:
    table = frame()
    wrong = np.flatnonzero(table["label"] == "mule")[:40]
    table.loc[wrong, "label"] = "moule"
    table.loc[[5, 9], "label"] = None
    url = write(Place(str(tmp_path)), kind, table)
    for given in ({"table": url}, {"table": table}):
        with pytest.raises(InputError) as caught:
            noisydask.find_label_issues(**given, class_columns="p_*")
        said = str(caught.value)
        assert "42 of 1,030 rows are invalid" in said
        assert "2 labels missing" in said
        assert "'moule' (40 rows; did you mean 'mule'?)" in said
        with pytest.warns(noisydask.LabelWarning, match="moule"):
            found = noisydask.find_label_issues(**given, class_columns="p_*", on_invalid="skip")
        assert found.manifest["counts"]["invalid"] == 42
    codes = DATA.labels.copy()
    codes[wrong] = -1
    codes[[5, 9]] = -1
    wanted = noisydask.find_label_issues(codes, DATA.pred_probs, on_invalid="skip")
    np.testing.assert_array_equal(found.indices, wanted.indices)


def test_a_column_of_one_name_is_said(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"Are the classes class_columns='p_\*'\?"):
        noisydask.find_label_issues(table=write(Place(str(tmp_path)), "csv"))


def test_the_next_night_reads_the_file_that_changed(place: Place) -> None:
    whole = frame()
    for number, low in enumerate(range(0, 1030, 170)):
        write(place, "parquet", whole.iloc[low : low + 170], f"t/part.{number}")
    options = dict.fromkeys(("table", "out"), place.options)
    given = {
        "table": f"{place.url}/t",
        "class_columns": "p_*",
        "id_column": "id",
        "out": f"{place.url}/out",
        "storage_options": options,
        "block_bytes": 170 * (28 + 40),
    }
    first = noisydask.find_label_issues(**given)
    assert first.manifest["blocks"]["scanned"] == 7
    part = whole.iloc[340:510].copy()
    part.loc[part.index[3], "label"] = "bee"
    write(place, "parquet", part, "t/part.2")
    second = noisydask.find_label_issues(**given)
    assert second.manifest["blocks"]["scanned"] == 1
    assert 0 < second.manifest["bytes_read"]["pred_probs"] < 12_000
    # Rows that move to another place are other rows, though their file is the same.
    write(place, "parquet", whole.iloc[340:509], "t/part.2")
    third = noisydask.find_label_issues(**given)
    assert third.manifest["blocks"]["scanned"] == 5
    fourth = noisydask.find_label_issues(
        **given
        | {
            "class_columns": ["p_ant", "p_bee"]
            + [f"p_{n}" for n in CLASSES if n not in ("ant", "bee")],
            "class_names": ["ant", "bee"] + [n for n in CLASSES if n not in ("ant", "bee")],
        }
    )
    assert fourth.manifest["blocks"]["scanned"] == 7


def refused(**given: Any) -> str:
    with pytest.raises((InputError, JobError)) as caught:
        noisydask.find_label_issues(**given)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_hostile_tables_have_one_error(tmp_path: Path) -> None:
    def made(table: Any, name: str = "t.parquet", **how: Any) -> str:
        pq.write_table(table, tmp_path / name, **how)
        return str(tmp_path / name)

    probs = {name: pa.array(DATA.pred_probs[:, k]) for k, name in enumerate("abcdefg")}
    label = pa.array(["a"] * 1030)
    twice = pa.Table.from_arrays([label, *probs.values(), label], ["label", *"abcdeff", "x"])
    assert "has 2 columns 'f'" in refused(table=made(twice))
    nested = pa.table({"label": label, **probs, "n": [{"a": 1.0}] * 1030})
    assert "holds 'n' as struct" in refused(table=made(nested), class_columns=[*"abcdefn"])
    assert "has no column 'label'" in refused(table=made(pa.table(probs)))
    short = pa.array([[0.5, 0.5]] * 7 + [[1.0]] * 3)
    lists = made(pa.table({"label": ["a"] * 10, "p": short}))
    said = refused(table=lists, class_columns="p", class_names=["a", "b"])
    assert "3 rows of a piece do not have 2 numbers" in said
    assert "row 7" in said
    assert "one value a row" in refused(
        labels=DATA.labels, pred_probs=made(nested), class_columns="a"
    )
    empty = made(pa.table({"label": label, **probs}).slice(0, 0))
    assert "there is nothing to look at" in refused(table=empty)
    (tmp_path / "e.csv").touch()
    assert "is empty" in refused(table=tmp_path / "e.csv")
    (tmp_path / "c.csv").write_text("label,a,b\na,0.5,0.5\na,1\n")
    assert "1 rows do not have the 3 cells of the header" in refused(table=tmp_path / "c.csv")
    (tmp_path / "p.csv.gz").write_bytes(b"1")
    assert "is packed as a whole" in refused(table=tmp_path / "p.csv.gz")
    np.savez(tmp_path / "o.npz", probs=np.array([{}, []], object))
    assert "Python objects" in refused(labels=[0, 1], pred_probs=tmp_path / "o.npz")
    assert "it has: probs" in refused(labels=[0, 1], pred_probs=f"{tmp_path}/o.npz#prob")
    holes = pa.table({"label": label, **probs, "a": pa.array([None] * 1030, pa.float32())})
    assert "1,030 with NaN" in refused(table=made(holes))


@pytest.mark.parametrize("group", [1, 7, 10_000])
def test_row_groups_of_any_size(group: int, tmp_path: Path) -> None:
    pq.write_table(pa.Table.from_pandas(frame()), tmp_path / "t.parquet", row_group_size=group)
    for block_bytes in BLOCKS:
        check_same(
            noisydask.find_label_issues(
                table=tmp_path / "t.parquet",
                id_column="id",
                class_columns="p_*",
                block_bytes=block_bytes,
            )
        )
