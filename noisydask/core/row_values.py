"""Values that are no probabilities yet (logits, quantised numbers, votes) become probabilities,
each row by itself.

What becomes of a row depends on that row alone, so that no cut of the data changes a bit. The
exponential of float32 is our own, of additions and multiplications that every processor rounds
alike; that of a library, which float64 takes, may differ from one kind of processor to the next.
"""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

from noisydask.core.compiled import kernel

Floats = npt.NDArray[np.floating]

#: Below that, an exponential is no normal float32, and 0 here.
_SMALLEST = np.float32(-87.3)
_LOG2_E = np.float32(1.44269504088896341)
#: The logarithm of 2 as two numbers, of which the first has few bits: multiples of it are exact.
_LN2_HIGH, _LN2_LOW = np.float32(0.693359375), np.float32(-2.12194440e-4)
#: Coefficients of the minimax polynomial of (exp(r) - 1 - r) / r^2 for |r| <= ln(2) / 2 (Moshier,
#: Cephes, 1992).
_P = tuple(
    map(
        np.float32,
        (1.9875691500e-4, 1.3981999507e-3, 8.3334519073e-3, 4.1665795894e-2, 0.16666665459, 0.5),
    )
)
_P0, _P1, _P2, _P3, _P4, _P5 = _P
_LANES = 8


@kernel()
def _exponentials(shifted, powers, scales):
    """Set ``shifted`` to its exponential, of numbers of at most 0; ``powers`` and ``scales`` are
    room for powers of two, as bits and as numbers.
    """
    for k in range(shifted.size):
        x = max(shifted[k], _SMALLEST)
        whole = np.float32(math.floor(x * _LOG2_E + np.float32(0.5)))
        r = x - whole * _LN2_HIGH
        r = r - whole * _LN2_LOW
        p = _P0 * r + _P1
        p = p * r + _P2
        p = p * r + _P3
        p = p * r + _P4
        p = p * r + _P5
        p = p * (r * r) + r + np.float32(1.0)
        powers[k] = (np.int32(whole) + np.int32(127)) << np.int32(23)
        shifted[k] = p if shifted[k] > _SMALLEST else np.float32(0.0)
    for k in range(shifted.size):
        shifted[k] *= scales[k]


@kernel()
def _total(row):
    """Return the sum of a row, in an order that its length alone decides."""
    sums = np.zeros(_LANES, np.float64)
    whole = row.size // _LANES * _LANES
    for k in range(0, whole, _LANES):
        for lane in range(_LANES):
            sums[lane] += row[k + lane]
    for k in range(whole, row.size):
        sums[k - whole] += row[k]
    total = 0.0
    for lane in range(_LANES):
        total += sums[lane]
    return total


@kernel()
def _shift(row, temperature):
    """Subtract the largest of a row from all, and divide by the temperature; return False of a row
    that has no softmax, which becomes NaN.
    """
    largest, missing = row[0], False
    for k in range(row.size):
        missing |= row[k] != row[k]
        largest = max(largest, row[k])
    if missing or not np.isfinite(largest):
        row[:] = np.nan
        return False
    for k in range(row.size):
        row[k] = (row[k] - largest) / temperature
    return True


@kernel()
def _softmax32(values, temperature):
    rows, num_classes = values.shape
    powers = np.empty(num_classes, np.int32)
    scales = powers.view(np.float32)
    for i in range(rows):
        row = values[i]
        if not _shift(row, temperature):
            continue
        _exponentials(row, powers, scales)
        share = np.float32(1.0 / _total(row))
        for k in range(num_classes):
            row[k] *= share


@kernel()
def _softmax64(values, temperature):
    rows, num_classes = values.shape
    for i in range(rows):
        row = values[i]
        if not _shift(row, temperature):
            continue
        for k in range(num_classes):
            row[k] = math.exp(row[k])
        total = _total(row)
        for k in range(num_classes):
            row[k] /= total


@kernel()
def _divide_by_sums(values):
    rows, num_classes = values.shape
    for i in range(rows):
        row = values[i]
        total = _total(row)
        if not total > 0.0 or not np.isfinite(total):
            row[:] = np.nan
            continue
        for k in range(num_classes):
            row[k] = row[k] / total


def converted_dtype(dtype: npt.DTypeLike) -> np.dtype[np.floating]:
    """Return the type of probabilities that values of a type become: float64 of float64, else
    float32.
    """
    return np.dtype(np.float64 if np.dtype(dtype) == np.float64 else np.float32)


def softmax(values: npt.NDArray[np.generic], temperature: float = 1.0) -> Floats:
    """Turn logits into probabilities: ``exp(z / temperature)`` of a row, divided by its sum.

    Parameters
    ----------
    values : ndarray, (n, K), float16, float32 or float64
        Logits. Minus infinity is a probability of 0; a row with NaN or infinity, or of minus
        infinity only, becomes NaN.
    temperature : float
        Above 0. More than 1 makes probabilities more alike.

    Returns
    -------
    ndarray, (n, K)
        float64 of float64, else float32.

    Examples
    --------
    >>> softmax(np.log(np.array([[1.0, 3.0]]))).round(6)
    array([[0.25, 0.75]])
    """
    own = np.array(values, converted_dtype(values.dtype), order="C")
    if own.dtype == np.float64:
        _softmax64(own, float(temperature))
    else:
        _softmax32(own, np.float32(temperature))
    return own


def normalized(values: npt.NDArray[np.generic]) -> Floats:
    """Divide rows by their sums; a row whose sum is not above 0 and finite becomes NaN.

    Examples
    --------
    >>> normalized(np.array([[1, 3], [0, 0]], np.uint8))
    array([[0.25, 0.75],
           [ nan,  nan]], dtype=float32)
    """
    own = np.array(values, converted_dtype(values.dtype), order="C")
    _divide_by_sums(own)
    return own


def scaled(values: npt.NDArray[np.generic], scale: float) -> Floats:
    """Multiply quantised values by their scale.

    Examples
    --------
    >>> scaled(np.array([[51, 204]], np.uint8), 1 / 255)
    array([[0.2, 0.8]], dtype=float32)
    """
    dtype = converted_dtype(values.dtype)
    return np.asarray(values.astype(np.float64) * scale, dtype)
