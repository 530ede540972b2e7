"""The configuration of a night: a section for each job, and what they share."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import combinations
from typing import Any, Literal

from pydantic import Field, model_validator

from noisydask.consensus.options import CombineConfig
from noisydask.dynamics.options import DynamicsConfig
from noisydask.engine.config import ClusterConfig
from noisydask.issues.options import IssuesConfig
from noisydask.options import Options, PlaceOptions, explained
from noisydask.runs.kinds import JOBS
from noisydask.runs.options import JobConfig
from noisydask.runs.overlap import refuse_overlap
from noisydask.stores.urls import is_inside

#: Jobs of a night, in the order in which they run.
SECTIONS = tuple(JOBS)


class NightlyConfig(Options):
    """Sections of the jobs, each as its own config would be; ``cluster`` and ``storage_options``
    are for all of them.
    """

    job: Literal["nightly"]
    issues: IssuesConfig | None = None
    dynamics: DynamicsConfig | None = None
    combine: CombineConfig | None = None
    storage_options: dict[str, Any] = Field(default_factory=dict, repr=False)
    cluster: ClusterConfig = ClusterConfig()

    def sections(self) -> list[tuple[str, JobConfig]]:
        """Return the jobs that there are, by name, in the order in which they run."""
        return [
            (name, section) for name in SECTIONS if (section := getattr(self, name)) is not None
        ]

    def _inputs(self) -> dict[str, str]:
        """Return where the inputs of all jobs lie that are not outputs of others, by name."""
        return {
            f"{name}.{option}": place.url
            for name, section in self.sections()
            for option, place in section
            if isinstance(place, PlaceOptions) and option not in ("out", *SECTIONS)
        }

    def needs(self, name: str) -> tuple[str, ...]:
        """Return the jobs whose results a job reads."""
        if name != "combine" or self.combine is None:
            return ()
        wanted = (self.combine.issues, self.combine.dynamics)
        return tuple(other for other, section in self.sections() if section.out in wanted)

    @model_validator(mode="before")
    @classmethod
    def _share(cls, values: Any) -> Any:
        """Hand the common storage options to the sections, whose own win, and the outputs of the
        jobs to ``combine``.
        """
        if not isinstance(values, Mapping):
            return values
        shared = dict(values)
        for name in SECTIONS:
            section = values.get(name)
            if not isinstance(section, Mapping):
                continue
            if "cluster" in section:
                raise ValueError(
                    f"cluster stands beside the sections, not in {name}: all jobs share one"
                )
            common = values.get("storage_options", {})
            own = section.get("storage_options", {})
            if isinstance(common, Mapping) and isinstance(own, Mapping):
                shared[name] = {**section, "storage_options": {**common, **own}}
        if isinstance(shared.get("combine"), dict):
            for name in ("issues", "dynamics"):
                if isinstance(shared.get(name), dict):
                    shared["combine"].setdefault(name, shared[name].get("out"))
                if not shared["combine"].get(name):
                    raise ValueError(
                        "combine needs both jobs: their sections, or their outputs as "
                        "combine.issues and .dynamics"
                    )
        return shared

    @model_validator(mode="after")
    def _whole(self) -> NightlyConfig:
        """Check that a night has jobs, each with an output of its own (one pointer names one job's
        run) that lies in no input of another, and all that they need.
        """
        sections = self.sections()
        if not sections:
            raise ValueError(f"give at least one of the sections {', '.join(SECTIONS)}")
        for (one, first), (other, second) in combinations(sections, 2):
            if is_inside(first.out.url, second.out.url) or is_inside(second.out.url, first.out.url):
                raise ValueError(f"{one}.out and {other}.out must be places apart")
        for _, section in sections:
            refuse_overlap(section.out.url, self._inputs())
        return self


def checked_night(values: Mapping[str, Any]) -> NightlyConfig:
    """Check the options of a night.

    Examples
    --------
    >>> issues = {"labels": "l.npy", "pred_probs": "p.npy", "out": "out"}
    >>> night = {"job": "nightly", "storage_options": {"profile": "x"}, "issues": issues}
    >>> checked_night(night).issues.storage_options
    {'profile': 'x'}
    >>> checked_night({"job": "nightly", "issues": {**issues, "cluster": {"workers": 2}}})
    Traceback (most recent call last):
    noisydask.errors.InputError: cluster stands beside the sections, not in issues: ...
    """
    models = {name: kind.load("options") for name, kind in JOBS.items()}
    with explained(NightlyConfig, models):
        return NightlyConfig.model_validate(values)
