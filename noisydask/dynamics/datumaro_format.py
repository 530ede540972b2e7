"""Datasets of Datumaro whose annotations hold recorded losses: its JSON files as a stream, or its
objects in memory.

Every annotation is an example of its own, named by item, subset and annotation id. Its
``attributes`` hold ``iters`` and ``loss_dynamics``, or ``loss_dynamics_cls`` and its like for
detection. Datumaro itself is not needed.
"""

from __future__ import annotations

import posixpath
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, Protocol, get_args

import ijson

from noisydask.core.choices import TrackingLossType
from noisydask.dynamics.annotations import Annotation, Batch, in_batches
from noisydask.errors import DatasetError, JobError, NoisydaskError
from noisydask.stores.failures import blame, explain
from noisydask.stores.fingerprints import of_files
from noisydask.stores.listing import Listing, version
from noisydask.stores.locations import Location

PURPOSE = "noisy_label_detection"
TASKS = ("OTX-Det", "OTX-MultiClassCls")
TRACKING_LOSS_TYPES = get_args(TrackingLossType)
#: Label of an annotation that has none.
NO_LABEL = -1


@dataclass(frozen=True)
class Category:
    """A label of a dataset, as Datumaro has it, but with a hash."""

    name: str
    parent: str = ""
    attributes: frozenset[str] = frozenset()


class DatumaroDataset(Protocol):
    """What is asked of a dataset, in files or in memory."""

    def infos(self) -> Mapping[str, Any]:
        """Return what the dataset was made for."""
        ...

    def labels(self) -> list[Category]:
        """Return its labels; a label's number is its position."""
        ...

    def batches(self, key: str) -> Iterator[Batch]:
        """Return its annotations as columns, some at a time; ``key`` is the attribute that holds
        their losses.
        """
        ...


def loss_attribute(infos: Mapping[str, Any], tracking_loss_type: str | None) -> str:
    """Name of the attribute that holds the losses.

    Raises
    ------
    DatasetError
        If the dataset was made for another purpose or task, or does not say which losses to follow.

    Examples
    --------
    >>> loss_attribute({"purpose": "noisy_label_detection", "task": "OTX-Det"}, "bbox")
    'loss_dynamics_bbox'
    """
    purpose = infos.get("purpose")
    task = infos.get("task")
    if purpose != PURPOSE:
        raise DatasetError(f"the dataset's infos must say purpose {PURPOSE!r}, not {purpose!r}")
    if task not in TASKS:
        raise DatasetError(f"the dataset's infos say task {task!r}; allowed are {', '.join(TASKS)}")
    allowed = ", ".join(TRACKING_LOSS_TYPES)
    if task == "OTX-Det" and tracking_loss_type is None:
        raise DatasetError(f"task 'OTX-Det' needs a tracking_loss_type; allowed are {allowed}")
    if tracking_loss_type is None:
        return "loss_dynamics"
    if tracking_loss_type not in TRACKING_LOSS_TYPES:
        raise DatasetError(f"tracking_loss_type is {tracking_loss_type!r}; allowed are {allowed}")
    return f"loss_dynamics_{tracking_loss_type}"


def open_dataset(
    source: Any, storage_options: Mapping[str, Any] | None = None
) -> DatumaroFiles | DatumaroObject:
    """Open a dataset.

    Parameters
    ----------
    source : str, Path or dataset of Datumaro
        A folder that holds ``annotations/*.json``, by path or URL; or an object with ``infos()``,
        ``categories()`` and items.
    storage_options : mapping, optional
        Passed to fsspec.

    Raises
    ------
    DatasetError
        If it is not a dataset.
    """
    if isinstance(source, str | Path):
        return DatumaroFiles.open(Location.of(str(source), storage_options, "the Datumaro dataset"))
    if all(callable(getattr(source, name, None)) for name in ("infos", "categories", "__iter__")):
        return DatumaroObject(source)
    raise DatasetError(
        f"a Datumaro dataset, its folder or its URL is needed, not {type(source).__name__}"
    )


@dataclass(frozen=True)
class DatumaroFiles:
    """A dataset in Datumaro's own format: a file a subset, named after it."""

    place: Location
    versions: Listing
    stored_bytes: int

    @classmethod
    def open(cls, place: Location) -> DatumaroFiles:
        """Find the files, each with the version that its store gives it."""
        with _reading(place):
            folder = place / "annotations"
            if place.fs.isdir(folder.path):
                infos = place.fs.ls(folder.path, detail=True)
            else:
                infos = []
        infos = [info for info in infos if info["name"].endswith(".json")]
        files = {info["name"]: version(info) for info in infos}
        if not files:
            raise DatasetError(
                f"there is no Datumaro dataset at {place.shown}: no annotations/*.json"
            )
        return cls(place, files, sum(int(info["size"]) for info in infos))

    @property
    def folder(self) -> Location:
        """Where the files lie."""
        return self.place / "annotations"

    @cached_property
    def files(self) -> tuple[str, ...]:
        """The files, in order of their names."""
        return tuple(sorted(self.versions))

    def infos(self) -> Mapping[str, Any]:
        """Return what the dataset was made for; all files say the same of what counts."""
        headers = [
            _mapping(self._header(file).get("infos"), f"'infos' in {file}") for file in self.files
        ]
        for infos, file in zip(headers, self.files, strict=True):
            for name in ("purpose", "task"):
                if infos.get(name) != headers[0].get(name):
                    raise DatasetError(
                        f"{name} is {headers[0].get(name)!r} in {self.files[0]} and "
                        f"{infos.get(name)!r} in {file}"
                    )
        return headers[0]

    def labels(self) -> list[Category]:
        """Return labels of the dataset."""
        for file in self.files:
            categories = _mapping(self._header(file).get("categories"), f"'categories' in {file}")
            labels = _mapping(categories.get("label"), f"'categories.label' in {file}").get(
                "labels"
            )
            if labels:
                return [
                    _category(label, number, file)
                    for number, label in enumerate(_list(labels, f"'labels' in {file}"))
                ]
        return []

    def batches(self, key: str) -> Iterator[Batch]:
        """Iterate over all annotations, file by file."""
        for number in range(len(self.files)):
            yield from self.batches_of(number, key)

    def batches_of(self, number: int, key: str) -> Iterator[Batch]:
        """Iterate over annotations of one file, which is read as a stream."""
        yield from in_batches(self._annotations(self.files[number]), key)

    def describe(self) -> dict[str, Any]:
        """Return what a manifest says of this input; nothing secret."""
        return {
            "url": self.place.shown,
            "files": len(self.files),
            "fingerprint": of_files(self.versions),
        }

    def _annotations(self, file: str) -> Iterator[Annotation]:
        subset = posixpath.splitext(posixpath.basename(file))[0]
        with _reading(self.place), self.place.fs.open(file, "rb") as handle:
            for number, item in enumerate(ijson.items(handle, "items.item", use_float=True)):
                if not isinstance(item, dict) or item.get("id") is None:
                    raise DatasetError(f"item number {number} in subset {subset!r} has no 'id'")
                item_id = str(item["id"])
                where = f"of item {item_id!r} in subset {subset!r}"
                for annotation in _list(item.get("annotations"), f"'annotations' {where}"):
                    fields = _mapping(annotation, f"an annotation {where}")
                    ann_id = fields.get("id")
                    label = fields.get("label_id")
                    name = (
                        item_id,
                        subset,
                        0 if ann_id is None else ann_id,
                        NO_LABEL if label is None else label,
                    )
                    yield name, fields.get("attributes") or {}

    def _header(self, file: str) -> dict[str, Any]:
        """Return what a file says before its items, or after them."""
        header: dict[str, Any] = {}
        with _reading(self.place), self.place.fs.open(file, "rb") as handle:
            builder = ijson.ObjectBuilder()
            name = None
            for prefix, event, value in ijson.parse(handle, use_float=True):
                if prefix == "" and event == "map_key":
                    if name is not None:
                        header[name] = builder.value
                    name = value if value in ("infos", "categories") else None
                    builder = ijson.ObjectBuilder()
                    if len(header) == 2:
                        break
                elif name is not None and prefix:
                    builder.event(event, value)
            if name is not None:
                header[name] = builder.value
        return header


@dataclass(frozen=True)
class DatumaroObject:
    """A dataset of Datumaro in memory."""

    dataset: Any = field(repr=False)

    def infos(self) -> Mapping[str, Any]:
        """Return what the dataset was made for."""
        return _mapping(self.dataset.infos(), "what infos() gives")

    def labels(self) -> list[Category]:
        """Return labels of the dataset."""
        for kind, categories in self.dataset.categories().items():
            if getattr(kind, "name", kind) == "label":
                return [
                    Category(label.name, label.parent or "", frozenset(label.attributes or ()))
                    for label in categories.items
                ]
        return []

    def batches(self, key: str) -> Iterator[Batch]:
        """Iterate over all annotations, item by item."""
        yield from in_batches(self._annotations(), key)

    def describe(self) -> dict[str, Any]:
        """Return what a manifest says of this input."""
        return {"memory": True, "format": "datumaro"}

    def _annotations(self) -> Iterator[Annotation]:
        for item in self.dataset:
            for annotation in item.annotations:
                label = getattr(annotation, "label", None)
                yield (
                    (item.id, item.subset, annotation.id, NO_LABEL if label is None else label),
                    annotation.attributes,
                )


def _mapping(value: Any, what: str) -> Mapping[str, Any]:
    """Return an object of JSON; none where there is nothing."""
    if value is not None and not isinstance(value, Mapping):
        raise DatasetError(
            f"the Datumaro dataset is malformed: {what} must be an object, not "
            f"{type(value).__name__}"
        )
    return value or {}


def _list(value: Any, what: str) -> list[Any]:
    """Return a list of JSON; an empty one where there is nothing."""
    if value is not None and not isinstance(value, list):
        raise DatasetError(
            f"the Datumaro dataset is malformed: {what} must be a list, not {type(value).__name__}"
        )
    return value or []


def _category(label: Any, number: int, file: str) -> Category:
    what = f"label {number} in {file}"
    fields = _mapping(label, what)
    name = fields.get("name")
    parent = fields.get("parent") or ""
    attributes = _list(fields.get("attributes"), f"attributes of {what}")
    if not all(isinstance(text, str) for text in (name, parent, *attributes)):
        raise DatasetError(
            f"the Datumaro dataset is malformed: {what} must have a name, and it, parent and "
            "attributes are text"
        )
    return Category(str(name), parent, frozenset(attributes))


@contextmanager
def _reading(place: Location) -> Iterator[None]:
    """Turn what storage and JSON raise into one sentence."""
    try:
        yield
    except (NoisydaskError, GeneratorExit):
        raise
    except ijson.JSONError as error:
        raise DatasetError(
            f"the Datumaro dataset at {place.shown} holds invalid JSON: "
            f"{str(error).partition(chr(10))[0]}"
        ) from error
    except Exception as error:
        kind = JobError if blame(error) is JobError else DatasetError
        raise kind(explain(error, place, "the Datumaro dataset")) from error
