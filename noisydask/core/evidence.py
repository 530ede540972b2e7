"""A slice of ``pred_probs`` and ``labels`` becomes its evidence.

Everything confident learning asks of an example is decided by a few numbers of its row: the
probability of the given label, the two most probable classes, and the third largest probability,
which bounds every class not named. The kernel takes them in one walk over the row, checks the row
on the way, and adds the given label's probability to its class. Pure: NumPy and Numba only.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from noisydask.core.blocks import MAX_ROWS
from noisydask.core.row_kernel import PROBABILITY_TOLERANCE, scan_tiles
from noisydask.core.scores import SCORES
from noisydask.core.shapes import check_columns, check_shape

Array = npt.NDArray[np.generic]

#: Bytes of a tile, which stays in a core's cache.
_TILE_BYTES = 1 << 20

_BASE = ("given", "top1", "p_given", "p_top1")
_SECOND = ("top2", "p_top2")
_THIRD = ("p_rest",)
# Bytes of a row with all of these.
_FULL_BYTES = 22


@dataclass
class Evidence:
    """The evidence of consecutive rows, as columns of one length.

    Attributes
    ----------
    columns : dict of str to ndarray, each (n,)
        ``given``, ``top1``, ``top2`` (smallest unsigned integer that holds K; a refused row has
        ``given == K``); ``p_given``, ``p_top1``, ``p_top2``, ``p_rest`` (float32, or float64 for
        float64 input); where asked for, ``p_sum`` (float64, sum of the row) and ``entropy``
        (float64, normalised to [0, 1]).
    problems : ndarray of uint8, (n,)
        A :class:`noisydask.core.row_kernel.Problem` per row.
    counts, fixed : ndarray of int64, (K,)
        Per class: number of valid rows given it, and the sum of their ``p_given`` times
        :data:`noisydask.core.row_kernel.FIXED_POINT`.
    """

    columns: dict[str, Array]
    problems: npt.NDArray[np.uint8]
    counts: npt.NDArray[np.int64] = field(repr=False)
    fixed: npt.NDArray[np.int64] = field(repr=False)

    @classmethod
    def empty(
        cls, rows: int, num_classes: int, dtype: npt.DTypeLike, columns: Iterable[str]
    ) -> Evidence:
        """Return room for the evidence of ``rows`` rows of an input of ``num_classes`` classes and
        ``dtype``.
        """
        kinds = column_dtypes(num_classes, dtype, columns)
        sums = np.zeros((2, num_classes), np.int64)
        return cls(
            {name: np.empty(rows, kind) for name, kind in kinds.items()},
            np.zeros(rows, np.uint8),
            *sums,
        )

    def check(self, rows: int, num_classes: int, dtype: npt.DTypeLike) -> None:
        """Refuse to be filled from an input of another shape or type.

        Raises
        ------
        ValueError
            If a column does not fit.
        """
        check_columns(self.columns, rows, column_dtypes(num_classes, dtype, self.columns))
        check_columns({"problems": self.problems}, rows)
        check_columns({"counts": self.counts, "fixed": self.fixed}, num_classes)

    def part(self, start: int, stop: int) -> Evidence:
        """Return a view of consecutive rows, with sums of its own, at zero."""
        columns = {name: column[start:stop] for name, column in self.columns.items()}
        return Evidence(
            columns,
            self.problems[start:stop],
            np.zeros_like(self.counts),
            np.zeros_like(self.fixed),
        )


def class_dtype(num_classes: int) -> np.dtype[np.generic]:
    """Return the smallest unsigned integer that holds ``num_classes`` itself, the mark of a refused
    row.

    Examples
    --------
    >>> class_dtype(10), class_dtype(255), class_dtype(256)
    (dtype('uint8'), dtype('uint8'), dtype('uint16'))
    """
    return np.dtype(np.min_scalar_type(num_classes))


def probability_dtype(dtype: npt.DTypeLike) -> np.dtype[np.generic]:
    """Return the type in which probabilities of an input of ``dtype`` are kept: float64 for
    float64, else float32.
    """
    return np.dtype(np.float64 if np.dtype(dtype) == np.float64 else np.float32)


def column_dtypes(
    num_classes: int, dtype: npt.DTypeLike, columns: Iterable[str]
) -> dict[str, np.dtype[np.generic]]:
    """Return the type of each evidence column for an input of ``num_classes`` classes and
    ``dtype``.
    """
    classes = class_dtype(num_classes)
    probability = probability_dtype(dtype)
    kinds = {"given": classes, "top1": classes, "top2": classes}
    kinds |= {"p_sum": np.dtype(np.float64), "entropy": np.dtype(np.float64)}
    return {name: kinds.get(name, probability) for name in columns}


def columns_for(
    num_classes: int,
    dtype: npt.DTypeLike,
    quality_score: str,
    adjust_pred_probs: bool,
    joint: bool = True,
    more: Iterable[str] = (),
) -> tuple[str, ...]:
    """Return evidence columns that a job needs, with this score and with the confident joint or
    without, and ``more``.

    Where a row is so short that its evidence would weigh a third of it, ``p_rest`` is left out: the
    other columns bound it well enough (:func:`noisydask.core.confident.bound_of_rest`).

    Examples
    --------
    >>> columns_for(10, "f4", "self_confidence", False, joint=False)
    ('given', 'top1', 'p_given', 'p_top1')
    >>> columns_for(1000, "f4", "confidence_weighted_entropy", False)[4:]
    ('top2', 'p_top2', 'p_rest', 'entropy')
    """
    columns: tuple[str, ...] = _BASE
    score = SCORES[quality_score]
    if joint or "top2" in score.columns:
        columns += _SECOND
        if num_classes * np.dtype(dtype).itemsize > 3 * _FULL_BYTES:
            columns += _THIRD
    columns += ("p_sum",) if adjust_pred_probs else ()
    return tuple(dict.fromkeys((*columns, *score.columns, *more)))


def scan_rows(
    pred_probs: Array,
    labels: Array,
    columns: Iterable[str] = _BASE + _SECOND + _THIRD,
    into: Evidence | None = None,
) -> Evidence:
    """Return evidence, checks and class sums of whole rows, each read once.

    Parameters
    ----------
    pred_probs : ndarray, (n, K), float16, float32 or float64
        Probabilities, one row an example.
    labels : ndarray, (n,), any integer type
        Given labels.
    columns : iterable of str
        Evidence columns wanted.
    into : Evidence, optional
        Filled and returned instead of a new one; its ``counts`` and ``fixed`` are added to.

    Returns
    -------
    Evidence

    Raises
    ------
    ValueError
        If the arrays do not fit each other.

    Examples
    --------
    >>> found = scan_rows(np.array([[0.7, 0.2, 0.1], [0.1, 0.3, 0.6]]), np.array([0, 1]))
    >>> found.columns["top1"].tolist(), found.columns["p_given"].tolist()
    ([0, 2], [0.7, 0.3])
    """
    if pred_probs.ndim != 2 or not pred_probs.shape[1] or pred_probs.dtype.kind != "f":
        raise ValueError(
            "pred_probs must be floats of shape (n, K), K at least 1, not "
            f"{pred_probs.dtype} of shape {pred_probs.shape}"
        )
    rows, num_classes = pred_probs.shape
    if rows > MAX_ROWS:
        raise ValueError(f"scan_rows takes at most {MAX_ROWS:,} rows a call, not {rows:,}")
    check_shape("labels", labels, (rows,))
    if labels.dtype.kind not in "iu":
        raise ValueError(f"labels must be integers, not {labels.dtype}")
    out = into or Evidence.empty(rows, num_classes, pred_probs.dtype, columns)
    out.check(rows, num_classes, pred_probs.dtype)
    probability = probability_dtype(pred_probs.dtype)
    unsigned = np.dtype(f"u{probability.itemsize}")
    limit = np.array(1.0 + PROBABILITY_TOLERANCE, probability).view(unsigned)[()]
    step = max(1, _TILE_BYTES // (num_classes * probability.itemsize))
    # What needs no conversion is taken at once, the rest by tiles that stay in the cache.
    ready = pred_probs.flags.c_contiguous and pred_probs.dtype == probability
    for start in range(0, rows, max(1, rows) if ready else step):
        part = slice(start, rows if ready else min(start + step, rows))
        tile = np.ascontiguousarray(pred_probs[part], dtype=probability)
        given = _locked(np.ascontiguousarray(labels[part], dtype=np.int64))
        filled = _outputs(out.columns, part, unsigned)
        rows_of = _locked(tile), _locked(tile.view(unsigned))
        scan_tiles(*rows_of, limit, given, step, *filled, out.problems[part], out.counts, out.fixed)
    return out


def _locked(values: Array) -> Array:
    """Return a read-only view: the kernel is compiled once for what may be written and for what may
    not.
    """
    view = values.view()
    view.flags.writeable = False
    return view


def _outputs(
    out: dict[str, Array], part: slice, unsigned: np.dtype[np.generic]
) -> tuple[Array, ...]:
    """Return the columns in the kernel's order; one that was not asked for is passed empty."""
    order = (
        "given",
        "top1",
        "top2",
        "p_given",
        "p_top1",
        "p_top2",
        "p_rest",
        "rest_bits",
        "p_sum",
        "entropy",
    )
    views = {name: column[part] for name, column in out.items()}
    rest = views.get("p_rest", np.empty(0, f"f{unsigned.itemsize}"))
    views["rest_bits"] = rest.view(unsigned)
    absent = {"top2": views["top1"][:0], "p_top2": rest[:0], "p_rest": rest[:0]}
    absent |= {"p_sum": np.empty(0), "entropy": np.empty(0)}
    return tuple(views[name] if name in views else absent[name] for name in order)
