"""Configurations: what is accepted, what is refused and how, that secrets are not repeated."""

from __future__ import annotations

import logging
import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from distributed.worker_memory import parse_memory_limit

from noisydask.cli.files import read_config
from noisydask.cli.nightly_config import checked_night
from noisydask.cli.overrides import checked
from noisydask.errors import InputError

ROOT = Path(__file__).parents[3]
LEAST = {"labels": "l.zarr", "pred_probs": "p.zarr", "out": "o"}


@pytest.mark.parametrize(
    "path", sorted((ROOT / "configs").glob("*.yaml")), ids=lambda path: path.name
)
def test_shipped_configs_are_valid(path: Path) -> None:
    config = read_config(path)
    (checked_night if config.get("job") == "nightly" else checked)(config)


@pytest.mark.parametrize(
    ("more", "named"),
    [
        ({"treshold": 1}, "treshold"),
        ({"labels": {"url": "l", "password": "secret-value"}}, "labels.password"),
        ({"quality_score": "secret-value"}, "quality_score"),
        ({"block_bytes": 0}, "block_bytes"),
        ({"cluster": {"workers": 2, "scheduler": "tcp://secret-value:1"}}, "cluster"),
        ({"storage_options": "secret-value"}, "storage_options"),
        ({"pred_prob": "secret-value"}, "did you mean pred_probs"),
        ({"pred_probs": 3}, "pred_probs must be a path or URL"),
        ({"out": "memory://secret-value"}, "out is in the memory of this process"),
        ({"alpha": "secret-value"}, "alpha belongs to the job dynamics"),
        ({"cluster": {"scheduler": "secret-value"}}, "not the address"),
        ({"cluster": {"scheduler": "secret-value://a:1"}}, "not the address"),
        ({"cluster": {"memory_limit": "secret-value"}}, "not a size"),
        ({"cluster": {"memory_limit": "8"}}, "at least"),
        ({"cluster": {"memory_limit": [1]}}, "not a size"),
        ({"cluster": {"worker": 1}}, "did you mean workers"),
        ({"labels": {"url": "l", "storage_option": {}}}, "did you mean storage_options"),
    ],
)
def test_wrong_options_are_named_and_not_quoted(more: dict[str, Any], named: str) -> None:
    with pytest.raises(InputError) as error:
        checked(LEAST | more)
    assert named in str(error.value)
    assert "secret-value" not in str(error.value)
    assert not re.search("Value error|Input should|\n", str(error.value))


@pytest.mark.parametrize("size", ["auto", "0", 0, "4GiB", "2e9", 4_000_000_000, "0.5"])
def test_sizes_as_dask_takes_them(size: Any) -> None:
    config = checked(LEAST | {"cluster": {"memory_limit": size}})
    limit = parse_memory_limit(config.cluster.memory_limit, 1, logger=logging.getLogger())
    assert limit is None if size in ("0", 0) else limit is not None and limit >= 10**8


@pytest.mark.parametrize(
    "address", ["tcp://10.0.0.1:8786", "10.0.0.1:8786", "tls://[::1]:8786", "ws://host:80"]
)
def test_addresses_of_schedulers(address: str) -> None:
    assert checked(LEAST | {"cluster": {"scheduler": address}}).cluster.scheduler == address


def test_storage_options_of_a_place_win_over_the_common_ones() -> None:
    labels = {"url": "l", "storage_options": {"b": 2}}
    config = checked(LEAST | {"labels": labels, "storage_options": {"a": 1, "b": 1}})
    assert config.options_of(config.labels) == {"a": 1, "b": 2}
    assert config.options_of(config.pred_probs[0]) == {"a": 1, "b": 1}
    assert "storage_options" not in repr(config)


@pytest.mark.parametrize("text", ['["a", "b\u2028"]', "a\nb\u2028\n", "\ufeffa\r\nb\u2028"])
def test_class_names_from_a_file(tmp_path: Path, text: str) -> None:
    (tmp_path / "names").write_bytes(text.encode())
    assert checked(LEAST | {"class_names": str(tmp_path / "names")}).read_class_names() == [
        "a",
        "b\u2028",
    ]


def test_yaml_is_loaded_safely(tmp_path: Path) -> None:
    path = tmp_path / "evil.yaml"
    path.write_text(
        "labels: !!python/object/apply:os.system ['touch " + str(tmp_path / "owned") + "']\n"
    )
    with pytest.raises(InputError):
        read_config(path)
    assert not (tmp_path / "owned").exists()


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("labels: a\nout: b\nlabels: c\n", "labels twice, again in line 3"),
        ("cluster:\n  workers: 1\n  workers: 2\n", "workers twice, again in line 3"),
        ("cluster: {workers: 1, 'workers': 2}\n", "workers twice, again in line 1"),
    ],
)
def test_a_key_is_given_once(tmp_path: Path, text: str, says: str) -> None:
    (tmp_path / "twice.yaml").write_text(text)
    with pytest.raises(InputError, match=says):
        read_config(tmp_path / "twice.yaml")


def test_class_names_that_are_not_there_are_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError, match=r"names/here\.txt .*working directory"):
        checked(LEAST | {"class_names": "names/here.txt"}).read_class_names()
    with pytest.raises(InputError, match=r"here\.txt \(FileNotFoundError\)$"):
        checked(LEAST | {"class_names": str(tmp_path / "here.txt")}).read_class_names()
    with pytest.raises(InputError, match="class_names"):
        checked(LEAST | {"class_names": "s4://bucket/names.txt"}).read_class_names()


def test_config_must_be_a_mapping(tmp_path: Path) -> None:
    (tmp_path / "list.yaml").write_text(yaml.safe_dump([1, 2]))
    with pytest.raises(InputError, match="mapping"):
        read_config(tmp_path / "list.yaml")
