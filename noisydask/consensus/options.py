"""The options of the job that joins the rankings of the two others."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field

from noisydask.core.choices import JoinKey
from noisydask.engine.config import ClusterConfig
from noisydask.options import DATA, AnyPlace, Options, Whole, option
from noisydask.runs.options import JobConfig


class CombineSettings(Options):
    """How two rankings are joined."""

    on: JoinKey | None = option(None, help="What the runs are joined by [id where both have ids].")
    top: Whole | None = option(None, help="How many examples to rank [all].", ge=1)


class CombineConfig(JobConfig, CombineSettings):
    """All options of the job that joins two rankings; in a night, ``issues`` and ``dynamics`` are
    by default the outputs of its own jobs.
    """

    job: Literal["combine"] = "combine"
    issues: AnyPlace = option(help="The out of the job issues: path or URL.", panel=DATA)
    dynamics: AnyPlace = option(help="The out of the job dynamics: path or URL.", panel=DATA)
    ids: AnyPlace | None = option(
        None, help="Ids of the issues run, where it does not tell: path or URL.", panel=DATA
    )
    full: bool = option(False, help="Join them again, even where nothing changed.")
    cluster: ClusterConfig = Field(default=ClusterConfig())

    def arguments(self) -> dict[str, Any]:
        """Return these options as :func:`noisydask.combine` takes them."""
        values = super().arguments()
        outputs = {f"{name}_out": values.pop(name) for name in ("issues", "dynamics")}
        return values | outputs
