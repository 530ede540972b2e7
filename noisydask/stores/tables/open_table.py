"""Tables as inputs: one column of a table, or the columns of all classes."""

from __future__ import annotations

from noisydask.stores.locations import Location
from noisydask.stores.rows import Rows
from noisydask.stores.tables.class_columns import ClassColumns
from noisydask.stores.tables.formats import format_of
from noisydask.stores.tables.table_column import TableColumn
from noisydask.stores.tables.table_files import TableFiles, table_files
from noisydask.stores.tables.table_matrix import TableMatrix, is_list


def table_rows(files: TableFiles, column: str, classes: ClassColumns) -> Rows:
    """Return what a name after a ``#`` means: one column of numbers or text, one of lists, or by a
    pattern with a ``*`` the columns of classes; without a name these follow from ``classes``.
    """
    if not column or "*" in column or is_list(files.kind_of(column)):
        return TableMatrix.of(files, column, classes)
    return TableColumn.of(files, column)


def holds_table(place: Location) -> bool:
    """Return whether a folder holds files of tables."""
    try:
        return any(format_of(file) for file in table_files(place))
    except FileNotFoundError:
        return False
