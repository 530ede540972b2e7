"""Counts that are hardly those of labels and predictions that belong together."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

#: Examples below which nothing is suspicious. Among 100 of two equally common classes, a model that
#: is right in 70 % falls behind the commonest class by chance about once in a thousand times.
LEAST_EXAMPLES = 100


def suspicion(class_counts: npt.NDArray[np.int64], agreeing: int, issues: int) -> str | None:
    """Return why classes or rows may be in another order, or None where nothing speaks for it.

    Parameters
    ----------
    class_counts : ndarray of int64, (K,)
        Valid examples given each class.
    agreeing : int
        Those whose given label is the prediction, the class of the highest probability.
    issues : int
        Those that are label issues.

    Examples
    --------
    >>> suspicion(np.array([400, 600]), 950, 40)
    >>> suspicion(np.array([400, 600]), 50, 340)
    'labels agree with the predictions in 50 of 1,000 examples, no more often than if the ...'
    """
    examples = int(class_counts.sum())
    commonest = int(class_counts.max())
    if examples < LEAST_EXAMPLES or commonest == examples:
        return None
    reasons = []
    if agreeing <= commonest:
        reasons.append(
            f"labels agree with the predictions in {agreeing:,} of {examples:,} examples, no more "
            f"often than if the commonest class were always predicted ({commonest:,})"
        )
    if 2 * issues > examples:
        reasons.append(f"{issues:,} of {examples:,} examples are issues")
    if not reasons:
        return None
    return f"{'; '.join(reasons)}: are classes or rows in another order?"
