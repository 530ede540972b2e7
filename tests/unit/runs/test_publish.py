"""Publishing: the pointer, its generations, older runs, the quality gate, the status of a running
job."""

from __future__ import annotations

import json
import threading
import time
from pathlib import Path
from typing import Any

import pytest
from conftest import Place
from layouts import make

import noisydask
from noisydask.engine import progress
from noisydask.errors import GateError, InputError, JobError, LockedError
from noisydask.issues.results import LabelIssues
from noisydask.runs.options import PublishSettings
from noisydask.runs.publish import publishing
from noisydask.runs.status import STATUS
from noisydask.runs.store import Output
from noisydask.stores.conditional import Document

pytestmark = pytest.mark.thorough

DATA = make(rows=430, classes=3)


def run(place: Place, **how: Any) -> LabelIssues:
    how = {"block_bytes": 2_000, "storage_options": {"out": place.options}, **how}
    return noisydask.find_label_issues(DATA.labels, DATA.pred_probs, out=f"{place.url}/out", **how)


def reopen(place: Place, name: str | None = None) -> LabelIssues:
    return noisydask.open_run(f"{place.url}/out", place.options, run=name)


def read(place: Place, name: str) -> Any:
    return json.loads((place / "out").objects()[name])


def test_older_runs_stay_readable(place: Place) -> None:
    first, second = run(place), run(place, quality_score="normalized_margin")
    assert reopen(place).run.run == second.run.run
    assert reopen(place, first.run.run).manifest == first.manifest
    latest = read(place, "latest.json")
    assert (latest["run"], latest["parent"], latest["generation"]) == (
        second.run.run,
        first.run.run,
        2,
    )
    assert (second.manifest["parent"], second.manifest["generation"]) == (first.run.run, 2)
    for wrong in ("x", "../../etc", "20260101T000000Z-0123abcd"):
        with pytest.raises(InputError):
            reopen(place, wrong)


def test_an_output_is_of_one_job(tmp_path: Path) -> None:
    place = Place(str(tmp_path))
    issues = run(place)
    dynamics = noisydask.analyze_loss_dynamics([[0.5, 0.25]] * 430, out=tmp_path / "dynamics")
    with pytest.raises(InputError, match="out holds runs of the job 'issues'"):
        noisydask.analyze_loss_dynamics([[0.5, 0.25]], out=tmp_path / "out")
    with pytest.raises(InputError, match=r"of issues at .* lies in what the job writes"):
        noisydask.combine(issues, dynamics, out=tmp_path / "out")
    assert reopen(place).run.run == issues.run.run


def test_a_gate_that_cannot_be_told_is_told(tmp_path: Path) -> None:
    place = Place(str(tmp_path))
    first = run(place, fail_new_above=0)
    (tmp_path / "out/runs" / first.run.run / "manifest.json").unlink()
    with pytest.raises(GateError, match="is not known"):
        run(place, fail_new_above=0)
    assert reopen(place).manifest["changes"] is None


def test_a_run_is_invisible_until_it_is_published(place: Place) -> None:
    seen: list[Any] = []

    class Watching(progress.Silent):
        def phase(self, name: str) -> None:
            seen.append((place / "out").objects().get("latest.json"))

    run(place, reporter=Watching())
    assert len(seen) > 2
    assert set(seen) == {None}


def test_another_publication_meanwhile_is_not_replaced(place: Place) -> None:
    run(place)
    output = Output.at(f"{place.url}/out", place.options)
    with publishing(output, PublishSettings(), progress.Silent()) as publication:
        document = Document(output.place / "latest.json")
        seen = document.read()
        assert seen is not None
        document.write(seen.value | {"generation": 7}, seen)
        with pytest.raises(LockedError, match="another run was published") as caught:
            publication.publish(
                publication.previous.manifest.document() | {"run": publication.run.store.run}
            )
    assert caught.value.exit_status == 4
    assert read(place, "latest.json")["generation"] == 7


def test_a_lost_lock_ends_the_run_at_its_next_phase(place: Place) -> None:
    run(place)
    before = read(place, "latest.json")
    document = Document(Output.at(f"{place.url}/out", place.options).place / "lock.json")

    class Thief(progress.Silent):
        def phase(self, name: str) -> None:
            document.write({"owner": {"host": "thief", "pid": 1}, "since": "now"}, document.read())
            time.sleep(1.5)  # a third of the lease, and a little

    with pytest.raises(LockedError, match="lost its lock"):
        run(place, reporter=Thief(), lease_seconds=3)
    assert read(place, "latest.json") == before


def test_damaged_pointers_are_not_replaced(place: Place) -> None:
    for content in (
        b"",
        b"[]",
        b'{"run": "x"}',
        b'{"run": "20260101T000000Z-0123abcd", "generation": "x"}',
    ):
        place.write("out/latest.json", content)
        with pytest.raises(JobError, match="damaged"):
            run(place)
        assert (place / "out").objects()["latest.json"] == content


def test_a_missing_parent_is_no_obstacle(place: Place) -> None:
    place.write("out/latest.json", b'{"run": "20260101T000000Z-0123abcd", "generation": 3}')
    found = run(place)
    assert found.manifest["changes"] is None
    assert read(place, "latest.json")["generation"] == 4


def test_quality_gate(place: Place) -> None:
    with pytest.raises(
        GateError, match=r"of 430 examples are issues \(.*%\), above fail_above \(0.01\)"
    ) as caught:
        run(place, fail_above=0.01, fail_new_above=0)
    assert caught.value.exit_status == 3
    assert reopen(place).manifest == caught.value.issues.manifest
    run(place, fail_above=1.0, fail_new_above=0)  # nothing is new
    labels = DATA.labels.copy()
    good = [k for k in range(100) if DATA.pred_probs[k].argmax() == labels[k]][:2]
    labels[good] = (labels[good] + 1) % 3
    how = {"out": f"{place.url}/out", "storage_options": {"out": place.options}}
    with pytest.raises(GateError, match=r"\d issues are new, above fail_new_above \(0\)") as caught:
        noisydask.find_label_issues(labels, DATA.pred_probs, fail_new_above=0, **how)
    assert reopen(place).manifest["changes"]["new"] >= 2


def test_status_of_a_running_job(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("noisydask.runs.status.EVERY", 0.05)
    seen: list[Any] = []

    class Slow(progress.Silent):
        def phase(self, name: str) -> None:
            time.sleep(0.3)
            objects = (place / "out").objects()
            seen.extend(
                json.loads(content) for path, content in objects.items() if path.endswith(STATUS)
            )

    found = run(place, reporter=Slow())
    last = json.loads((place / "out/runs" / found.run.run).objects()[STATUS])
    assert {"running"} == {status["state"] for status in seen}
    assert len({status["phase"] for status in seen}) > 1
    assert all(status["run"] == found.run.run for status in seen)
    counts = found.manifest["counts"]
    assert (last["state"], last["blocks_done"], last["rows_done"]) == (
        "complete",
        counts["blocks"],
        counts["examples"],
    )


def test_status_of_a_failed_job(place: Place) -> None:
    with pytest.raises(InputError):
        noisydask.find_label_issues(
            [5] * 430,
            DATA.pred_probs,
            out=f"{place.url}/out",
            storage_options={"out": place.options},
        )
    (status,) = (
        json.loads(c) for name, c in (place / "out").objects().items() if name.endswith(STATUS)
    )
    assert status["state"] == "failed"
    assert "430 of 430 rows" in status["error"]


def test_readers_see_complete_runs_only(place: Place) -> None:
    run(place)
    stop, wrong, looked = threading.Event(), [], []

    def look() -> None:
        while not stop.is_set():
            found = reopen(place)
            if (
                len(found.indices) != found.num_issues
                or len(found.to_dataframe()) != found.num_issues
            ):
                wrong.append(found.run.run)
            looked.append(found.run.run)

    readers = [threading.Thread(target=look) for _ in range(3)]
    for reader in readers:
        reader.start()
    try:
        for score in ("normalized_margin", "self_confidence", "normalized_margin"):
            run(place, quality_score=score, keep_runs=1)
    finally:
        stop.set()
        for reader in readers:
            reader.join()
    assert not wrong
    assert len(looked) > 3
