"""Labels as people write them (text, true and false, numbers that are names) become 0 to K-1."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from difflib import get_close_matches
from functools import cached_property
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

#: Code of a label that is missing, or no class.
NO_CLASS = -1
#: Different values that are counted at most; labels that have more are none.
_MOST_VALUES = 10_000
_BOOLS = ("false", "true")


@dataclass(frozen=True)
class LabelCodes:
    """The way in which labels become codes.

    Attributes
    ----------
    kind : {"text", "number", "bool", "code"}
        What labels are: names of classes, names that are whole numbers, true or false, or codes
        already, of which some may be missing.
    names : tuple of str
        Names of the classes.
    """

    kind: Literal["text", "number", "bool", "code"]
    names: tuple[str, ...] = field(default=(), repr=False)

    def encode(self, labels: npt.NDArray[Any] | pa.ChunkedArray) -> npt.NDArray[np.int64]:
        """Return the codes of labels; :data:`NO_CLASS` of those that are no class.

        Parameters
        ----------
        labels : ndarray or ChunkedArray, (n,)
            Text, whole numbers, or true and false; None or null where one is missing.

        Examples
        --------
        >>> codes = LabelCodes("text", ("cat", "dog"))
        >>> codes.encode(np.array(["dog", "cow", None], object))
        array([ 1, -1, -1])
        >>> LabelCodes("number", ("0", "1", "10", "2")).encode(np.array([10, 2, 3]))
        array([ 2,  3, -1])
        """
        values = _arrow(labels)
        if self.kind == "code":
            found = values.cast(pa.int64())
        elif self.kind == "bool":
            found = pc.if_else(values, self._bools[1], self._bools[0])
        else:
            found = pc.index_in(values.cast(self._values.type), value_set=self._values)
        codes = pc.fill_null(found, NO_CLASS)
        return np.asarray(codes.to_numpy(zero_copy_only=False), np.int64)

    @cached_property
    def _values(self) -> pa.Array:
        if self.kind == "number":
            return pa.array([int(name) for name in self.names], pa.int64())
        return pa.array(self.names, pa.string())

    @cached_property
    def _bools(self) -> tuple[int, int]:
        small = [name.strip().lower() for name in self.names]
        if set(_BOOLS) <= set(small):
            return small.index("false"), small.index("true")
        return 0, 1

    def __getstate__(self) -> dict[str, Any]:
        return {"kind": self.kind, "names": self.names}

    def unknown(self, labels: npt.NDArray[Any] | pa.ChunkedArray) -> UnknownLabels:
        """Count the labels that are missing, and the values that are no class."""
        values = _arrow(labels)
        if self.kind == "code":
            return UnknownLabels(values.null_count)
        there = values.drop_null()
        wrong = there.filter(pa.array(self.encode(there) == NO_CLASS))
        counted = pc.value_counts(wrong)
        pairs = zip(*(counted.field(k).to_pylist() for k in (0, 1)), strict=True)
        counts = Counter({str(value): count for value, count in pairs})
        return UnknownLabels(values.null_count, counts)._bounded()


@dataclass(frozen=True)
class UnknownLabels:
    """Labels that are missing, and values that are no class.

    Attributes
    ----------
    missing : int
        How many are missing.
    values : Counter of str
        How often each value occurs that is no class; of many different ones the most frequent.
    others : int
        Labels of values that were not kept.
    """

    missing: int = 0
    values: Counter[str] = field(default_factory=Counter)
    others: int = 0

    def __add__(self, other: UnknownLabels) -> UnknownLabels:
        values = self.values + other.values
        return UnknownLabels(
            self.missing + other.missing, values, self.others + other.others
        )._bounded()

    def _bounded(self) -> UnknownLabels:
        if len(self.values) <= _MOST_VALUES:
            return self
        kept = Counter(dict(sorted(self.values.items(), key=_by_count)[:_MOST_VALUES]))
        others = self.others + self.values.total() - kept.total()
        return replace(self, values=kept, others=others)

    def told(self, names: Sequence[str], most: int = 5) -> str:
        """Say which values are no class, most frequent first, each with the class that is closest.

        Examples
        --------
        >>> UnknownLabels(1, Counter({"cta": 3, "42": 1})).told(["cat", "dog"])
        "'cta' (3 rows; did you mean 'cat'?), '42' (1 row)"
        """
        first = sorted(self.values.items(), key=_by_count)[:most]
        parts = [f"{value!r} ({_rows(count)}{_closest(value, names)})" for value, count in first]
        rest = self.values.total() + self.others - sum(count for _, count in first)
        return ", ".join(parts) + (f", and others in {_rows(rest)}" if rest else "")

    def prefix(self, names: Iterable[str]) -> str | None:
        """Return a pattern of columns by which values would be classes, such as ``p_*``; None where
        there is none.

        Examples
        --------
        >>> UnknownLabels(0, Counter({"cat": 3})).prefix(["p_cat", "p_dog"])
        'p_*'
        """
        for value in self.values:
            for name in names:
                before, found, after = name.partition(value)
                if found and (before or after) and value:
                    return f"{before}*{after}"
        return None


def numbers_as_names(names: Sequence[str] | None) -> bool:
    """Return whether names of classes are whole numbers, other than 0 to K-1 in order.

    Examples
    --------
    >>> numbers_as_names(["0", "1", "10", "2"]), numbers_as_names(["0", "1"])
    (True, False)
    """
    if not names or not all(name.strip().lstrip("+-").isdecimal() for name in names):
        return False
    return [int(name) for name in names] != list(range(len(names)))


def _arrow(labels: npt.NDArray[Any] | pa.ChunkedArray) -> pa.ChunkedArray:
    if isinstance(labels, pa.ChunkedArray):
        return labels
    if labels.dtype.kind in "OUT":
        return pa.chunked_array([pa.array(labels.astype(object), pa.string(), from_pandas=True)])
    return pa.chunked_array([pa.array(labels)])


def _by_count(item: tuple[str, int]) -> tuple[int, str]:
    return -item[1], item[0]


def _closest(value: str, names: Sequence[str]) -> str:
    close = get_close_matches(value, names, 1) if len(names) <= _MOST_VALUES else []
    return f"; did you mean {close[0]!r}?" if close else ""


def _rows(count: int) -> str:
    return f"{count:,} row{'' if count == 1 else 's'}"
