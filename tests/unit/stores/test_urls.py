"""URLs as text, against the pieces that they were made of."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from noisydask.stores.urls import is_inside, shown, split_column

WORDS = st.text("abcXYZ019-_.", min_size=1, max_size=8).filter(lambda word: word.strip("."))
SECRET = st.text("abcXYZ019/+=%:", min_size=1, max_size=12)
PROTOCOLS = st.sampled_from(["s3", "gs", "abfs", "https"])


@given(
    PROTOCOLS, WORDS, SECRET, st.lists(WORDS, min_size=1, max_size=3), st.text("a=1&/@", max_size=5)
)
def test_neither_user_nor_query_is_shown(
    protocol: str, user: str, secret: str, parts: list[str], query: str
) -> None:
    path = "/".join(parts)
    assert shown(f"{protocol}://{user}:{secret}@{path}?{query}") == f"{protocol}://{path}"
    assert shown(f"{protocol}://{path}") == f"{protocol}://{path}"


@pytest.mark.parametrize("path", ["a@b/c", "/data/who?/x:y@z", "~/a"])
def test_a_path_is_shown_whole(path: str) -> None:
    assert shown(path) == path


@pytest.mark.parametrize("ending", [".parquet", ".parq", ".pq"])
@pytest.mark.parametrize("path", ["a", "s3://bucket/a", "s3://bucket/a#1/b", "gs://b#c/d"])
@pytest.mark.parametrize("column", ["label", "a/b", "with space", "x.y"])
def test_the_column_of_a_parquet_file(path: str, ending: str, column: str) -> None:
    assert split_column(f"{path}{ending}#{column}") == (path + ending, column)
    assert split_column(path + ending) == (path + ending, "")


@pytest.mark.parametrize(
    ("url", "path", "column"),
    [
        ("s3://bucket/folder#label", "s3://bucket/folder", "label"),
        ("s3://bucket/a#1/folder", "s3://bucket/a#1/folder", ""),
        ("s3://bucket/a#1.zarr", "s3://bucket/a#1.zarr", ""),
        ("s3://bucket/a#1.npy", "s3://bucket/a#1.npy", ""),
        ("s3://bucket/a#1/b#label", "s3://bucket/a#1/b", "label"),
    ],
)
def test_what_may_be_a_column_in_a_bucket(url: str, path: str, column: str) -> None:
    assert split_column(url) == (path, column)


def test_on_local_disk_what_is_there_tells(tmp_path: Path) -> None:
    (tmp_path / "a#b").mkdir()
    (tmp_path / "a#b/c.zarr").mkdir()
    for path in (tmp_path / "a#b", tmp_path / "a#b/c.zarr"):
        for spelling in (str(path), f"file://{path}"):
            assert split_column(spelling) == (spelling, "")
            assert split_column(f"{spelling}#label") == (spelling, "label")


@pytest.mark.parametrize(
    ("inner", "outer", "inside"),
    [
        ("s3://b/a", "s3://b/a", True),
        ("s3://b/a/", "s3a://k:s@b/a", True),
        ("gcs://b/a/c", "gs://b/a", True),
        ("abfss://b/a/c", "az://b/./a//", True),
        ("s3://b/a/../c", "s3://b/a", False),
        ("s3://b/ab", "s3://b/a", False),
        ("s3://b", "s3://b/a", False),
        ("gs://b/a", "s3://b/a", False),
        ("a/b", "a", True),
        ("a/../b", "a", False),
        ("/b/a", "s3://b/a", False),
        ("/any/thing", "/", True),
    ],
)
def test_which_place_lies_in_which(inner: str, outer: str, inside: bool) -> None:
    assert is_inside(inner, outer) is inside


def test_links_are_followed(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to("real")
    assert is_inside(f"{tmp_path}/link/a", f"file://{tmp_path}/real")
    assert not is_inside(f"{tmp_path}/link", f"{tmp_path}/link/a")


def test_a_column_without_a_file_is_a_path() -> None:
    assert split_column("#label") == ("#label", "")
