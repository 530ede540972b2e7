"""Prior, noise matrix and inverse made to agree: each is computed from the others in turn.

Source: ``cleanlab.count._converge_estimates`` of cleanlab 2.9. Its matrices are dense. Pure.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from noisydask.core.noise import TINY, LatentEstimates, SparseMatrix
from noisydask.core.thresholds import CLIPPING_LOWER_BOUND

Floats = npt.NDArray[np.float64]

_LEAST_PRIOR, _MOST_NOISE = 1e-5, 0.9999
_ROUNDS, _INNER_ROUNDS = 3, 5


def agreeing(estimates: LatentEstimates, class_counts: npt.NDArray[np.int64]) -> LatentEstimates:
    """Make estimates agree.

    Parameters
    ----------
    estimates : LatentEstimates
        Estimated one by one.
    class_counts : ndarray of int64, (K,)
        Examples given each class.

    Raises
    ------
    InputError
        If there are too many classes for dense matrices.
    """
    given = class_counts / max(int(class_counts.sum()), 1)
    prior = estimates.prior
    noise = estimates.noise_matrix.dense()
    inverse = estimates.inverse_noise_matrix.dense()
    for _ in range(_ROUNDS):
        for _ in range(_INNER_ROUNDS):
            inverse = _clipped((noise * prior).T / np.maximum(given, TINY))
            ratio = inverse.diagonal() / np.maximum(noise.diagonal(), TINY)
            prior = _shares(ratio * given, CLIPPING_LOWER_BOUND)
        noise = _clipped((inverse * given).T / np.maximum(prior, TINY))
    matrices = (SparseMatrix.of_dense(_clipped(each)) for each in (noise, inverse))
    return LatentEstimates(_shares(prior, _LEAST_PRIOR), *matrices)


def _shares(values: Floats, least: float) -> Floats:
    clipped = np.clip(values, least, 1.0)
    shares: Floats = clipped / max(clipped.sum(), TINY)
    return shares


def _clipped(matrix: Floats) -> Floats:
    """Keep what is off the diagonal below 1; make columns add up to 1 again."""
    clipped = np.clip(matrix, 0, _MOST_NOISE)
    np.fill_diagonal(clipped, matrix.diagonal())
    normalised: Floats = clipped / np.maximum(clipped.sum(axis=0), TINY)
    return normalised
