"""A curve as a line of text."""

from __future__ import annotations

import math
from itertools import pairwise

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]

_BLOCKS = "▁▂▃▄▅▆▇█"


def sparkline(values: npt.ArrayLike, width: int) -> str:
    """Return a curve as a line of text, from its lowest value to its highest; a blank where there
    is none.

    Examples
    --------
    >>> sparkline([0, 1, 2, 3, np.nan, 7], 6)
    '▁▂▃▄ █'
    """
    curve = np.asarray(values, float)
    if not curve.size or width < 1:
        return ""
    edges = np.linspace(0, curve.size, min(width, curve.size) + 1).astype(int)
    means = [_mean(curve[low:high]) for low, high in pairwise(edges)]
    known = [value for value in means if not math.isnan(value)]
    low = min(known, default=0.0)
    high = max(known, default=0.0)
    # Halved, the difference of the largest numbers is one too.
    if high > low:
        steps = (len(_BLOCKS) - 1) / (high / 2 - low / 2)
    else:
        steps = 0.0
    return "".join(
        " " if math.isnan(v) else _BLOCKS[round((v / 2 - low / 2) * steps)] for v in means
    )


def _mean(values: Floats) -> float:
    """Return the mean of what is finite, NaN where nothing is."""
    known = values[np.isfinite(values)]
    if known.size:
        return float((known / len(known)).sum())
    return math.nan
