"""Tables of blocks become one table, of the same types whatever the blocks are."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd


def stacked(frames: Sequence[pd.DataFrame]) -> pd.DataFrame:
    """Return rows of at least one frame, in order, numbered anew.

    A frame without rows has no say in the types: from no text at all pandas cannot tell that a
    column is text.

    Examples
    --------
    >>> none, some = pd.DataFrame({"id": []}), pd.DataFrame({"id": ["a", "b"]})
    >>> stacked([none, some, none])["id"].dtype == some["id"].dtype
    True
    """
    return pd.concat([frame for frame in frames if len(frame)] or frames[:1], ignore_index=True)
