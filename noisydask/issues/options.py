"""The options of the main job."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, Literal, get_args

from pydantic import (
    AfterValidator,
    BeforeValidator,
    Field,
    ValidationInfo,
    field_validator,
    model_validator,
)
from pydantic_core import PydanticCustomError

from noisydask.core.blocks import DEFAULT_BLOCK_BYTES
from noisydask.core.choices import (
    EstimationMethod,
    FilterBy,
    KeptColumn,
    QualityScore,
    RaiseOrSkip,
    RankBy,
    WeighBy,
)
from noisydask.engine.config import ClusterConfig
from noisydask.lazily import Lazy
from noisydask.options import (
    DATA,
    RUNS,
    AnyPlace,
    Number,
    Options,
    Pattern,
    PlaceOptions,
    Size,
    Whole,
    as_list,
    option,
)
from noisydask.runs.options import NamedConfig, PublishSettings

#: Models of one run at most.
MOST_MODELS = 32

if TYPE_CHECKING:
    from noisydask.core import filters, scores
else:
    filters = Lazy("noisydask.core.filters")
    scores = Lazy("noisydask.core.scores")


def _as_numbers(value: Any) -> Any:
    parts = as_list(value)
    if not isinstance(value, str):
        return parts
    if all(part.isdecimal() for part in parts):
        return [int(part) for part in parts]
    raise ValueError("must be whole numbers separated by commas")


def _as_weights(value: Any) -> Any:
    """Return a word as it is, and numbers as numbers, of text too."""
    if value in get_args(WeighBy):
        return value
    parts = as_list(value)
    try:
        return tuple(float(part) for part in parts)
    except (TypeError, ValueError):
        raise ValueError("must be a word or a number for each model") from None


def _as_places(value: Any) -> Any:
    """Take one place for a list of one."""
    if value is None or isinstance(value, list | tuple):
        return value
    return [value]


def _not_too_many(places: tuple[PlaceOptions, ...]) -> tuple[PlaceOptions, ...]:
    if not 1 <= len(places) <= MOST_MODELS:
        raise ValueError(f"must be 1 to {MOST_MODELS} places, not {len(places)}")
    return places


#: Several whole numbers of at least 0; as text, separated by commas.
_Numbers = Annotated[
    tuple[Annotated[Whole, Field(ge=0)], ...],
    BeforeValidator(_as_numbers, json_schema_input_type=str | list[int]),
]
#: How models are weighed: a word, or a number for each.
_Weights = Annotated[
    WeighBy | tuple[float, ...],
    BeforeValidator(_as_weights, json_schema_input_type=str | list[float]),
]
#: One place or several.
_Places = Annotated[
    tuple[AnyPlace, ...],
    BeforeValidator(
        _as_places,
        json_schema_input_type=str
        | PlaceOptions
        | Annotated[list[str | PlaceOptions], Field(min_length=1, max_length=MOST_MODELS)],
    ),
    AfterValidator(_not_too_many),  # as a Field the schema would hold it for lengths of a URL
]
#: Columns of evidence; as text, separated by commas.
_Columns = Annotated[
    tuple[KeptColumn, ...], BeforeValidator(as_list, json_schema_input_type=str | list[KeptColumn])
]


class IssueSettings(Options):
    """How label issues are found."""

    quality_score: QualityScore = option(
        "self_confidence", help="How a label is scored; low is likely wrong."
    )
    adjust_pred_probs: bool = option(False, help="Account for class imbalance.")
    filter_by: FilterBy = option("batched", help="Which examples are flagged as issues.")
    rank_by: RankBy | None = option(
        None, help="By what issues are ordered [quality_score; with auto, its own rank]."
    )
    frac_noise: Number = option(
        1.0, help="Share of the issues that a filter that prunes flags.", ge=0, le=1
    )
    num_to_remove_per_class: _Numbers | None = option(
        None, help="How many examples of each class are pruned, separated by commas."
    )
    min_examples_per_class: Whole = option(
        1, help="Examples that pruning leaves in each class.", ge=0
    )
    compare: bool = option(False, help="Count also what each other filter flags.")
    keep_columns: _Columns = option(
        (), help="Evidence kept for scores of later runs: p_sum, entropy, p_rest."
    )
    estimation_method: EstimationMethod = option(
        "off_diagonal", help="How the number of issues is estimated."
    )
    weights: _Weights = option(
        "uniform", help="How several models are weighed; or a number for each: 0.5,0.3,0.2."
    )
    logits: bool = option(False, help="pred_probs are logits: take their softmax.")
    temperature: Number = option(1.0, help="What logits are divided by.", ge=1e-3, le=1e3)
    scale: Number | None = option(
        None, help="pred_probs are quantised: multiply them by this, such as 0.00392156863.", gt=0
    )
    normalize: bool = option(False, help="pred_probs are votes: divide each row by its sum.")
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
    def _fit(self) -> IssueSettings:
        if self.adjust_pred_probs and not scores.SCORES[self.quality_score].adjustable:
            names = [name for name, score in scores.SCORES.items() if score.adjustable]
            raise ValueError(f"adjust_pred_probs works with {' and '.join(names)} only")
        if self.filter_by != "batched" and self.estimation_method != "off_diagonal":
            raise ValueError(
                f"estimation_method belongs to filter_by batched, not to {self.filter_by}"
            )
        if self.logits + self.normalize + (self.scale is not None) > 1:
            raise ValueError("give one of logits, scale and normalize")
        if self.temperature != 1 and not self.logits:
            raise ValueError("temperature belongs to logits")
        defaults = {name: type(self).model_fields[name].default for name in _OF_PRUNING}
        given = [name for name in _OF_PRUNING if getattr(self, name) != defaults[name]]
        prunes = [name for name, each in filters.FILTERS.items() if each.prunes]
        if given and not self.compare and self.filter_by not in prunes:
            raise ValueError(f"{given[0]} works with filter_by {', '.join(prunes)} only")
        return self


#: Options of the filters that prune.
_OF_PRUNING = ("frac_noise", "num_to_remove_per_class", "min_examples_per_class")


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
    table: AnyPlace | None = option(
        None, help="Labels and predictions in one table (Parquet, CSV, Arrow).", panel=DATA
    )
    labels: AnyPlace | None = option(
        None,
        help="Labels: path or URL (.zarr, .npy, file.parquet#column).",
        panel=DATA,
        validate_default=True,
    )
    pred_probs: _Places | None = option(
        None,
        help="Predicted probabilities: path or URL (.zarr, .npy, table); once for each model.",
        panel=DATA,
        validate_default=True,
    )
    label_column: str = option("label", help="Column of the table: given labels.", panel=DATA)
    id_column: str | None = option(None, help="Column of the table: ids.", panel=DATA)
    class_columns: Pattern | None = option(
        None,
        help="Columns of the classes: a pattern ('p_*'), a,b,c, or one of lists [all of floats].",
        panel=DATA,
    )
    ids: AnyPlace | None = option(
        None, help="A name for each example: path or URL, as for labels.", panel=DATA
    )
    label_ids: AnyPlace | None = option(
        None, help="Names of the labels, where these are in another order.", panel=DATA
    )
    pred_classes: AnyPlace | None = option(
        None, help="Classes of pred_probs, where only the most probable are kept.", panel=DATA
    )
    given_probs: AnyPlace | None = option(
        None, help="With pred_classes: the given label's probability; or bound.", panel=DATA
    )
    num_classes: Whole | None = option(
        None, help="With pred_classes: how many classes there are [class_names].", panel=DATA, ge=2
    )
    cluster: ClusterConfig = Field(default=ClusterConfig())

    @field_validator("labels", "pred_probs", mode="before")
    @classmethod
    def _given(cls, value: Any, info: ValidationInfo) -> Any:
        if value is None and info.data.get("table") is None:
            raise PydanticCustomError("missing", "is missing")
        return value
