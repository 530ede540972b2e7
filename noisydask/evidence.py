"""The row kernel: a slice of ``pred_probs`` and ``labels`` becomes its evidence.

Everything confident learning asks of an example is decided by a few numbers of its row: the probability of the given
label, the two most probable classes, and the third largest probability, which bounds every class not named. The kernel
takes them in one walk over the row, checks the row on the way, and adds the given label's probability to its class.
Pure: NumPy and Numba only.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from enum import IntEnum

import numba as nb
import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.generic]

#: Rows a single call of the kernel takes at most, so that its fixed-point sums stay inside 63 bits.
MAX_ROWS = 1 << 22
#: Probabilities are summed as integers, scaled by this: integer sums have no order, so no schedule can change a bit.
FIXED_POINT = float(1 << 40)
#: A probability may leave [0, 1] by this much (files are quantised), a row's sum may leave 1 by that much.
PROBABILITY_TOLERANCE = 1e-3
ROW_SUM_TOLERANCE = 1e-2

_BASE = ("given", "top1", "p_given", "p_top1")
_SECOND = ("top2", "p_top2", "p_rest")

# Up to this many classes a float32 row is walked once with packed integers; above, vectorised passes win.
_NARROW = 24
_LOW = np.uint64(0xFFFFFFFF)
_HIGH = np.uint64(32)


class Problem(IntEnum):
    """Why a row was refused."""

    NONE = 0
    NOT_FINITE = 1
    OUT_OF_RANGE = 2
    ROW_SUM = 3
    LABEL = 4


# The kernel needs plain integers.
NONE, NOT_FINITE, OUT_OF_RANGE, ROW_SUM, LABEL = (int(problem) for problem in Problem)


@dataclass
class Evidence:
    """The evidence of consecutive rows, as columns of one length.

    Attributes
    ----------
    columns : dict of str to ndarray, each (n,)
        ``given``, ``top1``, ``top2`` (smallest unsigned integer that holds K; a refused row has ``given == K``);
        ``p_given``, ``p_top1``, ``p_top2``, ``p_rest`` (float32, or float64 for float64 input); where asked for,
        ``p_sum`` (float64, sum of the row) and ``entropy`` (float64, normalised to [0, 1]).
    problems : ndarray of uint8, (n,)
        A :class:`Problem` per row.
    counts, fixed : ndarray of int64, (K,)
        Per class: number of valid rows given it, and the sum of their ``p_given`` times :data:`FIXED_POINT`.
    """

    columns: dict[str, Array]
    problems: npt.NDArray[np.uint8]
    counts: npt.NDArray[np.int64] = field(repr=False)
    fixed: npt.NDArray[np.int64] = field(repr=False)


def class_dtype(num_classes: int) -> np.dtype[np.generic]:
    """Smallest unsigned integer that holds ``num_classes`` itself, the mark of a refused row.

    Examples
    --------
    >>> class_dtype(10), class_dtype(255), class_dtype(256)
    (dtype('uint8'), dtype('uint8'), dtype('uint16'))
    """
    return np.dtype(np.min_scalar_type(num_classes))


def probability_dtype(dtype: npt.DTypeLike) -> np.dtype[np.generic]:
    """Type in which probabilities of an input of ``dtype`` are kept: float64 for float64, else float32."""
    return np.dtype(np.float64 if np.dtype(dtype) == np.float64 else np.float32)


def column_dtypes(num_classes: int, dtype: npt.DTypeLike, columns: Iterable[str]) -> dict[str, np.dtype[np.generic]]:
    """Type of each evidence column for an input of ``num_classes`` classes and ``dtype``."""
    classes, probability = class_dtype(num_classes), probability_dtype(dtype)
    kinds = {"given": classes, "top1": classes, "top2": classes}
    kinds |= {"p_sum": np.dtype(np.float64), "entropy": np.dtype(np.float64)}
    return {name: kinds.get(name, probability) for name in columns}


def columns_for(quality_score: str, adjust_pred_probs: bool, joint: bool = True) -> tuple[str, ...]:
    """Evidence columns that a job needs, with this score and with the confident joint or without.

    Examples
    --------
    >>> columns_for("self_confidence", False, joint=False)
    ('given', 'top1', 'p_given', 'p_top1')
    >>> columns_for("confidence_weighted_entropy", False)[-1]
    'entropy'
    """
    columns = _BASE
    columns += _SECOND if joint or quality_score == "normalized_margin" else ()
    columns += ("p_sum",) if adjust_pred_probs else ()
    columns += ("entropy",) if quality_score == "confidence_weighted_entropy" else ()
    return columns


def scan_rows(pred_probs: Array, labels: Array, columns: Iterable[str] = _BASE + _SECOND) -> Evidence:
    """Evidence, checks and class sums of whole rows, each read once.

    Parameters
    ----------
    pred_probs : ndarray, (n, K), float16, float32 or float64
        Probabilities, one row an example.
    labels : ndarray, (n,), any integer type
        Given labels.
    columns : iterable of str
        Evidence columns wanted.

    Returns
    -------
    Evidence

    Examples
    --------
    >>> found = scan_rows(np.array([[0.7, 0.2, 0.1], [0.1, 0.3, 0.6]]), np.array([0, 1]))
    >>> found.columns["top1"].tolist(), found.columns["p_given"].tolist()
    ([0, 2], [0.7, 0.3])
    """
    rows, num_classes = pred_probs.shape
    kinds = column_dtypes(num_classes, pred_probs.dtype, columns)
    out = {name: np.empty(rows, kind) for name, kind in kinds.items()}
    problems = np.zeros(rows, np.uint8)
    counts, fixed = np.zeros(num_classes, np.int64), np.zeros(num_classes, np.int64)
    if rows > MAX_ROWS:
        raise ValueError(f"scan_rows takes at most {MAX_ROWS:,} rows a call, not {rows:,}")
    probability = probability_dtype(pred_probs.dtype)
    unsigned = np.dtype(f"u{probability.itemsize}")
    limit = np.array(1.0 + PROBABILITY_TOLERANCE, probability).view(unsigned)[()]
    step = _rows_per_call(pred_probs)
    for start in range(0, rows, step):
        part = slice(start, start + step)
        tile = np.ascontiguousarray(pred_probs[part], dtype=probability)
        given = labels[part].astype(np.int64, copy=False)
        _scan(tile, tile.view(unsigned), limit, given, *_outputs(out, part, unsigned), problems[part], counts, fixed)
    return Evidence(out, problems, counts, fixed)


def _rows_per_call(pred_probs: Array) -> int:
    """All rows at once, or, where they must be converted, as many as stay in a core's cache."""
    if pred_probs.flags.c_contiguous and pred_probs.dtype == probability_dtype(pred_probs.dtype):
        return max(1, len(pred_probs))
    return max(1, (1 << 18) // pred_probs.shape[1])


def _outputs(out: dict[str, Array], part: slice, unsigned: np.dtype[np.generic]) -> tuple[Array, ...]:
    """The columns in the kernel's order; one that was not asked for is passed empty."""
    order = ("given", "top1", "top2", "p_given", "p_top1", "p_top2", "p_rest", "rest_bits", "p_sum", "entropy")
    views = {name: column[part] for name, column in out.items()}
    rest = views.get("p_rest", np.empty(0, f"f{unsigned.itemsize}"))
    views["rest_bits"] = rest.view(unsigned)
    absent = {"top2": views["top1"][:0], "p_top2": rest[:0], "p_rest": rest[:0]}
    absent |= {"p_sum": np.empty(0), "entropy": np.empty(0)}
    return tuple(views[name] if name in views else absent[name] for name in order)


@nb.njit(nogil=True, cache=True)
def _top3_narrow(bits):
    """Best two classes, largest and third largest value of a short row, its float32 seen as integers.

    Non-negative floats order like their bits. Value and complement of the class share one integer, so that a plain
    maximum prefers the lower class among equals, and no branch depends on the data.
    """
    first = second = third = np.uint64(0)
    for k in range(bits.size):
        key = (np.uint64(bits[k]) << _HIGH) | (_LOW - np.uint64(k))
        top = max(first, key)
        key = min(first, key)
        mid = max(second, key)
        key = min(second, key)
        first, second, third = top, mid, max(third, key)
    top1, top2 = np.int64(_LOW - (first & _LOW)), np.int64(_LOW - (second & _LOW))
    return top1, top2 if bits.size > 1 else np.int64(0), first >> _HIGH, third >> _HIGH


@nb.njit(nogil=True, cache=True)
def _below(bits, value):
    """First class that has ``value``, how many have it, and the largest value below it (three vectorised reductions)."""
    zero, one, none = bits.dtype.type(0), bits.dtype.type(1), bits.dtype.type(bits.size)
    first, count, lower = none, zero, zero
    for k in range(bits.size):
        here = bits[k]
        equal = here == value
        first = min(first, bits.dtype.type(k) if equal else none)
        count += one if equal else zero
        lower = max(lower, here if here < value else zero)
    return np.int64(first), np.int64(count), lower


@nb.njit(nogil=True, cache=True)
def _top3_wide(bits):
    """The same as :func:`_top3_narrow` for a long row (or float64), by passes that the compiler turns into SIMD."""
    largest = bits.dtype.type(0)
    for k in range(bits.size):
        largest = max(largest, bits[k])
    top1, equal, second = _below(bits, largest)
    if equal == 1:
        top2, equal, third = _below(bits, second)
        return top1, top2 if bits.size > 1 else np.int64(0), largest, second if equal > 1 else third
    top2 = top1 + 1
    while bits[top2] != largest:
        top2 += 1
    return top1, top2, largest, largest if equal > 2 else second


@nb.njit(nogil=True, cache=True)
def _top3_signed(row):
    """The same for a row with tiny negative values, whose bits do not order; rare, so plain."""
    first = second = third = -np.inf
    top1 = top2 = 0
    for k in range(row.size):
        value = row[k]
        if value > first:
            top1, top2 = k, top1
            first, second, third = value, first, second
        elif value > second:
            top2 = k
            second, third = value, second
        elif value > third:
            third = value
    return top1, top2, max(third, 0.0) if row.size < 3 else third


@nb.njit(nogil=True, cache=True, fastmath={"reassoc"})
def _row_sum(row):
    """Sum in any order: good enough to check a row, vectorised."""
    total = 0.0
    for k in range(row.size):
        total += row[k]
    return total


@nb.njit(nogil=True, cache=True)
def _row_sum_in_order(row):
    """Sum in float64 from left to right: the same bits on every machine, for what is kept."""
    total = 0.0
    for k in range(row.size):
        total += row[k]
    return total


@nb.njit(nogil=True, cache=True)
def _normalized_entropy(row):
    """Entropy of a row over the logarithm of its length (0 for one class)."""
    total = 0.0
    for k in range(row.size):
        value = np.float64(row[k])
        if value > 0.0:
            total -= value * np.log(value)
    return total / np.log(row.size) if row.size > 1 else 0.0


@nb.njit(nogil=True, cache=True)
def _problem(row, total):
    """What is wrong with the values of a row, if anything."""
    for k in range(row.size):
        if not np.isfinite(row[k]):
            return NOT_FINITE
    for k in range(row.size):
        if row[k] < -PROBABILITY_TOLERANCE or row[k] > 1.0 + PROBABILITY_TOLERANCE:
            return OUT_OF_RANGE
    return ROW_SUM if abs(total - 1.0) > ROW_SUM_TOLERANCE else NONE


@nb.njit(nogil=True, cache=True)
def _scan(
    pred_probs, bits, limit, labels, given, top1, top2, p_given, p_top1, p_top2, p_rest, rest_bits, p_sum, entropy,
    problems, counts, fixed,
):  # fmt: skip
    """Fill the columns for every row of a C-contiguous tile; ``bits`` is the tile seen as unsigned integers."""
    rows, num_classes = pred_probs.shape
    narrow = num_classes <= _NARROW and bits.itemsize == 4
    for i in range(rows):
        row, label, total = pred_probs[i], labels[i], _row_sum(pred_probs[i])
        if narrow:
            a, b, largest, third = _top3_narrow(bits[i])
        else:
            a, b, largest, third = _top3_wide(bits[i])
        signed = largest > limit  # negative, not finite or above 1: bits do not order, look at the values
        if signed or not abs(total - 1.0) <= ROW_SUM_TOLERANCE or label < 0 or label >= num_classes:
            problems[i] = _problem(row, total)
            if problems[i] == NONE and (label < 0 or label >= num_classes):
                problems[i] = LABEL
            if problems[i] != NONE:
                given[i], top1[i], p_given[i], p_top1[i] = num_classes, 0, 0, 0
                if top2.size:
                    top2[i], p_top2[i], p_rest[i] = 0, 0, 0
                if p_sum.size:
                    p_sum[i] = 0
                if entropy.size:
                    entropy[i] = 0
                continue
        p_rest_signed = 0.0
        if signed:
            a, b, p_rest_signed = _top3_signed(row)
        given[i], top1[i], p_given[i], p_top1[i] = label, a, row[label], row[a]
        if top2.size:
            top2[i] = b
            p_top2[i] = row[b] if num_classes > 1 else 0
            if signed:
                p_rest[i] = p_rest_signed
            else:
                rest_bits[i] = third
        if p_sum.size:
            p_sum[i] = _row_sum_in_order(row)
        if entropy.size:
            entropy[i] = _normalized_entropy(row)
        counts[label] += 1
        fixed[label] += np.int64(np.float64(row[label]) * FIXED_POINT)
