"""Hostile inputs, configs and outputs: nothing in them is run, and nothing outside OUT is read for
it, written or deleted."""

from __future__ import annotations

import json
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zarr
from conftest import Place
from layouts import make, write_npy, write_parquet, write_zarr

import noisydask
from noisydask.cli.app import main
from noisydask.cli.files import read_config
from noisydask.cli.overrides import checked
from noisydask.errors import InputError, NoisydaskError
from noisydask.stores.arrays import open_rows
from noisydask.stores.locations import Location
from noisydask.stores.urls import is_inside

DATA = make(rows=300, classes=3)
RUN = "20260101T020304Z-0123abcd"


class Trap:
    """Springs when it is unpickled."""

    def __init__(self, sprung: Path) -> None:
        self.sprung = sprung

    def __reduce__(self) -> Any:
        return (Path.touch, (self.sprung,))


@pytest.fixture
def trap(tmp_path: Path) -> Any:
    """A pickle that leaves a mark where it is loaded; no test may leave one."""
    sprung = tmp_path / "sprung"
    pickle.loads(pickle.dumps(Trap(sprung)))
    assert sprung.exists(), "the trap works"
    sprung.unlink()
    yield Trap(sprung)
    assert not sprung.exists()


def refused(says: str, **how: Any) -> None:
    with pytest.raises(InputError, match=says) as caught:
        noisydask.find_label_issues(
            **({"labels": DATA.labels, "pred_probs": DATA.pred_probs} | how)
        )
    assert "\n" not in str(caught.value)


# --- pickles


@pytest.mark.parametrize("role", ["labels", "pred_probs", "ids"])
def test_objects_in_npy(role: str, trap: Trap, place: Place) -> None:
    url = write_npy(place / "x.npy", np.array([trap] * 300, object))
    refused(
        "holds Python objects, which are never loaded",
        **{role: url},
        storage_options={role: place.options},
    )


def test_a_pickle_by_the_name_of_an_array(trap: Trap, tmp_path: Path) -> None:
    (tmp_path / "x.npy").write_bytes(pickle.dumps(trap))
    refused("labels at .* cannot be read", labels=tmp_path / "x.npy")


@pytest.mark.parametrize("dtype", ["<i8", "|O"])
@pytest.mark.parametrize(
    "codecs",
    [
        {"filters": [{"id": "pickle", "protocol": 5}]},
        {"compressor": {"id": "pickle", "protocol": 5}},
        {"filters": [{"id": "delta", "dtype": "<i8"}, {"id": "pickle", "protocol": 5}]},
        {"filters": [{"id": "pickle", "protocol": 5}], "compressor": {"id": "zlib", "level": 1}},
    ],
)
def test_pickles_in_zarr_2(codecs: dict[str, Any], dtype: str, trap: Trap, tmp_path: Path) -> None:
    folder = tmp_path / "l.zarr"
    folder.mkdir()
    metadata = {
        "zarr_format": 2,
        "shape": [300],
        "chunks": [300],
        "dtype": dtype,
        "fill_value": 0,
        "order": "C",
    }
    (folder / ".zarray").write_text(
        json.dumps(metadata | {"filters": None, "compressor": None} | codecs)
    )
    (folder / "0").write_bytes(pickle.dumps(trap))
    with pytest.raises(NoisydaskError):
        noisydask.find_label_issues(folder, DATA.pred_probs)


@pytest.mark.parametrize("name", ["pickle", "numcodecs.pickle", "bytes-pickle"])
@pytest.mark.parametrize("dtype", ["int64", "object"])
@pytest.mark.filterwarnings(
    "ignore::UserWarning"
)  # of Zarr, about codecs that are no part of its specification
def test_pickles_in_zarr_3(name: str, dtype: str, trap: Trap, tmp_path: Path) -> None:
    url = write_zarr(Place(str(tmp_path)) / "l.zarr", DATA.labels)
    metadata = json.loads((tmp_path / "l.zarr/zarr.json").read_text())
    metadata |= {"codecs": [{"name": name, "configuration": {"protocol": 5}}], "data_type": dtype}
    (tmp_path / "l.zarr/zarr.json").write_text(json.dumps(metadata))
    for chunk in (tmp_path / "l.zarr/c").rglob("*"):
        chunk.write_bytes(pickle.dumps(trap))
    with pytest.raises(NoisydaskError):
        noisydask.find_label_issues(url, DATA.pred_probs)


def can_be_read(found: Any, name: str) -> bool:
    try:
        value = getattr(found, name)
        value() if callable(value) else value.compute()  # a lazy array is read only now
    except Exception:  # whatever the reader of the format says
        return False
    return True


def test_pickles_in_an_output(trap: Trap, tmp_path: Path) -> None:
    noisydask.find_label_issues(DATA.labels, DATA.pred_probs, out=tmp_path / "out")
    for path in (tmp_path / "out").rglob("*"):
        if path.is_file() and path.name not in ("latest.json", "manifest.json"):
            path.write_bytes(pickle.dumps(trap))
    found = noisydask.open_run(tmp_path / "out")
    for name in (
        "indices",
        "confident_thresholds",
        "class_counts",
        "confident_joint",
        "label_quality",
        "to_dataframe",
    ):
        assert not can_be_read(found, name)
    (tmp_path / "out/latest.json").write_bytes(pickle.dumps(trap))
    with pytest.raises(InputError, match="damaged"):
        noisydask.open_run(tmp_path / "out")


# --- headers that lie


def npy_with_header(path: Path, shape: str, descr: str = "'<i8'") -> Path:
    header = (
        f"{{'descr': {descr}, 'fortran_order': False, 'shape': {shape}, }}".encode().ljust(117)
        + b"\n"
    )
    path.write_bytes(b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header + bytes(64))
    return path


@pytest.mark.parametrize(
    ("shape", "descr", "says"),
    [
        (
            "(1099511627776, 1099511627776)",
            "'<f4'",
            "is cut short",
        ),  # their product is 0 in 64 bits
        ("(1000000000000000000,)", "'<i8'", "is cut short"),
        ("(-5,)", "'<i8'", "claims the shape"),
        ("(4,)", "'|O'", "holds Python objects"),
        ("(4,)", "'|V99999999999'", "cannot be read"),
        ("__import__('os').abort()", "'<i8'", "cannot be read"),
        ("(4,)", "__import__('os').abort()", "cannot be read"),
    ],
)
def test_npy_headers_that_lie(shape: str, descr: str, says: str, tmp_path: Path) -> None:
    path = npy_with_header(tmp_path / "x.npy", shape, descr)
    with pytest.raises(InputError, match=says):
        open_rows(path, "labels")


def test_an_npy_header_without_end(tmp_path: Path) -> None:
    (tmp_path / "x.npy").write_bytes(b"\x93NUMPY\x02\x00" + b"\xff" * 4 + b"{}")
    with pytest.raises(InputError, match="cannot be read"):
        open_rows(tmp_path / "x.npy", "labels")


@pytest.mark.parametrize(
    ("shape", "chunks", "says"),
    [
        ((10**15, 5), (10**3, 5), "blocks, more than"),
        ((10**12, 5), (10**12, 5), "memory"),
        ((4, 10**15), (4, 10**15), "memory"),
        ((10**30, 5), (10**3, 5), "."),
        ((-4, 5), (4, 5), "."),
        ((4, 5), (0, 5), "."),
    ],
)
def test_zarr_headers_that_lie(
    shape: tuple[int, int], chunks: tuple[int, int], says: str, tmp_path: Path
) -> None:
    for name, dims, dtype in (("labels", 1, "<i8"), ("pred_probs", 2, "<f4")):
        (tmp_path / name).mkdir()
        metadata = {
            "zarr_format": 2,
            "shape": shape[:dims],
            "chunks": chunks[:dims],
            "dtype": dtype,
            "fill_value": 0,
        }
        metadata |= {"order": "C", "filters": None, "compressor": None}
        (tmp_path / name / ".zarray").write_text(json.dumps(metadata))
    refused(
        says, labels=tmp_path / "labels", pred_probs=tmp_path / "pred_probs", out=tmp_path / "out"
    )
    assert not (tmp_path / "out/latest.json").exists()


# --- configs


@pytest.mark.parametrize(
    "text",
    [
        "labels: !!python/object/apply:os.system ['touch {mark}']",
        "labels: !!python/object/new:pathlib.Path.touch ['{mark}']",
        "labels: !!python/name:os.system",
        "!!python/module:os",
        "labels: !!python/tuple [a, b]",
        "labels: !!binary '*'",
        "[" * 100_000,
        "labels: \x00",
        "labels: 2026-99-99",
    ],
)
def test_yaml_that_is_no_config(text: str, tmp_path: Path) -> None:
    (tmp_path / "c.yaml").write_text(
        text.format(mark=tmp_path / "mark") if "{mark}" in text else text
    )
    with pytest.raises(InputError) as caught:
        checked(read_config(tmp_path / "c.yaml"))
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "mark").exists()


def test_yaml_that_is_no_text(tmp_path: Path) -> None:
    (tmp_path / "c.yaml").write_bytes(b"labels: \xff\xfe")
    with pytest.raises(InputError, match="not valid YAML"):
        read_config(tmp_path / "c.yaml")


@pytest.mark.parametrize("where", [(), ("cluster",), ("labels",), ("out",)])
@pytest.mark.parametrize("key", ["secret", "__class__", "workers ", 7])
def test_unknown_keys_are_refused_everywhere(where: tuple[str, ...], key: Any) -> None:
    config: dict[Any, Any] = {
        "labels": {"url": "l"},
        "pred_probs": "p",
        "out": {"url": "o"},
        "cluster": {"workers": 1},
    }
    inner = config
    for name in where:
        inner = inner[name]
    inner[key] = "value"
    with pytest.raises(InputError) as caught:
        checked(config)
    assert "value" not in str(caught.value).replace("valid", "")


@pytest.mark.parametrize("text", ["[" * 100_000, '["a", ', b"\xff\xfe"])
def test_class_names_that_are_none(text: Any, tmp_path: Path) -> None:
    (tmp_path / "names").write_bytes(text if isinstance(text, bytes) else text.encode())
    config = checked(
        {"labels": "l", "pred_probs": "p", "out": "o", "class_names": str(tmp_path / "names")}
    )
    with pytest.raises(InputError, match="class_names: cannot read the file"):
        config.read_class_names()


# --- what is shown


HOSTILE = [
    "[bold]a[/]",
    "\x1b[31mred",
    "\x1b]8;;http://evil\x07link",
    "<script>alert(1)</script>",
    "a\nb",
    "\u202eright",
    "\x9b2J",
]


def test_ids_and_class_names_are_shown_as_they_are(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    ids = np.array([HOSTILE[k % len(HOSTILE)] for k in range(300)])
    names = HOSTILE[:3]
    noisydask.find_label_issues(
        DATA.labels, DATA.pred_probs, ids=ids, class_names=names, out=tmp_path / "out"
    )
    assert main(["show", str(tmp_path / "out"), "--top", "40"]) == 0
    shown = capfd.readouterr().out
    assert not {c for c in shown if not c.isprintable()} - {"\n"}
    assert "[bold]a[/]" in shown
    assert "<script>" in shown
    assert main(["show", str(tmp_path / "out"), "--top", "40", "--json"]) == 0
    machine = capfd.readouterr().out
    assert "\x1b" not in machine
    assert {row["given_name"] for row in json.loads(machine)["top"]} <= set(names)


@pytest.mark.slow
def test_errors_show_names_as_they_are(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    evil = "\x1b[2J[blink]no\x07"
    arguments = [
        "issues",
        "--labels",
        str(tmp_path / evil),
        "--pred-probs",
        "p.npy",
        "--out",
        str(tmp_path / "o"),
    ]
    assert main([*arguments, "--scheduler", f"tcp://{evil}:1"]) != 0
    assert main(["show", str(tmp_path / evil)]) == 2
    said = capfd.readouterr().err
    assert "[blink]no" in said
    assert not {c for c in said if not c.isprintable()} - {"\n"}


# --- names in pointers and manifests


OUTSIDE = [
    "../../secret",
    "..",
    ".",
    "",
    "/etc",
    "a/../../..",
    "s3://bucket/x",
    "file:///etc",
    "a//b",
    "x::memory://y",
    "runs/x",
    "x" * 300,
    RUN + "\n",
    RUN + "/..",
    7,
    None,
    ["x"],
    {"a": 1},
]


@pytest.mark.parametrize("run", OUTSIDE)
def test_a_pointer_leads_nowhere_else(run: Any, tmp_path: Path) -> None:
    noisydask.find_label_issues(DATA.labels, DATA.pred_probs, out=tmp_path / "secret")
    noisydask.find_label_issues(DATA.labels, DATA.pred_probs, out=tmp_path / "out")
    secret = json.loads((tmp_path / "secret/latest.json").read_text())["run"]
    pointer = json.loads((tmp_path / "out/latest.json").read_text())
    for value in (run, f"../../../secret/runs/{secret}", str(tmp_path / "secret/runs" / secret)):
        (tmp_path / "out/latest.json").write_text(json.dumps(pointer | {"run": value}))
        with pytest.raises(InputError, match="damaged"):
            noisydask.open_run(tmp_path / "out")


@pytest.mark.parametrize(
    "content", ["[" * 100_000, '{"run": ' + "[" * 100_000, '{"run": NaN}', "\x00", '{"run": 1e999}']
)
def test_a_pointer_that_is_none(content: str, tmp_path: Path) -> None:
    (tmp_path / "latest.json").write_text(content)
    with pytest.raises(InputError, match="damaged"):
        noisydask.open_run(tmp_path)


@pytest.mark.parametrize(
    "name",
    [name for name in OUTSIDE if isinstance(name, str) and set(name.split("/")) & {"", ".", ".."}],
)
def test_a_manifest_names_nothing_outside_its_run(name: str, tmp_path: Path) -> None:
    found = noisydask.find_label_issues(DATA.labels, DATA.pred_probs, out=tmp_path / "out")
    path = tmp_path / "out/runs" / found.run.run / "manifest.json"
    path.write_text(json.dumps(found.manifest | {"parts": [name]}))
    with pytest.raises(NoisydaskError):
        noisydask.open_run(tmp_path / "out").to_dataframe()


@pytest.mark.parametrize("url", ["/data/out", "s3://bucket/out", "memory://out"])
@pytest.mark.parametrize(
    "name", ["..", "../x", "a/../b", "/etc/passwd", "", ".", "x::memory://y", "s3://other/x"]
)
def test_nothing_leads_out_of_a_location(url: str, name: str) -> None:
    with pytest.raises(InputError, match="names nothing inside"):
        Location.of(url, None, "out") / name


# --- outputs and inputs that meet


@pytest.mark.parametrize("role", ["labels", "pred_probs", "ids"])
@pytest.mark.parametrize("below", ["", "/", "/out", "/c/0/deep", "/../x.zarr"])
def test_nothing_is_written_into_an_input(role: str, below: str, place: Place) -> None:
    values = {"labels": DATA.labels, "pred_probs": DATA.pred_probs, "ids": DATA.labels}[role]
    url = write_zarr(place / "x.zarr", values)
    before = place.objects()
    refused(
        f"^out at .* lies in {role} at .*; give another place$",
        **{role: url},
        out=url + below,
        storage_options={role: place.options, "out": place.options},
    )
    assert place.objects() == before


def test_nothing_is_written_into_the_table_of_a_column(tmp_path: Path) -> None:
    url = write_parquet(Place(str(tmp_path)) / "table", [DATA.labels[:100], DATA.labels[100:]])
    refused("lies in labels", labels=f"{url}#value", out=url)
    assert noisydask.find_label_issues(DATA.labels, DATA.pred_probs, out=f"{url}#1").num_issues > 0


@pytest.mark.parametrize("where", ["evidence", "evidence/p.zarr", "runs/x/p.zarr"])
def test_no_input_lies_in_what_is_replaced(where: str, place: Place) -> None:
    url = write_zarr(place / "out" / where, DATA.pred_probs)
    before = place.objects()
    options = {"pred_probs": place.options, "out": place.options}
    refused(
        "^pred_probs at .* lies in what the job writes",
        pred_probs=url,
        out=(place / "out").url,
        storage_options=options,
    )
    assert place.objects() == before


@pytest.mark.parametrize(
    "name",
    [
        "evidence/photo.jpg",
        *(
            pytest.param(name, marks=pytest.mark.slow)
            for name in ("evidence/given/notes.txt", "evidence/2026/0/1")
        ),
    ],
)
def test_evidence_that_is_not_ours_is_not_deleted(name: str, place: Place) -> None:
    options = {"out": place.options}
    (place / "out").write(name, b"dear to somebody")
    before = place.objects()
    refused(
        "which is not evidence, and would be deleted",
        out=(place / "out").url,
        storage_options=options,
    )
    assert {path: content for path, content in place.objects().items() if path in before} == before
    for _ in range(2):
        assert noisydask.find_label_issues(
            DATA.labels, DATA.pred_probs, out=(place / "other").url, storage_options=options
        ).num_issues
        (place / "other").write("evidence.txt", b"dear to somebody")
    assert place.objects()["other/evidence.txt"] == b"dear to somebody"


def test_a_link_to_an_input_is_followed(tmp_path: Path) -> None:
    url = write_zarr(Place(str(tmp_path)) / "p.zarr", DATA.pred_probs)
    (tmp_path / "link").symlink_to(url)
    refused("lies in pred_probs", pred_probs=url, out=tmp_path / "link" / "out")
    refused("lies in pred_probs", pred_probs=zarr.open_array(url, mode="r"), out=tmp_path / "link")


def test_an_input_beside_the_output_is_welcome(tmp_path: Path) -> None:
    url = write_zarr(Place(str(tmp_path)) / "p.zarr", DATA.pred_probs)
    assert noisydask.find_label_issues(DATA.labels, url, out=tmp_path / "p.zarr.out").num_issues > 0
    url = write_zarr(Place(str(tmp_path)) / "p.zarr.out/p.zarr", DATA.pred_probs)
    assert noisydask.find_label_issues(DATA.labels, url, out=tmp_path / "p.zarr.out").num_issues > 0
    np.testing.assert_array_equal(zarr.open_array(url, mode="r")[...], DATA.pred_probs)


@pytest.mark.parametrize(
    ("inner", "outer", "expected"),
    [
        ("s3://b/x", "s3://b/x", True),
        ("s3://key:secret/with@b/x/y", "s3://b/x/", True),
        ("s3a://b/x", "s3://b//x", True),
        ("s3://b/x.zarr2", "s3://b/x.zarr", False),
        ("s3://b/x/../y", "s3://b/x", False),
        ("s3://c/x", "s3://b/x", False),
        ("gs://b/x", "s3://b/x", False),
        ("file:///tmp/x", "/tmp/x", True),
        ("/tmp/x/../y", "/tmp/x", False),
        ("/tmp/x", "/", True),
        ("s3://b/x#1", "s3://b/x", False),
    ],
)
def test_places_are_compared_whatever_their_spelling(
    inner: str, outer: str, expected: bool
) -> None:
    assert is_inside(inner, outer) is expected


def test_links_beside_the_documents_are_not_followed(tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "victim").write_text("mine")
    for name in ("latest.json.new", "lock.json.new"):
        (tmp_path / "out" / name).symlink_to(tmp_path / "victim")
    noisydask.find_label_issues([0, 1], [[0.75, 0.25], [0.25, 0.75]], out=tmp_path / "out")
    assert (tmp_path / "victim").read_text() == "mine"
