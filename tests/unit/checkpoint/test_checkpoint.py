"""What a checkpoint keeps of each block, and what it does not believe."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from noisydask.checkpoint.checkpoint import Checkpoint, Contents, of_block, open_checkpoint
from noisydask.checkpoint.receipts import BlockSource, Payload, Receipt
from noisydask.errors import InputError
from noisydask.stores.chunks import ChunkedArray
from noisydask.stores.locations import Location


class Note(Payload):
    """A payload."""

    text: str
    ranges: tuple[tuple[int, int], ...] = ()


CONTENTS = Contents(Receipt[Note], version=2, folders=("extra",), files=("whole.bin",))
ROWS, BLOCK = 10, 4


def opened(folder: Path, rows: int = ROWS, kind: Any = 1, fresh: bool = False) -> Any:
    root = Location.of(str(folder), None, "out")
    columns = {
        name: ChunkedArray(root, name, (rows,), BLOCK, np.dtype(dtype))
        for name, dtype in (("a", "i4"), ("b", "f8"))
    }
    return open_checkpoint(root, CONTENTS, columns, columns, {"kind": kind}, fresh)


def receipt(checkpoint: Checkpoint[Note], block: int, source: str = "s") -> Receipt[Note]:
    """Store a block and vouch for it."""
    rows = len(range(block * BLOCK, min((block + 1) * BLOCK, ROWS)))
    columns = {"a": np.arange(rows, dtype="i4"), "b": np.arange(rows) / 2}
    vouched = Receipt[Note](
        source=source,
        labels="l",
        rows=rows,
        checksums=checkpoint.write(block, columns),
        payload=Note(text="n", ranges=((1, 2),)),
    )
    checkpoint.vouch(block, vouched)
    return vouched


def test_what_was_kept_is_recalled(tmp_path: Path) -> None:
    checkpoint, why = opened(tmp_path / "c")
    assert why is None
    vouched = receipt(checkpoint, 2)
    again, why = opened(tmp_path / "c")
    assert (why, again.receipts()) == (None, {2})
    assert again.recall(2) == vouched
    assert again.recall(1) is None
    columns = again.read_checked(2, ["a", "b"], vouched.checksums)
    np.testing.assert_array_equal(columns["b"], [0.0, 0.5])


@pytest.mark.parametrize("harm", [lambda c: c[:-3], lambda c: c.replace(b'"n"', b'"m"')])
def test_a_receipt_that_was_harmed_is_not_believed(tmp_path: Path, harm: Any) -> None:
    checkpoint, _ = opened(tmp_path / "c")
    receipt(checkpoint, 0)
    (path,) = (tmp_path / "c/receipts").iterdir()
    path.write_bytes(harm(path.read_bytes()))
    assert checkpoint.recall(0) is None


def test_a_receipt_of_another_version_is_not_believed(tmp_path: Path) -> None:
    checkpoint, _ = opened(tmp_path / "c")
    content = receipt(checkpoint, 0).to_bytes(version=1)
    (path,) = (tmp_path / "c/receipts").iterdir()
    path.write_bytes(content)
    assert checkpoint.recall(0) is None


def test_a_column_that_was_altered_is_not_read(tmp_path: Path) -> None:
    checkpoint, _ = opened(tmp_path / "c")
    checksums = receipt(checkpoint, 0).checksums
    path = tmp_path / "c/a/0"
    path.write_bytes(b"\1" + path.read_bytes()[1:])
    assert checkpoint.read_checked(0, ["a"], checksums) is None
    assert checkpoint.read_checked(0, ["b"], checksums) is not None


def test_objects_are_tied_to_what_they_were_made_from(tmp_path: Path) -> None:
    checkpoint, _ = opened(tmp_path / "c")
    name = of_block("extra", 1)
    assert checkpoint.kept(name, "tie") is None
    checkpoint.keep(name, "tie", b"content")
    assert checkpoint.kept(name, "tie") == b"content"
    assert checkpoint.kept(name, "ti") is checkpoint.kept(name, "tiec") is None
    path = tmp_path / "c" / name
    path.write_bytes(path.read_bytes()[:-1])
    assert checkpoint.kept(name, "tie") is None


def test_what_is_forgotten_is_gone(tmp_path: Path) -> None:
    checkpoint, _ = opened(tmp_path / "c")
    receipt(checkpoint, 0)
    checkpoint.keep(of_block("extra", 0), "", b"x")
    checkpoint.forget(0)
    checkpoint.forget(0)
    assert checkpoint.receipts() == set()
    assert checkpoint.kept(of_block("extra", 0), "") is None


def test_a_block_stands_for_its_source(tmp_path: Path) -> None:
    checkpoint, _ = opened(tmp_path / "c")
    receipt(checkpoint, 0, source="s")
    assert checkpoint.stands(BlockSource(0, "s"))
    assert not any(
        map(checkpoint.stands, [BlockSource(0, "t"), BlockSource(0), BlockSource(1, "s")])
    )


def test_appended_rows_keep_the_blocks_before(tmp_path: Path) -> None:
    checkpoint, _ = opened(tmp_path / "c")
    checksums = receipt(checkpoint, 0).checksums
    longer, why = opened(tmp_path / "c", rows=25)
    assert why is None
    assert longer.read_checked(0, ["a"], checksums) is not None
    assert longer.columns["a"].shape == (25,)


def test_another_kind_is_made_anew_and_named(tmp_path: Path) -> None:
    receipt(opened(tmp_path / "c")[0], 0)
    checkpoint, why = opened(tmp_path / "c", kind=2)
    assert why == "it has kind 1 instead of 2"
    assert not checkpoint.receipts()
    receipt(checkpoint, 0)
    checkpoint, why = opened(tmp_path / "c", kind=2, fresh=True)
    assert why == "it was not asked for"
    assert not checkpoint.receipts()


def test_files_of_others_are_not_deleted(tmp_path: Path) -> None:
    (tmp_path / "c").mkdir()
    (tmp_path / "c" / "photo.jpg").write_bytes(b"dear")
    with pytest.raises(InputError, match=r"photo\.jpg"):
        opened(tmp_path / "c")
    assert (tmp_path / "c" / "photo.jpg").read_bytes() == b"dear"


def test_an_output_may_hold_several(tmp_path: Path) -> None:
    first, second = opened(tmp_path / "out" / "one")[0], opened(tmp_path / "out" / "two")[0]
    receipt(first, 0)
    receipt(second, 1)
    assert (first.receipts(), second.receipts()) == ({0}, {1})
