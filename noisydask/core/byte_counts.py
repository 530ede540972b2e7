"""Bytes of text that tell where its lines end, counted. Pure."""

from __future__ import annotations

from noisydask.core.compiled import kernel


@kernel()
def count_bytes(values):
    r"""Return how many line breaks, line breaks right after another, and quotes or carriage returns
    there are among ``values``, uint8, (n,): in one pass that the compiler turns into SIMD.

    Examples
    --------
    >>> import numpy as np
    >>> count_bytes(np.frombuffer(b"a,b\n\n1,2\n", np.uint8))
    (3, 1, 0)
    """
    breaks = empty = others = 0
    if values.size:
        breaks += values[0] == 10
        others += (values[0] == 34) | (values[0] == 13)
    for i in range(1, values.size):
        value = values[i]
        breaks += value == 10
        empty += (value == 10) & (values[i - 1] == 10)
        others += (value == 34) | (value == 13)
    return breaks, empty, others
