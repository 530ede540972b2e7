"""Which columns of a table are classes, and what these are called: columns are taken by name."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

import pyarrow as pa

from noisydask.errors import InputError


@dataclass(frozen=True)
class ClassColumns:
    """The choice of the columns of probabilities.

    Attributes
    ----------
    chosen : str or tuple of str, optional
        A pattern with one ``*``, of which what matches is the name of the class, or the columns.
    class_names : tuple of str, optional
        Names of the classes.
    others : tuple of str
        Columns that are none: labels and ids.
    """

    chosen: str | tuple[str, ...] | None = None
    class_names: tuple[str, ...] | None = None
    others: tuple[str, ...] = ()

    def among(self, schema: pa.Schema, where: str) -> tuple[tuple[str, ...], tuple[str, ...]]:
        """Return the columns of the classes, in order, and the names of these.

        Parameters
        ----------
        schema : Schema
            All columns.
        where : str
            What errors call the table.

        Raises
        ------
        InputError
            If there are none, or not all that were named.

        Examples
        --------
        >>> schema = pa.schema([("id", "int64"), ("p_cat", "float32"), ("p_dog", "float32")])
        >>> ClassColumns("p_*").among(schema, "the table")
        (('p_cat', 'p_dog'), ('cat', 'dog'))
        >>> ClassColumns(class_names=("p_dog", "p_cat")).among(schema, "the table")[0]
        ('p_dog', 'p_cat')
        """
        names = [name for name in schema.names if name not in self.others]
        if isinstance(self.chosen, str):
            return self._matching(names, where)
        if self.chosen is not None:
            return self._named(self.chosen, names, where)
        if self.class_names is not None and set(self.class_names) <= set(names):
            return self._named(self.class_names, names, where)
        floats = [name for name in names if pa.types.is_floating(_kind(schema, name))]
        if not floats:
            raise InputError(
                f"{where} has no columns of floating-point numbers; say which columns are classes "
                f"by class_columns (such as 'p_*'); it has: {', '.join(names[:20])}"
            )
        return self._ordered(dict(zip(floats, floats, strict=True)), where)

    def _matching(
        self, names: Sequence[str], where: str
    ) -> tuple[tuple[str, ...], tuple[str, ...]]:
        pattern = str(self.chosen)
        if pattern.count("*") != 1:
            raise InputError(
                f"class_columns {pattern!r} must have one *, which stands for the name of a class"
            )
        before, after = map(re.escape, pattern.split("*"))
        found = {name: re.fullmatch(f"{before}(.*){after}", name, re.DOTALL) for name in names}
        columns = {name: match[1] for name, match in found.items() if match is not None}
        if not columns:
            raise InputError(f"{where} has no columns {pattern!r}; it has: {', '.join(names[:20])}")
        return self._ordered(columns, where)

    def _ordered(
        self, columns: dict[str, str], where: str
    ) -> tuple[tuple[str, ...], tuple[str, ...]]:
        """Return columns that are called so, in the order of the class names where there are such:
        nobody orders them by hand.
        """
        if self.class_names is None:
            return self._called(tuple(columns), tuple(columns.values()), where)
        called = {name: column for column, name in columns.items()}
        if set(called) != set(self.class_names) or len(called) != len(self.class_names):
            raise InputError(
                f"the class names are not those of the columns of {where}: "
                f"{', '.join(list(called)[:10])}; leave class_names out, or say the columns by "
                "class_columns (such as 'p_*', or all in the order of the names)"
            )
        return tuple(called[name] for name in self.class_names), self.class_names

    def _named(
        self, wanted: Sequence[str], names: Sequence[str], where: str
    ) -> tuple[tuple[str, ...], tuple[str, ...]]:
        missing = [name for name in wanted if name not in names]
        if missing:
            raise InputError(
                f"{where} lacks {len(missing):,} of the class columns, the first is "
                f"{missing[0]!r}; it has: {', '.join(names[:20])}"
            )
        return self._called(tuple(wanted), tuple(wanted), where)

    def _called(
        self, columns: tuple[str, ...], names: tuple[str, ...], where: str
    ) -> tuple[tuple[str, ...], tuple[str, ...]]:
        """Return columns with the names of their classes: those that were given, or their own."""
        twice = [name for name in columns if columns.count(name) > 1][:1]
        if twice:
            raise InputError(f"{where} has several columns {twice[0]!r}: give each a name")
        if self.class_names is None:
            return columns, names
        if len(self.class_names) != len(columns):
            raise InputError(
                f"{len(self.class_names):,} class names for {len(columns):,} columns of {where}: "
                "they must match"
            )
        return columns, self.class_names


def _kind(schema: pa.Schema, name: str) -> pa.DataType:
    return schema.types[schema.names.index(name)]
