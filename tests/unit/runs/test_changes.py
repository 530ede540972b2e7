"""What changed between two runs, against a comparison by hand."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from conftest import Place
from layouts import make, write_npy, write_zarr

import noisydask
from noisydask.cli.app import main
from noisydask.errors import InputError, JobError
from noisydask.issues.results import LabelIssues
from noisydask.runs import changes, comparison
from noisydask.runs.changes import Changes, compare, diff
from noisydask.runs.comparison import KINDS, REASONS, Comparison
from noisydask.runs.store import FinishedRun, Output

pytestmark = pytest.mark.thorough

DATA = make(rows=630, classes=4, noise=0.3)


def run(place: Place, labels: Any, pred_probs: Any, **how: Any) -> LabelIssues:
    how = {"block_bytes": 2_000, "storage_options": {"out": place.options}, **how}
    return noisydask.find_label_issues(labels, pred_probs, out=f"{place.url}/out", **how)


def two_runs(place: Place, **how: Any) -> tuple[LabelIssues, LabelIssues, Any]:
    """A run, and one of the same dataset with labels corrected and spoiled, rows cut off, invalid
    and changed; its labels."""
    first = run(place, DATA.labels, DATA.pred_probs, **how)
    labels, probs = DATA.labels[:600].copy(), DATA.pred_probs[:600].copy()
    worst = first.indices[first.indices < 600]
    labels[worst[:5]] = probs[worst[:5]].argmax(1)
    good = np.setdiff1d(np.arange(600), first.indices)[:4]
    labels[good] = (labels[good] + 1) % 4
    probs[worst[6]] = np.nan
    probs[worst[7]] = np.roll(probs[worst[7]], 1)
    cut = {
        name: how[name][:600] for name in ("ids",) if name in how and not isinstance(how[name], str)
    }
    return first, run(place, labels, probs, on_invalid="skip", **how | cut), labels


def by_hand(first: LabelIssues, second: LabelIssues, labels: Any) -> dict[str, dict[int, Any]]:
    """New, gone and moved issues by index."""
    before, after = (found.to_dataframe().set_index("index") for found in (first, second))
    quality = second.label_quality.compute()
    why = {}
    for index in before.index.difference(after.index):
        if index >= second.num_examples:
            why[index] = "removed"
        elif np.isnan(quality[index]):
            why[index] = "left_out"
        else:
            why[index] = "corrected" if labels[index] != before["given_label"][index] else "risen"
    both = before.index.intersection(after.index)
    columns = ["given_label", "suggested_label", "label_quality"]
    moved = both[(before.loc[both, columns] != after.loc[both, columns]).any(axis=1)]
    return {
        "new": dict.fromkeys(after.index.difference(before.index)),
        "gone": why,
        "moved": dict.fromkeys(moved),
    }


@pytest.fixture
def found(place: Place) -> tuple[Place, LabelIssues, LabelIssues, Any]:
    return place, *two_runs(place)


def of_kinds(seen: Changes) -> dict[str, int]:
    return {kind: getattr(seen.counts, kind) for kind in KINDS}


def check(seen: Changes, expected: dict[str, dict[int, Any]]) -> None:
    assert of_kinds(seen) == {kind: len(expected[kind]) for kind in KINDS}
    for kind in KINDS:
        rows = seen.table[seen.table["change"] == kind]
        assert set(rows["index"]) == set(expected[kind]), kind
    gone = seen.table[seen.table["change"] == "gone"]
    assert dict(zip(gone["index"], gone["why"], strict=True)) == expected["gone"]
    assert seen.counts.gone_because == {
        why: n for why in REASONS if (n := list(expected["gone"].values()).count(why))
    }
    for kind in KINDS:
        assert sum(count[kind] for count in seen.counts.classes.values()) == len(expected[kind])


def test_new_gone_and_moved(found: tuple[Place, LabelIssues, LabelIssues, Any]) -> None:
    place, first, second, labels = found
    expected = by_hand(first, second, labels)
    assert min(map(len, expected.values())) > 0
    assert set(expected["gone"].values()) >= {"corrected", "removed", "left_out"}
    output = Output.at(f"{place.url}/out", place.options)
    seen = diff(output, top=1000)
    assert (seen.counts.since, seen.after) == (first.run.run, second.run.run)
    check(seen, expected)
    left_out = seen.table[seen.table["why"] == "left_out"]
    assert left_out["given_label"].isna().all()  # no class stands for a row that was left out
    assert left_out["given_label_before"].notna().all()
    said = second.manifest["changes"]
    assert {kind: said[kind] for kind in KINDS} == of_kinds(seen)
    # Computed anew, not read from the run, it is the same.
    anew = compare(Comparison.of(output.open_run(first.run.run), output.open_run()), 1000)
    pd.testing.assert_frame_equal(anew.table, seen.table, check_dtype=False)


def test_many_parts(
    found: tuple[Place, LabelIssues, LabelIssues, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    place, first, second, labels = found
    monkeypatch.setattr(comparison, "_TASK_ROWS", 40)
    output = Output.at(f"{place.url}/out", place.options)
    both = Comparison.of(output.open_run(first.run.run), output.open_run())
    assert both.buckets > 3
    state = compare(both, 1000)
    check(
        Changes("b", changes.summary(state, "a", None), state.table),
        by_hand(first, second, labels),
    )


@pytest.mark.parametrize("left", [None, 0, 300])
def test_a_damaged_run_keeps_no_other_from_being_published(
    left: int | None, tmp_path: Path
) -> None:
    place, data = Place(str(tmp_path)), make(rows=300, classes=3)
    first = run(place, data.labels, data.pred_probs)
    part = tmp_path / "out/runs" / first.run.run / "issues/part-00000.parquet"
    content = part.read_bytes()
    part.unlink() if left is None else part.write_bytes(content[:left])
    second = run(place, data.labels, data.pred_probs)
    assert second.manifest["changes"] is None
    with pytest.raises(
        JobError,
        match=f"part-00000.parquet is gone or damaged: the run {first.run.run} cannot be compared",
    ):
        diff(Output.at(f"{place.url}/out"))
    assert run(place, data.labels, data.pred_probs).manifest["changes"]["new"] == 0


def test_backwards_and_by_name(found: tuple[Place, LabelIssues, LabelIssues, Any]) -> None:
    place, first, second, _ = found
    output = Output.at(f"{place.url}/out", place.options)
    forth, back = diff(output, top=0), diff(output, second.run.run, first.run.run, top=3)
    assert (back.counts.new, back.counts.gone) == (forth.counts.gone, forth.counts.new)
    assert back.table.groupby("change").size().max() == 3
    assert of_kinds(diff(output, first.run.run, first.run.run)) == dict.fromkeys(KINDS, 0)
    with pytest.raises(InputError, match="is the first"):
        diff(output, None, first.run.run)


def test_nothing_changed(place: Place) -> None:
    run(place, DATA.labels, DATA.pred_probs)
    again = run(place, DATA.labels, DATA.pred_probs)
    assert {kind: again.manifest["changes"][kind] for kind in KINDS} == dict.fromkeys(KINDS, 0)
    assert diff(Output.at(f"{place.url}/out", place.options)).table.empty


def test_examples_are_known_by_their_ids(place: Place) -> None:
    ids = np.array([f"id-{k}" for k in range(len(DATA.labels))])
    sources = {"ids": place.options, "out": place.options}
    first = run(
        place,
        DATA.labels,
        DATA.pred_probs,
        ids=write_npy(place / "a.npy", ids),
        storage_options=sources,
    )
    # The first row is gone, and all others have moved up by one: by index everything changed, by id
    # one example.
    where = write_npy(place / "b.npy", ids[1:])
    second = run(place, DATA.labels[1:], DATA.pred_probs[1:], ids=where, storage_options=sources)
    before, after = (set(found.to_dataframe()["id"]) for found in (first, second))
    said = second.manifest["changes"]
    assert (said["new"], said["gone"]) == (len(after - before), len(before - after))
    # In its place, a corrected label is seen as such; the others' ids stand elsewhere now.
    labels = DATA.labels[1:].copy()
    labels[second.indices[0]] = DATA.pred_probs[1:][second.indices[0]].argmax()
    third = run(place, labels, DATA.pred_probs[1:], ids=where, storage_options=sources)
    assert third.manifest["changes"]["gone_because"]["corrected"] == 1


def test_ids_of_a_store(tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Numbers of a Zarr array, and more issues than one task compares."""
    place = Place(str(tmp_path))
    ids = write_zarr(place / "ids.zarr", np.arange(1000, 1000 + len(DATA.labels)))
    monkeypatch.setattr(comparison, "_TASK_ROWS", 30)
    run(place, DATA.labels, DATA.pred_probs, ids=ids)
    labels = DATA.labels.copy()
    labels[:60] = DATA.pred_probs[:60].argmax(1)
    second = run(place, labels, DATA.pred_probs, ids=ids)
    told = second.manifest["changes"]
    assert len(told["parts"]) > 1
    assert told["gone_because"]["corrected"] > 5
    assert "displaced" not in told["gone_because"]


def test_rows_that_were_cut_off_are_removed(place: Place) -> None:
    ids = np.array([f"img{k}" for k in range(len(DATA.labels))], object)
    first = run(
        place, DATA.labels, DATA.pred_probs, ids=write_npy(place / "a.npy", ids.astype(str))
    )
    cut = run(
        place,
        DATA.labels[:600],
        DATA.pred_probs[:600],
        ids=write_npy(place / "b.npy", ids[:600].astype(str)),
    )
    assert cut.manifest["changes"]["gone_because"]["removed"] == (first.indices >= 600).sum()


def test_what_is_stored_of_changes_has_one_type(place: Place) -> None:
    """Labels are shown as integers, and a part without any that is gone has the type of the
    others."""
    run(place, DATA.labels, DATA.pred_probs)
    labels = DATA.labels.copy()
    labels[:30] = (labels[:30] + 1) % 4
    found = run(place, labels, DATA.pred_probs)
    assert all(found.manifest["changes"][kind] for kind in ("new", "gone"))
    table = diff(Output.at(f"{place.url}/out", place.options)).table
    assert table["given_label"].dtype == table["given_label_before"].dtype == pd.Int32Dtype()
    assert found.manifest["seconds"]["total"] >= found.manifest["seconds"]["changes"] > 0
    labels[40:50] = (labels[40:50] + 1) % 4
    only_new = run(place, labels, DATA.pred_probs)
    kinds = set()
    for one in (found, only_new):
        with one.run.place.fs.open(
            (one.run.place / one.manifest["changes"]["parts"][0]).path, "rb"
        ) as file:
            kinds.add(pq.read_schema(file).field("why").type)
    assert kinds == {pa.string()}


def test_the_command(tmp_path: Any, capfd: pytest.CaptureFixture[str]) -> None:
    place = Place(str(tmp_path))
    first, second, _ = two_runs(place, ids=np.array([f"[red]{k}\x1b" for k in range(630)]))
    assert main(["diff", f"{place.url}/out", "--json", "--top", "2"]) == 0
    said = json.loads(capfd.readouterr().out)
    assert (said["before"], said["after"]) == (first.run.run, second.run.run)
    assert len(said["changes"]["new"]) == 2
    assert said["new"] == second.manifest["changes"]["new"]
    assert main(["diff", f"{place.url}/out", first.run.run, second.run.run]) == 0
    shown = capfd.readouterr().out
    assert "[red]" in shown
    assert "\x1b" not in shown
    assert main(["diff", f"{place.url}/out", "no-run", first.run.run]) == 2


def losses_of(rows: int, seed: int) -> Any:
    return np.random.default_rng(seed).exponential(1.0, (rows, 6)).astype(np.float32)


def as_table(losses: Any, subset: str = "train") -> pd.DataFrame:
    """Losses as a table, whose examples are named by id and subset: half of the ids are there
    twice."""
    rows = np.arange(len(losses))
    table = pd.DataFrame(
        {"id": np.repeat(rows // 2, 6), "iteration": np.tile(np.arange(6), len(rows))}
    )
    table["subset"] = np.where(np.repeat(rows, 6) % 2, subset, "test")
    return table.assign(loss=losses.ravel())


@pytest.mark.parametrize("kind", ["by position", "by id", "table", "combined"])
@pytest.mark.parametrize("buckets", ["one", "many"])
def test_what_enters_and_leaves_other_rankings(
    kind: str, buckets: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if buckets == "many":
        monkeypatch.setattr(comparison, "_TASK_ROWS", 7)
    found = []
    for seed, rows in enumerate((90, 100)):
        losses, names = losses_of(rows, seed), np.roll([f"{n}.png" for n in range(rows)], seed)
        how: dict[str, Any] = {
            "by position": {"losses": losses},
            "by id": {"losses": losses, "ids": names},
            "table": {"table": as_table(losses), "subset_column": "subset"},
            "combined": {"losses": losses},
        }[kind]
        top = {"out": tmp_path / "out"} | ({} if kind == "combined" else {"top_k": 20})
        if kind != "combined":
            found.append(noisydask.analyze_loss_dynamics(**how, **top))
            continue
        ranked = noisydask.analyze_loss_dynamics(**how)
        issues = noisydask.find_label_issues(DATA.labels[:rows], DATA.pred_probs[:rows])
        found.append(noisydask.combine(issues, ranked, top=20, **top))
    names = ["id", "subset"] if kind == "table" else ["id" if kind == "by id" else "index"]
    before, after = (
        {tuple(row) for row in each._first(None)[names].astype(str).to_numpy().tolist()}
        for each in found
    )
    seen = diff(Output.at(tmp_path / "out"), top=100)
    assert (seen.counts.since, seen.after) == tuple(each.run.run for each in found)
    assert (seen.counts.gone_because, seen.counts.classes) == ({}, {})
    for change, expected in (("new", after - before), ("gone", before - after), ("moved", set())):
        rows = seen.table[seen.table["change"] == change]
        assert {tuple(row) for row in rows[names].astype(str).to_numpy().tolist()} == expected
        assert of_kinds(seen)[change] == found[1].manifest["changes"][change] == len(expected)
        ranks = rows["rank_before" if change == "gone" else "rank"]
        assert ranks.tolist() == sorted(ranks)
    assert seen.counts.new > 3
    anew = diff(Output.at(tmp_path / "out"), found[1].run.run, found[0].run.run, top=100)
    assert (anew.counts.new, anew.counts.gone) == (seen.counts.gone, seen.counts.new)
    assert main(["diff", str(tmp_path / "out")]) == 0


@pytest.mark.parametrize("rows", [50, 2000])
def test_of_a_ranking_of_all_the_first_are_compared(rows: int, tmp_path: Path) -> None:
    """None can enter or leave it; a hundredth of it, and ten at least, is what people look at."""
    out, first = tmp_path / "out", max(10, rows // 100)
    found = [noisydask.analyze_loss_dynamics(losses_of(rows, seed), out=out) for seed in range(2)]
    before, after = (set(each.top_k(first)["index"]) for each in found)
    changes = found[1].manifest["changes"]
    assert changes["first"] == first
    assert (changes["new"], changes["gone"]) == (len(after - before), len(before - after))
    assert changes["new"] > 0
    seen = diff(Output.at(out))
    assert set(seen.table[seen.table["change"] == "new"]["index"]) == after - before


def test_runs_of_two_jobs_are_not_compared(tmp_path: Path) -> None:
    ranked = noisydask.analyze_loss_dynamics(losses_of(630, 0), out=tmp_path / "a")
    issues = noisydask.find_label_issues(DATA.labels, DATA.pred_probs, out=tmp_path / "b")
    with pytest.raises(InputError, match="runs of 'issues' and 'dynamics' cannot be compared"):
        Comparison.of(*(FinishedRun(found.run, found.document) for found in (issues, ranked)))
