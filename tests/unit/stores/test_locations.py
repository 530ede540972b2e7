"""Places: their own reads and writes, and what does not leave them."""

from __future__ import annotations

import pickle
from pathlib import Path

import pytest
from conftest import Place

from noisydask.errors import InputError
from noisydask.stores.locations import Location


def test_objects_are_written_read_listed_and_removed(place: Place) -> None:
    root = Location.of(place.url, place.options, "test")
    root.make_folder()
    (root / "a").make_folder()
    (root / "a/b").write(b"0123456789")
    (root / "c").write(memoryview(b"x"))
    assert (root / "a/b").read() == b"0123456789"
    assert (root / "a/b").read(2, 5) == b"234"
    with (root / "a/b").open() as file:
        assert file.read(3) == b"012"
    assert sorted(root.list()) == ["a/b", "c"]
    assert sorted((root / "a").list()) == ["b"]
    (root / "c").remove()
    (root / "c").remove()
    assert sorted(root.list()) == ["a/b"]
    assert (root / "nothing").list() == {}
    with pytest.raises(FileNotFoundError):
        (root / "c").read()


@pytest.mark.parametrize("name", ["..", "../x", "a/../b", "/x", "", ".", "x::memory://y"])
def test_no_name_leads_out(tmp_path: Path, name: str) -> None:
    with pytest.raises(InputError, match="names nothing inside"):
        Location.of(str(tmp_path), None, "test") / name


def test_a_place_travels_without_its_file_system(tmp_path: Path) -> None:
    place = Location.of(str(tmp_path), {"auto_mkdir": True}, "test")
    assert place.is_local
    travelled = pickle.loads(pickle.dumps(place))
    assert "fs" not in vars(travelled)
    assert travelled == place
    assert travelled.options == {"auto_mkdir": True}
    assert (place / "a").fs is place.fs


def test_credentials_are_not_shown() -> None:
    place = Location.of("s3://key:se/cret@bucket/a?token=1", None, "test")
    assert place.shown == "s3://bucket/a"
    assert "cret" not in repr(place) + str(place.path)
