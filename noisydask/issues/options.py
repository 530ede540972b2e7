"""The options of the main job."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from pydantic import Field, model_validator

from noisydask.core.blocks import DEFAULT_BLOCK_BYTES
from noisydask.core.choices import EstimationMethod, QualityScore, RaiseOrSkip
from noisydask.engine.config import ClusterConfig
from noisydask.lazily import Lazy
from noisydask.options import DATA, RUNS, AnyPlace, Number, Options, Size, Whole, option
from noisydask.runs.options import NamedConfig, PublishSettings

if TYPE_CHECKING:
    from noisydask.core import scores
else:
    scores = Lazy("noisydask.core.scores")


class IssueSettings(Options):
    """How label issues are found."""

    quality_score: QualityScore = option(
        "self_confidence", help="How a label is scored; low is likely wrong."
    )
    adjust_pred_probs: bool = option(False, help="Account for class imbalance.")
    estimation_method: EstimationMethod = option(
        "off_diagonal", help="How the number of issues is estimated."
    )
    on_invalid: RaiseOrSkip = option(
        "raise", help="Invalid rows: stop (raise) or leave them out (skip)."
    )
    on_unreadable: RaiseOrSkip = option(
        "raise",
        help="Chunks that are missing or damaged: stop (raise) or leave them out (skip).",
    )
    full: bool = option(False, help="Read everything again, also what an earlier run has read.")
    block_bytes: Size = option(
        DEFAULT_BLOCK_BYTES, help="Decoded size of a block, such as 64MiB.", ge=1
    )

    @model_validator(mode="after")
    def _adjustable(self) -> IssueSettings:
        if self.adjust_pred_probs and not scores.SCORES[self.quality_score].adjustable:
            names = [name for name, score in scores.SCORES.items() if score.adjustable]
            raise ValueError(f"adjust_pred_probs works with {' and '.join(names)} only")
        return self


class GateSettings(PublishSettings):
    """How runs of the main job are published, and when one is too bad."""

    fail_above: Number | None = option(
        None,
        help="Exit with 3 if more than this share of examples are issues.",
        panel=RUNS,
        ge=0,
        le=1,
    )
    fail_new_above: Whole | None = option(
        None, help="Exit with 3 if more issues than this are new.", panel=RUNS, ge=0
    )


class IssuesConfig(NamedConfig, GateSettings, IssueSettings):
    """All options of the main job."""

    job: Literal["issues"] = "issues"
    labels: AnyPlace = option(
        help="Labels: path or URL (.zarr, .npy, file.parquet#column).", panel=DATA
    )
    pred_probs: AnyPlace = option(
        help="Predicted probabilities: path or URL (.zarr, .npy).", panel=DATA
    )
    ids: AnyPlace | None = option(
        None, help="A name for each example: path or URL, as for labels.", panel=DATA
    )
    cluster: ClusterConfig = Field(default=ClusterConfig())
