"""Outputs that would damage an input are refused, and only those."""

from __future__ import annotations

import pytest

from noisydask.errors import InputError
from noisydask.runs.kinds import JOBS
from noisydask.runs.overlap import refuse_overlap

#: What the documentation says of an output.
REPLACED = ["runs", "latest.json", "lock.json", "evidence", "evidence-dynamics"]


@pytest.mark.parametrize("root", ["/data", "s3://bucket/data", "memory://data"])
@pytest.mark.parametrize("inside", ["", "/", "/deep/inside"])
def test_an_output_in_an_input(root: str, inside: str) -> None:
    with pytest.raises(InputError, match="pred_probs"):
        refuse_overlap(f"{root}/a.zarr{inside}", {"pred_probs": f"{root}/a.zarr"})
    with pytest.raises(InputError, match="labels"):
        refuse_overlap(f"{root}/t.parquet{inside}", {"labels": f"{root}/t.parquet#label"})


@pytest.mark.parametrize("written", REPLACED)
@pytest.mark.parametrize("inside", ["", "/a.npy"])
@pytest.mark.parametrize("root", ["/data/out", "s3://bucket/out", "/data/out/"])
def test_an_input_that_a_job_replaces(root: str, inside: str, written: str) -> None:
    inputs = {"labels": "/elsewhere/l.npy", "ids": f"{root.rstrip('/')}/{written}{inside}"}
    with pytest.raises(InputError, match="ids"):
        refuse_overlap(root, inputs)


@pytest.mark.parametrize(
    ("out", "url"),
    [
        ("/data/out", "/data/out/labels.npy"),
        ("/data/out", "/data/out/runs2/labels.npy"),
        ("/data/out", "/data/output"),
        ("/data/a.zarr.out", "/data/a.zarr"),
        ("s3://bucket/out", "gs://bucket/out/runs"),
        ("/data/out", "/data/t.parquet#out"),
    ],
)
def test_places_that_may_be_beside_each_other(out: str, url: str) -> None:
    refuse_overlap(out, {"labels": url})
    refuse_overlap(out, {})


def test_credentials_are_not_told() -> None:
    with pytest.raises(InputError) as refused:
        refuse_overlap("s3://SESAME:SESAME@b/a/out", {"labels": "s3://SESAME:SESAME@b/a"})
    assert "SESAME" not in str(refused.value)


def test_each_checkpoint_is_one_job_s_own() -> None:
    folders = [kind.checkpoint for kind in JOBS.values() if kind.checkpoint]
    assert len(set(folders)) == len(folders)
    assert set(folders) <= set(REPLACED)
