"""Labels that have an order of their own are joined with the predictions by id."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from conftest import Place
from distributed import Client
from hypothesis import given, settings
from hypothesis import strategies as st
from layouts import make

import noisydask
from noisydask.errors import InputError
from noisydask.issues import joining

DATA = make(rows=1030, classes=7)
NAMES = [*"gfedcba"]
HOSTILE = ["", "a\x00b", "é" * 3, "x" * 5000, "a,b\n", "'"]
TEXT = np.array([*HOSTILE, *(f"img/{number}" for number in range(1024))], object)
NUMBERS = np.arange(1030) * 3 - 500


@pytest.fixture(autouse=True)
def _small_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(joining, "PART_ROWS", 150)


def shuffled(seed: int) -> Any:
    return np.random.default_rng(seed).permutation(1030)


def check_same(found: Any, labels: Any = DATA.labels) -> None:
    wanted = noisydask.find_label_issues(labels, DATA.pred_probs, on_invalid="skip")
    assert found.num_issues > 20
    np.testing.assert_array_equal(found.indices, wanted.indices)
    np.testing.assert_array_equal(found.label_quality.compute(), wanted.label_quality.compute())


@pytest.mark.parametrize("ids", [TEXT, NUMBERS], ids=["text", "numbers"])
def test_labels_in_another_order(ids: Any) -> None:
    order = shuffled(0)
    given: dict[str, Any] = {"ids": ids, "label_ids": ids[order]}
    for block_bytes in (128 << 20, 9000):
        found = noisydask.find_label_issues(
            DATA.labels[order], DATA.pred_probs, **given, block_bytes=block_bytes
        )
        check_same(found)
        assert found.manifest["counts"]["labels_without_prediction"] == 0


def test_ids_of_another_width() -> None:
    order = shuffled(1)
    found = noisydask.find_label_issues(
        DATA.labels[order],
        DATA.pred_probs,
        ids=NUMBERS.astype(np.int16),
        label_ids=NUMBERS[order],
    )
    check_same(found)


def files(place: Place) -> dict[str, Any]:
    """Predictions in Parquet, and labels with names and in another order in CSV."""
    probs = pd.DataFrame(DATA.pred_probs, columns=[f"p_{name}" for name in NAMES])
    probs.insert(0, "id", [f"img/{number}" for number in range(1030)])
    order = shuffled(2)
    labels = pd.DataFrame({"id": probs["id"], "label": np.array(NAMES)[DATA.labels]}).iloc[order]
    place.write("p.parquet", probs.to_parquet(row_group_size=170))
    place.write("l.csv", labels.to_csv(index=False).encode())
    names = ("table", "labels", "label_ids", "out")
    return {
        "table": f"{place.url}/p.parquet",
        "id_column": "id",
        "class_columns": "p_*",
        "labels": f"{place.url}/l.csv#label",
        "label_ids": f"{place.url}/l.csv#id",
        "out": f"{place.url}/out",
        "storage_options": dict.fromkeys(names, place.options),
        "block_bytes": 9000,
    }


def test_tables_are_joined_and_the_next_night_reads_nothing(place: Place) -> None:
    given = files(place)
    first = noisydask.find_label_issues(**given)
    check_same(first)
    assert first.manifest["blocks"]["scanned"] > 5
    assert not [name for name in place.objects() if "joined" in name]
    second = noisydask.find_label_issues(**given, compare=True)
    check_same(second)
    assert second.manifest["blocks"]["scanned"] == 0
    # Another order of the labels is no other label.
    labels = pd.read_csv(f"{place.url}/l.csv", storage_options=dict(place.options) or None)
    place.write("l.csv", labels.iloc[::-1].to_csv(index=False).encode())
    third = noisydask.find_label_issues(**given)
    check_same(third)
    assert third.manifest["blocks"]["scanned"] == 0
    labels.loc[labels["id"] == "img/5", "label"] = "g" if DATA.labels[5] else "f"
    place.write("l.csv", labels.to_csv(index=False).encode())
    assert noisydask.find_label_issues(**given).manifest["blocks"]["scanned"] == 1


def test_labels_are_joined_on_workers(tmp_path: Path, client: Client) -> None:
    check_same(noisydask.find_label_issues(**files(Place(str(tmp_path)))))


def test_labels_that_are_missing_or_too_many() -> None:
    order = shuffled(3)[40:]
    more = np.concatenate([TEXT[order], np.array(["z/1", "z/0"], object)])
    labels = np.concatenate([DATA.labels[order], [0, 1]])
    with pytest.raises(InputError, match="40 predictions have no label; the first have the ids"):
        noisydask.find_label_issues(labels, DATA.pred_probs, ids=TEXT, label_ids=more)
    with pytest.warns(noisydask.LabelWarning, match="2 labels have no prediction; .* 'z/0', 'z/1'"):
        found = noisydask.find_label_issues(
            labels, DATA.pred_probs, ids=TEXT, label_ids=more, on_invalid="skip"
        )
    assert found.manifest["counts"]["labels_without_prediction"] == 2
    assert found.manifest["counts"]["invalid"] == 40
    known = np.full(1030, -1)
    known[order] = DATA.labels[order]
    check_same(found, known)


def test_what_is_refused() -> None:
    twice = np.concatenate([NUMBERS[:-1], NUMBERS[:1]])
    how: dict[str, Any] = {"labels": DATA.labels, "pred_probs": DATA.pred_probs}
    for more, said in (
        ({"ids": NUMBERS, "label_ids": twice}, "1 id of label_ids are there .* are -500"),
        ({"ids": twice, "label_ids": NUMBERS}, "1 id of ids are there"),
        ({"ids": NUMBERS, "label_ids": TEXT}, "ids are integers and label_ids text"),
        ({"label_ids": NUMBERS}, "label_ids are joined with ids"),
        ({"ids": NUMBERS, "label_ids": NUMBERS[:9]}, "label_ids has shape"),
    ):
        with pytest.raises(InputError, match=said):
            noisydask.find_label_issues(**how, **more)


@given(data=st.data())
@settings(max_examples=12, deadline=None)
def test_joins_are_those_of_pandas(data: st.DataObject) -> None:
    count = data.draw(st.integers(5, 40))
    kind = data.draw(st.sampled_from(["text", "number"]))
    letters = st.characters(exclude_characters="\0", exclude_categories=["Cs"])
    # NumPy's arrays of text end at the last letter that is no NUL.
    name = st.text(letters, max_size=3) if kind == "text" else st.integers(-50, 50)
    ids = data.draw(st.lists(name, min_size=count, max_size=count, unique=True))
    others = data.draw(st.lists(name, min_size=1, max_size=40, unique=True))
    kept = [*dict.fromkeys([*others, *ids[: count - 1]])]
    label_ids = data.draw(st.permutations(kept))
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 3, len(label_ids))
    probs = rng.dirichlet(np.ones(3), count).astype(np.float32)
    by_id = pd.Series(labels, index=label_ids)
    wanted = by_id.reindex(ids).fillna(-1).astype(int).to_numpy()
    with pytest.MonkeyPatch.context() as patch, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of few rows at random, which look like any
        patch.setattr(joining, "PART_ROWS", data.draw(st.integers(1, 50)))
        found = noisydask.find_label_issues(
            labels, probs, ids=ids, label_ids=label_ids, on_invalid="skip", block_bytes=600
        )
        expected = noisydask.find_label_issues(wanted, probs, on_invalid="skip")
    assert found.manifest["counts"]["labels_without_prediction"] == len(set(label_ids) - set(ids))
    np.testing.assert_array_equal(found.indices, expected.indices)
    np.testing.assert_array_equal(found.label_quality.compute(), expected.label_quality.compute())
