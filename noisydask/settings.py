"""What a job is asked to do, checked once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from noisydask.blocks import DEFAULT_BLOCK_BYTES
from noisydask.confident import ESTIMATION_METHODS, QUALITY_SCORES
from noisydask.errors import InputError

ON_INVALID = ("raise", "skip")
ON_UNREADABLE = ("raise", "skip")


@dataclass(frozen=True)
class IssueSettings:
    """Options of the main job.

    Attributes
    ----------
    quality_score, estimation_method, on_invalid, on_unreadable : str
        One of :data:`QUALITY_SCORES`, :data:`ESTIMATION_METHODS`, :data:`ON_INVALID`, :data:`ON_UNREADABLE`.
    adjust_pred_probs : bool
        Subtract class thresholds from the probabilities before scoring.
    block_bytes : int
        Decoded bytes of a block.
    full : bool
        Read all, whatever evidence is there.
    """

    quality_score: str = "self_confidence"
    adjust_pred_probs: bool = False
    estimation_method: str = "off_diagonal"
    on_invalid: str = "raise"
    block_bytes: int = DEFAULT_BLOCK_BYTES
    on_unreadable: str = "raise"
    full: bool = False

    def __post_init__(self) -> None:
        _one_of("quality_score", self.quality_score, QUALITY_SCORES)
        _one_of("estimation_method", self.estimation_method, ESTIMATION_METHODS)
        _one_of("on_invalid", self.on_invalid, ON_INVALID)
        _one_of("on_unreadable", self.on_unreadable, ON_UNREADABLE)
        if self.adjust_pred_probs and self.quality_score == "confidence_weighted_entropy":
            raise InputError("adjust_pred_probs works with self_confidence and normalized_margin only")
        if self.block_bytes < 1:
            raise InputError(f"block_bytes must be at least 1, not {self.block_bytes}")


def _one_of(name: str, value: str, allowed: Sequence[str]) -> None:
    if value not in allowed:
        raise InputError(f"{name} must be one of {', '.join(allowed)}, not {value!r}")
