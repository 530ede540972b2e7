"""Errors lead to what is wrong: their hints are followed here, or must not be given."""

from __future__ import annotations

import json
import re
import shutil
import sys
from importlib.metadata import requires
from pathlib import Path
from typing import Any

import numcodecs
import numpy as np
import pandas as pd
import pytest
import zarr
from layouts import make
from numcodecs.abc import Codec

import noisydask
from noisydask.errors import InputError, JobError
from noisydask.stores.arrays import open_rows
from noisydask.stores.locations import Location

#: Names of classes in the order of the columns, which is not the alphabet's nor that of rows.
CLASSES = ["zebra", "ant", "mule", "bee"]
DATA = make(rows=400, classes=4)


def refused(**changed: Any) -> str:
    """What the job says of inputs."""
    inputs = {"labels": DATA.labels, "pred_probs": DATA.pred_probs} | changed
    with pytest.raises(InputError) as caught:
        noisydask.find_label_issues(**inputs)
    assert caught.value.exit_status == 2
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize("kind", ["list", "array", "objects", "series", "categories", "parquet"])
def test_following_the_advice_for_text_labels_gives_the_answer(kind: str, tmp_path: Path) -> None:
    names = [CLASSES[label] for label in DATA.labels]
    pd.DataFrame({"label": names}).to_parquet(tmp_path / "l.parquet")
    labels = {
        "list": names,
        "array": np.array(names),
        "objects": np.array(names, object),
        "series": pd.Series(names),
        "categories": pd.Series(pd.Categorical(names)),
        "parquet": f"{tmp_path}/l.parquet#label",
    }[kind]
    said = refused(labels=labels)
    assert said.startswith(
        "labels are text: say what the columns of pred_probs are called, by class_"
    )
    right = noisydask.find_label_issues(DATA.labels, DATA.pred_probs)
    frame = pd.DataFrame(DATA.pred_probs, columns=CLASSES)
    for advice in ({"class_names": CLASSES}, {"pred_probs": frame}):
        inputs: dict[str, Any] = {"labels": labels, "pred_probs": DATA.pred_probs} | advice
        found = noisydask.find_label_issues(**inputs)
        assert found.num_issues > 0
        np.testing.assert_array_equal(found.indices, right.indices)
    # A name that is none of the classes is not taken for one of them.
    said = refused(labels=labels, class_names=["zebra", "ant", "mole", "bee"])
    assert "No class is called 'mule'" in said
    assert "did you mean 'mole'?" in said


def test_following_the_advice_for_other_labels_gives_the_answer() -> None:
    data = make(rows=200, classes=2)
    said = refused(labels=data.labels.astype(float), pred_probs=data.pred_probs)
    assert said.endswith("if each is a whole number, give labels.astype(int)")
    labels = data.labels.astype(float).astype(int)
    np.testing.assert_array_equal(
        noisydask.find_label_issues(labels, data.pred_probs).indices,
        noisydask.find_label_issues(data.labels, data.pred_probs).indices,
    )


def test_shapes_that_tell_what_happened() -> None:
    assert refused(pred_probs=DATA.pred_probs.T).endswith(
        "is pred_probs transposed? It has a row for each example"
    )
    assert "transposed" not in refused(labels=DATA.labels[:-1])
    assert "are labels and pred_probs swapped?" in refused(
        labels=DATA.pred_probs, pred_probs=DATA.labels
    )
    one_hot = np.eye(4)[DATA.labels]
    assert refused(labels=one_hot).endswith("of one-hot rows take labels.argmax(axis=1)")
    assert "one-hot" not in refused(labels=DATA.labels[:, None])


def test_what_is_not_an_array_is_told_what_to_give_instead(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("none")
    pd.DataFrame({"label": DATA.labels}).to_parquet(tmp_path / "l.parquet")
    np.save(tmp_path / "l.npy", DATA.labels)
    (tmp_path / "folder.npy").mkdir()
    (tmp_path / "none").mkdir()
    zarr.create_group(tmp_path / "group.zarr").create_array("p", data=DATA.pred_probs)
    for name, hint in {
        "notes.txt": "give a Zarr array, a .npy or .npz file, or a table",
        "folder.npy": "but a folder without a table in it; name the array inside it",
        "group.zarr": "but a folder without a table in it; name the array inside it",
        "none": "but a folder without a table in it; name the array inside it",
    }.items():
        said = refused(labels=str(tmp_path / name))
        assert "that is not an array" in said
        assert hint in said
        assert "damaged" not in said
    assert "has no columns: leave out #label" in refused(labels=f"{tmp_path}/l.npy#label")
    # What the hints say works.
    column = f"{tmp_path}/l.parquet#label"
    assert noisydask.find_label_issues(column, f"{tmp_path}/group.zarr/p").num_examples == 400


def stored(place: Path, **how: Any) -> Path:
    zarr.create_array(place, data=DATA.pred_probs, chunks=(100, 4), **how)
    return place


def test_damage_is_named_where_data_cannot_be_decoded(tmp_path: Path) -> None:
    place = stored(tmp_path / "p.zarr")
    chunk = place / "c" / "1" / "0"
    chunk.write_bytes(chunk.read_bytes()[:-9])
    with pytest.raises(JobError, match=r"c/1/0, rows 100 to 199 cannot be read .*is it damaged\?"):
        noisydask.find_label_issues(DATA.labels, str(place))
    (place / "zarr.json").write_text("{")
    assert "damaged" in refused(pred_probs=str(place))
    (tmp_path / "empty.npy").touch()
    assert "damaged" in refused(pred_probs=str(tmp_path / "empty.npy"))


@pytest.mark.parametrize("zarr_format", [2, 3])
def test_a_codec_that_is_unknown_is_not_damage(zarr_format: Any, tmp_path: Path) -> None:
    place = stored(tmp_path / "p.zarr", zarr_format=zarr_format)
    file = place / ("zarr.json" if zarr_format == 3 else ".zarray")
    metadata = json.loads(file.read_text())
    if zarr_format == 3:
        metadata["codecs"][-1] = {"name": "unheard-of", "configuration": {}}
    else:
        metadata["compressor"] = {"id": "unheard-of"}
    file.write_text(json.dumps(metadata))
    said = refused(pred_probs=str(place))
    assert "it is packed by a codec that is not installed here" in said
    assert "damaged" not in said


class Lacking(Codec):  # type: ignore[misc]
    """A codec that packs, and cannot unpack for want of a library."""

    codec_id = "noisydask-test-lacking"

    def encode(self, buf: Any) -> bytes:
        return bytes(buf)

    def decode(self, buf: Any, out: Any = None) -> Any:
        raise ModuleNotFoundError("No module named 'lacking'")


@pytest.mark.filterwarnings("ignore")  # zarr's, of codecs that others may not know
def test_rows_that_only_lack_a_package_are_not_left_out(tmp_path: Path) -> None:
    numcodecs.register_codec(Lacking)
    place = stored(tmp_path / "p.zarr", zarr_format=2, compressors=Lacking())
    for on_unreadable in ("raise", "skip"):
        with pytest.raises(JobError, match="codec that is not installed here") as caught:
            noisydask.find_label_issues(
                DATA.labels,
                str(place),
                on_unreadable=on_unreadable,
            )
        assert "damaged" not in str(caught.value)


def test_what_went_away_is_gone_not_damaged(tmp_path: Path) -> None:
    file = tmp_path / "p.npy"
    np.save(file, DATA.pred_probs)
    rows: Any = open_rows(str(file), "pred_probs")
    file.unlink()
    with pytest.raises(JobError, match=r"p\.npy, rows 0 to 9: it is gone$"):
        rows.read(0, 10)
    file.mkdir()
    with pytest.raises(JobError, match=r"rows 0 to 9: cannot be read: Is a directory$"):
        rows.read(0, 10)
    table = tmp_path / "losses"
    table.mkdir()
    frame = pd.DataFrame({"id": [1, 2], "iteration": [0, 0], "loss": [0.5, 0.25]})
    frame.to_parquet(table / "a.parquet")
    (table / "b.parquet").write_bytes((table / "a.parquet").read_bytes()[:-20])
    with pytest.raises(InputError, match=r"table at .*: cannot be read .*is it damaged"):
        noisydask.analyze_loss_dynamics(table=str(table))
    shutil.rmtree(table)
    with pytest.raises(InputError, match="there is no table; check the path"):
        noisydask.analyze_loss_dynamics(table=str(table))


@pytest.mark.parametrize("name", ["p.npy", "p.zarr"])
def test_a_server_that_does_not_answer_is_not_a_wrong_path(name: str) -> None:
    with pytest.raises(JobError, match="the store cannot be reached"):
        noisydask.find_label_issues(DATA.labels, f"http://127.0.0.1:1/{name}")


@pytest.mark.parametrize(("protocol", "extra"), [("s3", "s3"), ("gs", "gcs"), ("abfs", "azure")])
def test_a_package_that_is_missing_is_named(
    protocol: str, extra: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in ("obstore", "obstore.store"):
        monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(InputError) as caught:
        Location.of(f"{protocol}://none-{extra}/a", {"anon": True}, "labels")
    advice = re.search("pip install '(.*)'$", str(caught.value))
    assert advice is not None
    needed = [line for line in requires("noisydask") or [] if f"extra == '{extra}'" in line]
    assert advice[1] == f"noisydask[{extra}]"
    assert any(line.startswith("obstore") for line in needed)


def test_a_package_of_another_store_is_named() -> None:
    with pytest.raises(InputError, match=r"sftp:// needs a package .*paramiko"):
        Location.of("sftp://b/a", None, "labels")
