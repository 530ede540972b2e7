"""Labels, probabilities and ids as columns of one table: a file, a folder of files, or a frame."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from noisydask.errors import InputError
from noisydask.stores.arrays import open_table
from noisydask.stores.frame_columns import column_of, columns_of
from noisydask.stores.tables.class_columns import ClassColumns
from noisydask.stores.tables.table_column import TableColumn
from noisydask.stores.tables.table_matrix import TableMatrix
from noisydask.stores.urls import split_column


@dataclass(frozen=True)
class TableChoice:
    """A table, and which of its columns are what.

    Attributes
    ----------
    table : str, Path or frame
        The table.
    label_column : str
        Given labels.
    id_column : str, optional
        Names of the examples.
    class_columns : str or tuple of str, optional
        A pattern of the columns of classes, or these.
    """

    table: Any
    label_column: str
    id_column: str | None
    class_columns: str | tuple[str, ...] | None

    @classmethod
    def of(
        cls, table: Any, label_column: str, id_column: str | None, class_columns: Any
    ) -> TableChoice:
        """Take what was said."""
        if class_columns is not None and not isinstance(class_columns, str):
            class_columns = tuple(map(str, class_columns))
        return cls(table, label_column, id_column, class_columns)

    def classes(
        self, class_names: tuple[str, ...] | None, sources: Mapping[str, Any]
    ) -> ClassColumns:
        """Return what is said of the columns of classes: columns of labels and ids are none."""
        if self.table is not None:
            named = [self.label_column, self.id_column]
        else:
            urls = (sources[name] for name in ("labels", "ids"))
            named = [split_column(str(url))[1] for url in urls if isinstance(url, str | Path)]
        return ClassColumns(self.class_columns, class_names, tuple(name for name in named if name))

    def fill(
        self,
        sources: Mapping[str, Any],
        classes: ClassColumns,
        storage_options: Mapping[str, Mapping[str, Any]],
    ) -> dict[str, Any]:
        """Return the sources of all inputs; those that were not given are columns of the table."""
        if self.table is None:
            return dict(sources)
        if all(source is not None for source in sources.values()):
            raise InputError("labels, pred_probs and ids are given: leave out table")
        if isinstance(self.table, str | Path):
            filled = self._of_files(sources, classes, storage_options)
        else:
            filled = self._of_frame(sources)
        return {
            name: filled.get(name) if source is None else source for name, source in sources.items()
        }

    def _of_files(
        self,
        sources: Mapping[str, Any],
        classes: ClassColumns,
        storage_options: Mapping[str, Mapping[str, Any]],
    ) -> dict[str, Any]:
        files = open_table(str(self.table), "table", storage_options.get("table"))
        filled: dict[str, Any] = {}
        if sources["labels"] is None:
            filled["labels"] = TableColumn.of(files, self.label_column)
        if sources["ids"] is None and self.id_column is not None:
            filled["ids"] = TableColumn.of(files, self.id_column)
        if sources["pred_probs"] is None:
            filled["pred_probs"] = TableMatrix.of(files, "", classes)
        return filled

    def _of_frame(self, sources: Mapping[str, Any]) -> dict[str, Any]:
        columns = columns_of(self.table)
        if columns is None:
            raise InputError(
                "table must be a path, a URL, or a frame (pandas, Dask, Arrow, Polars, Hugging "
                f"Face), not {type(self.table).__name__}"
            )
        wanted = {"labels": self.label_column, "ids": self.id_column}
        for name in wanted.values():
            if name is not None and name not in columns:
                told = ", ".join(map(str, columns[:20]))
                raise InputError(f"the table has no column {name!r}; it has: {told}")
        filled = {
            name: column_of(self.table, column)
            for name, column in wanted.items()
            if column is not None and sources[name] is None
        }
        return filled | {"pred_probs": self.table}
