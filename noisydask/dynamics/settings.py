"""How training losses are analyzed: options that tasks know."""

from __future__ import annotations

from noisydask.core.blocks import DEFAULT_BLOCK_BYTES
from noisydask.core.choices import OnDuplicate, RaiseOrSkip
from noisydask.options import Number, Options, Size, Whole, option


class LossSettings(Options):
    """How training losses are analyzed."""

    alpha: Number = option(0.001, help="Weight of a new loss in the moving average.", gt=0, le=1)
    top_k: Whole | None = option(None, help="Candidates that are ranked [all].", ge=1)
    on_duplicate: OnDuplicate = option(
        "raise",
        help="More than one loss of an example at an iteration: stop (raise), or take one.",
    )
    on_invalid: RaiseOrSkip = option(
        "raise", help="Invalid losses: stop (raise) or leave them out (skip)."
    )
    block_bytes: Size = option(
        DEFAULT_BLOCK_BYTES, help="Decoded size of a block, such as 64MiB.", ge=1
    )
