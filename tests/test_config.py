"""Configurations: what is accepted, what is refused and how, that secrets are not repeated."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from noisydask.command.nightly_config import checked_night
from noisydask.errors import InputError
from noisydask.running.config import checked, read_config

ROOT = Path(__file__).parents[1]
LEAST = {"labels": "l.zarr", "pred_probs": "p.zarr", "out": "o"}


@pytest.mark.parametrize("path", sorted((ROOT / "configs").glob("*.yaml")), ids=lambda path: path.name)
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
    ],
)
def test_wrong_options_are_named_and_not_quoted(more: dict[str, Any], named: str) -> None:
    with pytest.raises(InputError) as error:
        checked(LEAST | more)
    assert named in str(error.value)
    assert "secret-value" not in str(error.value)


def test_storage_options_of_a_place_win_over_the_common_ones() -> None:
    labels = {"url": "l", "storage_options": {"b": 2}}
    config = checked(LEAST | {"labels": labels, "storage_options": {"a": 1, "b": 1}})
    assert config.options_of(config.labels) == {"a": 1, "b": 2}
    assert config.options_of(config.pred_probs) == {"a": 1, "b": 1}
    assert "storage_options" not in repr(config)


@pytest.mark.parametrize("text", ['["a", "b"]', "a\nb\n", "a\r\nb"])
def test_class_names_from_a_file(tmp_path: Path, text: str) -> None:
    (tmp_path / "names").write_text(text)
    assert checked(LEAST | {"class_names": str(tmp_path / "names")}).read_class_names() == ["a", "b"]


def test_yaml_is_loaded_safely(tmp_path: Path) -> None:
    path = tmp_path / "evil.yaml"
    path.write_text("labels: !!python/object/apply:os.system ['touch " + str(tmp_path / "owned") + "']\n")
    with pytest.raises(InputError):
        read_config(path)
    assert not (tmp_path / "owned").exists()


def test_config_must_be_a_mapping(tmp_path: Path) -> None:
    (tmp_path / "list.yaml").write_text(yaml.safe_dump([1, 2]))
    with pytest.raises(InputError, match="mapping"):
        read_config(tmp_path / "list.yaml")
