"""Data are looked at, converted, and given a config, before a job reads them."""

from __future__ import annotations

import io
import json
import os
from pathlib import Path
from typing import Any

import jsonschema
import numpy as np
import pandas as pd
import pytest
import yaml
import zarr
from conftest import Place
from distributed import Client
from layouts import make, write_npy
from typer.testing import CliRunner

import noisydask
from noisydask.cli.app import main
from noisydask.cli.commands import app
from noisydask.errors import InputError, JobError
from noisydask.issues.options import IssuesConfig
from noisydask.predictions import convert as converting
from noisydask.stores.array_draft import ArrayDraft
from noisydask.stores.npy_rows import NpyRows

DATA = make(rows=1030, classes=7)
NAMES = [*"gfedcba"]
ROOT = Path(__file__).parents[2]


def table(folder: Path) -> str:
    """Predictions with text labels, in CSV."""
    frame = pd.DataFrame(DATA.pred_probs, columns=[f"p_{name}" for name in NAMES])
    frame.insert(0, "label", np.array(NAMES)[DATA.labels])
    frame.to_csv(folder / "t.csv", index=False)
    return str(folder / "t.csv")


def check_converted(place: str, options: Any = None, names: list[str] | None = None) -> None:
    array = zarr.open_array(place, mode="r", storage_options=options or None)
    np.testing.assert_array_equal(array[...], DATA.pred_probs)
    assert array.attrs.get("class_names") == names


@pytest.mark.parametrize("shard_bytes", [0, 3 * 28 * 16])
def test_converted_data_are_the_data(
    shard_bytes: int, place: Place, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("noisydask.stores.array_draft.CHUNK_BYTES", 28 * 16)
    options = {"url": place.options}
    source = table(tmp_path)
    to = f"{place.url}/converted/probs.zarr"
    how: dict[str, Any] = {"shard_bytes": shard_bytes, "storage_options": options}
    assert noisydask.convert(source, to, class_columns="p_*", **how) == to
    array = zarr.open_array(to, mode="r", storage_options=place.options or None)
    np.testing.assert_array_equal(array[...], DATA.pred_probs)
    assert array.chunks == (16, 7)
    assert array.shards == ((48, 7) if shard_bytes else None)
    # Names of the classes came with it, so that labels may be text.
    labels = pd.read_csv(source)["label"]
    how = {"storage_options": {"pred_probs": place.options}}
    found = noisydask.find_label_issues(labels, to, **how)
    wanted = noisydask.find_label_issues(DATA.labels, DATA.pred_probs)
    np.testing.assert_array_equal(found.indices, wanted.indices)
    with pytest.raises(InputError, match="there is an array at"):
        noisydask.convert(DATA.pred_probs, to, storage_options=options)
    noisydask.convert(DATA.labels, to, overwrite=True, storage_options=options)
    array = zarr.open_array(to, mode="r", storage_options=place.options or None)
    np.testing.assert_array_equal(array[...], DATA.labels)


def test_conversion_on_workers(tmp_path: Path, client: Client) -> None:
    np.save(tmp_path / "p.npy", DATA.pred_probs)
    to = noisydask.convert(tmp_path / "p.npy", tmp_path / "p.zarr")
    check_converted(to)


def test_what_is_not_finished_is_no_array(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    np.save(tmp_path / "p.npy", DATA.pred_probs)
    monkeypatch.setattr("noisydask.stores.array_draft.CHUNK_BYTES", 28 * 16)
    write = ArrayDraft.write

    def fail(self: ArrayDraft, start: int, values: Any) -> None:
        if start >= 512:
            raise OSError(5, "killed here")
        write(self, start, values)

    monkeypatch.setattr(ArrayDraft, "write", fail)
    with pytest.raises(OSError, match="killed"):
        noisydask.convert(tmp_path / "p.npy", tmp_path / "p.zarr")
    assert (tmp_path / "p.zarr" / "c").exists()
    with pytest.raises(InputError):
        noisydask.find_label_issues(DATA.labels, tmp_path / "p.zarr")
    monkeypatch.setattr(ArrayDraft, "write", write)
    check_converted(noisydask.convert(tmp_path / "p.npy", tmp_path / "p.zarr"))


def test_a_source_that_changes_makes_no_array(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    np.save(tmp_path / "p.npy", DATA.pred_probs)
    write = ArrayDraft.write

    def change(self: ArrayDraft, start: int, values: Any) -> None:
        write(self, start, values)
        os.utime(tmp_path / "p.npy", (1, 1))

    monkeypatch.setattr(ArrayDraft, "write", change)
    with pytest.raises(JobError, match="changed while it was read"):
        noisydask.convert(tmp_path / "p.npy", tmp_path / "p.zarr")
    assert not (tmp_path / "p.zarr" / "zarr.json").exists()


def test_conversions_that_are_refused(tmp_path: Path) -> None:
    (tmp_path / "own").mkdir()
    (tmp_path / "own" / "thesis.tex").write_text("years of work")
    with pytest.raises(InputError, match=r"holds 'thesis\.tex', which is no part of an array"):
        noisydask.convert(DATA.pred_probs, tmp_path / "own", overwrite=True)
    assert (tmp_path / "own" / "thesis.tex").exists()
    with pytest.raises(
        InputError, match="not numbers: jobs read labels and ids that are text where"
    ):
        noisydask.convert(["a", "b"], tmp_path / "t.zarr")
    with pytest.raises(InputError, match="has no rows"):
        noisydask.convert(DATA.pred_probs[:0], tmp_path / "t.zarr")
    zarr.create_array(tmp_path / "p.zarr", data=DATA.pred_probs)
    with pytest.raises(InputError, match="are one place"):
        noisydask.convert(tmp_path / "p.zarr", tmp_path / "p.zarr", overwrite=True)
    assert converting.CLASS_NAMES == "class_names"


def inspected(*arguments: str) -> dict[str, Any]:
    done = CliRunner().invoke(app, ["inspect", *arguments, "--json"])
    assert done.exit_code == 0, done.output
    document: dict[str, Any] = json.loads(done.output)
    return document


def test_inspect_says_what_an_input_is(place: Place, tmp_path: Path) -> None:
    url = write_npy(place / "p.npy", DATA.pred_probs)
    found = inspected(url, "--storage-options", json.dumps(dict(place.options)))
    assert (found["shape"], found["dtype"], found["wrong"]) == ([1030, 7], "float32", [])
    assert found["stored_bytes"] == 1030 * 28 + 128
    assert found["job"]["blocks"] == 1
    told = inspected(table(tmp_path), "--class-columns", "p_*")
    assert told["class_names"] == NAMES
    assert "7 values in the first 1,030 rows" in inspected(f"{tmp_path}/t.csv#label")["notes"][0]


def test_inspect_says_what_is_wrong(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    np.save(tmp_path / "z.npy", np.log(DATA.pred_probs))
    assert "outside 0 to 1 (are they logits" in inspected(f"{tmp_path}/z.npy")["wrong"][0]
    np.save(tmp_path / "u.npy", np.zeros((9, 3), np.uint8))
    assert "--scale" in inspected(f"{tmp_path}/u.npy")["wrong"][0]
    array = zarr.create_array(tmp_path / "p.zarr", data=DATA.pred_probs, chunks=(100, 7))
    del array
    (tmp_path / "p.zarr" / "c" / "3" / "0").unlink()
    wrong = inspected(f"{tmp_path}/p.zarr")["wrong"]
    assert "1 chunk is not stored, or empty; the first is c/3/0, rows 300 to 399" in wrong[0]
    assert main(["inspect", f"{tmp_path}/p.zarr"]) == 0
    shown = capsys.readouterr().out
    assert "WRONG" in shown
    assert all(len(line) <= 80 for line in shown.splitlines()[1:])
    assert main(["inspect", f"{tmp_path}/none.zarr"]) == 2
    assert "there is no array" in capsys.readouterr().err


def test_a_config_that_was_written_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    url = table(tmp_path)
    given = ["init", "--table", url, "--class-columns", "p_*", "--out", "out", "--file", "c.yaml"]
    assert main(given) == 0
    assert main(given) == 2  # not over what somebody may have changed
    config = yaml.safe_load(Path("c.yaml").read_text())
    jsonschema.validate(config, schema())
    # All that is commented out is what is so without it.
    comments = [line[2:] for line in Path("c.yaml").read_text().splitlines() if line[:2] == "# "]
    options = [line for line in comments if ": " in line and " " not in line.split(": ")[0]]
    more = yaml.safe_load("\n".join(options))
    assert {"filter_by", "on_invalid", "keep_runs"} <= set(more)
    assert main(["run", "c.yaml"]) == 0
    wanted = noisydask.find_label_issues(DATA.labels, DATA.pred_probs)
    np.testing.assert_array_equal(noisydask.open_run("out").indices, wanted.indices)
    assert main(["init", "--labels", url, "--file", "d.yaml"]) == 2


def schema() -> Any:
    found = json.loads(CliRunner().invoke(app, ["config-schema"]).output)
    jsonschema.Draft202012Validator.check_schema(found)
    return found


@pytest.mark.parametrize("file", sorted((ROOT / "configs").glob("*.yaml")), ids=lambda f: f.name)
def test_configs_are_valid_by_the_schema(file: Path) -> None:
    config = yaml.safe_load(file.read_text())
    jsonschema.validate(config, schema())
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate({**config, "lables": "x"}, schema())


def test_inspect_reads_few_bytes_of_wide_rows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    wide = np.lib.format.open_memmap(  # type: ignore[no-untyped-call]
        tmp_path / "w.npy", "w+", dtype=np.float32, shape=(10_000, 20_000)
    )
    del wide
    read = []
    real = NpyRows.read

    def count(self: NpyRows, start: int, stop: int) -> Any:
        values = real(self, start, stop)
        read.append(values.nbytes)
        return values

    monkeypatch.setattr(NpyRows, "read", count)
    assert "do not sum to 1" in inspected(f"{tmp_path}/w.npy")["wrong"][0]
    assert 0 < sum(read) <= 1 << 25


@pytest.mark.parametrize(
    ("values", "told"),
    [
        (np.zeros((0, 3), np.float32), "it is empty: there is nothing to look at"),
        (np.zeros(0, np.int64), "it is empty: there is nothing to look at"),
        (np.zeros((3, 3), np.complex64), "float16, float32 or float64, not complex64"),
        (np.zeros((3, 3), bool), "float16, float32 or float64, not bool"),
        (np.array([0, -1, 2]), "labels below 0 are no classes: 1 of the first 3 values"),
        (np.array([0.5, 1]), "neither labels nor ids: these are integers or text, not float64"),
        (np.zeros((2, 2, 2)), "it has 3 dimensions, not one or two"),
    ],
    ids=["no-rows", "no-labels", "complex", "bool", "negative", "floats", "3d"],
)
def test_inspect_shows_whatever_it_is(
    values: Any, told: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    np.save(tmp_path / "a.npy", values)
    assert told in inspected(f"{tmp_path}/a.npy")["wrong"][0]
    assert main(["inspect", f"{tmp_path}/a.npy"]) == 0
    assert "WRONG" in capsys.readouterr().out


def test_inspect_counts_empty_cells_and_does_not_list_ids(tmp_path: Path) -> None:
    frame = pd.DataFrame({"label": ["a", None, "b"] * 10, "id": [f"{k}.png" for k in range(30)]})
    frame.to_parquet(tmp_path / "t.parquet")
    found = inspected(f"{tmp_path}/t.parquet#label")
    assert found["wrong"] == ["10 empty cells in the first 30 rows"]
    assert found["notes"] == ["2 values in the first 30 rows: a (10), b (10)"]
    found = inspected(f"{tmp_path}/t.parquet#id")
    assert (found["wrong"], found["notes"]) == ([], ["30 values in the first 30 rows, each once"])


def test_inspect_tells_chunks_shards_and_tasks(tmp_path: Path) -> None:
    zarr.create_array(tmp_path / "p.zarr", data=DATA.pred_probs, chunks=(100, 7), shards=(1000, 7))
    found = inspected(f"{tmp_path}/p.zarr")
    assert found["chunks"] == "100 x 7 in shards of 1,000 x 7"
    assert found["job"]["tasks"] == 1


@pytest.mark.parametrize("as_table", [False, True])
def test_a_night_that_was_written_runs(
    as_table: bool, place: Place, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    urls = {"labels": write_npy(place / "l.npy", DATA.labels)}
    urls["pred_probs"] = write_npy(place / "p.npy", DATA.pred_probs)
    urls["ids"] = write_npy(place / "i.npy", np.arange(1030) * 3)
    losses = np.random.default_rng(0).random((1030, 4))
    if as_table:
        content = io.BytesIO()
        frame = {"id": np.repeat(np.arange(1030) * 3, 4), "iteration": np.tile(np.arange(4), 1030)}
        pd.DataFrame({**frame, "loss": losses.ravel()}).to_parquet(content)
        place.write("s.parquet", content.getvalue())
        urls["losses"] = f"{place.url}/s.parquet"
    else:
        urls["losses"] = write_npy(place / "s.npy", losses)
    given = [f"--{name.replace('_', '-')}={url}" for name, url in urls.items()]
    given += [f"--out={place.url}/out/", "--file=night.yaml"]
    if place.options:
        given.append(f"--storage-options={json.dumps(dict(place.options))}")
    assert main(["init", *given]) == 0
    text = Path("night.yaml").read_text()
    assert text.startswith("# yaml-language-server: $schema=noisydask.schema.json\n")
    assert "WRONG" not in text
    if place.options:  # there are credentials in it
        assert Path("night.yaml").stat().st_mode & 0o077 == 0
    config = yaml.safe_load(text)
    jsonschema.validate(config, schema())
    assert main(["run", "night.yaml", "--quiet"]) == 0
    out = {"storage_options": place.options} if place.options else {}
    wanted = noisydask.find_label_issues(DATA.labels, DATA.pred_probs)
    found = noisydask.open_run(f"{place.url}/out/issues", **out)
    np.testing.assert_array_equal(found.indices, wanted.indices)
    assert noisydask.open_run(f"{place.url}/out/dynamics", **out).run is not None


def test_a_config_says_what_the_job_would_refuse(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    np.save("l.npy", DATA.labels[:-30])
    np.save("p.npy", DATA.pred_probs)
    assert main(["init", "--labels=l.npy", "--pred-probs=p.npy", "--file=c.yaml"]) == 0
    assert "the job would not run" in capsys.readouterr().out
    why = "labels has 1,000 examples, pred_probs 1,030: they must match"
    assert f"# WRONG: {why}" in Path("c.yaml").read_text()
    assert main(["run", "c.yaml"]) == 2
    assert why in capsys.readouterr().err
    assert main(["init", "--labels=l.npy", "--pred-probs=p.npy", "--file=no/c.yaml"]) == 2
    assert "error: no/c.yaml cannot be written: No such file" in capsys.readouterr().err


@pytest.mark.parametrize("many", [0, 1, 32, 33])
def test_the_schema_takes_as_many_models_as_the_job(many: int) -> None:
    url = "s3://bucket-with-a-long-name/" + "folder/" * 9 + "pred_probs.zarr"
    config = {"labels": url, "pred_probs": url if many == 1 else [url] * many, "out": url}
    valid = jsonschema.Draft202012Validator(schema()).is_valid(config)
    assert valid == (many in (1, 32))
    try:
        IssuesConfig.model_validate(config)
    except ValueError:
        assert not valid
    else:
        assert valid


def test_the_schema_describes_options_as_help_does() -> None:
    definitions = schema()["$defs"]
    for name, field in IssuesConfig.model_fields.items():
        if field.description:
            told = definitions["IssuesConfig"]["properties"][name]["description"]
            assert told == field.description
    assert definitions["IssuesConfig"]["additionalProperties"] is False
