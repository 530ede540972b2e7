"""Datumaro's names give what Datumaro 1.10 gave on the same files; its datasets are read as a
stream."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest
from conftest import Place
from distributed import Client

import noisydask
from noisydask import DatasetError, InputError, LossDynamicsAnalyzer, NoisyLabelCandidate
from noisydask.dynamics import annotations, datumaro_format

pytestmark = pytest.mark.thorough

DATA = Path(__file__).parents[1] / "data/datumaro"
RECORDED = json.loads((DATA / "recorded.json").read_text())
GOOD = [case for case in RECORDED if "error" not in case["found"]]
BAD = [case for case in RECORDED if "error" in case["found"]]


def name_of(case: dict[str, Any]) -> str:
    return "-".join([case["dataset"], *map(str, case["how"].values())])


def in_memory(folder: Path) -> Any:
    """The dataset of a folder as an object with the methods and attributes that Datumaro's have."""
    files = {
        path.stem: json.loads(path.read_text())
        for path in sorted((folder / "annotations").glob("*.json"))
    }
    first = next(iter(files.values()))
    labels = [SimpleNamespace(**label) for label in first["categories"]["label"]["labels"]]
    items = [
        SimpleNamespace(
            id=item["id"],
            subset=subset,
            annotations=[
                SimpleNamespace(id=a["id"], label=a["label_id"], attributes=a["attributes"])
                for a in item["annotations"]
            ],
        )
        for subset, content in files.items()
        for item in content["items"]
    ]

    class InMemory(list[Any]):
        def infos(self) -> dict[str, Any]:
            return dict(first["infos"])

        def categories(self) -> dict[Any, Any]:
            return {SimpleNamespaceKey("label"): SimpleNamespace(items=labels)}

    return InMemory(items)


class SimpleNamespaceKey(str):
    """A key with a name, as Datumaro's kinds of annotation are."""

    @property
    def name(self) -> str:
        return str(self)


def curve(series: pd.Series) -> list[list[Any]]:
    return [[key, value] for key, value in series.dropna().items()]


def check_curve(found: pd.Series, expected: list[list[Any]]) -> None:
    assert [key for key, _ in curve(found)] == [key for key, _ in expected]
    np.testing.assert_allclose(
        [value for _, value in curve(found)], [value for _, value in expected], rtol=1e-12
    )


@pytest.mark.parametrize("given", ["folder", "object"])
@pytest.mark.parametrize("case", GOOD, ids=name_of)
def test_what_datumaro_gives(case: dict[str, Any], given: str) -> None:
    folder, expected = DATA / case["dataset"], case["found"]
    found = LossDynamicsAnalyzer(folder if given == "folder" else in_memory(folder), **case["how"])
    assert found.alpha == expected["alpha"]
    frame = found.ema_dataframe
    assert list(frame.index.names) == expected["index_names"]
    assert list(frame.columns) == expected["columns"]
    assert [list(key) for key in frame.index] == [key for key, _ in expected["ema"]]
    for (_, row), (_, values) in zip(frame.iterrows(), expected["ema"], strict=True):
        check_curve(row, values)
    check_curve(found.mean_loss_dyns, expected["mean"])
    per_label = {
        ("ant", "bee", "cat")[int(label)]: values
        for label, values in expected["mean_per_label"].items()
    }
    assert {category.name for category in found.mean_loss_dyns_per_label} == set(per_label)
    for category, series in found.mean_loss_dyns_per_label.items():
        check_curve(series, per_label[category.name])
    for top_k in (1, 3, 1000):
        candidates = found.get_top_k_cands(top_k)
        named = [[c.id, c.subset, c.ann_id, c.label_id] for c in candidates]
        assert named == [row[:4] for row in expected["top"][str(top_k)]]
        np.testing.assert_allclose(
            [c.metric for c in candidates],
            [row[4] for row in expected["top"][str(top_k)]],
            rtol=1e-12,
        )
    assert found.get_top_k_cands(0) == []


@pytest.mark.parametrize("case", BAD, ids=name_of)
def test_what_datumaro_refuses(case: dict[str, Any]) -> None:
    with pytest.raises(DatasetError) as caught:
        LossDynamicsAnalyzer(DATA / case["dataset"], **case["how"])
    with pytest.raises(InputError):
        noisydask.analyze_loss_dynamics(datumaro=DATA / case["dataset"], **case["how"])
    said = str(caught.value)
    if "tracking_loss_type" in case["found"]["message"]:
        assert all(kind in said for kind in ("cls", "bbox", "centerness", "bbox_refine"))
    elif case["dataset"].endswith("task"):
        assert "OTX-MultiClassCls" in said
        assert "OTX-Det" in said
    elif case["dataset"].endswith("purpose"):
        assert "noisy_label_detection" in said
    elif case["dataset"] != "no_items":
        assert "annotation 0 of item 'a' in subset 'train'" in said


def test_candidates_compare_as_in_datumaro() -> None:
    one, same, other = (
        NoisyLabelCandidate(*row)
        for row in (("a", "s", 0, 1, 0.5), ("a", "s", 0, 2, 0.75), ("b", "s", 0, 1, 0.5))
    )
    assert one == same
    assert hash(one) == hash(same)
    assert one != other
    assert one < same
    assert sorted([same, one]) == [one, same]
    with pytest.raises(AttributeError):
        one.metric = 1.0  # type: ignore[misc]


def test_what_is_no_dataset(tmp_path: Path) -> None:
    for source, said in (
        (tmp_path, "no annotations"),
        (7, "is needed, not int"),
        ([], "is needed, not list"),
    ):
        with pytest.raises(DatasetError, match=said):
            LossDynamicsAnalyzer(source)
    (tmp_path / "annotations").mkdir()
    (tmp_path / "annotations/train.json").write_text('{"infos": {"purpose": ')
    with pytest.raises(DatasetError, match="invalid JSON") as caught:
        LossDynamicsAnalyzer(tmp_path)
    assert "\n" not in str(caught.value)
    found = LossDynamicsAnalyzer(DATA / "classification")
    for top_k in (-1, 2.5, "2"):
        with pytest.raises(InputError, match="top_k"):
            found.get_top_k_cands(top_k)
    for alpha in (0.0, None, "x"):
        with pytest.raises(InputError, match="alpha"):
            LossDynamicsAnalyzer(DATA / "classification", alpha=alpha)
    with pytest.raises(InputError, match="mode"):
        found.plot_ema_loss_dynamics(found.get_top_k_cands(1), mode="median")
    with pytest.raises(InputError, match="not an annotation of this dataset"):
        found.plot_ema_loss_dynamics([NoisyLabelCandidate("x", "train", 0, 0, 0.5)])


def changed(tmp_path: Path, change: Any) -> Path:
    """The classification dataset with its first annotation's attributes changed."""
    (tmp_path / "annotations").mkdir()
    content = json.loads((DATA / "classification/annotations/train.json").read_text())
    change(content["items"][0]["annotations"][0]["attributes"])
    (tmp_path / "annotations/train.json").write_text(json.dumps(content))
    return tmp_path


@pytest.mark.parametrize(
    ("attributes", "said"),
    [
        (
            {"iters": [0, 1], "loss_dynamics": [0.5, -1.0]},
            "1 with negative losses; the first are id dir/img 0 at iteration 1",
        ),
        (
            {"iters": [4, 4], "loss_dynamics": [0.5, 1.0]},
            "1 with duplicate iterations of an example",
        ),
        (
            {"iters": [0, 1], "loss_dynamics": [0.5, 1e300]},
            "1 with infinite losses or losses above",
        ),
        ({"iters": [0.5], "loss_dynamics": [0.5]}, "list of integers"),
        ({"iters": ["x"], "loss_dynamics": [0.5]}, "'iters' must be a list of integers"),
        ({"iters": [0], "loss_dynamics": ["x"]}, "lists of numbers"),
        ({"iters": [1e300], "loss_dynamics": [0.5]}, "'iters' must be a list of integers"),
        ({"iters": [0, None], "loss_dynamics": [0.5, 0.5]}, "'iters' must be a list of integers"),
    ],
)
def test_invalid_losses(attributes: dict[str, Any], said: str, tmp_path: Path) -> None:
    folder = changed(tmp_path, lambda found: found.update(attributes))
    for call in (
        LossDynamicsAnalyzer,
        lambda source: noisydask.analyze_loss_dynamics(datumaro=source),
    ):
        with pytest.raises(InputError, match=said):
            call(folder)


def set_label(value: Any) -> Any:
    return lambda content: content["items"][0]["annotations"][0].update(label_id=value)


#: How a file is malformed, and what is said: the annotation or item is named.
MALFORMED: dict[str, tuple[Any, str]] = {
    "text as label": (
        set_label("cat"),
        "annotation 0 of item 'dir/img 0' in subset 'train': its label must .* not 'cat'",
    ),
    "half a label": (set_label(1.5), "annotation 0 of item 'dir/img 0' .* not 1.5"),
    "label as a list": (set_label([1]), r"annotation 0 of item 'dir/img 0' .* not \[1\]"),
    "large label": (set_label(2**63), "holds invalid JSON: .*integer overflow$"),
    "text as id": (
        lambda content: content["items"][0]["annotations"][0].update(id="x"),
        "item 'dir/img 0' .* its id must be an integer",
    ),
    "attributes": (
        lambda content: content["items"][0]["annotations"][0].update(attributes=[1]),
        "annotation 0 of item 'dir/img 0' in subset 'train': its 'attributes' must be an object",
    ),
    "infos": (
        lambda content: content.update(infos=[1]),
        "'infos' in .*train.json must be an object, not list",
    ),
    "item without id": (
        lambda content: content["items"][1].pop("id"),
        "item number 1 in subset 'train' has no 'id'",
    ),
    "item": (
        lambda content: content["items"].insert(0, 7),
        "item number 0 in subset 'train' has no 'id'",
    ),
    "annotations": (
        lambda content: content["items"][0].update(annotations={"a": 1}),
        "'annotations' of item 'dir/img 0' .* must be a list",
    ),
    "annotation": (
        lambda content: content["items"][0].update(annotations=[1]),
        "an annotation of item 'dir/img 0' .* must be an object",
    ),
}
#: What only is looked at where labels have names.
MALFORMED_LABELS: dict[str, tuple[Any, str]] = {
    "categories": (
        lambda content: content.update(categories=[1]),
        "'categories' in .*train.json must be an object",
    ),
    "label": (
        lambda content: content["categories"].update(label=[1]),
        "'categories.label' in .*train.json must be an object",
    ),
    "labels": (
        lambda content: content["categories"]["label"].update(labels="ab"),
        "'labels' in .* must be a list, not str",
    ),
    "text": (
        lambda content: content["categories"]["label"].update(labels=["a"]),
        "label 0 in .* must be an object, not str",
    ),
    "no name": (
        lambda content: content["categories"]["label"].update(labels=[{}]),
        "label 0 in .* must have a name",
    ),
    "attribute": (
        lambda content: content["categories"]["label"]["labels"][0].update(attributes=[[1]]),
        "label 0 in .* are text",
    ),
}


@pytest.mark.parametrize("case", MALFORMED | MALFORMED_LABELS)
def test_malformed_files_are_told_in_one_sentence(case: str, tmp_path: Path) -> None:
    change, said = (MALFORMED | MALFORMED_LABELS)[case]
    content = json.loads((DATA / "classification/annotations/train.json").read_text())
    change(content)
    (tmp_path / "annotations").mkdir()
    (tmp_path / "annotations/train.json").write_text(json.dumps(content))
    calls: list[Any] = [LossDynamicsAnalyzer]
    if case in MALFORMED:
        calls.append(lambda source: noisydask.analyze_loss_dynamics(datumaro=source))
    for call in calls:
        with pytest.raises(DatasetError, match=said) as caught:
            call(tmp_path)
        assert "\n" not in str(caught.value)


def test_iterations_may_be_written_as_any_number_of_the_same_value() -> None:
    """An annotation is not taken or refused by what the one before it was."""
    written: tuple[Any, ...] = (
        [0, 1],
        [0.0, 1.0],
        (0, 1),
        np.array([0.0, 1.0]),
        np.array([0, 1], np.uint64),
    )
    for first in written:
        for second in written:
            named = [
                ((str(k), "s", 0, 0), {"iters": found, "x": [1, 2]})
                for k, found in enumerate((first, second))
            ]
            ((_, _, iterations, _),) = annotations.in_batches(named, "x")
            assert iterations.tolist() == [0, 1, 0, 1]


def test_numbers_in_memory_that_are_too_large_are_told() -> None:
    for label, iters, said in (
        (2**63, [0], "label must be .* not 9223372036854775808"),
        (0, [2**63], "list of integers"),
    ):
        with pytest.raises(DatasetError, match=f"annotation 7 of item 'a' in subset 's': .*{said}"):
            list(
                annotations.in_batches([(("a", "s", 7, label), {"iters": iters, "x": [1.0]})], "x")
            )


def test_order_of_the_lists_and_missing_losses_do_not_matter(tmp_path: Path) -> None:
    def shuffle(found: dict[str, Any]) -> None:
        found["iters"] = [10**6, *found["iters"][::-1]]
        found["loss_dynamics"] = [None, *found["loss_dynamics"][::-1]]

    found = LossDynamicsAnalyzer(changed(tmp_path, shuffle)).ema_dataframe
    expected = LossDynamicsAnalyzer(DATA / "classification").ema_dataframe
    expected = expected[expected.index.get_level_values("item_subset") == "train"].dropna(
        axis=1, how="all"
    )
    pd.testing.assert_frame_equal(found, expected)


@pytest.mark.parametrize("case", GOOD, ids=name_of)
def test_the_native_job_ranks_the_same(case: dict[str, Any], tmp_path: Path) -> None:
    compatible = LossDynamicsAnalyzer(DATA / case["dataset"], **case["how"])
    for source in (DATA / case["dataset"], in_memory(DATA / case["dataset"])):
        found = noisydask.analyze_loss_dynamics(datumaro=source, **case["how"])
        top = found.top_k(1000)
        candidates = [
            NoisyLabelCandidate(*row)
            for row in top[["id", "subset", "ann_id", "label", "metric"]].values.tolist()
        ]
        assert [(*c.name, c.label_id, c.metric) for c in candidates] == [
            (*c.name, c.label_id, c.metric) for c in compatible.get_top_k_cands(1000)
        ]
        np.testing.assert_array_equal(found.mean_loss_dyns, compatible.mean_loss_dyns.iloc[1:])
        ids = top["id"].drop_duplicates().tolist()
        curves, frame = found.ema(ids), compatible.ema_dataframe.droplevel("ann_label").sort_index()
        assert len(curves) == len(frame)
        for name, row in curves.iterrows():
            np.testing.assert_array_equal(row, frame.loc[name].iloc[1:])


def test_files_are_read_in_batches_from_any_place(
    place: Place, client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    for path in (DATA / "detection/annotations").glob("*.json"):
        place.write(f"annotations/{path.name}", path.read_bytes())
    how: dict[str, Any] = {"tracking_loss_type": "cls", "alpha": 0.125}
    options = {"datumaro": place.options}
    found = noisydask.analyze_loss_dynamics(datumaro=place.url, storage_options=options, **how)
    local = noisydask.analyze_loss_dynamics(datumaro=DATA / "detection", **how)
    pd.testing.assert_frame_equal(found.top_k(100), local.top_k(100))
    monkeypatch.setattr(annotations, "BATCH_LOSSES", 5)
    batches = list(datumaro_format.open_dataset(DATA / "detection").batches("loss_dynamics_cls"))
    assert len(batches) > 6
    in_batches = LossDynamicsAnalyzer(DATA / "detection", **how)
    assert [c.metric for c in in_batches.get_top_k_cands(100)] == found.top_k(100)[
        "metric"
    ].tolist()


@pytest.mark.parametrize("mode", ["mean", "label_mean"])
def test_plots(mode: str) -> None:
    pytest.importorskip("matplotlib")
    found = LossDynamicsAnalyzer(DATA / "classification", alpha=0.125)
    candidates = found.get_top_k_cands(4)
    figure = found.plot_ema_loss_dynamics(candidates, mode, figsize=(5, 2), linewidth=3)
    panels = 1 if mode == "mean" else len({c.label_id for c in candidates})
    axes = [a for a in figure.axes if a.lines]
    assert len(axes) == panels
    assert sum(len(a.lines) for a in axes) == len(candidates) + panels
    thick = [line for a in axes for line in a.lines if line.get_linewidth() == 3]
    row = found.ema_dataframe.iloc[-1, 1:].dropna()
    assert any(np.array_equal(line.get_ydata(), row) for line in thick)
