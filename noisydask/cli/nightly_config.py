"""The configuration of a night: a section for each job, and what they share."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import combinations
from typing import Any, Literal, Self

from pydantic import Field, create_model, model_validator

from noisydask.engine.config import ClusterConfig
from noisydask.options import Options, explained
from noisydask.runs.kinds import JOBS
from noisydask.runs.options import JobConfig
from noisydask.runs.overlap import refuse_overlap
from noisydask.stores.urls import is_inside

#: Jobs of a night, in the order in which they run.
SECTIONS = tuple(JOBS)


class Night(Options):
    """What all jobs of a night share, and what is checked of its sections."""

    job: Literal["nightly"]
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
            for option, place in section.places().items()
            if option not in ("out", *SECTIONS)
        }

    def needs(self, name: str) -> tuple[str, ...]:
        """Return the jobs whose results a job reads."""
        wanted = [getattr(getattr(self, name), read) for read in JOBS[name].reads]
        return tuple(other for other, section in self.sections() if section.out in wanted)

    @model_validator(mode="before")
    @classmethod
    def _share(cls, values: Any) -> Any:
        """Hand the common storage options to the sections, whose own win, and the outputs of jobs
        to those that read them.
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
        for name, kind in JOBS.items():
            if isinstance(shared.get(name), dict):
                shared[name] = _with_outputs(name, kind.reads, shared)
        return shared

    @model_validator(mode="after")
    def _whole(self) -> Self:
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


def _with_outputs(name: str, reads: Sequence[str], shared: Mapping[str, Any]) -> dict[str, Any]:
    """Return the section of a job with the outputs of the jobs that it reads."""
    section = dict(shared[name])
    for other in reads:
        if isinstance(shared.get(other), dict):
            section.setdefault(other, shared[other].get("out"))
        if not section.get(other):
            raise ValueError(
                f"{name} needs the jobs {' and '.join(reads)}: their sections, or their outputs as "
                + " and ".join(f"{name}.{read}" for read in reads)
            )
    return section


_SECTIONS: dict[str, Any] = {
    name: (kind.load("options") | None, None) for name, kind in JOBS.items()
}
#: Sections of the jobs, each as its own config would be.
NightlyConfig = create_model("NightlyConfig", __base__=Night, **_SECTIONS)


def checked_night(values: Mapping[str, Any]) -> Night:
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
