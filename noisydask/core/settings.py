"""What a job is asked to do, checked once."""

from __future__ import annotations

from dataclasses import dataclass
from numbers import Integral, Real
from typing import Any

from noisydask.core.blocks import DEFAULT_BLOCK_BYTES
from noisydask.core.choices import (
    EstimationMethod,
    OnDuplicate,
    QualityScore,
    RaiseOrSkip,
    check_choice,
)
from noisydask.errors import InputError

#: Nobody may lock an output for longer without renewing the lock.
MAX_LEASE_SECONDS = 3600


@dataclass(frozen=True)
class IssueSettings:
    """Options of the main job.

    Attributes
    ----------
    quality_score, estimation_method, on_invalid, on_unreadable : str
        One of the words of their types.
    adjust_pred_probs : bool
        Subtract class thresholds from the probabilities before scoring.
    block_bytes : int
        Decoded bytes of a block.
    full : bool
        Read all, whatever evidence is there.
    """

    quality_score: QualityScore = "self_confidence"
    adjust_pred_probs: bool = False
    estimation_method: EstimationMethod = "off_diagonal"
    on_invalid: RaiseOrSkip = "raise"
    block_bytes: int = DEFAULT_BLOCK_BYTES
    on_unreadable: RaiseOrSkip = "raise"
    full: bool = False

    def __post_init__(self) -> None:
        check_choice("quality_score", self.quality_score, QualityScore)
        check_choice("estimation_method", self.estimation_method, EstimationMethod)
        check_choice("on_invalid", self.on_invalid, RaiseOrSkip)
        check_choice("on_unreadable", self.on_unreadable, RaiseOrSkip)
        if self.adjust_pred_probs and self.quality_score == "confidence_weighted_entropy":
            raise InputError(
                "adjust_pred_probs works with self_confidence and normalized_margin only"
            )
        _number(self, "block_bytes", Integral, 1)


@dataclass(frozen=True)
class PublishSettings:
    """How runs are locked, published, kept and judged.

    Attributes
    ----------
    allow_unsafe_store : bool
        Go on where the store keeps no conditions, so that two drivers at once could overwrite each
        other.
    lease_seconds : float
        A lock that was not renewed for so long is taken over.
    keep_runs : int
        The newest runs that are kept; at least the published one and its parent are.
    keep_days : float
        Runs younger than that are kept as well.
    grace_seconds : float
        Nothing is removed that was published, or written to, less than so long ago: somebody may be
        reading it.
    fail_above : float, optional
        Share of the examples that may be issues.
    fail_new_above : int, optional
        Number of issues that may be new since the run before.
    """

    allow_unsafe_store: bool = False
    lease_seconds: float = 60.0
    keep_runs: int = 10
    keep_days: float = 0.0
    grace_seconds: float = 3600.0
    fail_above: float | None = None
    fail_new_above: int | None = None

    def __post_init__(self) -> None:
        _number(self, "lease_seconds", Real)
        if not 1 <= self.lease_seconds <= MAX_LEASE_SECONDS:
            raise InputError(
                f"lease_seconds must be 1 to {MAX_LEASE_SECONDS}, not {self.lease_seconds}"
            )
        _number(self, "keep_runs", Integral, 1)
        for name, kind in (
            ("keep_days", Real),
            ("grace_seconds", Real),
            ("fail_new_above", Integral),
            ("fail_above", Real),
        ):
            if getattr(self, name) is not None:
                _number(self, name, kind, 0)
        if self.fail_above is not None and self.fail_above > 1:
            raise InputError(
                f"fail_above is a share of the examples, 0 to 1, not {self.fail_above}"
            )


@dataclass(frozen=True)
class LossSettings:
    """Options of the job on training losses.

    Attributes
    ----------
    alpha : float
        Weight of a new loss in the moving average.
    top_k : int, optional
        How many candidates are ranked; all examples with a loss where not given.
    block_bytes : int
        Decoded bytes of a block.
    on_duplicate, on_invalid : str
        One of the words of their types.
    """

    alpha: float = 0.001
    top_k: int | None = None
    block_bytes: int = DEFAULT_BLOCK_BYTES
    on_duplicate: OnDuplicate = "raise"
    on_invalid: RaiseOrSkip = "raise"

    def __post_init__(self) -> None:
        _number(self, "alpha", Real)
        if not 0 < self.alpha <= 1:
            raise InputError(f"alpha must be above 0 and at most 1, not {self.alpha}")
        if self.top_k is not None:
            _number(self, "top_k", Integral, 1)
        _number(self, "block_bytes", Integral, 1)
        check_choice("on_duplicate", self.on_duplicate, OnDuplicate)
        check_choice("on_invalid", self.on_invalid, RaiseOrSkip)


def _number(settings: Any, name: str, kind: Any, least: float | None = None) -> None:
    """Make a setting a number of Python's, whatever kind of number was given; refuse what is none,
    or too small.
    """
    value: Any = getattr(settings, name)
    right = (
        isinstance(value, Real)
        and not isinstance(value, bool)
        and (kind is Real or float(value).is_integer())
    )
    if not right or (least is not None and not value >= least):
        what = "a whole number" if kind is Integral else "a number"
        raise InputError(
            f"{name} must be {what}{'' if least is None else f' of at least {least}'}, not "
            f"{value!r}"
        )
    object.__setattr__(settings, name, int(value) if kind is Integral else float(value))
