"""Names of classes in rankings: label ``k`` has name ``k``."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence, Set

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from noisydask.errors import InputError
from noisydask.stores.conversion import is_unicode

#: Label of an example that has none, and so no name.
NO_LABEL = -1


def check_labels(labels: npt.NDArray[np.int64], names: Sequence[str] | None) -> None:
    """Refuse labels that have no name.

    Raises
    ------
    InputError
        If there is one, other than -1, which stands for no label.
    """
    if names is None:
        return
    nameless = labels[(labels != NO_LABEL) & ((labels < 0) | (labels >= len(names)))].tolist()
    if nameless:
        first = ", ".join(map(str, nameless[:5]))
        raise InputError(
            f"{len(nameless):,} labels have no name among the {len(names):,} class names, which "
            f"are those of labels 0 to {len(names) - 1:,}; the first are {first}"
        )


def name_column(labels: npt.NDArray[np.integer], names: Sequence[str]) -> pa.DictionaryArray:
    """Return the names of labels, null for :data:`NO_LABEL`.

    Examples
    --------
    >>> name_column(np.array([1, -1]), ["cat", "dog"]).to_pylist()
    ['dog', None]
    """
    codes = pa.array(labels.astype(np.int32), mask=labels == NO_LABEL)
    return pa.DictionaryArray.from_arrays(codes, pa.array(list(names), pa.string()))


def with_label_name(ranking: pa.Table, names: Sequence[str] | None) -> pa.Table:
    """Return a part of a ranking with a column ``label_name`` after ``label``, if classes have
    names.
    """
    if names is None:
        return ranking
    column = name_column(ranking["label"].to_numpy(), names)
    return ranking.add_column(ranking.column_names.index("label") + 1, "label_name", column)


def with_pair_names(ranking: pa.Table, names: Sequence[str] | None) -> pa.Table:
    """Return a part of a ranking with the names of its given and suggested labels, if classes have
    names.
    """
    for side in ("given", "suggested") if names is not None else ():
        column = name_column(ranking[f"{side}_label"].to_numpy(), names or ())
        ranking = ranking.append_column(f"{side}_name", column)
    return ranking


def called(label: int, names: Sequence[str] | None) -> int | str:
    """Return what a figure calls a label: no two are called the same.

    Examples
    --------
    >>> called(1, ["cat", "dog"]), called(-1, ["cat"]), called(1, None)
    ('1 (dog)', -1, 1)
    """
    if names is None or label == NO_LABEL:
        return label
    return f"{label} ({names[label]})"


def checked_names(names_given: Sequence[str]) -> tuple[str, ...]:
    """Return names of classes as text that can be written.

    Raises
    ------
    InputError
        If they are none.
    """
    if isinstance(names_given, str | Mapping | Set) or not isinstance(names_given, Iterable):
        raise InputError(f"class_names must be a list of names, not {names_given!r}")
    names = tuple(str(name) for name in names_given)
    for name in names:
        if not is_unicode(name):
            raise InputError(f"class_names holds {name!r}, which is not text that a file can hold")
    return names
