"""Names of classes beside the labels of the job on losses: in the ranking, on the terminal, in
figures; refused where they do not fit."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
import yaml
from distributed import LocalCluster
from test_loss_table import bits

import noisydask
from noisydask import InputError
from noisydask.cli.app import main
from noisydask.cli.overrides import checked
from noisydask.core import ranking

NAMES = ["cat", "dog", "élan"]
LABELS = np.array([2, 0, -1, 1, 2, 0])
LOSSES = np.arange(18, dtype=np.float32).reshape(6, 3)[::-1]
TABLE = pd.DataFrame(
    {
        "id": np.repeat(np.arange(6), 3),
        "iteration": np.tile(np.arange(3), 6),
        "loss": LOSSES.ravel(),
        "label": np.repeat(LABELS, 3),
    }
)
DENSE: dict[str, Any] = {"losses": LOSSES, "labels": LABELS}
SOURCES: dict[str, dict[str, Any]] = {
    "dense": DENSE,
    "dense, few": {**DENSE, "top_k": 6},
    "table": {"table": TABLE, "label_column": "label"},
}


@pytest.mark.parametrize("small", [False, True])
@pytest.mark.parametrize("source", SOURCES)
def test_the_ranking_has_names(
    source: str, small: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if small:  # several parts, which are shuffled
        monkeypatch.setattr(ranking, "ROWS_PER_PART", 2)
    found = noisydask.analyze_loss_dynamics(
        **SOURCES[source], class_names=NAMES, out=tmp_path / "out"
    )
    expected = ["élan", "cat", None, "dog", "élan", "cat"]
    for run in (found, noisydask.open_run(tmp_path / "out")):
        assert run.class_names == NAMES
        top = run.top_k(6)
        assert top["label"].tolist() == LABELS.tolist()
        assert [name if isinstance(name, str) else None for name in top["label_name"]] == expected
        assert list(top).index("label_name") == list(top).index("label") + 1
        assert run.ranking.compute()["label_name"].dropna().tolist() == [
            name for name in expected if name
        ]
    parts = [found.run.place / name for name in found.manifest["parts"]]
    assert len(parts) > 1 or not small or source == "dense, few"
    assert sum(pq.read_table(part.path)["label_name"].null_count for part in parts) == 1


@pytest.mark.parametrize("source", SOURCES)
def test_names_change_nothing_else(source: str) -> None:
    named, plain = (
        noisydask.analyze_loss_dynamics(**SOURCES[source], class_names=names)
        for names in (NAMES, None)
    )
    assert plain.class_names is None
    pd.testing.assert_frame_equal(named.top_k(9).drop(columns="label_name"), plain.top_k(9))
    kept = [{k: v for k, v in bits(run).items() if "candidates" not in k} for run in (named, plain)]
    assert kept[0] == kept[1]


@pytest.mark.parametrize("source", SOURCES)
def test_labels_without_a_name_are_refused(source: str) -> None:
    for names in (NAMES[:2], []):
        with pytest.raises(InputError, match=f"have no name among the {len(names)} class names"):
            noisydask.analyze_loss_dynamics(**SOURCES[source], class_names=names)
    low = np.where(LABELS < 0, -2, LABELS)
    with pytest.raises(InputError, match="the first are -2"):
        noisydask.analyze_loss_dynamics(LOSSES, labels=low, class_names=NAMES)


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"losses": LOSSES}, "class_names need labels"),
        ({"table": TABLE}, "class_names need labels"),
        ({**DENSE, "class_names": "abc"}, "class_names must be a list of names"),
        ({**DENSE, "class_names": ["a\udcff", "b", "c"]}, "class_names holds 'a.udcff'"),
    ],
)
def test_names_that_do_not_fit(given: dict[str, Any], said: str) -> None:
    with pytest.raises(InputError, match=said):
        noisydask.analyze_loss_dynamics(**{"class_names": NAMES, **given})


def test_panels_are_called_by_name() -> None:
    pytest.importorskip("matplotlib")
    found = noisydask.analyze_loss_dynamics(LOSSES, labels=LABELS, class_names=["a", "a", "b"])
    for candidates in (None, range(6)):
        figure = found.plot_ema_loss_dynamics(candidates, mode="label_mean")
        assert [axes.get_title() for axes in figure.axes] == [
            "label -1",
            "label 0 (a)",
            "label 1 (a)",
            "label 2 (b)",
        ]


def test_command_line_and_configs(
    tmp_path: Path, one_worker: LocalCluster, capfd: pytest.CaptureFixture[str]
) -> None:
    cluster = ["--scheduler", one_worker.scheduler_address]
    TABLE.to_csv(tmp_path / "t.csv", index=False)
    (tmp_path / "names.txt").write_text("\n".join(NAMES), encoding="utf-8")
    given = ["--table", str(tmp_path / "t.csv"), "--label-column", "label"]
    out = ["--out", str(tmp_path / "out")]
    assert main(["dynamics", *given, *out, *cluster, "--class-names", "cat,dog,élan"]) == 0
    shown = capfd.readouterr().out
    assert all(name in shown for name in NAMES)
    assert main(["show", str(tmp_path / "out"), "--json"]) == 0
    told = json.loads(capfd.readouterr().out)["top"]
    assert [row["label_name"] for row in told] == ["élan", "cat", None, "dog", "élan", "cat"]
    job = {"table": given[1], "label_column": "label", "class_names": str(tmp_path / "names.txt")}
    config = {"job": "nightly", "dynamics": {**job, "out": str(tmp_path / "night")}}
    (tmp_path / "night.yaml").write_text(yaml.safe_dump(config))
    assert main(["run", str(tmp_path / "night.yaml"), *cluster]) == 0
    assert noisydask.open_run(tmp_path / "night").class_names == NAMES
    found = checked({"job": "dynamics", **job, "out": "out"})
    assert found.read_class_names() == NAMES
