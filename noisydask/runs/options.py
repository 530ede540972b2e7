"""Options of the runs of any job: where they go, how they are locked, published and kept."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from pydantic import Field, field_validator

from noisydask.errors import InputError
from noisydask.options import DATA, RUNS, AnyPlace, Number, Options, PlaceOptions, Whole, option
from noisydask.stores.failures import blame, reason
from noisydask.stores.locations import Location
from noisydask.stores.urls import shown

#: Nobody may lock an output for longer without renewing the lock.
MAX_LEASE_SECONDS = 3600
#: Fields that say where and for whom a job runs, and names of classes, which are read from a file
#: first.
_NO_ARGUMENTS = ("job", "cluster", "storage_options", "class_names")


class PublishSettings(Options):
    """How runs are locked, published and kept."""

    keep_runs: Whole = option(
        10, help="Newest runs that are kept, beside those of the time of grace.", panel=RUNS, ge=1
    )
    keep_days: Number = option(0.0, help="Runs younger than that are kept too.", panel=RUNS, ge=0)
    grace_seconds: Number = option(
        3600.0,
        help="Nothing is removed that was published less than so long ago.",
        panel=RUNS,
        ge=0,
    )
    lease_seconds: Number = option(
        60.0,
        help="A lock not renewed for so long is taken over.",
        panel=RUNS,
        ge=1,
        le=MAX_LEASE_SECONDS,
    )
    allow_unsafe_store: bool = option(
        False, help="Go on where the store keeps no conditional writes.", panel=RUNS
    )


class JobConfig(PublishSettings):
    """The options of a job whose inputs and output lie in stores."""

    out: AnyPlace = option(help="Where the results go: path or URL.", panel=DATA)
    storage_options: dict[str, Any] = Field(default_factory=dict, repr=False)

    @field_validator("out")
    @classmethod
    def _lasts(cls, out: PlaceOptions) -> PlaceOptions:
        if out.url.startswith("memory:"):
            raise ValueError("is in the memory of this process, and ends with it")
        return out

    def arguments(self) -> dict[str, Any]:
        """Return these options as the function of the job takes them."""
        names = [name for name in type(self).model_fields if name not in _NO_ARGUMENTS]
        values = {name: getattr(self, name) for name in names}
        options = {
            name: self.options_of(place)
            for name, place in self.places().items()
            if name not in _NO_ARGUMENTS
        }
        for name, value in values.items():
            if isinstance(value, PlaceOptions):
                values[name] = value.url
            elif _are_places(value):
                urls = [place.url for place in value]
                values[name] = urls if len(urls) > 1 else urls[0]
        return {**values, "storage_options": options}

    def places(self) -> dict[str, PlaceOptions]:
        """Return all places by name; where an option has several, ``name[0]`` and so on."""
        found = {}
        for name, value in self:
            if isinstance(value, PlaceOptions):
                found[name] = value
            elif _are_places(value):
                several = len(value) > 1
                for number, place in enumerate(value):
                    found[f"{name}[{number}]" if several else name] = place
        return found

    def options_of(self, place: PlaceOptions) -> dict[str, Any]:
        """Return the storage options of a place: the common ones, and its own on top."""
        return {**self.storage_options, **place.storage_options}


class NamedConfig(JobConfig):
    """The options of a job on labels, which may have names."""

    class_names: list[str] | AnyPlace | None = option(
        None, help="File with class names (one a line, or JSON), or a,b,c.", panel=DATA
    )

    def arguments(self) -> dict[str, Any]:
        """Return these options as the function of the job takes them; names are read."""
        return {**super().arguments(), "class_names": self.read_class_names()}

    def read_class_names(self) -> list[str] | None:
        """Return names of the classes, as given, or of a file: a JSON list, or one a line."""
        if not isinstance(self.class_names, PlaceOptions):
            return self.class_names
        url = self.class_names.url
        try:
            place = Location.of(url, self.options_of(self.class_names), "class_names")
            text = place.read().decode("utf-8-sig")
            lines = text.replace("\r\n", "\n").removesuffix("\n").split("\n")
            if text.lstrip().startswith("["):
                names = json.loads(text)
            else:
                names = lines
        except InputError:
            raise
        except Exception as error:
            why = reason(error) or type(error).__name__
            where = shown(url)
            hint = ""
            is_path = "://" not in where and not Path(where).is_absolute()
            if isinstance(error, FileNotFoundError) and is_path:
                hint = "; relative paths count from the working directory"
            message = f"class_names: cannot read the file {where} ({why}){hint}"
            raise blame(error)(message) from error
        return [str(name) for name in names]


def _are_places(value: Any) -> bool:
    return isinstance(value, tuple) and bool(value) and isinstance(value[0], PlaceOptions)
