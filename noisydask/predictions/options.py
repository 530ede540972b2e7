"""The options of a conversion."""

from __future__ import annotations

from typing import Any

from pydantic import Field

from noisydask.engine.config import ClusterConfig
from noisydask.options import DATA, AnyPlace, Options, Pattern, Size, option


class ConvertConfig(Options):
    """All options of a conversion, whose two places are arguments of the command."""

    source: AnyPlace = option(help="What is converted.", panel=DATA)
    url: AnyPlace = option(help="Where the array goes.", panel=DATA)
    class_columns: Pattern | None = option(
        None,
        help="Columns of the classes: a pattern ('p_*'), a,b,c, or one of lists [all of floats].",
        panel=DATA,
    )
    shard_bytes: Size = option(0, help="Decoded size of a shard, such as 256MiB [none].", ge=0)
    overwrite: bool = option(False, help="Replace an array that is there.")
    storage_options: dict[str, Any] = Field(default_factory=dict, repr=False)
    cluster: ClusterConfig = Field(default=ClusterConfig())

    def arguments(self) -> dict[str, Any]:
        """Return these options as :func:`noisydask.convert` takes them."""
        places = {"source": self.source, "url": self.url}
        options = {
            name: {**self.storage_options, **place.storage_options}
            for name, place in places.items()
        }
        own = {name: getattr(self, name) for name in ("class_columns", "shard_bytes", "overwrite")}
        urls = {name: place.url for name, place in places.items()}
        return {**urls, **own, "storage_options": options}
