"""A folder that is opened again: what stays, what is made anew, and what is refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zarr

from noisydask.checkpoint.checkpoint import Checkpoint, Contents, kind_of, open_checkpoint
from noisydask.checkpoint.receipts import Payload, Receipt
from noisydask.errors import InputError
from noisydask.stores.chunks import ChunkedArray
from noisydask.stores.locations import Location

CONTENTS = Contents(Receipt[Payload], 1, ("rest",), ("curves.bin",))
KIND = {"classes": 3, "dtype": "float32"}
VALUES = np.arange(1, 5, dtype="u1")
FIRST = Receipt[Payload](source="s", labels="l", rows=4, checksums={}, payload=Payload())


def opened(
    folder: Path,
    rows: int = 10,
    fresh: bool = False,
    wanted: tuple[str, ...] = ("a", "b"),
    contents: Contents[Payload] = CONTENTS,
    **kind: Any,
) -> tuple[Checkpoint[Payload], str | None]:
    """Open the checkpoint of so many rows, four a block."""
    root = Location.of(str(folder), None, "out")
    columns = {name: ChunkedArray(root, name, (rows,), 4, VALUES.dtype) for name in "abc"}
    return open_checkpoint(root, contents, columns, wanted, KIND | kind, fresh)


def begun(folder: Path) -> None:
    """Keep a block in an otherwise empty folder."""
    checkpoint, why = opened(folder)
    checkpoint.write(0, {"a": VALUES, "b": VALUES})
    checkpoint.vouch(0, FIRST)
    assert why is None


def test_rows_are_appended(tmp_path: Path) -> None:
    begun(tmp_path)
    longer, why = opened(tmp_path, rows=21)
    assert why is None
    assert longer.recall(0) == FIRST
    np.testing.assert_array_equal(longer.read(0, ["a"])["a"], VALUES)
    longer.write(5, {"a": VALUES[:1]})
    stored = zarr.open_array(f"{tmp_path}/a")[:]
    assert stored.tolist() == [1, 2, 3, 4, *[0] * 16, 1]
    assert zarr.open_array(f"{tmp_path}/b").shape == (21,)


def test_rows_are_taken_away(tmp_path: Path) -> None:
    begun(tmp_path)
    opened(tmp_path)[0].write(2, {"a": VALUES[:2]})
    shorter, _ = opened(tmp_path, rows=4)
    assert zarr.open_array(f"{tmp_path}/a")[:].tolist() == [1, 2, 3, 4]
    assert shorter.recall(0) == FIRST
    assert not (tmp_path / "a/2").exists()


def test_other_columns_stay(tmp_path: Path) -> None:
    begun(tmp_path)
    found, _ = opened(tmp_path, wanted=("b", "c"))
    found.write(1, {"c": VALUES})
    opened(tmp_path, wanted=("a",))
    columns = found.read(0, "ab") | found.read(1, "c")
    for values in columns.values():
        np.testing.assert_array_equal(values, VALUES)


@pytest.mark.parametrize(
    ("how", "told"),
    [
        ({"fresh": True}, ()),
        ({"classes": 4}, ("classes 3", "4")),
        ({"dtype": "float64", "classes": 9}, ("classes 3", "9", "dtype float32", "float64")),
        ({"one_more": 1}, ("one more",)),
    ],
)
def test_another_kind_is_made_anew(
    how: dict[str, Any], told: tuple[str, ...], tmp_path: Path
) -> None:
    begun(tmp_path)
    (tmp_path / "curves.bin").write_bytes(b"1")
    made, why = opened(tmp_path, **how)
    assert why
    assert all(words in why for words in told)
    assert made.receipts() == set()
    assert made.kept("curves.bin", "") is None
    assert kind_of(made.root) == KIND | {name: v for name, v in how.items() if name != "fresh"}
    assert not zarr.open_array(f"{tmp_path}/a")[:].any()


@pytest.mark.parametrize("content", [b"", b"{", b"[]"])
def test_a_damaged_kind_is_made_anew(content: bytes, tmp_path: Path) -> None:
    begun(tmp_path)
    (tmp_path / "zarr.json").write_bytes(content)
    assert kind_of(Location.of(str(tmp_path), None, "out")) is None
    assert opened(tmp_path)[0].receipts() == set()


def test_a_damaged_column_is_made_anew(tmp_path: Path) -> None:
    begun(tmp_path)
    (tmp_path / "a/zarr.json").write_bytes(b"{")
    found, why = opened(tmp_path)
    assert why is None
    found.write(1, {"a": VALUES})
    assert zarr.open_array(f"{tmp_path}/a")[4:8].tolist() == VALUES.tolist()


FOREIGN = ["photo.jpg", "a/readme", "receipts/1.txt.gz", "x/y/0", "other/00000000.bin", "A/0"]


@pytest.mark.parametrize("name", FOREIGN)
@pytest.mark.parametrize("fresh", [False, True])
def test_foreign_files_are_not_deleted(name: str, fresh: bool, tmp_path: Path) -> None:
    if fresh:
        begun(tmp_path)
    file = tmp_path / name
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(b"mine")
    with pytest.raises(InputError, match=file.name):
        opened(tmp_path, fresh=fresh)
    assert file.read_bytes() == b"mine"


def test_all_that_a_checkpoint_writes_is_its_own(tmp_path: Path) -> None:
    begun(tmp_path)
    checkpoint, _ = opened(tmp_path)
    checkpoint.keep("rest/00000003.bin", "s", b"")
    checkpoint.keep("curves.bin", "s", b"")
    names = checkpoint.root.list()
    assert {"zarr.json", "a/zarr.json", "a/0", "curves.bin"} < names.keys()
    assert all(CONTENTS.owns(name) for name in names)
    assert not any(CONTENTS.owns(name) for name in FOREIGN)


def test_a_place_that_is_a_file(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(InputError):
        opened(tmp_path / "file")
